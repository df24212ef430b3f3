"""Live migration as operators order it: over REST, between two real hypervisors, with faults."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.lab.cloud import Cloud
from tests.lab.counting import Counter
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.pair import Pair, Traveller
from tests.lab.rest import RestError
from tests.lab.span import Span, clock_ahead_seconds
from tests.lab.waiting import wait_until
from tests.scenario.backup_chain import BackupChain, write_disk
from tests.scenario.test_recovery import commits

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("migration"), pytest.mark.usefixtures("one_copy")]

MIB = 1024**2
# So slow that there is time to interfere.
CRAWLING = {"bandwidthMibPerSecond": 2}
# The guest stands still for less than half a second; a busy machine without KVM needs longer for all that it takes.
_LONGEST_SILENCE_SECONDS = 5
_LONGER_THAN_A_LEASE_SECONDS = 10
_DEATH_SECONDS = 60


@pytest.fixture(scope="module")
def pair(demo_image: Path) -> Iterator[Pair]:
    lab = Lab()
    lab.coordinator.lose_nodes_soon()
    try:
        yield Pair(lab, demo_image)
    finally:
        lab.stop()


@pytest.fixture(scope="module")
def cloud(pair: Pair) -> Cloud:
    """So that a failed test shows the logs of this lab."""
    return pair.cloud


@pytest.fixture(scope="module")
def traveller(pair: Pair, cloud: Cloud) -> Iterator[Traveller]:
    made = pair.boot(displayName="traveller")
    yield made
    made.instance.succeed(made.instance.delete())


@pytest.fixture
def one_copy(pair: Pair, traveller: Traveller) -> Iterator[None]:
    """Whatever a test does: one copy of the guest is left, where the coordinator says, and nothing disagrees."""
    yield
    pair.mend()
    traveller.instance.wait_for_status("Running")
    wait_until(lambda: _is_one(pair, traveller), "one copy is left, and all agrees", 150)
    pair.set_network("manage")


def _is_one(pair: Pair, traveller: Traveller) -> bool:
    """Fails with what is amiss: who waits for it tells that in the end."""
    assert pair.copies(traveller.instance) == {traveller.host.name: "running"}
    assert pair.differences() == []
    return True


def test_a_guest_moves_over_the_network_that_is_set_and_does_not_notice(pair: Pair, traveller: Traveller) -> None:
    pair.set_network("storage")
    instance, source, target = traveller.instance, traveller.host, traveller.other
    instance.run("echo kept > /run/marker; echo kept > /boot/nodewright/marker; sync")
    boot_id, uptime, before = instance.boot_id(), traveller.uptime(), pair.bytes_sent(source)
    capacity = pair.cloud.holdings()

    instance.succeed(traveller.migrate(target))

    shown = instance.show()
    assert (shown["nodeName"], shown["status"], shown["errMessage"]) == (target.name, "Running", "")
    sent = {network: count - before[network] for network, count in pair.bytes_sent(source).items()}
    assert sent["storage"] > 30 * MIB
    assert sent["manage"] < 2 * MIB
    assert sent["business"] < MIB
    assert instance.run("cat /run/marker /boot/nodewright/marker") == "kept\nkept"
    assert instance.boot_id() == boot_id
    assert traveller.uptime() > uptime
    assert pair.cloud.holdings() == capacity
    (move, *_) = traveller.moves()
    assert (move["sourceNode"], move["targetNode"]) == (source.name, target.name)
    assert (move["type"], move["state"], move["network"], move["reason"]) == ("live", "Completed", "storage", "")
    disk = shown["blockDeviceMappings"][0]["volumeUuid"].removeprefix("volume-")
    wait_until(lambda: not list(source.directory.rglob(f"*{disk}*")), "the source is clean")
    assert instance.run("wget -q -O- http://10.80.0.1/ 2>&1 | head -c 1; ip -4 -o address show dev eth0")


def test_volumes_that_came_while_the_guest_ran_move_along_whatever_left_before_them(
    pair: Pair, traveller: Traveller
) -> None:
    instance, target, rest = traveller.instance, traveller.other, pair.cloud.rest
    tenant_id = instance.show()["tenantId"]
    order = {"name": "data", "volumeSize": 1, "volumeType": "essd", "tenantId": tenant_id}
    first, second = (rest.post("/api/ebs/v1/volumes", order) for _ in range(2))

    def change(action: str, body: object) -> None:
        instance.succeed(rest.request("PUT", f"{instance.path}/{action}", json=body).headers["x-operation-id"])

    change("attach-volumes", [{"volumeId": first["volumeId"]}, {"volumeId": second["volumeId"]}])
    change("detach-volume", {"volumeId": first["volumeId"]})
    # Its place is the one behind the place that is free.
    disk = "/dev/vdc"
    wait_until(lambda: "vdc" in instance.run("ls /sys/block"), "the guest sees it")
    instance.run(f"dd if=/dev/urandom of=/tmp/p bs=1M count=8; dd if=/tmp/p of={disk} bs=1M conv=fsync")
    written = instance.run("sha256sum < /tmp/p; rm /tmp/p")

    instance.succeed(traveller.migrate(target), timeout_seconds=180)

    script = f"echo 3 > /proc/sys/vm/drop_caches; head -c {8 * MIB} {disk} | sha256sum"
    assert instance.run(script) == written
    # From its next start on as well.
    definition = target.virsh("dumpxml", "--inactive", instance.id)
    assert "dev='vdc'" in definition
    assert "dev='vdb'" not in definition
    change("detach-volume", {"volumeId": second["volumeId"]})
    # The other one is where it was left.
    refused = pytest.raises(RestError, match=r"Status\.NotSupported")
    with refused:
        rest.put(f"{instance.path}/attach-volumes", [{"volumeId": first["volumeId"]}])
    change("attach-volumes", [{"volumeId": second["volumeId"]}])
    assert instance.run(f"head -c {8 * MIB} /dev/vdb | sha256sum") == written
    change("detach-volume", {"volumeId": second["volumeId"]})
    for volume in (first, second):
        rest.request("DELETE", f"/api/ebs/v1/volumes/{volume['volumeId']}")


@pytest.mark.parametrize(("network", "is_readable"), [("manage", True), ("cninet", False)])
def test_only_an_encrypted_network_hides_the_memory_of_a_guest(
    pair: Pair, traveller: Traveller, network: str, is_readable: bool
) -> None:
    pair.set_network(network)
    source, before = traveller.host, pair.bytes_sent(traveller.host)
    traveller.instance.run("yes 'marker in memory' | head -c 2000000 > /dev/shm/marker")

    with source.cables["manage"].listen("marker in memory") as heard:
        traveller.instance.succeed(traveller.migrate(traveller.other))

    assert pair.bytes_sent(source)["manage"] - before["manage"] > 30 * MIB
    assert bool(heard[0]) == is_readable
    assert traveller.moves()[0]["network"] == network
    assert traveller.instance.run("head -n 1 /dev/shm/marker; rm /dev/shm/marker") == "marker in memory"


@pytest.fixture
def span(pair: Pair, traveller: Traveller) -> Iterator[Span]:
    """The guest's subnet reaches beyond its host."""
    (bridge,) = traveller.host.virsh("net-list", "--name").split()
    span = Span(pair.cloud.lab, bridge)
    try:
        span.join(traveller.host)
        yield span
    finally:
        span.end()


def test_a_connection_and_the_clock_of_a_guest_go_on_while_it_moves(
    pair: Pair, traveller: Traveller, span: Span
) -> None:
    pair.set_network("storage")
    instance, target = traveller.instance, traveller.other
    (port,) = instance.show()["networkMappings"]
    instance.run("nc -l -p 7000 -e /bin/cat > /dev/null 2>&1 &")
    ahead = clock_ahead_seconds(instance)

    with span.talk(port["ipv4Address"], 7000) as outcome:
        # Slow enough that the target's bridge is joined before the guest is there.
        operation = traveller.migrate(target, bandwidthMibPerSecond=16)
        span.join(target)
        instance.succeed(operation)
        drift = clock_ahead_seconds(instance) - ahead

    answers, silence = outcome
    assert traveller.host is target
    assert answers > 50
    assert silence < _LONGEST_SILENCE_SECONDS
    assert abs(drift) < 1


def test_it_comes_back(traveller: Traveller) -> None:
    source, target = traveller.host, traveller.other
    traveller.instance.succeed(traveller.migrate(target))
    traveller.instance.succeed(traveller.migrate(source))
    assert traveller.host is source


def test_a_cancelled_migration_leaves_the_guest_running_where_it_is(pair: Pair, traveller: Traveller) -> None:
    source, boot_id = traveller.host, traveller.instance.boot_id()
    operation = traveller.migrate(traveller.other, **CRAWLING)
    assert traveller.instance.wait_for_status("Migrating")["nodeName"] == source.name
    traveller.wait_for_progress(operation, "memory")
    traveller.cancel()
    assert traveller.instance.finish(operation)["state"] == "Canceled"
    assert traveller.host is source
    assert traveller.instance.boot_id() == boot_id
    assert traveller.moves()[0]["state"] == "Canceled"
    with pytest.raises(RestError, match=r"Status\.NotSupported"):
        traveller.cancel()


def test_refusals_name_their_reason(pair: Pair, traveller: Traveller) -> None:
    with pytest.raises(RestError, match="nodeName: the instance is on"):
        traveller.migrate(traveller.host)
    with pytest.raises(RestError, match="'nowhere' does not exist"):
        pair.rest.post(f"{traveller.instance.path}/live-migrate", {"nodeName": "nowhere"})
    node_id = pair.cloud.node(traveller.other)["hostId"]
    pair.rest.put(f"/api/ecs/v1/nodes/{node_id}/schedulable", {"schedulable": False})
    try:
        with pytest.raises(RestError, match=r"OperationFailed\.Unschedulable.*closed"):
            traveller.migrate(traveller.other)
    finally:
        pair.rest.put(f"/api/ecs/v1/nodes/{node_id}/schedulable", {"schedulable": True})


FAULTS: dict[str, Callable[[Pair, Host, Host], object]] = {
    "the source's agent is killed": lambda pair, source, target: source.agent.kill(),
    "the target's agent is killed": lambda pair, source, target: target.agent.kill(),
    "the coordinator is killed": lambda pair, source, target: pair.cloud.lab.coordinator.kill(),
    "the source's libvirtd is killed": lambda pair, source, target: source.libvirtd.kill(),
    "the target's libvirtd is killed": lambda pair, source, target: target.libvirtd.kill(),
    "the target's QEMU is killed": lambda pair, source, target: pair.kill_guests(target),
    "the management network is cut": lambda pair, source, target: source.cables["manage"].cut(),
    "the migration network is cut": lambda pair, source, target: source.cables["storage"].cut(),
}
MOMENTS: dict[str, Callable[[Traveller, str], object]] = {
    "at the start": lambda traveller, operation: traveller.instance.wait_for_status("Migrating"),
    "in the middle": lambda traveller, operation: traveller.wait_for_progress(operation, "memory"),
    # The last rounds, wherever they are on this machine.
    "around the cut-over": lambda traveller, operation: time.sleep(1.5),
}


# All rows take twenty minutes: most run only where that is asked for.
_ON_REQUEST = pytest.mark.skipif(
    not os.environ.get("NODEWRIGHT_TEST_MIGRATION"), reason="NODEWRIGHT_TEST_MIGRATION=1 runs it"
)
_ALWAYS_RUN = {
    ("the source's agent is killed", "in the middle"),
    ("the coordinator is killed", "in the middle"),
    ("the target's libvirtd is killed", "at the start"),
}
ROWS = [
    pytest.param(
        fault,
        moment,
        id=f"{fault} {moment}",
        marks=() if (fault, moment) in _ALWAYS_RUN else _ON_REQUEST,
    )
    for fault in FAULTS
    for moment in MOMENTS
]


@pytest.mark.parametrize(("fault", "moment"), ROWS)
def test_whatever_fails_one_guest_is_left_and_the_operation_tells(
    pair: Pair, traveller: Traveller, fault: str, moment: str
) -> None:
    pair.set_network("storage")
    source, target, boot_id = traveller.host, traveller.other, traveller.instance.boot_id()
    operation = traveller.migrate(target, **({} if moment == "around the cut-over" else CRAWLING))
    MOMENTS[moment](traveller, operation)
    FAULTS[fault](pair, source, target)
    time.sleep(_LONGER_THAN_A_LEASE_SECONDS)
    pair.mend()
    ended = traveller.instance.finish(operation, 150)
    assert ended["state"] == "Succeeded" or ended["error"]["message"], ended
    traveller.instance.wait_for_status("Running")
    assert traveller.host is (target if ended["state"] == "Succeeded" else source)
    assert traveller.instance.boot_id() == boot_id


_ALWAYS_KILLED_AT = ("await_turn.result.after", "migrate.result.before", "migrate.result.after")
POINTS = [
    pytest.param(point, marks=() if point.endswith(_ALWAYS_KILLED_AT) else _ON_REQUEST)
    for point in commits("live_migrate_instance")
]


@pytest.mark.parametrize("point", POINTS)
def test_a_coordinator_that_is_killed_at_any_commit_moves_the_guest_all_the_same(
    pair: Pair, traveller: Traveller, point: str
) -> None:
    pair.set_network("storage")
    target, boot_id = traveller.other, traveller.instance.boot_id()
    lab = pair.cloud.lab
    lab.coordinator.stop()
    lab.coordinator.start_faulty(point)
    for host in lab.hosts:
        pair.cloud.wait_for_node(host)
    with suppress(httpx.TransportError):
        traveller.migrate(target)
    assert lab.coordinator.wait(_DEATH_SECONDS) == -signal.SIGKILL
    lab.coordinator.start()
    wait_until(lambda: traveller.moves()[0]["state"] == "Completed", "it has moved", 60)
    # What is left on the source is removed by then.
    traveller.instance.wait_for_status("Running")
    assert traveller.host is target
    assert traveller.instance.boot_id() == boot_id


def test_a_guest_that_is_off_moves_with_its_disk(pair: Pair, traveller: Traveller) -> None:
    pair.set_network("storage")
    instance, source, target = traveller.instance, traveller.host, traveller.other
    instance.run("dd if=/dev/urandom of=/boot/nodewright/cold bs=1M count=8; sync")
    digest = instance.run("sha256sum /boot/nodewright/cold")
    instance.succeed(instance.power("stop", gracePeriodSeconds=1))
    before = pair.bytes_sent(source)
    response = pair.rest.request("POST", f"{instance.path}/cold-migrate", json={"nodeName": target.name})
    instance.succeed(response.headers["x-operation-id"], 120)
    sent = {network: count - before[network] for network, count in pair.bytes_sent(source).items()}
    assert sent["storage"] > 8 * MIB > sent["manage"]
    assert (instance.show()["nodeName"], instance.show()["status"]) == (target.name, "Stopped")
    wait_until(lambda: pair.copies(instance) == {target.name: "shut off"}, "the source is clean")
    instance.succeed(instance.power("start"))
    instance.wait_for_guest_agent()
    assert instance.run("sha256sum /boot/nodewright/cold") == digest


def test_a_backup_after_a_move_is_whole_or_what_has_changed_and_never_wrong(
    pair: Pair, traveller: Traveller, tmp_path: Path
) -> None:
    instance = traveller.instance
    chain = BackupChain(pair.cloud, instance, tmp_path)
    chain.make(write_disk(instance))
    # A guest that runs takes along what its disk holds, but no former state of it.
    instance.succeed(traveller.migrate(traveller.other), 180)
    moved = chain.make(write_disk(instance))
    assert (moved["parentId"], moved["wholeBecause"]) == ("", "the volume does not hold the former state any more")
    content = write_disk(instance)
    instance.succeed(instance.power("stop", gracePeriodSeconds=1))
    response = pair.rest.request("POST", f"{instance.path}/cold-migrate", json={"nodeName": traveller.other.name})
    instance.succeed(response.headers["x-operation-id"], 180)
    increment = chain.make(content)
    assert increment["parentId"] == moved["backupId"]
    assert increment["fileBytes"] < 32 * MIB
    instance.succeed(instance.power("start"))
    instance.wait_for_guest_agent()
    assert chain.make(write_disk(instance))["parentId"] == increment["backupId"]
    chain.verify()
    chain.delete()


def test_a_guest_that_hibernates_moves_with_its_memory(pair: Pair, traveller: Traveller) -> None:
    pair.set_network("storage")
    instance, source, target = traveller.instance, traveller.host, traveller.other
    counting = Counter(instance)
    instance.succeed(instance.power("hibernate"), 180)

    def move(**options: object) -> str:
        body = {"nodeName": target.name, **options}
        response = pair.rest.request("POST", f"{instance.path}/cold-migrate", json=body)
        return str(response.headers["x-operation-id"])

    operation = move(**CRAWLING)
    traveller.wait_for_progress(operation, "memory: ")
    target.agent.kill()
    target.start_agent()
    assert instance.finish(operation, 240)["state"] == "Failed"
    assert (instance.show()["nodeName"], instance.show()["status"]) == (source.name, "Hibernated")
    pair.cloud.wait_for_node(target)
    wait_until(lambda: pair.copies(instance) == {source.name: "shut off"}, "the target is clean", 60)
    before = pair.bytes_sent(source)
    instance.succeed(move(), 240)
    sent = {network: count - before[network] for network, count in pair.bytes_sent(source).items()}
    assert sent["storage"] > 30 * MIB > 4 * MIB > sent["manage"]
    assert (instance.show()["nodeName"], instance.show()["status"]) == (target.name, "Hibernated")
    wait_until(lambda: pair.copies(instance) == {target.name: "shut off"}, "the source is clean", 60)
    target.restart_libvirtd()
    pair.cloud.wait_for_node(target)
    instance.wait_for_status("Hibernated")
    instance.succeed(instance.power("start"), 180)
    instance.wait_for_guest_agent()
    counting.check_goes_on()
