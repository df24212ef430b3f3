"""A coordinator or an agent killed in an operation: after its restart all is as was asked, without leftovers."""

import os
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import httpx
import pytest

from coordinator.tasks.kinds import KINDS
from tests.lab.cloud import Cloud, Instance
from tests.lab.waiting import wait_until
from tests.scenario.leftover import find_leftovers

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("recovery")]

# The calls that an operation makes to the agent.
CALLS = {
    "create_instance": (
        "ImageService/EnsureCached",
        "VolumeService/EnsureVolume",
        "NetworkService/EnsurePort",
        "DomainService/EnsureDefined",
        "DomainService/EnsureRunning",
    ),
    "delete_instance": (
        "DomainService/EnsureRemoved",
        "VolumeService/EnsureRemoved",
        "NetworkService/EnsurePortRemoved",
    ),
    "start_instance": ("DomainService/EnsureDefined", "DomainService/EnsureRunning"),
    "stop_instance": ("DomainService/EnsureStopped",),
    "attach_volumes": ("VolumeService/EnsureVolume", "DomainService/EnsureDiskAttached"),
    "detach_volumes": ("DomainService/EnsureDiskDetached",),
    "grow_volume": ("VolumeService/EnsureGrown",),
    "hibernate_instance": ("DomainService/EnsureDefined", "DomainService/EnsureHibernated"),
    "resize_instance": ("DomainService/EnsureDefined", "DomainService/EnsureGrown"),
}
VOLUMES = "/api/ebs/v1/volumes"
EXHAUSTIVE = pytest.mark.skipif(
    not os.environ.get("NODEWRIGHT_TEST_RECOVERY"), reason="NODEWRIGHT_TEST_RECOVERY=1 runs it"
)
DEATH_SECONDS = 60
# Longer than the agent collects events before it reports them.
REPORT_SECONDS = 2


def some(places: Sequence[object | tuple[object, ...]], every: int = 3) -> list[object]:
    """By default some of the places: `api/test_crash_matrix.py` has many more, with agents that play their guests."""
    return [
        pytest.param(*(place if isinstance(place, tuple) else (place,)), marks=EXHAUSTIVE if number % every else ())
        for number, place in enumerate(places)
    ]


def commits(kind: str) -> list[str]:
    """Before and after each commit of an undisturbed run. A step's result and the next step's intent are one commit."""
    steps = [step.name for step in KINDS[kind].steps]
    places = [f"{steps[0]}.intent", *(f"{step}.result" for step in steps)]
    return [f"{kind}.{place}.{side}" for place in places for side in ("before", "after")]


def calls(kind: str) -> list[tuple[str, str]]:
    """Before and after each call of the agent."""
    return [(moment, call) for call in CALLS[kind] for moment in ("before", "after")]


@contextmanager
def killed_coordinator(cloud: Cloud, point: str) -> Iterator[None]:
    """What is asked in the block kills the coordinator at the point, whose answer may get lost; then it runs again."""
    # SIGKILL: a graceful end would wait for the tests' own idle connections.
    cloud.lab.coordinator.kill()
    cloud.lab.coordinator.start_faulty(point)
    cloud.wait_for_sign_of_life(cloud.host)
    with suppress(httpx.TransportError):
        yield
    assert cloud.lab.coordinator.wait(DEATH_SECONDS) == -signal.SIGKILL
    cloud.lab.coordinator.start()
    cloud.wait_for_sign_of_life(cloud.host)


@contextmanager
def killed_agent(cloud: Cloud, moment: str, call: str) -> Iterator[None]:
    """What is asked in the block kills the agent before or after the call; then it runs again."""
    agent = cloud.host.agent
    agent.stop()
    registrations = agent.log.read_text().count("coordinator.registered")
    cloud.host.start_faulty_agent(moment, call)
    wait_until(lambda: agent.log.read_text().count("coordinator.registered") > registrations, "it has registered")
    yield
    assert agent.wait(DEATH_SECONDS) == -signal.SIGKILL
    cloud.host.start_agent()


@pytest.fixture
def stopped(cloud: Cloud) -> Iterator[Instance]:
    """An instance that is shut off."""
    cloud.wait_for_sign_of_life(cloud.host)
    instance = cloud.create_instance(displayName="stopped guest")
    instance.wait_for_status("Running")
    # The node's reports of how it started may still be on their way, and show it stopped for a moment.
    time.sleep(REPORT_SECONDS)
    instance.wait_for_status("Running")
    instance.succeed(instance.power("stop", gracePeriodSeconds=0))
    yield instance
    if instance.exists():
        instance.succeed(instance.delete())


@pytest.fixture
def running(stopped: Instance) -> Instance:
    """An instance that runs."""
    stopped.succeed(stopped.power("start"))
    return stopped


def assert_created(cloud: Cloud, name: str) -> None:
    """Exactly one instance of the name came of it, it runs, and it can be deleted without leaving anything."""
    (instance,) = cloud.find_instances(name)
    instance.wait_for_status("Running", timeout_seconds=90)
    assert cloud.host.domain_state(instance.id) == "running"
    traces = instance.traces()
    instance.succeed(instance.delete())
    assert find_leftovers(cloud, *traces) == []


def assert_deleted(cloud: Cloud, instance: Instance, traces: list[str]) -> None:
    """The instance goes away, with everything."""
    wait_until(lambda: not instance.exists(), f"{instance.id} is gone", timeout_seconds=90)
    assert find_leftovers(cloud, *traces) == []


@pytest.mark.parametrize("point", some(commits("create_instance")))
def test_creation_survives_a_killed_coordinator(cloud: Cloud, point: str) -> None:
    name = f"phoenix-{uuid.uuid4().hex[:8]}"
    with killed_coordinator(cloud, point):
        cloud.create_instance(displayName=name)
    assert_created(cloud, name)


@pytest.mark.parametrize(("moment", "call"), some(calls("create_instance")))
def test_creation_survives_a_killed_agent(cloud: Cloud, moment: str, call: str) -> None:
    name = f"phoenix-{uuid.uuid4().hex[:8]}"
    with killed_agent(cloud, moment, call):
        cloud.create_instance(displayName=name)
    assert_created(cloud, name)


@pytest.mark.parametrize("point", some(commits("delete_instance")))
def test_deletion_survives_a_killed_coordinator(cloud: Cloud, running: Instance, point: str) -> None:
    traces = running.traces()
    with killed_coordinator(cloud, point):
        running.delete()
    assert_deleted(cloud, running, traces)


@pytest.mark.parametrize(("moment", "call"), some(calls("delete_instance")))
def test_deletion_survives_a_killed_agent(cloud: Cloud, running: Instance, moment: str, call: str) -> None:
    traces = running.traces()
    with killed_agent(cloud, moment, call):
        running.delete()
    assert_deleted(cloud, running, traces)


@pytest.mark.parametrize("point", some(commits("start_instance")))
def test_a_start_survives_a_killed_coordinator(cloud: Cloud, stopped: Instance, point: str) -> None:
    with killed_coordinator(cloud, point):
        stopped.power("start")
    stopped.wait_for_status("Running", timeout_seconds=90)
    assert cloud.host.domain_state(stopped.id) == "running"


@pytest.mark.parametrize(("moment", "call"), some(calls("start_instance")))
def test_a_start_survives_a_killed_agent(cloud: Cloud, stopped: Instance, moment: str, call: str) -> None:
    with killed_agent(cloud, moment, call):
        stopped.power("start")
    stopped.wait_for_status("Running", timeout_seconds=90)
    assert cloud.host.domain_state(stopped.id) == "running"


@pytest.mark.parametrize("point", some(commits("stop_instance")))
def test_a_stop_survives_a_killed_coordinator(cloud: Cloud, running: Instance, point: str) -> None:
    with killed_coordinator(cloud, point):
        running.power("stop", gracePeriodSeconds=0)
    running.wait_for_status("Stopped", timeout_seconds=90)
    assert cloud.host.domain_state(running.id) == "shut off"


@pytest.mark.parametrize(("moment", "call"), some(calls("stop_instance")))
def test_a_stop_survives_a_killed_agent(cloud: Cloud, running: Instance, moment: str, call: str) -> None:
    with killed_agent(cloud, moment, call):
        running.power("stop", gracePeriodSeconds=0)
    running.wait_for_status("Stopped", timeout_seconds=90)
    assert cloud.host.domain_state(running.id) == "shut off"


@pytest.fixture
def volume(cloud: Cloud) -> Iterator[str]:
    """The path of an empty volume, which can be removed with all that it has on the host."""
    tenant_id = cloud.rest.get("/api/iam/v1/tenants")["list"][0]["tenantId"]
    made = cloud.rest.post(VOLUMES, {"name": "data", "volumeSize": 1, "tenantId": tenant_id})
    path = f"{VOLUMES}/{made['volumeUuid']}"
    yield path
    if cloud.rest.get(path)["ecsId"]:
        instance = Instance(cloud, cloud.rest.get(path)["ecsId"])
        instance.succeed(instance.power("detach-volume", volumeId=made["volumeId"]))
    cloud.rest.request("DELETE", path)
    wait_until(lambda: not find_leftovers(cloud, made["volumeUuid"].removeprefix("volume-")), "its data is gone")


def places(*kinds: str, every: int = 5) -> list[object]:
    """Each commit of these operations and call of the agent at which somebody is killed."""
    killed: list[tuple[str, str, str | None]] = [(kind, point, None) for kind in kinds for point in commits(kind)]
    killed += [(kind, *call) for kind in kinds for call in calls(kind)]
    return some(killed, every)


@pytest.mark.parametrize(("kind", "point", "call"), places("attach_volumes", "detach_volumes", "grow_volume"))
def test_operations_on_volumes_survive_whoever_is_killed(
    cloud: Cloud, stopped: Instance, volume: str, kind: str, point: str, call: str | None
) -> None:
    uuid = volume.rpartition("/")[2]
    requests = {
        "attach_volumes": (f"{stopped.path}/attach-volumes", [{"volumeId": uuid}]),
        "detach_volumes": (f"{stopped.path}/detach-volume", {"volumeId": uuid}),
        "grow_volume": (f"{volume}/resize", {"volumeSize": 2}),
    }
    if kind != "attach_volumes":
        path, body = requests["attach_volumes"]
        stopped.succeed(cloud.rest.request("PUT", path, json=body).headers["x-operation-id"])
    with killed_agent(cloud, point, call) if call else killed_coordinator(cloud, point):
        path, body = requests[kind]
        cloud.rest.request("PUT", path, json=body)
    ends = {"attach_volumes": ("inUse", 1), "detach_volumes": ("available", 1), "grow_volume": ("inUse", 2)}

    def read() -> tuple[str, int]:
        shown = cloud.rest.get(volume)
        return shown["status"], shown["volumeSize"]

    wait_until(lambda: read() == ends[kind], f"the volume is {ends[kind]}", timeout_seconds=90)
    wait_until(lambda: stopped.show()["status"] == "Stopped", "the instance rests")
    has_disk = uuid.removeprefix("volume-") in cloud.host.virsh("dumpxml", stopped.id)
    assert has_disk == (kind != "detach_volumes")


@pytest.mark.parametrize(("kind", "point", "call"), places("resize_instance", every=9))
def test_a_resize_survives_whoever_is_killed(
    cloud: Cloud, running: Instance, kind: str, point: str, call: str | None
) -> None:
    running.wait_for_guest_agent()
    body = {"cpus": 2, "memory": {"amount": "1Gi"}, "flavorId": cloud.create_flavor(cpu=2)}
    with killed_agent(cloud, point, call) if call else killed_coordinator(cloud, point):
        cloud.rest.request("PATCH", running.path, json=body)
    wait_until(lambda: running.show()["vCpus"] == 2, "it has the new size", timeout_seconds=120)
    wait_until(lambda: cloud.rest.get("/api/ecs/v1/placement/differences") == [], "all agree on it")
    assert cloud.host.domain_state(running.id) == "running"
    assert running.run("nproc") == "2"


@pytest.mark.parametrize(("kind", "point", "call"), places("hibernate_instance", every=9))
def test_hibernating_survives_whoever_is_killed(
    cloud: Cloud, running: Instance, kind: str, point: str, call: str | None
) -> None:
    running.wait_for_guest_agent()
    boot_id = running.boot_id()
    with killed_agent(cloud, point, call) if call else killed_coordinator(cloud, point):
        running.power("hibernate")
    running.wait_for_status("Hibernated", timeout_seconds=120)
    assert cloud.host.domain_state(running.id) == "shut off"
    running.succeed(running.power("start"))
    assert running.boot_id() == boot_id


@pytest.mark.parametrize("state", ["down", "up"])
def test_a_bridge_that_a_dead_libvirtd_left_keeps_no_instance_from_starting(cloud: Cloud, state: str) -> None:
    name = "nw-" + "0" * 12
    assert name not in cloud.host.virsh("net-list", "--all", "--name")
    cloud.host.namespace.run("ip", "link", "add", name, "type", "bridge")
    cloud.host.namespace.run("ip", "address", "add", "10.80.0.1/24", "dev", name)
    cloud.host.namespace.run("ip", "link", "set", name, state)
    instance = cloud.create_instance(displayName="after the crash")
    instance.wait_for_status("Running")
    assert name in cloud.host.virsh("net-list", "--name")
    instance.succeed(instance.delete())
