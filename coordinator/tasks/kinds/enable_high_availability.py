"""Has a guest that runs end itself when its node is lost, and only then counts on that.

The other way round, a node that is lost in between would leave a guest that nobody ends and one that is started
elsewhere.
"""

from sqlmodel import Session

from coordinator.domain.instance import InstanceStatus
from coordinator.tasks.blueprint import domain_spec
from coordinator.tasks.instance_step import Args, admit, agent_of, blueprint_of, load_instance
from coordinator.tasks.kinds.apply_ssh_keys import rest_unchanged
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind


async def _define(context: StepContext) -> StepResult:
    blueprint = await blueprint_of(context)
    spec = domain_spec(blueprint, context.runtime)
    spec.ha_enabled = True
    await agent_of(context, blueprint).ensure_defined(spec)
    return StepResult(apply=lambda session: _enable(session, context.args))


def _enable(session: Session, args: Args) -> None:
    instance = load_instance(session, args)
    instance.ha_enabled = True
    session.add(instance)


def _settle(session: Session, args: Args) -> None:
    rest_unchanged(session, load_instance(session, args))


def _settle_failure(session: Session, args: Args, failure: Failure) -> None:
    """It is not highly available, whatever its node was told: the next definition takes that back."""
    rest_unchanged(session, load_instance(session, args))


ENABLE_HIGH_AVAILABILITY = TaskKind(
    name="enable_high_availability",
    steps=(Step("define", _define),),
    check=admit("become highly available", InstanceStatus.RUNNING, InstanceStatus.PAUSED),
    on_success=_settle,
    on_failure=_settle_failure,
)
