"""`nwctl devices`: GPUs, network cards, disks and USB devices of nodes."""

from dataclasses import replace
from typing import Annotated

import typer

from nwctl.command.node import NODE
from nwctl.option import Page
from nwctl.output import Column, joined, size, status
from nwctl.resource import Resource
from nwctl.session import Session

DEVICE = Resource(
    noun="device",
    path="/api/ecs/v1/devices",
    id_field="id",
    id_pattern=".+",
    total_field="total",
    page_parameters=("current", "size"),
    columns=(
        Column("Node", "nodeName"),
        Column("Kind", "kind"),
        Column("ID", "id"),
        Column("State", "state", status),
        Column("Product", "product"),
        Column("Size", "size", lambda size_bytes: size(size_bytes or None)),
        Column("Cell", "numaNode"),
        Column("Held by", "holders", joined("ecsId")),
        Column("vGPUs move by", "attributes.vgpu_migration"),
        Column("Why vGPUs stay", "details.vgpuMigrationObstacle"),
        Column("Why not offered", "withheldReason"),
    ),
)


def list_devices(
    session: Session,
    page: Page,
    kind: Annotated[str, typer.Option(help="Only gpu, gpu-vf, display, nic, vf, infiniband, mdev, disk or usb.")] = "",
    node: Annotated[str, typer.Option(help="Only those of this node, by id or name.")] = "",
    state: Annotated[str, typer.Option(help="Only those that are free, used, withheld, faulty or missing.")] = "",
) -> None:
    """List the devices of nodes: who has each, and why one is not offered."""
    wanted = {"kind": kind, "nodeId": node and NODE.find_id(session.client, node), "state": state}
    filters = [*(page.filters or ()), *(f"{field}:eq:{value}" for field, value in wanted.items() if value)]
    session.show_list(DEVICE, replace(page, filters=filters))
