"""One node for all tests of hardware: its agent serves after a minute, and each test gives back what it takes."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest

from tests.hardware.coordinator import StandIn
from tests.hardware.host import NodeHost
from tests.hardware.node import HardwareNode
from tests.hardware.preparation import PreparationUnavailable, prepare
from tests.hardware.timing import Timings

_ENABLED = "NODEWRIGHT_TEST_HARDWARE"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These tests run when they are asked for, in one worker."""
    for item in items:
        if item.path.is_relative_to(os.path.dirname(__file__)):
            item.add_marker(pytest.mark.hardware)
            item.add_marker(pytest.mark.timeout(2400))
            item.add_marker(pytest.mark.xdist_group("hardware"))
            if not os.environ.get(_ENABLED):
                item.add_marker(pytest.mark.skip(reason="needs the virtual hardware node: tests/run --hardware"))


@pytest.fixture(scope="session")
def timings() -> Iterator[Timings]:
    """How long everything took, shown at the end."""
    timings = Timings()
    yield timings
    print(timings.format())


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory, timings: Timings) -> Iterator[HardwareNode]:
    """A node that has booted."""
    try:
        preparation = prepare()
    except PreparationUnavailable as error:
        pytest.skip(f"the hardware node cannot be prepared: {error}")
    node = HardwareNode(tmp_path_factory.mktemp("hardware") / "node", preparation)
    try:
        with timings.measure("node", "boot"):
            node.boot()
        yield node
    finally:
        node.end()


@pytest.fixture(scope="session")
def host(node: HardwareNode, tmp_path_factory: pytest.TempPathFactory, timings: Timings) -> Iterator[NodeHost]:
    """The same with libvirt, and an agent that has told a coordinator everything."""
    coordinator = StandIn(tmp_path_factory.mktemp("authority"))
    host = NodeHost(node, coordinator)
    try:
        with timings.measure("node", "libvirt"):
            host.start_libvirt()
        with timings.measure("node", "agent"):
            host.start_agent()
        coordinator.wait_for_inventory(lambda inventory: bool(inventory.devices), "the agent registers", 120)
        yield host
    finally:
        host.close()
        coordinator.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the last lines of every program of the node."""
    report = yield
    node = getattr(item, "funcargs", {}).get("node") or getattr(getattr(item, "funcargs", {}).get("host"), "node", None)
    if report.failed and isinstance(node, HardwareNode):
        report.sections.extend(node.logs().items())
    return report
