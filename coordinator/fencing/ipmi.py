"""A management controller that speaks IPMI 2.0 over LAN, through ipmitool. Runs in the process of `bmc_process`.

Source: IPMI 2.0, 28.3 Chassis Control; ipmitool(1).
"""

import os
import subprocess
from typing import Final

from coordinator.fencing.ipmi_address import split_host
from coordinator.fencing.model import BmcAccess

_CALL_SECONDS: Final = 20
# Seconds between two tries of one message, and how many there are.
_RETRY: Final = ("-N", "2", "-R", "3")
_OFF: Final = "Chassis Power is off"


class IpmiFailed(Exception):
    """ipmitool could not do what it was told; the message is its own."""


class IpmiController:
    """The chassis behind a controller."""

    def __init__(self, access: BmcAccess) -> None:
        host, port = split_host(access.address)
        self._target = ("-I", "lanplus", "-H", host, "-p", str(port), "-U", access.username)
        self._password = access.password

    def is_off(self) -> bool:
        """Whether the chassis says that it is off."""
        return self._run("status").strip() == _OFF

    def switch_off(self) -> None:
        """Asks for it, without asking the system's software."""
        self._run("off")

    def _run(self, action: str) -> str:
        # -E: the password comes from the environment, which only root and this account can read.
        command = ("ipmitool", *self._target, "-E", *_RETRY, "chassis", "power", action)
        try:
            done = subprocess.run(
                command,
                env={**os.environ, "IPMI_PASSWORD": self._password},
                capture_output=True,
                text=True,
                timeout=_CALL_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise IpmiFailed("ipmitool is not installed on the coordinator's machine") from None
        if done.returncode:
            raise IpmiFailed(" ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}")
        return done.stdout
