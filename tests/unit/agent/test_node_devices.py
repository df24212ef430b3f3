"""What libvirt is told of mediated devices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lxml import etree

from agent.errors import AgentError, HypervisorUnsupported
from agent.hypervisor.connection import Connection
from agent.hypervisor.nodedev import NodeDevices, build_mdev_xml

SCHEMA = Path("/usr/share/libvirt/schemas/nodedev.rng")
UUID = "5b0e3f0c-2a30-5d65-8c44-0a2b6f3c1d01"
T4 = "0000:3b:00.0"


@pytest.fixture
async def devices() -> AsyncIterator[NodeDevices]:
    connection = Connection("test:///default", worker_count=1, guest_agent_worker_count=1)
    await connection.open()
    yield NodeDevices(connection)
    await connection.close()


def test_the_definition_names_parent_type_and_identity() -> None:
    device = etree.fromstring(build_mdev_xml(UUID, T4, "nvidia-222"))
    assert device.findtext("parent") == "pci_0000_3b_00_0"
    assert device.find("capability[@type='mdev']/type[@id='nvidia-222']") is not None
    assert device.findtext("capability/uuid") == UUID


@pytest.mark.skipif(not SCHEMA.exists(), reason="libvirt's schemas are not installed")
def test_libvirt_would_read_it_once_it_has_a_name() -> None:
    """libvirt gives the name when it is left out; its schema wants one."""
    device = etree.fromstring(build_mdev_xml(UUID, T4, "nvidia-222"))
    name = etree.Element("name")
    name.text = "mdev_5b0e3f0c"
    device.insert(0, name)
    schema = etree.RelaxNG(etree.parse(SCHEMA))
    schema.assertValid(device)


async def test_a_parent_that_libvirt_knows_by_no_name_is_left_to_the_kernel(devices: NodeDevices) -> None:
    with pytest.raises(HypervisorUnsupported, match="mtty"):
        await devices.ensure(UUID, "mtty", "mtty-1")


async def test_a_driver_of_libvirt_that_makes_none_says_so(devices: NodeDevices) -> None:
    with pytest.raises(AgentError):
        await devices.ensure(UUID, T4, "nvidia-222")


async def test_absence_is_success(devices: NodeDevices) -> None:
    await devices.ensure_removed(UUID)
