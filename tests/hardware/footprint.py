"""What giving devices to guests changes on the node, as text: equal before and after when nothing is lost or leaked."""

from __future__ import annotations

from typing import Final

from tests.hardware.host import STATE, NodeHost
from tests.lab.waiting import wait_until

_SCRIPT: Final = f"""
shopt -s nullglob
for device in /sys/bus/pci/devices/*; do
  driver=$(readlink "$device/driver")
  echo "function ${{device##*/}}: driver ${{driver##*/}}, override $(cat "$device/driver_override")"
done
for interface in /sys/bus/usb/devices/*:*; do
  driver=$(readlink "$interface/driver")
  echo "interface ${{interface##*/}}: driver ${{driver##*/}}"
done
for made in /sys/bus/mdev/devices/*; do echo "mediated device ${{made##*/}}"; done
for defined in /etc/mdevctl.d/*/*; do echo "mediated device ${{defined##*/}} is defined"; done
for network in /sys/class/net/*; do
  # The host's driver invents an address; guests' are QEMU's.
  ip link show dev "${{network##*/}}" | sed -nE "s/ether ([^5]|5[^2])[0-9a-f:]*/ether any/; s|^ +vf [0-9]|$network:&|p"
done
for entry in {STATE}/journal/devices/*; do echo "journal of $entry"; done
"""
_SETTLE_SECONDS: Final = 180.0


def read_footprint(host: NodeHost) -> list[str]:
    """Drivers, mediated devices, settings of virtual functions, entries of the journal."""
    return sorted(host.node.run(_SCRIPT).splitlines())


def wait_for_footprint(host: NodeHost, expected: list[str]) -> None:
    """The node is as it was; the kernel takes a moment to look at what it has back."""

    def is_as_before() -> bool:
        now = read_footprint(host)
        differs = [f"+ {line}" for line in now if line not in expected] + [
            f"- {line}" for line in expected if line not in now
        ]
        assert not differs, "\n".join(differs)
        return True

    wait_until(is_as_before, "the node is as it was", _SETTLE_SECONDS, 0.5)
