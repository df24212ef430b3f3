"""A management controller that speaks IPMI 2.0 over LAN, through pyghmi. Runs in the process of `bmc_process`.

Source: IPMI 2.0, 28.3 Chassis Control; https://opendev.org/x/pyghmi.
"""

from typing import Any

from pyghmi.ipmi import command

from coordinator.fencing.ipmi_address import split_host
from coordinator.fencing.model import BmcAccess


class IpmiController:
    """The chassis behind a controller."""

    def __init__(self, access: BmcAccess) -> None:
        host, port = split_host(access.address)
        self._command: Any = command.Command(
            bmc=host, userid=access.username, password=access.password, port=port, keepalive=False
        )

    def is_off(self) -> bool:
        """Whether the chassis says that it is off."""
        return bool(self._command.get_power()["powerstate"] == "off")

    def switch_off(self) -> None:
        """Asks for it, without asking the system's software."""
        self._command.set_power("off", wait=False)
