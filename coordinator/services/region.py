"""The region that this coordinator serves, and its zones."""

from dataclasses import dataclass

from sqlmodel import Session

from coordinator.config import Settings
from coordinator.domain.caller import Caller
from coordinator.domain.message import Message
from coordinator.errors import ResourceNotFound, TenantNotFound
from coordinator.runtime import Runtime
from coordinator.store.queries import node as queries
from coordinator.store.tables import Department, Tenant

# How instances may be paid for.
BILLING_MODES = {
    "ByCycle": Message("Subscription", "包年包月"),
    "OnDemand": Message("Pay as you go", "按需计费"),
}
DEFAULT_BILLING_MODE = "OnDemand"


@dataclass(frozen=True, slots=True)
class Region:
    """A region and the names of its zones."""

    region_id: str
    display_name: str
    zones: tuple[str, ...]


def zone_names(session: Session, settings: Settings) -> tuple[str, ...]:
    """Zones of the configuration in its order, then those that nodes brought."""
    configured = dict.fromkeys([*settings.zones, settings.default_zone])
    return tuple(configured | dict.fromkeys(sorted(queries.list_zones(session))))


def get_region(runtime: Runtime, caller: Caller) -> Region:
    """The one region of this coordinator."""
    settings = runtime.settings
    with runtime.database.read() as session:
        zones = zone_names(session, settings)
    return Region(settings.region, settings.region_display_name or settings.region, zones)


def get_region_of_tenant(runtime: Runtime, caller: Caller, tenant_id: str, department_id: str = "") -> Region:
    """The region as that tenant may use it; TenantNotFound when the caller cannot see such a tenant."""
    check_tenant(runtime, caller, tenant_id, department_id)
    return get_region(runtime, caller)


def check_tenant(runtime: Runtime, caller: Caller, tenant_id: str, department_id: str = "") -> None:
    """TenantNotFound or ResourceNotFound unless both exist for the caller, and together; an empty id is not checked."""
    with runtime.database.read() as session:
        if tenant_id and (not caller.may_see(tenant_id) or session.get(Tenant, tenant_id) is None):
            raise TenantNotFound("tenantId", f"tenant {tenant_id!r} does not exist", f"租户{tenant_id!r}不存在")
        if department_id:
            department = session.get(Department, department_id)
            if (
                department is None
                or not caller.may_see(department.tenant_id)
                or tenant_id not in ("", department.tenant_id)
            ):
                raise ResourceNotFound("department", department_id)
