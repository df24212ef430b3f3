"""Which guests have devices of the node, as libvirt tells: whoever made them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import HypervisorUnavailable
from agent.hypervisor.connection import Connection
from agent.hypervisor.hostdev import find_device_users

_NODE = """
<node>
  <domain type="test">
    <name>somebody's</name>
    <memory>1024</memory>
    <os><type>hvm</type></os>
    <devices>
      <disk type="block"><source dev="{link}"/><target dev="vda"/></disk>
      <disk type="file"><source file="/srv/disk.raw"/><target dev="vdb"/></disk>
      <disk type="nvme" device="disk">
        <source type="pci" managed="yes" namespace="1">
          <address domain="0x0000" bus="0x5e" slot="0x00" function="0x0"/>
        </source>
        <target dev="vdc" bus="virtio"/>
      </disk>
      <hostdev mode="subsystem" type="pci" managed="yes">
        <source><address domain="0x0000" bus="0x3b" slot="0x1f" function="0x7"/></source>
      </hostdev>
      <hostdev mode="subsystem" type="mdev" model="vfio-pci">
        <source><address uuid="83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"/></source>
      </hostdev>
      <hostdev mode="subsystem" type="usb"><source><address bus="1" device="12"/></source></hostdev>
      <hostdev mode="subsystem" type="usb"><source><vendor id="0x0951"/><product id="0x1666"/></source></hostdev>
      <interface type="hostdev" managed="yes">
        <mac address="52:54:00:00:00:01"/>
        <source><address type="pci" domain="0x10000" bus="0x01" slot="0x02" function="0x3"/></source>
      </interface>
    </devices>
  </domain>
  <domain type="test"><name>without any</name><memory>1024</memory><os><type>hvm</type></os></domain>
</node>
"""


async def test_devices_of_guests_are_named_as_the_node_names_them(tmp_path: Path) -> None:
    link = tmp_path / "wwn-0x5000c500a1b2c3d4"
    link.symlink_to("/dev/null")
    node = tmp_path / "node.xml"
    node.write_text(_NODE.format(link=link))
    connection = Connection(f"test://{node}", worker_count=1, guest_agent_worker_count=1)
    with pytest.raises(HypervisorUnavailable):
        await find_device_users(connection)
    await connection.open()
    users = await find_device_users(connection)
    await connection.close()
    assert users == dict.fromkeys(
        (
            "null",
            "pci 0000:5e:00.0",
            "pci 0000:3b:1f.7",
            "mdev 83b8f4f2-509f-382f-3c1e-e6bfe0fa1001",
            "usb 1:12",
            "usb 0951:1666",
            "pci 10000:01:02.3",
        ),
        "somebody's",
    )
