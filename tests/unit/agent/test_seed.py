"""Seeds, read back from the image that a guest gets."""

import json
import stat
import subprocess
from pathlib import Path

import pytest

from agent.errors import CapabilityMissing, SeedFailed
from agent.storage.seed import Seeds
from protos.agent.v1.domain_pb2 import CloudInit
from tests.unit.agent.guest_builder import GUEST_UUID, a_seed

MAC = "52:54:00:12:34:56"


async def _content(directory: Path, seed: CloudInit, *mac_addresses: str) -> dict[str, bytes]:
    """The files of the image by name."""
    seeds = Seeds(directory)
    await seeds.ensure(GUEST_UUID, seed, mac_addresses)
    image = str(seeds.path(GUEST_UUID))
    names = subprocess.run(["isoinfo", "-R", "-f", "-i", image], check=True, capture_output=True, text=True)
    return {
        name[1:]: subprocess.run(["isoinfo", "-R", "-x", name, "-i", image], check=True, capture_output=True).stdout
        for name in names.stdout.split()
        if name != "/nodewright"
    }


async def test_the_tenants_user_data_is_in_the_seed_byte_for_byte(tmp_path: Path) -> None:
    script = b"#!/bin/sh\n\xff\x00 anything\n"
    content = await _content(tmp_path, a_seed(user_data=script))
    assert content["user-data"] == content["nodewright/user-data"] == script


async def test_a_guest_without_cloud_init_can_read_the_seed_line_by_line(tmp_path: Path) -> None:
    content = await _content(tmp_path, a_seed())
    meta_data = content["meta-data"].decode().splitlines()
    assert meta_data[:2] == ["instance-id: ecs-7751tih23uy93g", "local-hostname: web-1"]
    assert content["nodewright/password-hash"] == b"$6$salt$hash\n"
    keys = content["nodewright/authorized_keys"].decode().splitlines()
    assert keys == list(a_seed().ssh_public_keys)


async def test_root_and_the_default_user_get_the_password_and_the_keys(tmp_path: Path) -> None:
    vendor_data = (await _content(tmp_path, a_seed()))["vendor-data"]
    header, _, body = vendor_data.partition(b"\n")
    config = json.loads(body)
    assert header == b"#cloud-config"
    assert config["password"] == "$6$salt$hash"
    assert config["chpasswd"] == {"expire": False}
    assert config["disable_root"] is False
    default, root = config["users"]
    assert default == "default"
    assert root["hashed_passwd"] == "$6$salt$hash"
    assert root["ssh_authorized_keys"] == list(a_seed().ssh_public_keys)


async def test_without_a_password_none_is_set_and_no_login_by_password_opened(tmp_path: Path) -> None:
    content = await _content(tmp_path, a_seed(password_hash=""))
    config = json.loads(content["vendor-data"].partition(b"\n")[2])
    assert "password" not in config
    assert "ssh_pwauth" not in config
    assert "hashed_passwd" not in config["users"][1]
    assert content["nodewright/password-hash"] == b""


async def test_a_clone_renews_its_identity_once_and_keeps_the_passwords_of_its_disks(tmp_path: Path) -> None:
    content = await _content(tmp_path, a_seed(password_hash="", renews_identity=True))
    config = json.loads(content["vendor-data"].partition(b"\n")[2])
    assert [user["name"] for user in config["users"]] == ["root"]
    assert (config["ssh_deletekeys"], config["preserve_hostname"]) == (True, False)
    [[program, frequency, _, *command]] = config["bootcmd"]
    assert (program, frequency, command[:2]) == ("cloud-init-per", "instance", ["sh", "-c"])
    subprocess.run(["sh", "-n", "-c", command[2]], check=True)
    assert "systemd-machine-id-setup" in command[2]
    with_password = await _content(tmp_path, a_seed(renews_identity=True))
    assert json.loads(with_password["vendor-data"].partition(b"\n")[2])["users"][0] == "default"
    assert b"bootcmd" not in (await _content(tmp_path, a_seed()))["vendor-data"]


async def test_without_user_data_there_is_an_empty_cloud_config(tmp_path: Path) -> None:
    content = await _content(tmp_path, a_seed(user_data=b""))
    assert content["user-data"] == b"#cloud-config\n{}\n"
    assert content["nodewright/user-data"] == b""


async def test_every_card_is_found_by_its_mac_address(tmp_path: Path) -> None:
    content = await _content(tmp_path, a_seed(), MAC, "52:54:00:00:00:02")
    cards = json.loads(content["network-config"])["ethernets"].values()
    assert [card["match"]["macaddress"] for card in cards] == [MAC, "52:54:00:00:00:02"]
    assert "network-config" not in await _content(tmp_path, a_seed())


async def test_the_image_has_the_label_of_no_cloud_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    await _content(tmp_path, a_seed())
    image = Seeds(tmp_path).path(GUEST_UUID)
    assert stat.S_IMODE(image.stat().st_mode) == 0o600
    described = subprocess.run(["isoinfo", "-d", "-i", image], check=True, capture_output=True, text=True)
    assert "Volume id: CIDATA" in described.stdout


async def test_nothing_is_left_beside_the_image_also_when_writing_fails(tmp_path: Path) -> None:
    await Seeds(tmp_path).ensure(GUEST_UUID, a_seed(), ())
    before = Seeds(tmp_path).path(GUEST_UUID).read_bytes()
    with pytest.raises(SeedFailed):
        await Seeds(tmp_path, program="false").ensure(GUEST_UUID, a_seed(hostname="other"), ())
    with pytest.raises(CapabilityMissing):
        await Seeds(tmp_path, program="no-such-program").ensure(GUEST_UUID, a_seed(), ())
    assert [path.name for path in tmp_path.iterdir()] == [f"{GUEST_UUID}.iso"]
    assert Seeds(tmp_path).path(GUEST_UUID).read_bytes() == before


async def test_a_seed_is_removed_and_absence_is_success(tmp_path: Path) -> None:
    seeds = Seeds(tmp_path)
    await seeds.ensure(GUEST_UUID, a_seed(), ())
    seeds.ensure_removed(GUEST_UUID)
    seeds.ensure_removed(GUEST_UUID)
    assert list(tmp_path.iterdir()) == []


def test_what_a_crash_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".seed-abc" / "content").mkdir(parents=True)
    (tmp_path / f"{GUEST_UUID}.iso").touch()
    Seeds(tmp_path).remove_leftovers()
    assert [path.name for path in tmp_path.iterdir()] == [f"{GUEST_UUID}.iso"]
