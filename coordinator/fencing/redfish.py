"""A management controller that speaks Redfish, through sushy. Runs in the process of `bmc_process`.

Source: DMTF DSP0266 (Redfish), ComputerSystem.Reset; https://docs.openstack.org/sushy/.
"""

from typing import Any, Final
from urllib.parse import urlsplit

import sushy

from coordinator.fencing.model import BmcAccess

_READ_SECONDS: Final = 15
_CONNECT_SECONDS: Final = 5
_SYSTEMS: Final = "/redfish/v1/Systems"


class SystemUnclear(Exception):
    """The controller manages several systems, or none, and the address does not say which one is meant."""


class RedfishController:
    """One system behind a controller."""

    def __init__(self, access: BmcAccess) -> None:
        address = access.address if "://" in access.address else f"https://{access.address}"
        parts = urlsplit(address)
        self._controller: Any = sushy.Sushy(
            f"{parts.scheme}://{parts.netloc}",
            username=access.username,
            password=access.password,
            verify=access.verify_tls,
            read_timeout=_READ_SECONDS,
            connect_timeout=_CONNECT_SECONDS,
            server_side_retries=0,
        )
        self._system: Any = self._controller.get_system(self._choose(parts.path.rstrip("/")))

    def is_off(self) -> bool:
        """Whether the system says that it is off."""
        self._system.refresh(force=True)
        return bool(self._system.power_state == sushy.PowerState.OFF)

    def switch_off(self) -> None:
        """Asks for it, without asking the system's software."""
        self._system.reset_system(sushy.ResetType.FORCE_OFF)

    def _choose(self, path: str) -> str:
        if path.startswith(f"{_SYSTEMS}/"):
            return path
        paths = self._controller.get_system_collection().members_identities
        if len(paths) != 1:
            found = ", ".join(paths) or "none"
            raise SystemUnclear(f"the address must name one of the controller's systems: {found}")
        return str(paths[0])
