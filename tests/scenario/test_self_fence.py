"""A node without its coordinator, or with an agent that stands still: its highly available guests end there in time.

Real coordinator, agent, watchdog and guests; the tolerance is the shortest that operators can choose.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from agent.watchdog.record import FenceRecord
from tests.lab.cloud import Cloud
from tests.lab.waiting import wait_until

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("lab")]

TOLERANCE = 30
# The watchdog acts 5 s before the tolerance is over.
PATIENCE_SECONDS = TOLERANCE + 10


@dataclass(frozen=True)
class Seen:
    """What the coordinator has stored of a node."""

    heard_at: datetime
    self_fence: bool
    tolerance_seconds: int


class Site:
    """One host with a watchdog, a highly available guest and another one."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.host = cloud.host
        self.record = FenceRecord(cloud.host.directory / "agent/fenced")
        self.guest = cloud.create_instance(displayName="highly available guest", haEnabled=True)
        self.ordinary = cloud.create_instance(displayName="ordinary guest")

    def seen(self) -> Seen:
        path = self.cloud.lab.coordinator.state_dir / "coordinator.db"
        statement = "SELECT heard_at, self_fence, ha_tolerance_seconds FROM node"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            [(heard_at, self_fence, tolerance)] = database.execute(statement).fetchall()
        return Seen(datetime.fromisoformat(heard_at).replace(tzinfo=UTC), bool(self_fence), tolerance)

    def is_guarded(self) -> bool:
        """The coordinator may rely on the watchdog."""
        seen = self.seen()
        return seen.self_fence and seen.tolerance_seconds == TOLERANCE

    def is_fenced(self) -> bool:
        return bool(self.record.list()) and self.host.domain_state(self.guest.id) == "shut off"

    def reasons(self) -> list[str]:
        """Why the guest was ended each time."""
        events = self.cloud.rest.get("/api/ecs/v1/events/list", kind="instance.interrupted")["list"]
        return [event["data"]["reason"] for event in events if event["resourceId"] == self.guest.id]


@pytest.fixture(scope="module")
def site(cloud: Cloud) -> Iterator[Site]:
    cloud.wait_for_sign_of_life(cloud.host)
    cloud.rest.put("/api/ecs/v1/instances/global-ha-config", {"toleranceTime": TOLERANCE})
    cloud.host.watchdog.start()
    site = Site(cloud)
    yield site
    for instance in (site.guest, site.ordinary):
        instance.succeed(instance.delete())
    cloud.host.watchdog.kill()


@pytest.fixture(autouse=True)
def _running(site: Site) -> None:
    """Both guests run, and the node is guarded."""
    site.cloud.wait_for_node(site.host)
    for instance in (site.guest, site.ordinary):
        instance.wait_for_status("Running")
    wait_until(site.is_guarded, "the node is guarded", timeout_seconds=60)


def check_fence(site: Site, bring_back: Callable[[], None]) -> None:
    """The guest ends before the coordinator may start it elsewhere; the other one does not; REST tells why."""
    began = site.seen().heard_at
    assert site.ordinary.show()["haEnabled"] is False
    wait_until(site.is_fenced, "the guest has ended", timeout_seconds=PATIENCE_SECONDS)
    [fenced] = site.record.list()
    seen = site.seen()
    assert began <= seen.heard_at
    assert fenced.fenced_at < seen.heard_at.timestamp() + TOLERANCE
    assert seen.self_fence
    assert site.host.domain_state(site.ordinary.id) == "running"
    assert site.host.virsh("domuuid", site.guest.id).strip() == fenced.uuid
    told = len(site.reasons())
    bring_back()
    site.cloud.wait_for_node(site.host)
    site.ordinary.wait_for_status("Running")
    wait_until(lambda: len(site.reasons()) > told, "an event tells why")
    wait_until(lambda: not site.record.list(), "the guest is released")
    wait_until(lambda: site.host.domain_state(site.guest.id) == "running", "the guest is started again")


def test_an_agent_that_stands_still(site: Site) -> None:
    site.host.agent.pause()
    check_fence(site, site.host.agent.resume)


def test_an_agent_that_was_killed(site: Site) -> None:
    site.host.agent.kill()
    check_fence(site, site.host.start_agent)


def test_a_coordinator_that_cannot_be_reached(site: Site) -> None:
    site.host.namespace.run("ip", "link", "set", "manage", "down")

    def connect() -> None:
        site.host.namespace.run("ip", "link", "set", "manage", "up")

    check_fence(site, connect)


def test_a_coordinator_that_is_away_for_less_than_the_tolerance(site: Site) -> None:
    number = site.host.virsh("domid", site.guest.id)
    site.cloud.lab.coordinator.stop()
    time.sleep(3)
    site.cloud.lab.coordinator.start()
    site.cloud.wait_for_node(site.host)
    time.sleep(TOLERANCE)
    # libvirt counts starts.
    assert site.host.virsh("domid", site.guest.id) == number
    assert site.record.list() == []
