"""Backups: ordered, downloaded, put together again by the real qemu-img."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.nwctl.conftest import Nwctl, data_of
from tests.unit.nwctl.standin import Reply, StandIn

PATH = "/api/ecs/v1/backups"
ONE, TWO = "backup-0000000000000001", "backup-0000000000000002"
ECS_ID = "ecs-00000000000000"
TEXT = "the bytes of a volume"


def a_backup(backup_id: str = ONE, content: bytes = TEXT.encode(), parent: str = "") -> dict[str, Any]:
    return {
        "backupId": backup_id,
        "parentFileName": f"{parent}.qcow2" if parent else "",
        "format": "qcow2",
        "fileName": f"{backup_id}.qcow2",
        "fileBytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "volumeUuid": "volume-ab216551-d373-402f-b669-71a393b86235",
        "takenAt": "2026-11-30T22:00:00.000Z",
        "mode": "incremental" if parent else "full",
    }


def test_instances_and_volumes_are_backed_up(coordinator: StandIn, nwctl: Nwctl) -> None:
    coordinator.on("POST", PATH, {"backups": [a_backup()], "totalCount": 1})
    coordinator.on("GET", PATH, {"backups": [a_backup()], "totalCount": 1})
    coordinator.on("GET", f"{PATH}/{ONE}", a_backup())
    coordinator.on("DELETE", f"{PATH}/{ONE}", None)
    assert data_of(nwctl("backup", "create", ECS_ID, "--full", "--json"))["backups"] == [a_backup()]
    assert coordinator.requests[-1].body == {"ecsId": ECS_ID, "mode": "full", "quiesce": True}
    volume = "volume-ab216551-d373-402f-b669-71a393b86235"
    assert nwctl("backup", "create", "--volume", volume, "--no-quiesce").exit_code == 0
    assert coordinator.requests[-1].body == {"volumeId": volume, "mode": "incremental", "quiesce": False}
    assert nwctl("backup", "create").exit_code == 2
    assert ONE in nwctl("backup", "list").stdout
    assert a_backup()["sha256"] in nwctl("backup", "show", ONE).stdout
    assert nwctl("backup", "delete", ONE).exit_code == 0


def test_a_file_is_downloaded_and_goes_on_where_it_broke_off(
    coordinator: StandIn, nwctl: Nwctl, tmp_path: Path
) -> None:
    coordinator.on("GET", f"{PATH}/{ONE}", a_backup())
    (tmp_path / f"{ONE}.qcow2.part").write_text(TEXT[:4])
    # The first connection ends without a word.
    coordinator.on("GET", f"{PATH}/{ONE}/file", Reply(status=0), Reply(status=206, text=TEXT[4:]))
    assert nwctl("backup", "download", ONE, "--to", str(tmp_path)).exit_code == 0
    request = coordinator.requests[-1]
    assert (request.headers["range"], request.headers["if-range"]) == ("bytes=4-", f'"{a_backup()["sha256"]}"')
    assert (tmp_path / f"{ONE}.qcow2").read_text() == TEXT
    assert json.loads((tmp_path / f"{ONE}.json").read_text()) == a_backup()
    # It is there: nothing is fetched again.
    assert nwctl("backup", "download", ONE, "--to", str(tmp_path)).exit_code == 0
    assert len(coordinator.asked("GET", f"{PATH}/{ONE}/file")) == 2

    # Another file than the part is of comes as a whole; a damaged one is thrown away.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / f"{ONE}.qcow2.part").write_text("of old")
    coordinator.on("GET", f"{PATH}/{ONE}/file", Reply(text=TEXT))
    assert nwctl("backup", "download", ONE, "--to", str(elsewhere)).exit_code == 0
    assert (elsewhere / f"{ONE}.qcow2").read_text() == TEXT
    coordinator.on("GET", f"{PATH}/{ONE}/file", Reply(text=TEXT.upper()))
    (elsewhere / f"{ONE}.qcow2").unlink()
    failed = nwctl("backup", "download", ONE, "--to", str(elsewhere))
    assert (failed.exit_code, "damaged" in failed.stderr) == (1, True)
    assert [path.name for path in elsewhere.iterdir()] == [f"{ONE}.json"]
    coordinator.on("GET", f"{PATH}/{ONE}/file", Reply(status=400, code="ECS.DBGet.NoData", message="gone"))
    assert nwctl("backup", "download", ONE, "--to", str(elsewhere)).exit_code == 4


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A full backup and an increment, with what was told of them."""
    one, two = tmp_path / f"{ONE}.qcow2", tmp_path / f"{TWO}.qcow2"
    for command in (
        f"qemu-img create -q -f qcow2 {one} 8M",
        f"qemu-io -f qcow2 -c 'write -P 1 0 4M' {one}",
        f"qemu-img create -q -f qcow2 -F qcow2 -b {one.name} {two}",
        f"qemu-io -f qcow2 -c 'write -P 2 1M 1M' {two}",
    ):
        subprocess.run(command, shell=True, check=True, capture_output=True)
    for backup_id, file, parent in ((ONE, one, ""), (TWO, two, ONE)):
        manifest = a_backup(backup_id, file.read_bytes(), parent)
        (tmp_path / f"{backup_id}.json").write_text(json.dumps(manifest))
    return tmp_path


def test_a_disk_is_put_together(nwctl: Nwctl, chain: Path) -> None:
    disk = chain / "disk.raw"
    done = nwctl("backup", "restore", str(chain / f"{TWO}.qcow2"), str(disk), "--format", "raw")
    assert (done.exit_code, "2026-11-30T22:00" in done.stderr) == (0, True), done.stderr
    mib = 1 << 20
    assert disk.read_bytes() == b"\1" * mib + b"\2" * mib + b"\1" * (2 * mib) + bytes(4 * mib)
    assert nwctl("backup", "restore", str(chain / f"{TWO}.qcow2"), str(disk)).exit_code == 2


@pytest.mark.parametrize(
    ("spoil", "told", "exit_status"),
    [
        (lambda at: (at / f"{ONE}.qcow2").unlink(), f"download backup {ONE}", 2),
        (lambda at: (at / f"{ONE}.json").unlink(), f"{ONE}.json", 2),
        (lambda at: (at / f"{ONE}.json").write_text("[]"), "not the manifest", 1),
        (lambda at: (at / f"{ONE}.qcow2").write_bytes(b"x"), "SHA-256", 1),
        (lambda at: (at / f"{TWO}.json").write_text(json.dumps(a_backup(TWO, parent=TWO))), "no end", 1),
        (lambda at: (at / f"{TWO}.json").write_text(json.dumps(a_backup(TWO, parent="../x"))), "beside it", 1),
        (
            lambda at: (at / f"{TWO}.json").write_text(json.dumps(a_backup(TWO, (at / f"{TWO}.qcow2").read_bytes()))),
            "is based on",
            1,
        ),
    ],
)
def test_what_is_missing_or_damaged_is_not_restored(
    nwctl: Nwctl, chain: Path, spoil: Any, told: str, exit_status: int
) -> None:
    spoil(chain)
    failed = nwctl("backup", "restore", str(chain / f"{TWO}.qcow2"), str(chain / "disk"))
    assert failed.exit_code == exit_status
    assert told in failed.stderr.replace("\n", "")
    assert not (chain / "disk").exists()
