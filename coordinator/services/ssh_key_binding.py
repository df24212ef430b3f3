"""SSH keys and the instances that they open.

A running guest is told through its guest agent, by an operation that fails when the guest does not take it. Of an
instance that is shut off the wish is kept: cloud-init of a guest that has booted before does not read keys again, so
it is told as soon as its guest agent answers after the next start. New instances get keys with their seed.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller, Role
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.listing import Listing, ListQuery
from coordinator.domain.ssh_key import MAXIMUM_KEYS_OF_INSTANCE, WANTED_STATES, BindingState
from coordinator.errors import CoordinatorError, ParameterInvalid, ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.services.domain_report import VMTOOLS_RUNNING
from coordinator.services.instance import find_own, find_own_batch
from coordinator.services.instance_task import begin_task, refuse_together, require_unlocked
from coordinator.services.ssh_key import find_own_keys
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries import ssh_key as queries
from coordinator.store.queries.ssh_key import InstanceOfKey, KeyUse
from coordinator.store.tables import Instance, SshKey, SshKeyBinding
from coordinator.tasks.instance_step import require_status
from coordinator.tasks.kinds.apply_ssh_keys import APPLY_SSH_KEYS, drop_inline_key
from coordinator.tasks.model import JsonObject

_SWEEP_BATCH: Final = 32
_SELF: Final = Caller("ssh-keys", Role.OPERATOR)

log = structlog.get_logger(__name__)


class _Pair(NamedTuple):
    """An instance, and its binding to the key in question, if there is one."""

    instance: Instance
    binding: SshKeyBinding | None


def bind_key(runtime: Runtime, caller: Caller, key_id: str, ecs_ids: Sequence[str], password_auth: str) -> list[str]:
    """Lets the key open instances: all of them, or none when one is refused at once. Answers the operation ids.

    Binding again changes `password_auth` ("yes" or "no") alone; what is bound so already costs no operation.
    """
    with runtime.database.write() as session:
        key, pairs = _find_pairs(session, caller, key_id, ecs_ids)
        refuse_together([error for pair in pairs if (error := _find_bind_refusal(session, key, pair))])
        operations = [
            operation
            for pair in pairs
            if (operation := _bind(session, runtime, caller, key, pair, password_auth)) is not None
        ]
    runtime.wake_tasks()
    log.info("ssh_key.bound", keyPairId=key_id, ecsIds=list(ecs_ids), by=caller.token_id)
    return operations


def unbind_key(runtime: Runtime, caller: Caller, key_id: str, ecs_ids: Sequence[str]) -> list[str]:
    """Lets the key open instances no more, also where it came with their order; as for `bind_key`."""
    with runtime.database.write() as session:
        _, pairs = _find_pairs(session, caller, key_id, ecs_ids)
        unbound = [pair.instance.ecs_id for pair in pairs if not _is_wanted(pair.binding)]
        if unbound:
            raise ResourceNotFound("SSH key", f"{key_id} of {', '.join(unbound)}")
        refuse_together([error for pair in pairs if (error := _find_status_refusal(session, pair.instance))])
        operations = [operation for pair in pairs if (operation := _unbind(session, runtime, caller, pair)) is not None]
    runtime.wake_tasks()
    log.info("ssh_key.unbound", keyPairId=key_id, ecsIds=list(ecs_ids), by=caller.token_id)
    return operations


def list_instances_of_key(
    runtime: Runtime, caller: Caller, key_id: str, query: ListQuery, *, is_bound: bool
) -> Listing[InstanceOfKey]:
    """Instances of the key's tenant that it is bound to, or is not."""
    with runtime.database.read() as session:
        key = session.get(SshKey, key_id)
        if key is None or not caller.may_see(key.tenant_id):
            raise ResourceNotFound("SSH key", key_id)
        return queries.list_instances_of_key(session, key, query, is_bound=is_bound)


def list_keys_of_instance(
    runtime: Runtime, caller: Caller, ecs_id: str, query: ListQuery, *, is_bound: bool
) -> Listing[KeyUse]:
    """Keys of the instance's tenant that are bound to it, or are not."""
    with runtime.database.read() as session:
        instance = find_own(session, caller, ecs_id)
        return queries.list_keys_of_instance(session, instance, query, is_bound=is_bound)


def new_binding(runtime: Runtime, key: SshKey, instance: Instance, state: BindingState) -> SshKeyBinding:
    """A binding of a stored instance that says nothing about passwords."""
    assert instance.id is not None  # noqa: S101 - it is stored
    return SshKeyBinding(
        ssh_key_id=key.id,
        instance_id=instance.id,
        public_key=key.public_key,
        state=state,
        bound_at=runtime.now(),
    )


def _find_pairs(session: Session, caller: Caller, key_id: str, ecs_ids: Sequence[str]) -> tuple[SshKey, list[_Pair]]:
    [key] = find_own_keys(session, caller, [key_id])
    instances = find_own_batch(session, caller, ecs_ids)
    return key, [_Pair(it, queries.find_binding(session, it.id, key_id)) for it in instances]


def _find_bind_refusal(session: Session, key: SshKey, pair: _Pair) -> CoordinatorError | None:
    instance = pair.instance
    if instance.tenant_id != key.tenant_id:
        return ParameterInvalid(
            "ecsIds",
            f"instance {instance.ecs_id} and key {key.id} belong to different tenants",
            f"实例{instance.ecs_id}与密钥对{key.id}不属于同一租户",
        )
    if instance.os_type == "windows":
        return ParameterInvalid(
            "ecsIds", f"instance {instance.ecs_id} runs Windows", f"实例{instance.ecs_id}为Windows系统，不支持绑定密钥"
        )
    bound = [it for it in queries.list_bindings(session, instance.id) if _is_wanted(it)]
    if len(bound) >= MAXIMUM_KEYS_OF_INSTANCE and not _is_wanted(pair.binding):
        return ParameterInvalid(
            "ecsIds",
            f"instance {instance.ecs_id} has {MAXIMUM_KEYS_OF_INSTANCE} keys, which is the most",
            f"实例{instance.ecs_id}最多绑定{MAXIMUM_KEYS_OF_INSTANCE}个密钥对",
        )
    return _find_status_refusal(session, instance)


def _find_status_refusal(session: Session, instance: Instance) -> CoordinatorError | None:
    try:
        require_unlocked(instance)
        require_status(instance, "change SSH keys", InstanceStatus.RUNNING, InstanceStatus.STOPPED)
    except CoordinatorError as error:
        return error
    return None


def _bind(
    session: Session, runtime: Runtime, caller: Caller, key: SshKey, pair: _Pair, password_auth: str
) -> str | None:
    instance, binding = pair
    if binding and binding.state == BindingState.BOUND and binding.password_auth == password_auth:
        return None
    previous = _remember(binding)
    binding = binding or new_binding(runtime, key, instance, BindingState.PENDING)
    binding.state, binding.password_auth = BindingState.PENDING, password_auth
    binding.bound_at = runtime.now()
    return _tell_guest(session, runtime, caller, instance, binding, {"action": "bind", "previous": previous})


def _unbind(session: Session, runtime: Runtime, caller: Caller, pair: _Pair) -> str | None:
    instance, binding = pair
    assert binding is not None  # noqa: S101 - checked by the caller
    previous = _remember(binding)
    binding.state = BindingState.REMOVING
    if instance.status != InstanceStatus.RUNNING:
        # Its seed at least does not bring the key back.
        drop_inline_key(instance, binding.public_key)
    return _tell_guest(session, runtime, caller, instance, binding, {"action": "unbind", "previous": previous})


def _tell_guest(
    session: Session, runtime: Runtime, caller: Caller, instance: Instance, binding: SshKeyBinding, args: JsonObject
) -> str | None:
    """Stores the binding; of a running instance answers the operation that makes it true, else it waits."""
    binding.failures, binding.not_before = 0, None
    session.add(binding)
    # The seed, too, is another from the next start on.
    instance.generation += 1
    session.add(instance)
    session.flush()
    if instance.status != InstanceStatus.RUNNING:
        return None
    args = {**args, "keyPairId": binding.ssh_key_id}
    return begin_task(session, runtime, caller, APPLY_SSH_KEYS, instance, args=args)


def _remember(binding: SshKeyBinding | None) -> JsonObject | None:
    if binding is None:
        return None
    return {
        "state": binding.state,
        "passwordAuth": binding.password_auth,
        "boundAt": binding.bound_at.isoformat(),
    }


def _is_wanted(binding: SshKeyBinding | None) -> bool:
    return binding is not None and binding.state in WANTED_STATES


class KeySweep:
    """The repeated look for guests that are up now and have still to be told of keys. Of several coordinators one does
    this."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __call__(self) -> list[str]:
        """Begins the operations whose time has come; answers the ids of the instances."""
        database, now = self._runtime.database, self._runtime.now()
        if not database.lead():
            return []
        with database.read() as session:
            due = queries.find_due_instances(session, VMTOOLS_RUNNING, now, _SWEEP_BATCH)
        begun = [ecs_id for ecs_id in due if self._begin(ecs_id)]
        if begun:
            self._runtime.wake_tasks()
        return begun

    def _begin(self, ecs_id: str) -> bool:
        with self._runtime.database.write() as session:
            instance = instance_query.find_instance(session, ecs_id, for_update=True)
            if instance is None:
                return False
            try:
                begin_task(session, self._runtime, _SELF, APPLY_SSH_KEYS, instance, args={"action": "apply"})
            except CoordinatorError:
                # Another operation was faster: its turn comes afterwards.
                return False
        return True
