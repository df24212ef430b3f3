"""Gives an instance another size on its node: while it runs where its guest takes it, else by a restart.

What the new size needs more is held beside what the instance has, and both become one when the new size is in effect.
"""

from typing import Final

from sqlmodel import Session

from coordinator.agents.client import AgentCallError
from coordinator.domain.growth import OUTGROWN
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.unit import MIB
from coordinator.placement.claim import exchange, release
from coordinator.tasks.blueprint import domain_spec
from coordinator.tasks.instance_step import (
    GUEST_TIMEOUT_SECONDS,
    Args,
    admit,
    agent_of,
    blueprint_of,
    is_being_deleted,
    load_instance,
    record_power_state,
    report_wait,
    settle,
    settle_failure,
    start_again,
)
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind
from coordinator.tasks.resize import apply_size, exchange_devices, grown_blueprint, return_reserved
from coordinator.tasks.volume_step import start_unless_lost, undo_unless_lost
from protos.agent.v1 import domain_pb2

# The guest cannot, or does not tell that it has: a restart does it.
_RESTARTABLE: Final = ("DomainGrowthUnsupported", "DomainStateConflict", "AgentOutdated", "HypervisorUnsupported")


async def _define(context: StepContext) -> StepResult:
    blueprint = await grown_blueprint(context)
    await agent_of(context, blueprint).ensure_defined(domain_spec(blueprint, context.runtime))
    return StepResult()


async def _restore(context: StepContext) -> StepResult:
    """The last to be undone: the guest is as it was, and runs if it did. One that has grown by now stays so."""
    if _has_grown(context):
        return StepResult()
    instance = (await blueprint_of(context)).instance
    return await start_unless_lost(context, instance, start_again(context), runs=context.args["runs"])


async def _grow(context: StepContext) -> StepResult:
    """A guest that takes the new size has it at once, and then the instance has it, too: there is no way back."""
    blueprint, args = await grown_blueprint(context), context.args
    if not args["isOnline"]:
        return StepResult({"grown": False, "reason": "it is not a matter of vCPUs and memory to be added"})
    size = args["size"]
    try:
        domain = await agent_of(context, blueprint).ensure_grown(
            blueprint.instance.uuid, size["vcpus"], size["memoryBytes"]
        )
    except AgentCallError as error:
        if error.code not in _RESTARTABLE:
            raise
        return StepResult({"grown": False, "reason": error.message})

    def apply(session: Session) -> None:
        _take_size(session, args)
        record_power_state(args, domain)(session)

    return StepResult({"grown": True}, apply)


async def _keep_growth(context: StepContext) -> StepResult:
    """A guest that runs gives nothing back: one that has all of it, though nobody waited for that, keeps it.

    One that has a part of it, which are vCPUs, runs with them until it is next started; the instance has its old size.
    """
    blueprint, args = await blueprint_of(context), context.args
    if not args["isOnline"] or _has_grown(context):
        return StepResult()
    looking = agent_of(context, blueprint).get_domain(blueprint.instance.uuid)
    try:
        domain = await undo_unless_lost(context, blueprint.instance, looking)
    except AgentCallError as error:
        if error.transient:
            raise
        domain = None
    if domain is None or domain.power_state != domain_pb2.POWER_STATE_RUNNING:
        return StepResult()
    size, found = args["size"], domain
    if domain.vcpus < size["vcpus"] or domain.memory_bytes < size["memoryBytes"]:
        return StepResult(apply=lambda session: _note_part(session, args, found))
    return StepResult(apply=lambda session: _take_size(session, args))


def _note_part(session: Session, args: Args, domain: domain_pb2.Domain) -> None:
    instance = load_instance(session, args)
    if domain.vcpus > instance.vcpus or domain.memory_bytes > instance.memory_bytes:
        part = {"vcpus": domain.vcpus, "memoryMib": domain.memory_bytes // MIB}
        instance.options = {**instance.options, OUTGROWN: part}
        session.add(instance)


async def _stop(context: StepContext) -> StepResult:
    if _has_grown(context) or not context.args["runs"]:
        return StepResult()
    blueprint = await blueprint_of(context)
    grace_seconds = context.runtime.settings.stop_grace.total_seconds()
    domain = await agent_of(context, blueprint).ensure_stopped(
        blueprint.instance.uuid, False, grace_seconds, report_wait(context, grace_seconds)
    )
    return StepResult(apply=record_power_state(context.args, domain))


async def _start(context: StepContext) -> StepResult:
    if _has_grown(context) or not context.args["runs"]:
        return StepResult()
    blueprint = await blueprint_of(context)
    domain = await agent_of(context, blueprint).ensure_running(blueprint.instance.uuid)
    return StepResult(apply=record_power_state(context.args, domain))


async def _stop_again(context: StepContext) -> StepResult:
    """A guest that has just been started with the new size makes way for the old one."""
    blueprint = await blueprint_of(context)
    if not _has_grown(context) and context.args["runs"] and not is_being_deleted(blueprint.instance):
        stopping = agent_of(context, blueprint).ensure_stopped(blueprint.instance.uuid, True, 0.0)
        await undo_unless_lost(context, blueprint.instance, stopping)
    return StepResult()


def _has_grown(context: StepContext) -> bool:
    return bool(context.results.get("grow", {}).get("grown"))


def _take_size(session: Session, args: Args) -> None:
    instance = load_instance(session, args)
    assert instance.node_id is not None  # noqa: S101 - it stays while its task runs
    exchange_devices(session, instance, args)
    exchange(session, instance.node_id, instance.uuid, args["reserveUuid"], args["amounts"], is_full=args["isFull"])
    apply_size(instance, args)
    instance.rp_id = args["poolId"]
    session.add(instance)


def _settle(session: Session, args: Args) -> None:
    _take_size(session, args)
    settle(session, args)


def _let_go(session: Session, args: Args, failure: Failure) -> None:
    return_reserved(session, load_instance(session, args), args)
    release(session, [args["reserveUuid"]])
    settle_failure(session, args, failure)


RESIZE_INSTANCE = TaskKind(
    name="resize_instance",
    steps=(
        Step("define", _define, undo=_restore),
        Step("grow", _grow, undo=_keep_growth, weight=2),
        Step("stop", _stop, weight=2, timeout_seconds=GUEST_TIMEOUT_SECONDS),
        Step("start", _start, undo=_stop_again, weight=2),
    ),
    check=admit("resize", InstanceStatus.RUNNING, InstanceStatus.STOPPED),
    on_success=_settle,
    on_failure=_let_go,
)
