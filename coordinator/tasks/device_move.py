"""Devices around a live migration: the guest gives the source's back and gets equal ones of the target.

vGPUs that both nodes can move go along with their state: equal ones wait on the target.

Virtual functions of network cards keep their MAC addresses, and a guest that bonds them with another interface stays on
its network meanwhile. USB devices are replaced by others of the same model.
"""

import asyncio
from collections.abc import Collection
from typing import Final, NamedTuple

import structlog
from sqlmodel import Session

from coordinator.agents.client import AgentCallError, AgentClient
from coordinator.domain.device import DeviceKind
from coordinator.domain.event import Severity
from coordinator.domain.usb import is_replaceable
from coordinator.domain.vgpu_migration import goes_along
from coordinator.store.queries.device_claim import DeviceClaim
from coordinator.store.queries.event import record_event
from coordinator.tasks.blueprint import Blueprint, host_devices
from coordinator.tasks.host_device import device_uuid
from coordinator.tasks.instance_step import load_instance
from coordinator.tasks.model import StepContext, StepResult
from protos.agent.v1 import device_pb2

_KINDS: Final = (DeviceKind.VF, DeviceKind.USB)
# The guest runs already: what it is not given soon comes with its next start.
_TRIES: Final = 5
_PAUSE_SECONDS: Final = 3.0

log = structlog.get_logger(__name__)


class _Missing(NamedTuple):
    device_id: str
    kind: str
    reason: str


def movable_devices(blueprint: Blueprint) -> list[DeviceClaim]:
    """What it can do without for a while, and has an equal one for where it goes."""
    options = blueprint.instance.options
    return [
        claim
        for claim in blueprint.devices
        if claim.kind == DeviceKind.VF or (claim.kind == DeviceKind.USB and is_replaceable(claim.attributes, options))
    ]


def count_vgpus(blueprint: Blueprint) -> int:
    """How many go along with the guest."""
    return sum(claim.slices for claim in blueprint.devices if goes_along(claim.kind, claim.attributes))


async def detach_devices(blueprint: Blueprint, source: AgentClient) -> None:
    """The guest has let go of its movable devices; they stay its own on the source until that is clean."""
    uuid = blueprint.instance.uuid
    for claim in movable_devices(blueprint):
        await source.ensure_device_detached(uuid, device_uuid(uuid, claim.device_id))


async def attach_devices(context: StepContext, blueprint: Blueprint, agent: AgentClient) -> StepResult:
    """The guest has what is the instance's of such kinds. One that it cannot have is told in an event."""
    # Whatever is plugged in at the ports by now: they are its own.
    kinds = {claim.device_id: claim.kind for claim in blueprint.devices if claim.kind in _KINDS}
    missing: list[_Missing] = []
    for device in host_devices(blueprint, context.runtime):
        if device.device_id in kinds and (reason := await _try_to_attach(agent, blueprint.instance.uuid, device)):
            missing.append(_Missing(device.device_id, kinds[device.device_id], reason))
    return StepResult(apply=lambda session: _tell(session, context, agent.node_id, missing))


async def _try_to_attach(agent: AgentClient, uuid: str, device: device_pb2.HostDevice) -> str:
    """Why the guest has it not; empty: it has."""
    for tries_left in reversed(range(_TRIES)):
        try:
            await agent.ensure_device_attached(uuid, device)
        except AgentCallError as error:
            if not error.transient or not tries_left:
                log.warning("device.not_back", deviceId=device.device_id, code=error.code, reason=error.message)
                return error.message or error.code
        else:
            break
        await asyncio.sleep(_PAUSE_SECONDS)
    return ""


def _tell(session: Session, context: StepContext, node_id: str, missing: Collection[_Missing]) -> None:
    instance = load_instance(session, context.args)
    for device_id, kind, reason in missing:
        record_event(
            session,
            "instance.device_not_attached",
            severity=Severity.WARNING,
            resource_type="instance",
            resource_id=instance.ecs_id,
            tenant_id=instance.tenant_id,
            node_id=node_id,
            operation_id=context.task_id,
            data={"deviceId": device_id, "kind": kind, "reason": reason},
        )
