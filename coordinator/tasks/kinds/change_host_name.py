"""Gives a running guest another host name, `args["hostName"]`; what its seed says follows with its next start."""

from sqlmodel import Session

from coordinator.domain.instance import InstanceStatus
from coordinator.errors import GuestCommandFailed, HostNameChangeFailed
from coordinator.tasks.blueprint import make_dns_label
from coordinator.tasks.guest_script import SET_HOST_NAME
from coordinator.tasks.instance_step import Args, admit, blueprint_of, load_instance
from coordinator.tasks.kinds.apply_ssh_keys import open_guest, rest_unchanged
from coordinator.tasks.model import Failure, Step, StepContext, StepResult, TaskKind


async def _change_guest(context: StepContext) -> StepResult:
    guest = open_guest(context, await blueprint_of(context))
    try:
        end = await guest.run(SET_HOST_NAME, make_dns_label(context.args["hostName"]))
    except GuestCommandFailed as error:
        raise HostNameChangeFailed(error.message.en, error.message.zh) from error
    if end.exit_code:
        raise HostNameChangeFailed(f"the guest kept its host name: {end.reason}", f"变更hostname失败：{end.reason}")
    return StepResult()


def _settle(session: Session, args: Args) -> None:
    instance = load_instance(session, args)
    instance.host_name = args["hostName"]
    instance.generation += 1
    rest_unchanged(session, instance)


def _settle_failure(session: Session, args: Args, failure: Failure) -> None:
    rest_unchanged(session, load_instance(session, args))


CHANGE_HOST_NAME = TaskKind(
    name="change_host_name",
    steps=(Step("change_guest", _change_guest),),
    check=admit("change the host name", InstanceStatus.RUNNING),
    on_success=_settle,
    on_failure=_settle_failure,
    retry_seconds=120.0,
)
