"""SSH keys of tenants. Instances that they open are in `ssh_key_binding`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.identifier import Prefix
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import ParameterInvalid, QuotaExceeded, ResourceExists, ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.services.host import require_none
from coordinator.services.key_pair import KeyType, PublicKey, make_key_pair, parse_public_key
from coordinator.services.owner import find_owner
from coordinator.store.queries import ssh_key as queries
from coordinator.store.queries.ssh_key import KeyUse
from coordinator.store.tables import Department, SshKey, Tenant

_MAXIMUM_BATCH: Final = 1000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KeyDraft:
    """What a key is to be called, and whose it is; without a tenant the department tells it."""

    name: str
    department_id: str
    tenant_id: str = ""
    resource_group_id: str = ""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made; whoever asked for it has the only copy of `private_file`."""

    row: SshKey
    private_file: bytes


def create_key(runtime: Runtime, caller: Caller, draft: KeyDraft, key_type: KeyType) -> NewKey:
    """Makes a key pair, of which only the public half is kept."""
    # Outside of the transaction: an RSA key takes time.
    pair = make_key_pair(key_type)
    return NewKey(_store_key(runtime, caller, draft, pair.public), pair.private_file)


def import_key(runtime: Runtime, caller: Caller, draft: KeyDraft, text: str) -> SshKey:
    """Keeps a public key of the caller's."""
    return _store_key(runtime, caller, draft, parse_public_key(text))


def list_keys(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[KeyUse]:
    """The caller's keys, for an operator everybody's."""
    with runtime.database.read() as session:
        return queries.list_keys(session, caller.tenant_id if caller.is_tenant else None, query)


def delete_keys(runtime: Runtime, caller: Caller, key_ids: Sequence[str]) -> None:
    """Deletes all of the keys, or none: ResourceInUse with their list while any is bound to instances."""
    wanted = list(dict.fromkeys(key_ids))
    if not 1 <= len(wanted) <= _MAXIMUM_BATCH:
        raise ParameterInvalid("keyPairIds", f"1 to {_MAXIMUM_BATCH} ids", f"须为1到{_MAXIMUM_BATCH}个密钥对ID")
    with runtime.database.write() as session:
        rows = find_own_keys(session, caller, wanted)
        names = ", ".join(wanted)
        require_none(f"SSH key {names}", f"密钥对{names}", queries.list_bound_instances(session, wanted))
        for row in rows:
            session.delete(row)
    log.info("ssh_key.deleted", keyPairIds=wanted, by=caller.token_id)


def find_own_keys(session: Session, caller: Caller, key_ids: Sequence[str]) -> list[SshKey]:
    """The keys in the order of their ids, locked; ResourceNotFound names all that do not exist for the caller."""
    found = queries.lock_keys(session, key_ids)
    missing = [key_id for key_id in key_ids if key_id not in found or not caller.may_see(found[key_id].tenant_id)]
    if missing:
        raise ResourceNotFound("SSH key", ", ".join(missing))
    return [found[key_id] for key_id in key_ids]


def _store_key(runtime: Runtime, caller: Caller, draft: KeyDraft, public: PublicKey) -> SshKey:
    _check_name(draft.name)
    with runtime.database.write() as session:
        tenant_id = draft.tenant_id or _find_tenant_id(session, caller, draft.department_id)
        owner = find_owner(session, caller, tenant_id, draft.department_id, draft.resource_group_id)
        # Creations of one tenant queue up here, so that they count each other.
        session.get_one(Tenant, tenant_id, with_for_update={"key_share": True}, populate_existing=True)
        _check_quota(session, runtime, owner.tenant)
        now = runtime.now()
        row = SshKey(
            id=runtime.identifiers.new(Prefix.SSH_KEY),
            name=draft.name,
            fingerprint=public.fingerprint,
            public_key=public.line,
            tenant_id=tenant_id,
            department_id=draft.department_id,
            resource_group_id=draft.resource_group_id,
            created_at=now,
            updated_at=now,
        )
        _add(session, row)
    log.info("ssh_key.created", keyPairId=row.id, fingerprint=row.fingerprint, by=caller.token_id)
    return row


def _find_tenant_id(session: Session, caller: Caller, department_id: str) -> str:
    if caller.is_tenant and caller.tenant_id:
        return caller.tenant_id
    department = session.get(Department, department_id)
    if department is None:
        raise ResourceNotFound("departmentId", department_id)
    return department.tenant_id


def _add(session: Session, row: SshKey) -> None:
    name, fingerprint = row.name, row.fingerprint
    if queries.find_key(session, row.tenant_id, "", name) is not None:
        raise ResourceExists(f"the tenant has an SSH key named {name!r}", f"该租户已有名为{name!r}的密钥对")
    session.add(row)
    try:
        session.flush()
    except IntegrityError:
        raise ResourceExists(
            f"the tenant has this SSH key already: fingerprint {fingerprint}", f"该租户已有指纹为{fingerprint}的密钥对"
        ) from None


def _check_name(name: str) -> None:
    if not name.isprintable() or name != name.strip():
        raise ParameterInvalid(
            "name", "no control characters, no space at either end", "不能包含控制字符，首尾不能有空格"
        )


def _check_quota(session: Session, runtime: Runtime, tenant: Tenant) -> None:
    limit = runtime.settings.ssh_keys_per_tenant
    if queries.count_keys(session, tenant.id) >= limit:
        raise QuotaExceeded(
            f"tenant {tenant.name}: {limit} SSH keys are the most", f"租户{tenant.name}：密钥对数量不能超过{limit}"
        )
