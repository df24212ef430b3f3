"""Virtual functions of network cards around a live migration: the guest gives the source's back and gets the target's.

They keep their MAC addresses, and a guest that bonds them with another interface stays on its network meanwhile.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog
from sqlmodel import Session

from coordinator.agents.client import AgentCallError, AgentClient
from coordinator.domain.device import DeviceKind
from coordinator.domain.event import Severity
from coordinator.store.queries.device_claim import DeviceClaim
from coordinator.store.queries.event import record_event
from coordinator.tasks.blueprint import Blueprint, host_devices
from coordinator.tasks.host_device import device_uuid
from coordinator.tasks.instance_step import load_instance
from coordinator.tasks.model import StepContext, StepResult

# The guest runs already: what it is not given soon comes with its next start.
_TRIES: Final = 5
_PAUSE_SECONDS: Final = 3.0

log = structlog.get_logger(__name__)


def functions_of(blueprint: Blueprint) -> list[DeviceClaim]:
    """What it can do without for a while."""
    return [claim for claim in blueprint.devices if claim.kind == DeviceKind.VF]


async def detach_functions(blueprint: Blueprint, source: AgentClient) -> None:
    """The guest has let go of its virtual functions; they stay its own on the source until that is clean."""
    uuid = blueprint.instance.uuid
    for claim in functions_of(blueprint):
        await source.ensure_device_detached(uuid, device_uuid(uuid, claim.device_id))


async def attach_functions(context: StepContext, blueprint: Blueprint, agent: AgentClient) -> StepResult:
    """The guest has the virtual functions that are the instance's. One that it cannot have is told in an event."""
    wanted = {claim.device_id for claim in functions_of(blueprint)}
    missing: dict[str, str] = {}
    for device in host_devices(blueprint, context.runtime):
        if device.device_id not in wanted:
            continue
        for tries_left in reversed(range(_TRIES)):
            try:
                await agent.ensure_device_attached(blueprint.instance.uuid, device)
                break
            except AgentCallError as error:
                if not error.transient or not tries_left:
                    log.warning("device.not_back", deviceId=device.device_id, code=error.code, reason=error.message)
                    missing[device.device_id] = error.message
                    break
            await asyncio.sleep(_PAUSE_SECONDS)
    return StepResult(apply=lambda session: _tell(session, context, agent.node_id, list(missing.items())))


def _tell(session: Session, context: StepContext, node_id: str, missing: Sequence[tuple[str, str]]) -> None:
    instance = load_instance(session, context.args)
    for device_id, reason in missing:
        record_event(
            session,
            "instance.device_not_attached",
            severity=Severity.WARNING,
            resource_type="instance",
            resource_id=instance.ecs_id,
            tenant_id=instance.tenant_id,
            node_id=node_id,
            operation_id=context.task_id,
            data={"deviceId": device_id, "kind": DeviceKind.VF, "reason": reason},
        )
