"""`nwctl template`: launch templates, and instances of them."""

import base64
from pathlib import Path
from typing import Annotated, Any

import typer

from nwctl.binding import command, noun
from nwctl.command.instance import INSTANCE
from nwctl.command.instance import Reference as InstanceReference
from nwctl.command.launch import create_all
from nwctl.option import Page, Waiting
from nwctl.output import Column, joined, moment, size
from nwctl.resource import Resource
from nwctl.session import Session

TEMPLATE = Resource(
    noun="template",
    path="/api/ecs/v1/templates",
    id_field="templateId",
    id_pattern="lt-[a-z0-9]{14}",
    name_field="templateName",
    rows_field="templatelist",
    columns=(
        Column("ID", "templateId"),
        Column("Name", "templateName"),
        Column("Description", "templateDesc"),
        Column("Default version", "defaultVersion"),
        Column("Newest version", "currentVersion"),
        Column("Tenant", "tenantName"),
        Column("Created", "createdAt", moment),
    ),
    details=(
        Column("Version", "version"),
        Column("Instance name", "ecsName"),
        Column("Zone", "az"),
        Column("Arch", "archType"),
        Column("Flavor", "flavor.name"),
        Column("Flavor ID", "flavorId"),
        Column("vCPUs", "vcpus"),
        Column("Memory", "ram", size),
        Column("Image ID", "imageId"),
        Column("Disks", "volumes", joined("volumeSize", "volumeType", "osOrData")),
        Column("Networks", "networks", joined("subnetId")),
        Column("Security groups", "sgIdList"),
        Column("Labels", "vmLabels", joined("key", "value")),
        Column("User data", "userData"),
    ),
)
VERSIONS = (Column("Version", "version"), Column("Default", "isDefault"), Column("Created", "createdAt", moment))

app = noun("template", "Launch templates: what instances are made alike of.")
Reference = Annotated[str, typer.Argument(metavar="TEMPLATE", help="Id or name.", autocompletion=TEMPLATE.complete)]
References = Annotated[
    list[str], typer.Argument(metavar="TEMPLATE...", help="Ids or names.", autocompletion=TEMPLATE.complete)
]
Version = Annotated[int | None, typer.Option(min=1, help="By default the newest.")]


@command(app, "list")
def list_templates(session: Session, page: Page) -> None:
    """List the templates."""
    session.show_list(TEMPLATE, page)


@command(app, "show")
def show_template(session: Session, template: Reference, version: Version = None) -> None:
    """Show a template and what one of its versions orders."""
    template_id = TEMPLATE.find_id(session.client, template)
    session.show(TEMPLATE, session.client.get(TEMPLATE.at(template_id), {"version": version}).data)


@command(app, "create")
def create_template(
    session: Session,
    instance: InstanceReference,
    name: Annotated[str, typer.Option(help="1 to 127 characters, one of a kind.")],
    description: Annotated[str, typer.Option(help="Any text.")] = "",
) -> None:
    """Make a template of what an instance is like, without its passwords and addresses."""
    path = f"{INSTANCE.at(INSTANCE.find_id(session.client, instance))}/create-template"
    data = session.client.create(path, {"templateName": name, "templateDesc": description}).data
    session.report(data, f"Created {data['templateId']}")


@command(app, "launch")
def launch_template(
    session: Session,
    template: Reference,
    waiting: Waiting,
    version: Annotated[int | None, typer.Option(min=1, help="By default the template's default one.")] = None,
    name: Annotated[str, typer.Option(help="By default the template's; several get -1, -2 and so on.")] = "",
    count: Annotated[int, typer.Option(min=1, max=50, help="How many: all of them or none.")] = 1,
) -> None:
    """Create instances of a template."""
    body: dict[str, Any] = {"launchTemplateId": TEMPLATE.find_id(session.client, template), "ecsCount": count}
    given = {"launchTemplateVersion": version, "displayName": name}
    create_all(session, body | {field: value for field, value in given.items() if value}, waiting)


@command(app, "versions")
def list_versions(session: Session, template: Reference) -> None:
    """List the versions of a template that are kept."""
    path = f"{TEMPLATE.at(TEMPLATE.find_id(session.client, template))}/versions"
    data = session.client.get(path, {"pageSize": 1000}).data
    session.show_rows(VERSIONS, data["list"], data)


@command(app, "set-default")
def set_default(
    session: Session, template: Reference, version: Annotated[int, typer.Argument(min=1, help="A version.")]
) -> None:
    """Choose the version that is ordered when none is named."""
    template_id = TEMPLATE.find_id(session.client, template)
    answer = session.client.change("PUT", f"{TEMPLATE.at(template_id)}/default-version", {"version": version})
    session.report(answer.data, f"{template_id} orders version {version} by default")


@command(app, "rename")
def rename_template(
    session: Session, template: Reference, name: Annotated[str, typer.Argument(help="The new name.")]
) -> None:
    """Give a template another name."""
    template_id = TEMPLATE.find_id(session.client, template)
    answer = session.client.change("PUT", f"{TEMPLATE.at(template_id)}/name", {"templateName": name})
    session.report(answer.data, f"Renamed {template_id}")


@command(app, "set-user-data")
def set_user_data(
    session: Session,
    template: Reference,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Script or #cloud-config.")],
) -> None:
    """Make a version of a template with other user data; an empty file stands for none."""
    template_id = TEMPLATE.find_id(session.client, template)
    body = {"userData": base64.b64encode(file.read_bytes()).decode()}
    answer = session.client.change("PUT", f"{TEMPLATE.at(template_id)}/userdata", body)
    session.report(answer.data, f"Made a version of {template_id}")


@command(app, "delete")
def delete_templates(session: Session, templates: References) -> None:
    """Delete templates with all their versions; instances of them stay."""
    ids = [TEMPLATE.find_id(session.client, template) for template in templates]
    answer = session.client.change("POST", f"{TEMPLATE.path}/batch-delete", {"templateIdList": ids})
    session.report(answer.data, f"Deleted {' '.join(ids)}")
