"""Commands to the guest agent inside an instance."""

import json
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final

from coordinator.agents.client import AgentCallError
from coordinator.agents.guest import explain_guest_error
from coordinator.domain.caller import Caller
from coordinator.domain.instance import InstanceStatus
from coordinator.errors import AccessDenied, ParameterInvalid, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.instance import find_own
from coordinator.services.instance_task import require_unlocked
from coordinator.store.tables import Instance

_COMMAND_SECONDS: Final = 30.0
_CALL_SECONDS: Final = 75.0
# Commands that only look: a locked instance admits them.
_READING: Final = ("guest-get-", "guest-info", "guest-ping", "guest-sync", "guest-network-get-")

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")


def run_guest_command(runtime: Runtime, caller: Caller, ecs_id: str, command: str | Mapping[str, Any]) -> Any:
    """The guest agent's return value.

    GuestAgentUnavailable when nobody answers in the guest, GuestCommandFailed with the guest agent's own error,
    RequestsTooMany when the tenant has too many commands under way.
    """
    name, request = _parse_command(command)
    _check_allowed(runtime, caller, name)
    with runtime.database.read() as session:
        instance = find_own(session, caller, ecs_id)
    if not name.startswith(_READING):
        require_unlocked(instance)
    return call_guest_agent(runtime, instance, request)


def call_guest_agent(runtime: Runtime, instance: Instance, request: Mapping[str, Any]) -> Any:
    """The return value of one command in its QMP form; errors as for `run_guest_command`."""
    if instance.node_id is None or instance.status != InstanceStatus.RUNNING:
        raise StatusUnsupported(
            f"instance {instance.ecs_id}: the guest agent answers in status Running only, not {instance.status}",
            f"实例{instance.ecs_id}：仅Running状态支持该操作，当前为{instance.status}",
        )
    agent = runtime.agents.of(instance.node_id)
    try:
        with runtime.guest_calls.hold(instance.tenant_id):
            answer = runtime.agents.call_sync(
                agent.run_guest_command(instance.uuid, json.dumps(request), _COMMAND_SECONDS), _CALL_SECONDS
            )
    except AgentCallError as error:
        raise explain_guest_error(error, str(request["execute"])) from error
    # A guest may say NaN or Infinity, which JSON for others has no word for.
    return json.loads(answer, parse_constant=str) if answer else None


def _parse_command(command: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and QMP form of a command: a bare name, QMP as text or as an object, or the API's own {"command": …}."""
    if isinstance(command, str):
        text = command.strip()
        command = _decode(text) if text.startswith("{") else {"execute": text}
    name = command.get("execute") or command.get("command")
    arguments = command.get("arguments")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not isinstance(arguments, dict | None):
        raise ParameterInvalid(
            "qgaCommand", 'a command such as {"execute": "guest-info"}', '格式应为{"execute": "guest-info"}'
        )
    if arguments is None and name.startswith("guest-sync"):
        # Needs a number to answer; the API's own example gives none.
        arguments = {"id": secrets.randbelow(1 << 31)}
    return name, {"execute": name, **({"arguments": arguments} if arguments is not None else {})}


def _decode(text: str) -> dict[str, Any]:
    try:
        decoded = json.loads(text)
    except ValueError:
        decoded = None
    if not isinstance(decoded, dict):
        raise ParameterInvalid("qgaCommand", "not a JSON object", "不是有效的JSON对象")
    return decoded


def _check_allowed(runtime: Runtime, caller: Caller, name: str) -> None:
    allowed = runtime.settings.guest_commands
    if allowed and name not in allowed and not caller.is_operator:
        raise AccessDenied(f"qgaCommand: {name!r} is not allowed here", f"qgaCommand：不允许执行{name!r}")
