"""`nwctl instance resize` and others that make something else of an instance."""

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from nwctl.binding import command
from nwctl.command.flavor import FLAVOR
from nwctl.command.image import IMAGE
from nwctl.command.instance import INSTANCE, Reference, app, change_power
from nwctl.command.pool import POOL
from nwctl.error import UsageError
from nwctl.option import Waiting
from nwctl.secret import read_secret
from nwctl.session import Session


@dataclass(frozen=True)
class Devices:
    """What an instance has passed through; what is not given stays, or is the flavor's."""

    gpus: Annotated[int | None, typer.Option(min=0, max=64, help="Whole GPUs, of a custom flavor.")] = None
    gpu_type: Annotated[str, typer.Option(help="Their PCI id: 10de1eb8.")] = ""
    vgpus: Annotated[int | None, typer.Option(min=0, max=64, help="vGPUs: those of the flavor.")] = None
    local_disks: Annotated[int | None, typer.Option(min=0, max=64, help="Local disks, the flavor's included.")] = None
    functions: Annotated[
        int | None, typer.Option("--virtual-functions", min=0, max=64, help="Likewise virtual functions.")
    ] = None
    adapters: Annotated[
        list[str] | None,
        typer.Option("--infiniband", metavar="[VENDOR:PRODUCT]", help="An adapter, any if empty; can be repeated."),
    ] = None
    no_adapters: Annotated[bool, typer.Option("--no-infiniband", help="No InfiniBand adapters.")] = False

    def body(self) -> dict[str, Any]:
        """Their part of the request."""
        if self.gpu_type and self.gpus is None:
            raise UsageError("--gpu-type needs --gpus")
        if self.adapters and self.no_adapters:
            raise UsageError("--infiniband and --no-infiniband exclude each other")
        gpus = None if self.gpus is None else {"number": self.gpus, "gpuType": self.gpu_type}
        adapters = [_adapter(given) for given in self.adapters or []] if self.adapters or self.no_adapters else None
        counts = {"vgpus": self.vgpus, "localDisk": self.local_disks, "sriov": self.functions}
        given = {"hostGpus": gpus, **counts, "networks": adapters}
        return {name: value for name, value in given.items() if value is not None}


def _adapter(given: str) -> dict[str, str]:
    vendor, _, product = given.partition(":")
    return {"networkType": "IBNic", "vendorId": vendor, "productId": product}


@command(app, "resize")
def resize_instance(
    session: Session,
    instance: Reference,
    flavor: Annotated[str, typer.Argument(help="Id or name.", autocompletion=FLAVOR.complete)],
    devices: Devices,
    waiting: Waiting,
    cpus: Annotated[int | None, typer.Option(min=1, help="vCPUs, of a custom flavor.")] = None,
    memory: Annotated[str, typer.Option(help="Memory, of a custom flavor: 8Gi.")] = "",
    pool: Annotated[str, typer.Option(help="Resource pool that it shall be in.")] = "",
) -> None:
    """Give an instance another size, and devices: while it runs if its guest takes it, else by a restart."""
    client = session.client
    flavor_id = FLAVOR.find_id(client, flavor)
    found: dict[str, Any] = client.get(FLAVOR.at(flavor_id)).data
    body = {
        "flavorId": flavor_id,
        "cpus": cpus or found["cpu"],
        "memory": {"amount": memory or f"{found['ram']}Gi"},
        "rpId": POOL.find_id(client, pool) if pool else "",
        **devices.body(),
    }
    instance_id = INSTANCE.find_id(client, instance)
    session.conclude(client.change("PATCH", INSTANCE.at(instance_id), body), waiting, f"{instance_id} is resized")


@command(app, "hibernate")
def hibernate_instance(session: Session, instance: Reference, waiting: Waiting) -> None:
    """Put an instance on its node's disk, with its memory; start lets it go on."""
    change_power(session, [instance], "hibernate", waiting)


@command(app, "change-os")
def change_os(
    session: Session,
    instance: Reference,
    waiting: Waiting,
    image: Annotated[
        str, typer.Option(help="Image of the new system; the present one.", autocompletion=IMAGE.complete)
    ] = "",
    user: Annotated[str, typer.Option(help="Whose password is asked for; root's unless given.")] = "",
    password: Annotated[bool, typer.Option("--password", help="Ask for a new password.")] = False,
) -> None:
    """Replace an instance's system disk by one made from an image; all else stays."""
    client = session.client
    body = {
        "imageId": IMAGE.find_id(client, image) if image else "",
        "user": user,
        "password": read_secret("Password") if password or user else "",
    }
    instance_id = INSTANCE.find_id(client, instance)
    answer = client.change("POST", f"{INSTANCE.at(instance_id)}/change-os", body)
    session.conclude(answer, waiting, f"{instance_id} has a new system")


@command(app, "boot-order")
def set_boot_order(
    session: Session,
    instance: Reference,
    waiting: Waiting,
    iso: Annotated[str, typer.Option(help="Start from this ISO image in a drive; from the disks unless given.")] = "",
) -> None:
    """Choose from what an instance starts, from its next start on."""
    client = session.client
    body = {"bootMode": 1, "bootId": IMAGE.find_id(client, iso)} if iso else {"bootMode": 0}
    instance_id = INSTANCE.find_id(client, instance)
    answer = client.change("PUT", f"{INSTANCE.at(instance_id)}/set-boot-order", body)
    session.conclude(answer, waiting, f"{instance_id} starts from {iso or 'its disks'}")


@command(app, "ha")
def set_high_availability(
    session: Session,
    instance: Reference,
    waiting: Waiting,
    on: Annotated[bool, typer.Option("--on/--off", help="Start it elsewhere when its node is lost.")] = True,
) -> None:
    """Have an instance started elsewhere when its node is lost, or not."""
    client = session.client
    instance_id = INSTANCE.find_id(client, instance)
    answer = client.change("PUT", f"{INSTANCE.at(instance_id)}/high-availability", {"haEnabled": on})
    session.conclude(answer, waiting, f"{instance_id} is {'' if on else 'not '}highly available")
