"""`nwctl tenant`: owners of instances, volumes and networks, and their quotas."""

from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from nwctl.binding import command, noun
from nwctl.client import Client
from nwctl.command.context import WHOAMI
from nwctl.error import UsageError
from nwctl.option import Page
from nwctl.output import Column, moment
from nwctl.resource import Resource, only
from nwctl.session import Session

DEPARTMENTS = "/api/iam/v1/departments"
TENANT = Resource(
    noun="tenant",
    path="/api/iam/v1/tenants",
    id_field="tenantId",
    id_pattern=r"\d{19}",
    columns=(
        Column("ID", "tenantId"),
        Column("Name", "name"),
        Column("Instances", "quota.instances"),
        Column("vCPUs", "quota.vcpus"),
        Column("Memory, GiB", "quota.ram"),
        Column("GPUs", "quota.gpus"),
        Column("Volumes", "quota.volumes"),
    ),
    details=(Column("Created", "createdAt", moment),),
)

app = noun("tenant", "Tenants: owners of instances, volumes and networks.")
Reference = Annotated[str, typer.Argument(metavar="TENANT", help="Id or name.", autocompletion=TENANT.complete)]


@dataclass(frozen=True)
class Quota:
    """How much a tenant may use; what is not given stays as it is, -1 lifts the limit."""

    instances: Annotated[int | None, typer.Option(min=-1, help="Instances.")] = None
    vcpus: Annotated[int | None, typer.Option(min=-1, help="vCPUs.")] = None
    ram: Annotated[int | None, typer.Option(min=-1, metavar="GIB", help="Memory in GiB.")] = None
    gpus: Annotated[int | None, typer.Option(min=-1, help="GPUs.")] = None
    volumes: Annotated[int | None, typer.Option(min=-1, help="Volumes.")] = None
    storage: Annotated[int | None, typer.Option(min=-1, metavar="GIB", help="Size of all volumes in GiB.")] = None

    def body(self) -> dict[str, int | None]:
        """What is given, as the API spells it."""
        return {name: None if value < 0 else value for name, value in asdict(self).items() if value is not None}


@command(app, "list")
def list_tenants(session: Session, page: Page) -> None:
    """List the tenants."""
    session.show_list(TENANT, page)


@command(app, "show")
def show_tenant(session: Session, tenant: Reference) -> None:
    """Show one tenant."""
    tenant_id = TENANT.find_id(session.client, tenant)
    session.show(TENANT, session.client.get(TENANT.at(tenant_id)).data)


@command(app, "create")
def create_tenant(
    session: Session, name: Annotated[str, typer.Option(help="1 to 127 characters.")], quota: Quota
) -> None:
    """Create a tenant with its first department; what has no limit given is unlimited."""
    session.show(TENANT, session.client.create(TENANT.path, {"name": name, "quota": quota.body()}).data)


@command(app, "set-quota")
def set_quota(session: Session, tenant: Reference, quota: Quota) -> None:
    """Change a tenant's limits; what exceeds a new limit stays."""
    if not quota.body():
        raise UsageError("give at least one limit")
    tenant_id = TENANT.find_id(session.client, tenant)
    answer = session.client.change("PUT", f"{TENANT.at(tenant_id)}/quota", quota.body())
    session.report(answer.data, f"Changed the limits of {tenant_id}")


@command(app, "delete")
def delete_tenant(session: Session, tenant: Reference) -> None:
    """Delete a tenant that owns nothing."""
    tenant_id = TENANT.find_id(session.client, tenant)
    session.report(session.client.change("DELETE", TENANT.at(tenant_id)).data, f"Deleted {tenant_id}")


def find_owner(client: Client, tenant: str, department: str) -> tuple[str, str]:
    """The tenant and the department: as given, else the caller's, else the only ones there are."""
    identity = client.get(WHOAMI).data
    own = identity.get("tenantId")
    if tenant:
        tenant_id = TENANT.find_id(client, tenant)
    else:
        tenant_id = own or only(TENANT, TENANT.entries(client), "--tenant")["tenantId"]
    if department or tenant_id == own:
        return tenant_id, department or identity["departmentId"]
    return tenant_id, client.get(DEPARTMENTS, {"tenantId": tenant_id}).data["list"][0]["departmentId"]
