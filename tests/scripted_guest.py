"""A guest agent that keeps accounts in memory: what a test says it can do, it does."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from coordinator.tasks.guest_script import CHANGE_KEYS, FIND_USERS, SET_HOST_NAME, SET_PASSWORD_AUTH

EVERYTHING = (
    "guest-info",
    "guest-ping",
    "guest-exec",
    "guest-exec-status",
    "guest-get-osinfo",
    "guest-set-user-password",
    "guest-ssh-get-authorized-keys",
    "guest-ssh-add-authorized-keys",
    "guest-ssh-remove-authorized-keys",
)


@dataclass
class ScriptedGuest:
    """Call it with a command in JSON; ValueError is the guest agent's own error."""

    enabled: set[str] = field(default_factory=lambda: set(EVERYTHING))
    keys: dict[str, list[str]] = field(default_factory=lambda: {"root": [], "debian": []})
    passwords: dict[str, str] = field(default_factory=dict)
    host_name: str = "web"
    # What our drop-in says; empty without one.
    password_auth: str = ""
    # How the script for it ends, where not well.
    sshd_exit: int = 0
    sent: list[str] = field(default_factory=list)
    _ends: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, command_json: str) -> str:
        command = json.loads(command_json)
        name, arguments = command["execute"], command.get("arguments", {})
        self.sent.append(name)
        if name not in self.enabled:
            raise ValueError(f"The command {name} has not been found")
        answer: Callable[..., Any] = getattr(self, "_" + name.removeprefix("guest-").replace("-", "_"))
        return json.dumps(answer(**{key.replace("-", "_"): value for key, value in arguments.items()}))

    def _info(self) -> dict[str, Any]:
        return {"supported_commands": [{"name": name, "enabled": name in self.enabled} for name in EVERYTHING]}

    def _ping(self) -> dict[str, Any]:
        return {}

    def _get_osinfo(self) -> dict[str, Any]:
        return {"id": "debian"}

    def _set_user_password(self, username: str, password: str, crypted: bool) -> dict[str, Any]:
        if username not in self.keys:
            raise ValueError(f"no user {username}")
        self.passwords[username] = base64.b64decode(password).decode()
        return {}

    def _ssh_get_authorized_keys(self, username: str) -> dict[str, Any]:
        return {"keys": self.keys[username]}

    def _ssh_add_authorized_keys(self, username: str, keys: list[str]) -> dict[str, Any]:
        self.keys[username] += keys
        return {}

    def _ssh_remove_authorized_keys(self, username: str, keys: list[str]) -> dict[str, Any]:
        self.keys[username] = [line for line in self.keys[username] if line not in keys]
        return {}

    def _exec(self, path: str, arg: list[str], input_data: str, capture_output: bool) -> dict[str, Any]:
        _, script, _, *arguments = arg
        lines = base64.b64decode(input_data).decode().splitlines()
        code, output = self._run(script, arguments, lines)
        encoded = base64.b64encode(output.encode()).decode()
        self._ends.append({"exited": True, "exitcode": code, "out-data": encoded, "err-data": encoded if code else ""})
        return {"pid": len(self._ends)}

    def _exec_status(self, pid: int) -> dict[str, Any]:
        return self._ends[pid - 1]

    def _run(self, script: str, arguments: list[str], lines: list[str]) -> tuple[int, str]:
        if script == FIND_USERS:
            return 0, "".join(f"{user}\n" for user in self.keys)
        if script == CHANGE_KEYS:
            action, *users = arguments
            for user in users:
                kept = [line for line in self.keys[user] if line not in lines]
                self.keys[user] = kept + (lines if action == "add" else [])
        elif script == SET_PASSWORD_AUTH:
            if self.sshd_exit and arguments[0]:
                return self.sshd_exit, "the guest has no OpenSSH server"
            self.password_auth = arguments[0]
        elif script == SET_HOST_NAME:
            self.host_name = arguments[0]
        return 0, ""
