"""`nwctl flavor`: the sizes that instances come in."""

from typing import Annotated, Any

import typer

from nwctl.binding import command, noun
from nwctl.command.flavor_type import FLAVOR_TYPE
from nwctl.option import Page
from nwctl.output import Column, gibibytes, moment
from nwctl.resource import Resource
from nwctl.session import Session

FLAVOR = Resource(
    noun="flavor",
    path="/api/ecs/v1/flavors",
    id_field="flavorId",
    id_pattern="flavor-[a-z0-9]{8}",
    rows_field="flavors",
    columns=(
        Column("ID", "flavorId"),
        Column("Name", "name"),
        Column("vCPUs", "cpu"),
        Column("Memory", "ram", gibibytes),
        Column("GPUs", "gpu"),
        Column("Type", "flavorType.name"),
        Column("Device", "flavorType.deviceType"),
        Column("Arch", "flavorType.archType"),
        Column("Instances", "vmCount"),
    ),
    details=(
        Column("Type ID", "flavorType.flavorTypeId"),
        Column("vGPU", "vgpuDisplayName"),
        Column("Local disks", "localDisk"),
        Column("Bandwidth, Gbit/s", "intranetBWMax"),
        Column("SR-IOV NICs", "sriov"),
        Column("Any size", "isCustom"),
        Column("Created", "createAt", moment),
    ),
)

app = noun("flavor", "Flavors: the sizes that instances come in.")
Reference = Annotated[str, typer.Argument(metavar="FLAVOR", help="Id or name.", autocompletion=FLAVOR.complete)]


@command(app, "list")
def list_flavors(session: Session, page: Page) -> None:
    """List the flavors."""
    session.show_list(FLAVOR, page)


@command(app, "show")
def show_flavor(session: Session, flavor: Reference) -> None:
    """Show one flavor."""
    session.show(FLAVOR, FLAVOR.find(session.client, flavor))


@command(app, "create")
def create_flavor(
    session: Session,
    name: Annotated[str, typer.Option(help="1 to 127 characters.")],
    flavor_type: Annotated[
        str, typer.Option("--type", help="Flavor type, id or name.", autocompletion=FLAVOR_TYPE.complete)
    ],
    cpu: Annotated[int, typer.Option(help="vCPUs, 1 to 256.")],
    ram: Annotated[int, typer.Option(metavar="GIB", help="Memory in GiB, 1 to 1024.")],
    gpu: Annotated[int, typer.Option(help="GPUs (up to 8) or vGPUs (up to 16).")] = 0,
    vgpu_type: Annotated[str, typer.Option(help="vGPU type id, as `flavor-type vgpus` lists.")] = "",
    local_disk: Annotated[int, typer.Option(help="Whole local disks, up to 16.")] = 0,
    bandwidth: Annotated[int, typer.Option(metavar="GBIT/S", help="Limit of the first NIC, 0 is none.")] = 0,
    sriov: Annotated[int, typer.Option(help="SR-IOV NICs.")] = 0,
) -> None:
    """Create a flavor."""
    sizes: dict[str, Any] = {"gpu": gpu, "localDisk": local_disk, "intranetBWMax": bandwidth, "sriov": sriov}
    optional = {key: value for key, value in {**sizes, "vgpuTypeId": vgpu_type}.items() if value}
    type_id = FLAVOR_TYPE.find_id(session.client, flavor_type)
    body = {"name": name, "flavorTypeId": type_id, "cpu": cpu, "ram": ram, **optional}
    session.show(FLAVOR, session.client.create(FLAVOR.path, body).data)


@command(app, "delete")
def delete_flavor(session: Session, flavor: Reference) -> None:
    """Delete a flavor that no instance uses."""
    flavor_id = FLAVOR.find_id(session.client, flavor)
    session.report(session.client.change("DELETE", FLAVOR.at(flavor_id)).data, f"Deleted {flavor_id}")
