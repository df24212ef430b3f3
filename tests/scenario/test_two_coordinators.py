"""Two coordinators on one PostgreSQL: either answers, and the work of one that dies goes on in the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.database import migrated, postgresql_server
from tests.lab.cloud import Cloud, Instance
from tests.lab.coordinator import CoordinatorProcess
from tests.lab.lab import Lab
from tests.lab.pair import Pair
from tests.lab.waiting import wait_until
from tests.postgresql import fresh_database
from tests.stopwatch import Stopwatch

pytestmark = [pytest.mark.scenario, pytest.mark.xdist_group("migration")]

HAND_OVER_SECONDS = 10
CRAWLING = {"bandwidthMibPerSecond": 2}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with postgresql_server() as server, fresh_database(server, "two") as url, migrated(url):
        lab = Lab()
        lab.coordinator.environment["NODEWRIGHT_COORDINATOR_DATABASE_URL"] = url
        try:
            yield lab
        finally:
            lab.stop()


@pytest.fixture(scope="module")
def second(lab: Lab) -> CoordinatorProcess:
    made = lab.add_coordinator(9443)
    made.environment["NODEWRIGHT_COORDINATOR_DATABASE_URL"] = lab.coordinator.environment[
        "NODEWRIGHT_COORDINATOR_DATABASE_URL"
    ]
    return made


@pytest.fixture(scope="module")
def pair(lab: Lab, second: CoordinatorProcess, demo_image: Path) -> Pair:
    addresses = f"{lab.coordinator.grpc_address},{second.grpc_address}"
    return Pair(lab, demo_image, coordinators=addresses)


@pytest.fixture(scope="module", autouse=True)
def cloud(pair: Pair) -> Cloud:
    """So that a failed test shows the logs of this lab."""
    return pair.cloud


def test_a_coordinator_that_dies_in_a_migration_loses_nothing(lab: Lab, second: CoordinatorProcess, pair: Pair) -> None:
    traveller = pair.boot(displayName="traveller")
    boot_id, target = traveller.instance.boot_id(), traveller.other
    operation = traveller.migrate(target, **CRAWLING)
    traveller.wait_for_progress(operation, "memory")
    second.start()
    token = second.create_token()
    lab.coordinator.kill()
    with Stopwatch() as watch:
        pair.cloud.rest = second.client(token)
        told = pair.rest.get(f"/api/ecs/v1/operations/{operation}")["message"]
        wait_until(
            lambda: pair.rest.get(f"/api/ecs/v1/operations/{operation}")["message"] not in ("", told),
            "the other coordinator goes on",
        )
    assert watch.seconds < HAND_OVER_SECONDS
    for host in lab.hosts:
        wait_until(lambda host=host: pair.cloud.node(host).get("ready"), f"{host.name} has changed over")  # type: ignore[misc]
    moved = Instance(pair.cloud, traveller.instance.id)
    moved.succeed(operation, 180)
    assert moved.show()["nodeName"] == target.name
    assert moved.boot_id() == boot_id
    wait_until(lambda: pair.differences() == [], "all agrees")
