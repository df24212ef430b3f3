"""SSH access to a guest: its authorized keys, and whether sshd takes passwords, brought to what the bindings say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.agents.guest import GuestSession, making_sense
from coordinator.domain.ssh_key import OPEN_STATES, WANTED_STATES, BindingState, blob_of
from coordinator.errors import GuestCommandFailed
from coordinator.store.tables.ssh_key import SshKeyBinding
from coordinator.tasks.guest_script import CHANGE_KEYS, FIND_USERS, SET_PASSWORD_AUTH

_GET: Final = "guest-ssh-get-authorized-keys"
_COMMANDS: Final = {"add": "guest-ssh-add-authorized-keys", "remove": "guest-ssh-remove-authorized-keys"}
_EXEC: Final = "guest-exec"
# QEMU's words for a user without such a file, and for one who is gone. Source: its qga/commands-posix-ssh.c.
_NO_KEYS: Final = ("No such file or directory", "failed to lookup user")
_NO_OPENSSH: Final = 3
# Users of cloud images by guest-get-osinfo's id, for guests that let nothing be run in them.
_DEFAULT_USERS: Final = {
    "almalinux": "almalinux",
    "alpine": "alpine",
    "amzn": "ec2-user",
    "arch": "arch",
    "centos": "cloud-user",
    "debian": "debian",
    "fedora": "fedora",
    "ol": "cloud-user",
    "opensuse-leap": "opensuse",
    "rhel": "cloud-user",
    "rocky": "rocky",
    "sles": "sles",
    "ubuntu": "ubuntu",
}


@dataclass(frozen=True, slots=True)
class AccessChange:
    """What a guest is to be told."""

    add: tuple[str, ...]
    remove: tuple[str, ...]
    # "yes", "no", or empty: as the guest does by itself.
    password_auth: str
    # Whether a binding says, or said, something about passwords: else the guest's sshd is left alone.
    manages_passwords: bool


def plan_change(bindings: Sequence[SshKeyBinding]) -> AccessChange:
    """What the guest is to be told so that it goes by all of its instance's bindings."""
    wanted = [binding for binding in bindings if binding.state in WANTED_STATES]
    kept = {blob_of(binding.public_key) for binding in wanted}
    removing = [binding.public_key for binding in bindings if binding.state == BindingState.REMOVING]
    about_passwords = [binding for binding in wanted if binding.password_auth]
    newest = max(about_passwords, key=lambda binding: (binding.bound_at, binding.id or 0), default=None)
    return AccessChange(
        add=tuple(binding.public_key for binding in wanted if binding.state == BindingState.PENDING),
        # The same key may have come back under another id.
        remove=tuple(line for line in removing if blob_of(line) not in kept),
        password_auth=newest.password_auth if newest else "",
        manages_passwords=any(binding.password_auth for binding in bindings if binding.state in OPEN_STATES),
    )


async def apply_change(guest: GuestSession, change: AccessChange) -> None:
    """The guest goes by `change`; may be repeated. Keys come before passwords go, so that nobody is locked out."""
    commands = await guest.list_commands()
    users = await _find_users(guest, commands)
    await _change_keys(guest, commands, "add", users, change.add)
    if change.manages_passwords:
        await _set_password_auth(guest, commands, change.password_auth)
    await _change_keys(guest, commands, "remove", users, change.remove)


async def _find_users(guest: GuestSession, commands: frozenset[str]) -> list[str]:
    """Root and the image's default user, as cloud-init gives keys to them."""
    if _EXEC in commands:
        found = await guest.run(FIND_USERS)
        if found.exit_code == 0:
            return list(dict.fromkeys(found.output.split()))
    system = await guest.call("guest-get-osinfo") if "guest-get-osinfo" in commands else {}
    default = _DEFAULT_USERS.get(str(system.get("id", "")) if isinstance(system, dict) else "")
    return ["root", default] if default else ["root"]


async def _change_keys(
    guest: GuestSession, commands: frozenset[str], action: str, users: Sequence[str], lines: Sequence[str]
) -> None:
    if not lines:
        return
    if {_COMMANDS[action], _GET} <= commands:
        for user in users:
            await _change_keys_of(guest, action, user, lines)
    elif _EXEC in commands:
        end = await guest.run(CHANGE_KEYS, action, *users, stdin="".join(f"{line}\n" for line in lines))
        if end.exit_code:
            raise GuestCommandFailed(
                f"the guest's authorized keys could not be changed: {end.reason}", f"修改虚机内的公钥失败：{end.reason}"
            )
    else:
        raise GuestCommandFailed(
            f"the guest agent admits neither {_COMMANDS[action]} nor {_EXEC}: switch one of them on in the guest",
            f"虚机内的QGA未启用{_COMMANDS[action]}和{_EXEC}，请至少启用其一",
        )


async def _change_keys_of(guest: GuestSession, action: str, user: str, lines: Sequence[str]) -> None:
    blobs = {blob_of(line) for line in lines}
    try:
        answer = await guest.call(_GET, {"username": user})
    except GuestCommandFailed as error:
        if not any(words in error.message.en for words in _NO_KEYS):
            raise
        answer = {"keys": []}
    with making_sense(_GET):
        same = [line for line in answer["keys"] if blobs.intersection(line.split())]
    if action == "add":
        known = {word for line in same for word in line.split()}
        keys = [line for line in lines if blob_of(line) not in known]
    else:
        # Whole lines are compared there, and the comment may be another one.
        keys = same
    if keys:
        await guest.call(_COMMANDS[action], {"username": user, "keys": keys})


async def _set_password_auth(guest: GuestSession, commands: frozenset[str], wanted: str) -> None:
    if _EXEC not in commands:
        # Then nothing of ours can be there, and passwords are as the guest has them.
        if wanted == "no":
            raise GuestCommandFailed(
                f"passwordAuth no: the guest agent does not admit {_EXEC}, without which sshd cannot be told",
                f"passwordAuth为no：虚机内的QGA未启用{_EXEC}，无法修改sshd配置",
            )
        return
    end = await guest.run(SET_PASSWORD_AUTH, wanted)
    if end.exit_code == 0 or (end.exit_code == _NO_OPENSSH and wanted != "no"):
        return
    raise GuestCommandFailed(f"passwordAuth {wanted}: {end.reason}", f"passwordAuth为{wanted}：{end.reason}")
