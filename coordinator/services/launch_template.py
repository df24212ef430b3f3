"""Launch templates: made of an instance, changed by new versions, and what an order takes from one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.identifier import Prefix
from coordinator.domain.instance_order import InstanceOrder
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import ParameterInvalid, QuotaExceeded, ResourceExists, ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.services.instance import find_own
from coordinator.services.instance_reference import find_references
from coordinator.services.instance_validation import check_description, check_order, check_user_data
from coordinator.services.launch_order import dump_order, load_order, order_alike
from coordinator.store.queries import flavor as flavor_query
from coordinator.store.queries import launch_template as queries
from coordinator.store.queries.launch_template import TemplateRow
from coordinator.store.queries.resource_pool import read_pools
from coordinator.store.tables import (
    Flavor,
    FlavorType,
    Image,
    LaunchTemplate,
    LaunchTemplateVersion,
    ResourcePool,
    Tenant,
)

_MAXIMUM_NAME: Final = 127
_MAXIMUM_BATCH: Final = 1000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TemplateView:
    """A template with one of its versions, and what that refers to as far as it exists."""

    template: TemplateRow
    version: int
    order: InstanceOrder
    flavor: tuple[Flavor, FlavorType] | None
    pools: tuple[ResourcePool, ...]
    image: Image | None


def create_template(runtime: Runtime, caller: Caller, ecs_id: str, name: str, description: str) -> str:
    """A template of what the instance is like; answers its id. The order is checked as a creation's would be."""
    _check_name(name)
    check_description(description, "templateDesc")
    with runtime.database.write() as session:
        order = order_alike(session, runtime, find_own(session, caller, ecs_id))
        check_order(order, runtime.settings)
        references = find_references(session, runtime, caller, order)
        _check_quota(session, runtime, order.tenant_id)
        row = _new_row(runtime, order, name, description)
        row.standard_flavor = not references.flavor.is_custom
        _store(session, row)
        version = LaunchTemplateVersion(
            template_id=row.id, version=1, order=dump_order(order), created_at=row.created_at
        )
        session.add(version)
    log.info("launch_template.created", templateId=row.id, ecsId=ecs_id, by=caller.token_id)
    return row.id


def _new_row(runtime: Runtime, order: InstanceOrder, name: str, description: str) -> LaunchTemplate:
    now = runtime.now()
    return LaunchTemplate(
        id=runtime.identifiers.new(Prefix.LAUNCH_TEMPLATE),
        name=name,
        description=description,
        tenant_id=order.tenant_id,
        department_id=order.department_id,
        resource_group_id=order.resource_group_id,
        created_at=now,
        updated_at=now,
    )


def list_templates(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[TemplateRow]:
    """The caller's templates, for an operator everybody's."""
    with runtime.database.read() as session:
        return queries.list_templates(session, caller.tenant_id if caller.is_tenant else None, query)


def get_template(runtime: Runtime, caller: Caller, template_id: str, version: int | None = None) -> TemplateView:
    """A template with that version, the newest unless one is named."""
    with runtime.database.read() as session:
        found = find_own_template(session, caller, template_id)
        number = found.row.current_version if version is None else version
        order = read_order(session, found.row, number)
        flavor = flavor_query.find_flavor_with_type(session, order.flavor_id)
        pools = tuple(read_pools(session, flavor[1].rp_ids).values()) if flavor else ()
        image = session.get(Image, order.image_id)
        is_there = image is not None and image.deleted_at is None
        return TemplateView(found, number, order, flavor, pools, image if is_there else None)


def list_versions(
    runtime: Runtime, caller: Caller, template_id: str, query: ListQuery
) -> tuple[LaunchTemplate, Listing[LaunchTemplateVersion]]:
    """The template, and its versions that are kept, the newest first."""
    with runtime.database.read() as session:
        found = find_own_template(session, caller, template_id)
        return found.row, queries.list_versions(session, template_id, query)


def rename_template(runtime: Runtime, caller: Caller, template_id: str, name: str) -> None:
    """Gives a template another name; its versions stay. Idempotent."""
    _check_name(name)
    with runtime.database.write() as session:
        row = _lock_own(session, caller, template_id)
        row.name = name
        _store(session, row)


def set_user_data(runtime: Runtime, caller: Caller, template_id: str, user_data: str) -> int:
    """Makes a version that is like the newest but for its user data; answers its number.

    It becomes the default one, unless an older one was made so on purpose.
    """
    check_user_data(user_data)
    with runtime.database.write() as session:
        row = _lock_own(session, caller, template_id)
        order = replace(read_order(session, row, row.current_version), user_data=user_data)
        check_order(order, runtime.settings)
        if row.default_version == row.current_version:
            row.default_version += 1
        row.current_version += 1
        version = LaunchTemplateVersion(
            template_id=row.id, version=row.current_version, order=dump_order(order), created_at=runtime.now()
        )
        session.add_all([row, version])
        session.flush()
        queries.forget_versions(session, row, runtime.settings.versions_per_template)
    log.info("launch_template.changed", templateId=template_id, version=row.current_version, by=caller.token_id)
    return row.current_version


def set_default_version(runtime: Runtime, caller: Caller, template_id: str, version: int) -> None:
    """Makes that version the one that is ordered when none is named; idempotent."""
    with runtime.database.write() as session:
        row = _lock_own(session, caller, template_id)
        read_order(session, row, version)
        row.default_version = version
        session.add(row)


def delete_templates(runtime: Runtime, caller: Caller, template_ids: Sequence[str]) -> None:
    """Deletes templates with their versions; none of them when one does not exist. What was made of them stays."""
    wanted = list(dict.fromkeys(template_ids))
    if not 1 <= len(wanted) <= _MAXIMUM_BATCH:
        raise ParameterInvalid("templateIdList", f"1 to {_MAXIMUM_BATCH} ids", f"须为1到{_MAXIMUM_BATCH}个模板ID")
    with runtime.database.write() as session:
        found = queries.lock_templates(session, wanted)
        missing = [name for name in wanted if name not in found or not caller.may_see(found[name].tenant_id)]
        if missing:
            raise ResourceNotFound("launch template", ", ".join(missing))
        queries.delete_templates(session, wanted)
    log.info("launch_template.deleted", templateIds=wanted, by=caller.token_id)


def find_own_template(session: Session, caller: Caller, template_id: str) -> TemplateRow:
    """The template, if it exists for the caller."""
    found = queries.find_template(session, template_id)
    if found is None or not caller.may_see(found.row.tenant_id):
        raise ResourceNotFound("launch template", template_id)
    return found


def read_order(session: Session, row: LaunchTemplate, version: int) -> InstanceOrder:
    """What that version of the template orders."""
    # Both databases count versions in 32 bits.
    stored = queries.find_version(session, row.id, version) if 0 < version < 1 << 31 else None
    if stored is None:
        raise ResourceNotFound("template version", f"{row.id}:{version}")
    return load_order(stored.order)


def _lock_own(session: Session, caller: Caller, template_id: str) -> LaunchTemplate:
    row = queries.lock_template(session, template_id)
    if row is None or not caller.may_see(row.tenant_id):
        raise ResourceNotFound("launch template", template_id)
    return row


def _store(session: Session, row: LaunchTemplate) -> None:
    name = row.name
    session.add(row)
    try:
        session.flush()
    except IntegrityError:
        raise ResourceExists(
            f"the tenant has a launch template named {name!r}", f"该租户已有名为{name!r}的配置模板"
        ) from None


def _check_quota(session: Session, runtime: Runtime, tenant_id: str) -> None:
    limit = runtime.settings.templates_per_tenant
    # Two callers who take the last place come one after the other.
    session.get_one(Tenant, tenant_id, with_for_update={"key_share": True}, populate_existing=True)
    if queries.count_templates(session, tenant_id) >= limit:
        raise QuotaExceeded(f"the tenant has {limit} launch templates already", f"该租户的配置模板数量已达上限{limit}")


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= _MAXIMUM_NAME or not name.isprintable() or name != name.strip():
        raise ParameterInvalid(
            "templateName",
            f"1 to {_MAXIMUM_NAME} characters, no control characters, no space at either end",
            f"长度为1到{_MAXIMUM_NAME}个字符，不能包含控制字符，首尾不能有空格",
        )
