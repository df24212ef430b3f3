"""What the cloud adds to a live migration: from the REST call to the end of its operation, beside `virsh migrate`.

The same guest, which writes memory all the time, moves between the same two hosts over the same network in turn, by
the cloud and by hand, with its disk copied both times. By hand the target is prepared before the clock starts. Needs
root, like the lab.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table

from agent.peer import name_node
from tests.lab.host import PEER_DIRECTORY, Host
from tests.lab.lab import Lab
from tests.lab.pair import Pair, Traveller
from tests.lab.waiting import wait_until

LIMIT_RATIO = 1.15
_ROOT = Path(__file__).parents[2]
# 96 MiB of memory that does not compress, some of it written again and again.
_BUSY = (
    "dd if=/dev/urandom of=/dev/shm/still bs=1M count=88 2>/dev/null; "
    "(while :; do dd if=/dev/urandom of=/dev/shm/x bs=1M count=8; sleep 0.2; done) >/dev/null 2>&1 &"
)


def main() -> None:
    """Measures and prints a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="there and back, by each way (default: 5)")
    rounds = parser.parse_args().rounds
    with _running_pair() as pair:
        traveller = pair.boot(displayName="bench")
        pair.set_network("storage")
        traveller.instance.run(_BUSY)
        _move_by_cloud(pair, traveller)  # fetches the image and warms every cache
        _move_by_cloud(pair, traveller)
        cloud, virsh = [], []
        for _ in range(rounds):
            cloud += [_move_by_cloud(pair, traveller), _move_by_cloud(pair, traveller)]
            here, there = traveller.host, traveller.other
            _wait_until_clean(pair)
            # There and back: the cloud finds the guest where it knows it to be.
            virsh += [_move_by_hand(pair, traveller, here, there), _move_by_hand(pair, traveller, there, here)]
            traveller.instance.wait_for_status("Running")
    _print(cloud, virsh)


def _wait_until_clean(pair: Pair) -> None:
    """What the cloud's moves left on the nodes is gone."""

    def is_clean() -> bool:
        cleanings = pair.rest.get("/api/ecs/v1/operations", filter="kind:eq:clean_node", pageSize=1000)["operations"]
        return all(cleaning["state"] == "Succeeded" for cleaning in cleanings)

    wait_until(is_clean, "the nodes are clean", timeout_seconds=60)


@contextmanager
def _running_pair() -> Iterator[Pair]:
    built = subprocess.run([_ROOT / "packaging/demo-image", "--quiet"], check=True, capture_output=True, text=True)
    lab = Lab()
    try:
        yield Pair(lab, Path(built.stdout.strip()))
    finally:
        lab.stop()


def _move_by_cloud(pair: Pair, traveller: Traveller) -> float:
    source, target = traveller.host, traveller.other
    begin = time.monotonic()
    operation = traveller.migrate(target)
    traveller.instance.succeed(operation)
    seconds = time.monotonic() - begin
    wait_until(lambda: not _disks(source), "the source is clean")
    assert pair.copies(traveller.instance) == {target.name: "running"}
    return seconds


def _move_by_hand(pair: Pair, traveller: Traveller, source: Host, target: Host) -> float:
    node_id = pair.cloud.node(target)["hostId"]
    _prepare_by_hand(traveller.instance.id, source, target)
    # The name was written by the moves before.
    uri = f"qemu+tls://{name_node(node_id)}/system?pkipath={PEER_DIRECTORY}/libvirt"
    data = f"tcp://10.91.0.{10 + target.index}"
    flags = ("--live", "--p2p", "--persistent", "--undefinesource", "--copy-storage-inc", "--auto-converge")
    begin = time.monotonic()
    source.virsh("migrate", *flags, traveller.instance.id, uri, "--migrateuri", data)
    seconds = time.monotonic() - begin
    for disk in _disks(source):
        disk.unlink()
    return seconds


def _prepare_by_hand(domain: str, source: Host, target: Host) -> None:
    """The target gets the network, an empty overlay like that of the source, and the seed."""
    for network in set(source.virsh("net-list", "--name").split()) - set(target.virsh("net-list", "--name").split()):
        (target.directory / "network.xml").write_text(source.virsh("net-dumpxml", network))
        target.virsh("net-create", "/var/lib/nodewright/network.xml")
    described = ElementTree.fromstring(source.virsh("dumpxml", domain))
    for element in described.findall("devices/disk"):
        path = Path(str(element.find("source").get("file")))  # type: ignore[union-attr]
        here, there = (host.directory / path.relative_to("/var/lib/nodewright") for host in (source, target))
        there.parent.mkdir(parents=True, exist_ok=True)
        if element.get("device") == "cdrom":
            shutil.copy(here, there)
        else:
            info = json.loads(_info(source, path))
            base, size = info["full-backing-filename"], str(info["virtual-size"])
            create = ("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, path, size)
            target.namespace.run(*create)


def _info(host: Host, path: Path) -> str:
    """What QEMU says about an image, in JSON."""
    return host.namespace.run("qemu-img", "info", "--force-share", "--output=json", path)


def _disks(host: Host) -> list[Path]:
    return list((host.directory / "agent/volumes").glob("*.qcow2"))


def _print(cloud: list[float], virsh: list[float]) -> None:
    ours, baseline = statistics.median(cloud), statistics.median(virsh)
    table = Table(title=f"{len(cloud)} moves each, medians")
    for column in ("what", "seconds"):
        table.add_column(column, justify="left" if column == "what" else "right")
    table.add_row("REST call to the end of the operation", f"{ours:.2f}")
    table.add_row("virsh migrate", f"{baseline:.2f}")
    table.add_row(f"ratio (limit {LIMIT_RATIO})", f"{ours / baseline:.3f}")
    Console().print(table)
    print(json.dumps({"cloud_seconds": cloud, "virsh_seconds": virsh, "ratio": ours / baseline}))


if __name__ == "__main__":
    main()
