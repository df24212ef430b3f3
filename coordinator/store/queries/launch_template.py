"""Launch templates and their versions."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import delete, func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.store.queries.filter import Statement, fetch_page, fetch_rows_of, fields
from coordinator.store.tables import Department, LaunchTemplate, LaunchTemplateVersion, ResourceGroup, Tenant


@dataclass(frozen=True, slots=True)
class TemplateRow:
    """A template, and the names of those it belongs to."""

    row: LaunchTemplate
    tenant_name: str
    department_name: str | None
    resource_group_name: str | None


_FIELDS: Final = fields(
    templateId=LaunchTemplate.id,
    templateName=LaunchTemplate.name,
    templateDesc=LaunchTemplate.description,
    tenantId=LaunchTemplate.tenant_id,
    tenantName=Tenant.name,
    departmentId=LaunchTemplate.department_id,
    resourceGroupId=LaunchTemplate.resource_group_id,
    createdAt=LaunchTemplate.created_at,
    updatedAt=LaunchTemplate.updated_at,
)
_VERSION_FIELDS: Final = fields(version=LaunchTemplateVersion.version, createdAt=LaunchTemplateVersion.created_at)


def find_template(session: Session, template_id: str) -> TemplateRow | None:
    """The template with what it belongs to."""
    row = session.execute(_templates().where(col(LaunchTemplate.id) == template_id)).one_or_none()
    return TemplateRow(*row) if row else None


def list_templates(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[TemplateRow]:
    """Templates of one tenant, the newest first unless the query orders otherwise; tenant None: of all."""
    statement = _templates()
    if tenant_id is not None:
        statement = statement.where(col(LaunchTemplate.tenant_id) == tenant_id)
    newest_first = (Ordering("createdAt", descending=True),)
    page = fetch_page(session, statement, query, _FIELDS, tie_break=col(LaunchTemplate.id), default=newest_first)
    return Listing(tuple(TemplateRow(*row) for row in page.items), page.total)


def lock_template(session: Session, template_id: str) -> LaunchTemplate | None:
    """The template, kept from others until the transaction ends."""
    return session.exec(select(LaunchTemplate).where(LaunchTemplate.id == template_id).with_for_update()).first()


def lock_templates(session: Session, template_ids: Collection[str]) -> dict[str, LaunchTemplate]:
    """Those of the templates that exist, by id, likewise."""
    statement = select(LaunchTemplate).where(col(LaunchTemplate.id).in_(template_ids))
    # In one order everywhere, so that two callers cannot wait for each other.
    return {row.id: row for row in session.exec(statement.order_by(col(LaunchTemplate.id)).with_for_update())}


def count_templates(session: Session, tenant_id: str) -> int:
    """How many the tenant has."""
    return session.exec(select(func.count()).where(LaunchTemplate.tenant_id == tenant_id)).one()


def find_version(session: Session, template_id: str, version: int) -> LaunchTemplateVersion | None:
    """That version of the template."""
    return session.get(LaunchTemplateVersion, (template_id, version))


def list_versions(session: Session, template_id: str, query: ListQuery) -> Listing[LaunchTemplateVersion]:
    """Versions of the template, the newest first."""
    statement = select(LaunchTemplateVersion).where(LaunchTemplateVersion.template_id == template_id)
    newest_first = (Ordering("version", descending=True),)
    tie_break = col(LaunchTemplateVersion.version)
    return fetch_rows_of(session, statement, query, _VERSION_FIELDS, tie_break=tie_break, default=newest_first)


def forget_versions(session: Session, row: LaunchTemplate, kept: int) -> None:
    """Deletes the oldest versions of the template until `kept` are left; never the default one."""
    others = select(LaunchTemplateVersion.version).where(
        LaunchTemplateVersion.template_id == row.id, LaunchTemplateVersion.version != row.default_version
    )
    newest = others.order_by(col(LaunchTemplateVersion.version).desc())
    doomed: Sequence[int] = session.exec(newest.offset(kept - 1)).all()
    session.execute(
        delete(LaunchTemplateVersion).where(
            col(LaunchTemplateVersion.template_id) == row.id, col(LaunchTemplateVersion.version).in_(doomed)
        )
    )


def delete_templates(session: Session, template_ids: Collection[str]) -> None:
    """Deletes templates with all their versions."""
    session.execute(delete(LaunchTemplateVersion).where(col(LaunchTemplateVersion.template_id).in_(template_ids)))
    session.execute(delete(LaunchTemplate).where(col(LaunchTemplate.id).in_(template_ids)))


def _templates() -> Statement:
    columns = (LaunchTemplate, Tenant.name, Department.name, ResourceGroup.name)
    statement: Any = (
        select_columns(*columns)  # type: ignore[call-overload]
        .join(Tenant, col(Tenant.id) == col(LaunchTemplate.tenant_id))
        .outerjoin(Department, col(Department.id) == col(LaunchTemplate.department_id))
        .outerjoin(ResourceGroup, col(ResourceGroup.id) == col(LaunchTemplate.resource_group_id))
    )
    return statement  # type: ignore[no-any-return]
