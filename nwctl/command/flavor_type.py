"""`nwctl flavor-type`: families of hardware that flavors belong to."""

from enum import StrEnum
from typing import Annotated

import typer

from nwctl.binding import command, noun
from nwctl.command.pool import POOL
from nwctl.option import Page
from nwctl.output import Column, size
from nwctl.resource import Resource
from nwctl.session import Session

BYTES_PER_MB = 1 << 20
# What a price is for depends on what instances are given besides vCPUs and memory.
DEVICE_PRICES = {"gpu": "gpuPrice", "vgpu": "gpuMemoryPrice"}

FLAVOR_TYPE = Resource(
    noun="flavor type",
    path="/api/ecs/v1/flavortypes",
    id_field="flavorTypeId",
    id_pattern="flavortype-[a-z0-9]{8}",
    rows_field="flavorTypes",
    columns=(
        Column("ID", "flavorTypeId"),
        Column("Name", "name"),
        Column("Arch", "archType"),
        Column("CPU", "cpuModel"),
        Column("vCPU model", "vcpuType"),
        Column("Device", "deviceType"),
        Column("GPU", "gpuProduct"),
        Column("Security", "securityType"),
        Column("Zone", "az"),
        Column("Pool", "rpName"),
        Column("Flavors", "flavorCount"),
        Column("Instances", "vmCount"),
    ),
)
GPU_COLUMNS = (Column("Vendor", "vendor"), Column("Type", "gpuType"), Column("Product", "product"))
VGPU_COLUMNS = (
    Column("Type", "typeId"),
    Column("Name", "typeName"),
    Column("Product", "displayName"),
    Column("Memory", "memorySize", lambda megabytes: size(megabytes * BYTES_PER_MB)),
    Column("Licence", "licenseType"),
)


class Arch(StrEnum):
    """Processor architecture, in the API's spelling."""

    X86 = "x86"
    ARM = "arm"


class Device(StrEnum):
    """What instances of a flavor type are given."""

    NORMAL = "normal"
    GPU = "gpu"
    VGPU = "vgpu"
    AI_SPACE = "aiSpace"


class VcpuType(StrEnum):
    """How the guest's processor is modelled."""

    HOST = "host-passthrough"
    CUSTOM = "custom"


class Security(StrEnum):
    """Level of trusted boot."""

    NONE = "none"
    V1 = "1.0"
    V2 = "2.0"
    V3 = "3.0"


app = noun("flavor-type", "Flavor types: families of hardware that flavors belong to.")


@command(app, "list")
def list_flavor_types(session: Session, page: Page) -> None:
    """List the flavor types."""
    session.show_list(FLAVOR_TYPE, page)


@command(app, "create")
def create_flavor_type(
    session: Session,
    name: Annotated[str, typer.Option(help="1 to 127 characters.")],
    arch: Annotated[Arch, typer.Option(help="Processor architecture.")] = Arch.X86,
    cpu_model: Annotated[str, typer.Option(help="The processor's name.")] = "any",
    vcpu_type: Annotated[VcpuType | None, typer.Option(help="How the guest's processor is modelled.")] = None,
    device: Annotated[Device, typer.Option(help="What instances are given.")] = Device.NORMAL,
    gpu_type: Annotated[str, typer.Option(help="GPU type, as `flavor-type gpus` lists.")] = "",
    security: Annotated[Security, typer.Option(help="Level of trusted boot.")] = Security.NONE,
    zone: Annotated[str, typer.Option(help="Zone; empty for all.")] = "",
    pools: Annotated[
        list[str] | None, typer.Option("--pool", help="Pool to bind it to, id or name.", autocompletion=POOL.complete)
    ] = None,
    cpu_price: Annotated[float, typer.Option(help="Price of a vCPU.")] = 0.0,
    ram_price: Annotated[float, typer.Option(help="Price of a GiB of memory.")] = 0.0,
    gpu_price: Annotated[float, typer.Option(help="Price of a GPU, or of a GB of a vGPU's memory.")] = 0.0,
) -> None:
    """Create a flavor type."""
    price = {"billingMode": "OnDemand", "cpuPrice": cpu_price, "ramPrice": ram_price}
    if device in DEVICE_PRICES:
        price[DEVICE_PRICES[device]] = gpu_price
    body = {
        "name": name,
        "archType": arch,
        "cpuModel": cpu_model,
        "deviceType": device,
        "gpuType": gpu_type,
        "securityType": security,
        "az": zone,
        "isSystemLocalDisk": False,
        "flavorPrices": [price],
    }
    if pools:
        body["rpIds"] = [POOL.find_id(session.client, pool) for pool in pools]
    if vcpu_type:
        body["vcpuType"] = vcpu_type
    session.show(FLAVOR_TYPE, session.client.create(FLAVOR_TYPE.path, body).data)


@command(app, "delete")
def delete_flavor_type(
    session: Session,
    flavor_type: Annotated[str, typer.Argument(help="Id or name.", autocompletion=FLAVOR_TYPE.complete)],
) -> None:
    """Delete a flavor type that has no flavors."""
    type_id = FLAVOR_TYPE.find_id(session.client, flavor_type)
    session.report(session.client.change("DELETE", FLAVOR_TYPE.at(type_id)).data, f"Deleted {type_id}")


@command(app, "gpus")
def list_gpus(session: Session) -> None:
    """List the GPUs that flavor types can name."""
    vendors = session.client.get(f"{FLAVOR_TYPE.path}/supported-gpus").data
    session.show_rows(GPU_COLUMNS, [gpu for vendor in vendors for gpu in vendor["gpuList"]], vendors)


@command(app, "vgpus")
def list_vgpus(
    session: Session, gpu_type: Annotated[str, typer.Argument(help="GPU type, as `flavor-type gpus` lists.")]
) -> None:
    """List the vGPU types that a GPU can be divided into."""
    types = session.client.get(f"{FLAVOR_TYPE.path}/supported-vgpus", {"gpuType": gpu_type}).data
    session.show_rows(VGPU_COLUMNS, types, types)
