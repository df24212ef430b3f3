"""What talks to one management controller, in a process of its own: `python -m coordinator.fencing.bmc_process`.

Reads an order from the standard input as JSON, and answers on the standard output. The libraries block, keep global
state and take tens of megabytes: all of that ends with the process, which is killed when its time is over.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Final, Protocol

from coordinator.domain.fence import BmcKind
from coordinator.fencing.model import BmcAccess

_POLL_SECONDS: Final = 1.0
# How often a controller is asked again that did not do as it was told.
_ASK_AGAIN_SECONDS: Final = 10.0


class Controller(Protocol):
    """A management controller to which there is a connection."""

    def is_off(self) -> bool:
        """What it says about the power."""

    def switch_off(self) -> None:
        """Asks for it."""


def open_controller(access: BmcAccess) -> Controller:
    """Connects. Raises what the library raises."""
    if access.kind is BmcKind.REDFISH:
        from coordinator.fencing.redfish import RedfishController

        return RedfishController(access)
    from coordinator.fencing.ipmi import IpmiController

    return IpmiController(access)


def ensure_off(
    connect: Callable[[], Controller],
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    seconds: float,
) -> str:
    """Asks until the controller says that the power is off; answers "" then, else what went wrong last."""
    ends, asked, trouble = clock() + seconds, -_ASK_AGAIN_SECONDS, ""
    controller: Controller | None = None
    while clock() < ends:
        try:
            controller = controller or connect()
            if controller.is_off():
                return ""
            trouble = "the controller was told to switch off, and still says that the power is on"
            if clock() - asked >= _ASK_AGAIN_SECONDS:
                asked = clock()
                controller.switch_off()
        except Exception as error:
            # Whatever a library raises is a reason, and the next try may succeed.
            trouble, controller = describe(error), None
        sleep(_POLL_SECONDS)
    return trouble


def describe(error: Exception) -> str:
    """What a library has to say, which may be nothing but its class."""
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def main() -> None:
    """Answers {"off": …} or {"error": …}; without "seconds" in the order nothing is switched."""
    order = json.load(sys.stdin)
    seconds = order.pop("seconds")
    access = BmcAccess(**{**order, "kind": BmcKind(order["kind"])})
    answer: dict[str, object]
    if seconds:
        trouble = ensure_off(lambda: open_controller(access), seconds=seconds)
        answer = {"error": trouble} if trouble else {"off": True}
    else:
        try:
            answer = {"off": open_controller(access).is_off()}
        except Exception as error:
            answer = {"error": describe(error)}
    text = json.dumps(answer)
    # Libraries quote what they sent.
    sys.stdout.write(text.replace(access.password, "***") if access.password else text)


if __name__ == "__main__":
    main()
