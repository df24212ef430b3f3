"""`nwctl deployment-set`: instances that run together or apart."""

from enum import StrEnum
from typing import Annotated

import typer

from nwctl.binding import command, noun
from nwctl.command.tenant import find_owner
from nwctl.option import Page
from nwctl.output import Column, moment
from nwctl.resource import Resource
from nwctl.session import Session

DEPLOYMENT_SET = Resource(
    noun="deployment set",
    path="/api/ecs/v1/deployment-sets",
    id_field="deploymentSetId",
    id_pattern="d-set-[a-z0-9]{14}",
    columns=(
        Column("ID", "deploymentSetId"),
        Column("Name", "name"),
        Column("Host", "hostPolicy"),
        Column("Rack", "rackPolicy"),
        Column("Switch", "switchPolicy"),
        Column("Network switch", "netSwitchPolicy"),
        Column("Instances", "ecsCount"),
    ),
    details=(
        Column("Tenant", "tenantName"),
        Column("Department", "departmentName"),
        Column("Created", "createdAt", moment),
    ),
    total_field="total",
    page_parameters=("current", "size"),
)


class Policy(StrEnum):
    """What instances of a set want of each other."""

    AFFINITY = "affinity"
    SOFT_AFFINITY = "soft-affinity"
    ANTI_AFFINITY = "anti-affinity"
    SOFT_ANTI_AFFINITY = "soft-anti-affinity"


app = noun("deployment-set", "Deployment sets: instances that run together or apart.")
Reference = Annotated[str, typer.Argument(metavar="SET", help="Id or name.", autocompletion=DEPLOYMENT_SET.complete)]


@command(app, "list")
def list_deployment_sets(session: Session, page: Page) -> None:
    """List the deployment sets."""
    session.show_list(DEPLOYMENT_SET, page)


@command(app, "show")
def show_deployment_set(session: Session, deployment_set: Reference) -> None:
    """Show one deployment set."""
    session.show(DEPLOYMENT_SET, DEPLOYMENT_SET.find(session.client, deployment_set))


@command(app, "create")
def create_deployment_set(
    session: Session,
    name: Annotated[str, typer.Option(help="1 to 127 characters.")],
    host: Annotated[Policy | None, typer.Option(help="On one host, or on several.")] = None,
    rack: Annotated[Policy | None, typer.Option(help="In one rack, or in several.")] = None,
    switch: Annotated[Policy | None, typer.Option(help="At one switch, or at several.")] = None,
    net_switch: Annotated[Policy | None, typer.Option(help="At one network switch, or at several.")] = None,
    tenant: Annotated[str, typer.Option(help="Owner, for operators, id or name.")] = "",
    department: Annotated[str, typer.Option(help="By default the tenant's first.")] = "",
    resource_group: Annotated[str, typer.Option(help="Id of a resource group.")] = "",
) -> None:
    """Create a deployment set without instances; `soft-` policies hold as far as there is room."""
    tenant_id, department_id = find_owner(session.client, tenant, department)
    body = {
        "name": name,
        "tenantId": tenant_id,
        "departmentId": department_id,
        "resourceGroupId": resource_group,
        "hostPolicy": host or "",
        "rackPolicy": rack or "",
        "switchPolicy": switch or "",
        "netSwitchPolicy": net_switch or "",
    }
    session.show(DEPLOYMENT_SET, session.client.create(DEPLOYMENT_SET.path, body).data)


@command(app, "delete")
def delete_deployment_set(session: Session, deployment_set: Reference) -> None:
    """Delete a deployment set that has no instances."""
    set_id = DEPLOYMENT_SET.find_id(session.client, deployment_set)
    session.report(session.client.change("DELETE", DEPLOYMENT_SET.at(set_id)).data, f"Deleted {set_id}")
