"""Has all GPUs of a node work in another mode; meanwhile they are the operation's, so that nobody gets one."""

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session

from coordinator.agents.device import GPU_MODE_SECONDS
from coordinator.agents.device_report import make_devices
from coordinator.placement.claim import release
from coordinator.store.queries.device import replace_devices
from coordinator.store.queries.placement import advance_generations
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind

# What the agent may take beyond its own time.
_MARGIN_SECONDS = 60.0


async def _set_mode(context: StepContext) -> StepResult:
    agent = context.runtime.agents.of(context.args["nodeId"])
    return StepResult({"deviceIds": await agent.ensure_gpu_mode(context.args["mode"])})


async def _read_devices(context: StepContext) -> StepResult:
    """Nobody waits for the node's next report: what it has in the new mode is offered at once."""
    node_id = context.args["nodeId"]
    inventory = await context.runtime.agents.of(node_id).get_inventory()

    def apply(session: Session) -> None:
        advance_generations(session, [node_id])
        release(session, [context.args["consumerUuid"]])
        replace_devices(session, node_id, make_devices(node_id, inventory.devices))

    return StepResult(apply=apply)


def _check(session: Session, args: Mapping[str, Any]) -> None:
    # Who has the GPUs was looked at by the service, in this same transaction.
    pass


def _let_go(session: Session, args: Mapping[str, Any], failure: Failure | None = None) -> None:
    release(session, [args["consumerUuid"]])


SET_GPU_MODE = TaskKind(
    name="set_gpu_mode",
    steps=(
        # The node goes on with it whoever waits: nobody shall get a GPU of it meanwhile.
        Step(
            "set_mode",
            _set_mode,
            weight=3,
            timeout_seconds=GPU_MODE_SECONDS + _MARGIN_SECONDS,
            point_of_no_return=True,
        ),
        Step("read_devices", _read_devices),
    ),
    check=_check,
    on_success=_let_go,
    on_failure=_let_go,
)
