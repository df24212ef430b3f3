"""Nodes are switched off through their management controllers: of one kind, each, whatever the kind."""

import json
import subprocess
import sys
from dataclasses import asdict
from typing import Final

from coordinator.domain.clock import Clock
from coordinator.domain.fence import BmcKind, FenceKind
from coordinator.domain.message import Message
from coordinator.fencing.model import BmcAccess, FenceResult, FenceSubject

# A board may take half a minute to answer after it was told to switch off.
_SWITCH_SECONDS: Final = 60.0
_ASK_SECONDS: Final = 30.0
# For Python to start, and for the last call of a library to end.
_GRACE_SECONDS: Final = 20.0


class BmcUnreachable(Exception):
    """The controller did not do what it was asked; the message says why and holds no secret."""


class BmcFence:
    """Confirmed when the node's controller says that its power is off."""

    def __init__(self, kind: BmcKind, now: Clock, *, switch_seconds: float = _SWITCH_SECONDS) -> None:
        self.kind = FenceKind(kind)
        self._bmc_kind = kind
        self._now = now
        self._switch_seconds = switch_seconds

    def confirm(self, node: FenceSubject) -> FenceResult:
        """Switches the node off unless it is off."""
        if node.bmc is None or node.bmc.kind is not self._bmc_kind:
            return self._answer(
                False,
                f"no management controller of the kind {self._bmc_kind} is set for the node",
                f"该节点未配置{self._bmc_kind}带外管理",
            )
        try:
            _call(node.bmc, seconds=self._switch_seconds)
        except BmcUnreachable as error:
            return self._answer(False, f"the node could not be switched off: {error}", f"关闭节点电源失败：{error}")
        return self._answer(
            True, "its management controller says that its power is off", "带外管理确认该节点电源已关闭"
        )

    def _answer(self, confirmed: bool, en: str, zh: str) -> FenceResult:
        return FenceResult(self.kind, confirmed, Message(en, zh), self._now())


def read_power(access: BmcAccess) -> bool:
    """Whether the power is on; changes nothing. Raises BmcUnreachable."""
    return not _call(access, seconds=0)


def _call(access: BmcAccess, *, seconds: float) -> bool:
    """What the controller says in the end: whether the power is off."""
    # Not in the arguments, which everybody on this machine can read.
    order = json.dumps({**asdict(access), "seconds": seconds})
    limit_seconds = (seconds or _ASK_SECONDS) + _GRACE_SECONDS
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "coordinator.fencing.bmc_process"],
            input=order,
            capture_output=True,
            text=True,
            timeout=limit_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BmcUnreachable(f"no answer within {limit_seconds:.0f} s") from None
    except OSError as error:
        raise BmcUnreachable(str(error)) from error
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        raise BmcUnreachable(f"its program ended with status {done.returncode}") from None
    if "error" in answer:
        raise BmcUnreachable(answer["error"])
    return bool(answer["off"])
