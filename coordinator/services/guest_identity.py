"""What a guest is called, and the passwords of its accounts and of its screen."""

import base64
import re
from typing import Final

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.instance import InstanceStatus
from coordinator.errors import ParameterInvalid
from coordinator.runtime import Runtime
from coordinator.services.guest import call_guest_agent
from coordinator.services.instance import find_own
from coordinator.services.instance_task import begin_task, require_unlocked
from coordinator.services.instance_validation import check_password, check_vnc_password
from coordinator.services.password import hash_password
from coordinator.store.tables import Instance
from coordinator.tasks.instance_step import require_status
from coordinator.tasks.kinds.change_host_name import CHANGE_HOST_NAME
from coordinator.tasks.kinds.redefine_instance import REDEFINE_INSTANCE

_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_HOST_NAME: Final = re.compile(r"(?![0-9]+$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
# What a seed sets a password for, beside the image's default user, whose name the coordinator does not know.
_ROOT: Final = "root"

log = structlog.get_logger(__name__)


def reset_password(runtime: Runtime, caller: Caller, ecs_id: str, user: str, password: str) -> list[str]:
    """Sets the password of an account in a running guest, at once; without `user` that of the screen.

    The guest's answer is waited for, so that the password is kept nowhere. Answers the operations that go on.
    """
    if not user:
        return _reset_vnc_password(runtime, caller, ecs_id, password)
    if not _USER.fullmatch(user):
        raise ParameterInvalid("user", "not the name of an account", "不是有效的用户名")
    check_password(password)
    with runtime.database.read() as session:
        instance = find_own(session, caller, ecs_id)
    require_unlocked(instance)
    encoded = base64.b64encode(password.encode()).decode()
    arguments = {"username": user, "password": encoded, "crypted": False}
    call_guest_agent(runtime, instance, {"execute": "guest-set-user-password", "arguments": arguments})
    if user == _ROOT and instance.password_hash:
        _keep_hash(runtime, caller, ecs_id, hash_password(password))
    log.info("guest.password_reset", ecsId=ecs_id, by=caller.token_id)
    return []


def set_host_name(runtime: Runtime, caller: Caller, ecs_id: str, host_name: str) -> list[str]:
    """Changes the host name: of a running guest at once, of one that is shut off with its next start."""
    if not _HOST_NAME.fullmatch(host_name):
        raise ParameterInvalid(
            "hostname",
            "1 to 63 letters, digits and hyphens, no hyphen at either end, not digits alone",
            "1到63个字母、数字或连字符，首尾不能为连字符，不能全为数字",
        )
    with runtime.database.write() as session:
        instance = find_own(session, caller, ecs_id, for_update=True)
        require_unlocked(instance)
        require_status(instance, "change the host name", InstanceStatus.RUNNING, InstanceStatus.STOPPED)
        operations = _set_host_name(session, runtime, caller, instance, host_name)
    runtime.wake_tasks()
    return operations


def _set_host_name(session: Session, runtime: Runtime, caller: Caller, instance: Instance, host_name: str) -> list[str]:
    if instance.status == InstanceStatus.RUNNING:
        return [begin_task(session, runtime, caller, CHANGE_HOST_NAME, instance, args={"hostName": host_name})]
    # Its seed tells it, which the guest reads at each boot.
    instance.host_name = host_name
    instance.generation += 1
    session.add(instance)
    return []


def _reset_vnc_password(runtime: Runtime, caller: Caller, ecs_id: str, password: str) -> list[str]:
    check_vnc_password("password", password)
    with runtime.database.write() as session:
        instance = find_own(session, caller, ecs_id, for_update=True)
        require_unlocked(instance)
        is_defined = instance.status in (InstanceStatus.RUNNING, InstanceStatus.PAUSED)
        if not is_defined:
            require_status(instance, "reset the VNC password", InstanceStatus.STOPPED)
        instance.vnc_password_encrypted = runtime.secrets.encrypt(password)
        instance.vnc_password_enabled = True
        instance.generation += 1
        session.add(instance)
        operations = [begin_task(session, runtime, caller, REDEFINE_INSTANCE, instance)] if is_defined else []
    runtime.wake_tasks()
    return operations


def _keep_hash(runtime: Runtime, caller: Caller, ecs_id: str, password_hash: str) -> None:
    """Guests that read their seed at each boot shall not bring the old password back."""
    with runtime.database.write() as session:
        instance = find_own(session, caller, ecs_id, for_update=True)
        instance.password_hash = password_hash
        instance.generation += 1
        session.add(instance)
