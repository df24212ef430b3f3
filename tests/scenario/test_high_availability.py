"""A host that dies or is cut off: its instances answer on another one, with their data, and nowhere twice."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.cloud import Cloud, Instance
from tests.lab.lab import Lab
from tests.lab.pair import Pair, Traveller
from tests.lab.waiting import wait_until
from tests.stopwatch import Stopwatch

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("migration")]

TOLERANCE = 30
# Beyond the tolerance and the guest's own boot.
RECOVERY_SECONDS = 15
PATIENCE_SECONDS = TOLERANCE + 90
BOOT_SECONDS = 120


@pytest.fixture(scope="module")
def pair(demo_image: Path) -> Iterator[Pair]:
    lab = Lab()
    lab.coordinator.lose_nodes_soon()
    try:
        yield Pair(lab, demo_image, shares_storage=True)
    finally:
        lab.stop()


@pytest.fixture(scope="module", autouse=True)
def cloud(pair: Pair) -> Cloud:
    """So that a failed test shows the logs of this lab."""
    return pair.cloud


@dataclass(frozen=True)
class Record:
    """What a guest has written to its disk: a number, in which life, and when by its own clock."""

    number: int
    life: str
    at: float


class Counter:
    """A guest that counts on its disk, and goes on where it finds that it was, each number at a place of its own."""

    _FILE = "/boot/nodewright/counter"
    _BYTES = 64
    _SCRIPT = f"""
touch {_FILE}
number=$(($(wc -c < {_FILE}) / {_BYTES}))
while :; do
  printf '%-{_BYTES - 1}s\\n' "$number $1 $(date +%s)" > /tmp/record
  # FAT writes the file's entry with `sync`, and tells the disk to keep all of it with the flush that follows.
  dd if=/tmp/record of={_FILE} bs={_BYTES} seek=$number conv=notrunc 2> /dev/null
  sync
  dd if=/tmp/record of={_FILE} bs={_BYTES} seek=$number conv=notrunc,fsync 2> /dev/null
  number=$((number + 1))
  sleep 0.2
done
"""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    def start(self, life: str) -> None:
        """It counts until the guest ends, by this name for what it is until then."""
        self._instance.run(
            f"cat > /tmp/count <<'END'\n{self._SCRIPT}\nEND\nsetsid sh /tmp/count {life} > /dev/null 2>&1 < /dev/null &"
        )

    def read(self) -> list[Record]:
        """All that was ever written."""
        lines = [line.split() for line in self._instance.run(f"cat {self._FILE}").splitlines()]
        return [Record(int(number), life, float(at)) for number, life, at in lines]

    def reaches(self, number: int) -> bool:
        """Whether it has come so far."""
        return len(self.read()) > number


def check_records(records: list[Record]) -> tuple[list[Record], list[Record]]:
    """What two lives wrote, one after the other: no number twice, left out or lost."""
    assert [record.number for record in records] == list(range(len(records)))
    first, second = ([record for record in records if record.life == life] for life in ("first", "second"))
    assert first + second == records
    assert first
    assert second
    return first, second


def test_a_host_that_is_cut_off_ends_what_then_runs_elsewhere(pair: Pair) -> None:
    pair.rest.put("/api/ecs/v1/instances/global-ha-config", {"toleranceTime": TOLERANCE})
    traveller = pair.boot(displayName="counter", haEnabled=True)
    instance, lost, other = traveller.instance, traveller.host, traveller.other
    counter = Counter(instance)
    counter.start("first")
    # The watchdog and the coordinator agree on the tolerance meanwhile.
    wait_until(lambda: counter.reaches(15), "the guest counts")
    with pair.watch(lost.virsh("domuuid", instance.id).strip()) as counts:
        lost.cables["manage"].cut()
        cut_at = time.time()
        wait_until(lambda: instance.show()["nodeName"] == other.name, "it is elsewhere", PATIENCE_SECONDS)
        instance.wait_for_guest_agent()
    counter.start("second")
    before = counter.read()
    wait_until(lambda: counter.reaches(len(before) + 10), "the guest counts on")
    first, second = check_records(counter.read())
    assert [count for _, count in counts] == [1, 0, 1], counts
    (_, (ended_at, _), (began_at, _)) = counts
    # The coordinator heard of the host a moment before the cut.
    assert ended_at < cut_at + TOLERANCE < began_at + 3
    # It went on without the coordinator until it was ended. The guests' clocks tell whole seconds.
    assert ended_at - 3 < first[-1].at <= ended_at
    assert began_at - 1 < second[0].at
    pair.mend()
    wait_until(lambda: pair.copies(instance) == {other.name: "running"}, "the lost host is rid of it")
    instance.succeed(instance.delete())


@pytest.mark.skipif(not os.environ.get("NODEWRIGHT_TEST_MIGRATION"), reason="NODEWRIGHT_TEST_MIGRATION=1 runs it")
def test_where_the_fence_fails_the_disk_is_locked(pair: Pair) -> None:
    """The watchdog dies with the network: the coordinator relies on what is no more."""
    pair.rest.put("/api/ecs/v1/instances/global-ha-config", {"toleranceTime": TOLERANCE})
    traveller = pair.boot(displayName="counter", haEnabled=True)
    instance, lost, other = traveller.instance, traveller.host, traveller.other
    counter = Counter(instance)
    counter.start("first")
    wait_until(lambda: counter.reaches(15), "the guest counts")
    lost.cables["manage"].cut()
    lost.watchdog.kill()
    wait_until(lambda: refusals(pair, traveller), "its disk is locked", PATIENCE_SECONDS)
    wait_until(lambda: "alarm.instance_not_recovered" in event_kinds(pair), "an alarm tells")
    assert {*refusals(pair, traveller)} == {"VolumeInUse"}
    assert pair.copies(instance)[lost.name] == "running"
    lost.watchdog.start()
    wait_until(lambda: instance.show()["nodeName"] == other.name, "it is elsewhere", PATIENCE_SECONDS)
    instance.wait_for_guest_agent()
    counter.start("second")
    before = counter.read()
    wait_until(lambda: counter.reaches(len(before) + 10), "the guest counts on")
    check_records(counter.read())
    pair.mend()
    wait_until(lambda: pair.copies(instance) == {other.name: "running"}, "the lost host is rid of it")
    instance.succeed(instance.delete())


def refusals(pair: Pair, traveller: Traveller) -> list[str]:
    """Why it could not be started elsewhere, as REST tells it: the codes of the failed operations."""
    failed = [move["operationId"] for move in traveller.moves() if move["state"] == "Failed"]
    return [pair.rest.get(f"/api/ecs/v1/operations/{number}")["error"]["code"] for number in failed]


def event_kinds(pair: Pair) -> set[str]:
    """Of the newest hundred."""
    return {event["kind"] for event in pair.rest.get("/api/ecs/v1/events/list", pageSize=100)["list"]}


def test_what_a_dead_host_ran_answers_on_another_one(pair: Pair) -> None:
    pair.rest.put("/api/ecs/v1/instances/global-ha-config", {"toleranceTime": TOLERANCE})
    traveller = pair.boot(displayName="traveller", haEnabled=True)
    instance, dead, other = traveller.instance, traveller.host, traveller.other
    # FAT hands nothing on for `sync` alone: what the disk's own cache has would go with the host, as it should.
    instance.run(
        "echo kept > /boot/nodewright/marker; sync; dd if=/dev/zero of=/boot/nodewright/last bs=1 count=1 conv=fsync"
    )
    boot_id = instance.boot_id()
    # The node's watchdog and the coordinator have agreed on the tolerance by now, or do with the next heartbeats.
    time.sleep(5)
    dead.end()
    died_at = time.monotonic()
    with Stopwatch() as watch:
        wait_until(lambda: instance.show()["status"] == "Unknown", "it is not shown as running", 25)
        wait_until(lambda: other.domain_state(instance.id) == "running", "it runs elsewhere", PATIENCE_SECONDS)
    # Its last heartbeat was a moment before it died.
    assert time.monotonic() - died_at > TOLERANCE - 3
    assert watch.seconds < TOLERANCE + RECOVERY_SECONDS
    instance.wait_for_guest_agent(BOOT_SECONDS)
    assert instance.show()["nodeName"] == other.name
    assert instance.run("cat /boot/nodewright/marker") == "kept"
    assert instance.boot_id() != boot_id
    assert {"ha.instance_recovering", "ha.instance_recovered"} <= event_kinds(pair)
