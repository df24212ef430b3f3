"""An instance as it shall be once it has another size: what tasks that resize it share."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlmodel import Session

from coordinator.domain.growth import ROOM
from coordinator.store.queries import instance as instance_query
from coordinator.store.tables.device import CellAllocation
from coordinator.store.tables.instance import Instance
from coordinator.tasks.blueprint import Blueprint, read_blueprint
from coordinator.tasks.instance_step import Args
from coordinator.tasks.model import StepContext

_COLUMNS: Final = {
    "flavorId": "flavor_id",
    "flavorTypeId": "flavor_type_id",
    "vcpus": "vcpus",
    "memoryBytes": "memory_bytes",
    "hugePageBytes": "huge_page_bytes",
    "vcpuType": "vcpu_type",
}


async def resized_blueprint(context: StepContext, consumer_uuid: str = "") -> Blueprint:
    """The instance of this task with its new size: with the cells, and devices, of that consumer or its own."""

    def read() -> Blueprint:
        with context.runtime.database.read() as session:
            return _resize(session, read_blueprint(session, context.args, consumer_uuid), context.args)

    return await asyncio.to_thread(read)


async def grown_blueprint(context: StepContext) -> Blueprint:
    """The same on its own node: with its own devices, and the cells that are held for it where they are others."""

    def read() -> Blueprint:
        args = context.args
        with context.runtime.database.read() as session:
            blueprint = read_blueprint(session, args)
            cells = blueprint.cells
            if args["isFull"]:
                cells = tuple(instance_query.list_cells(session, args["reserveUuid"]))
            return _resize(session, blueprint, args, cells)

    return await asyncio.to_thread(read)


def apply_size(instance: Instance, args: Args) -> None:
    """The row says the new size."""
    for name, column in _COLUMNS.items():
        setattr(instance, column, args["size"][name])
    instance.options = {**instance.options, ROOM: args["size"]["room"], **args["size"]["options"]}


def _resize(
    session: Session, blueprint: Blueprint, args: Args, cells: Sequence[CellAllocation] | None = None
) -> Blueprint:
    instance = blueprint.instance
    # What is changed from here on is stored nowhere.
    session.expunge(instance)
    apply_size(instance, args)
    flavor_type = instance_query.get_flavor_type(session, instance)
    return replace(blueprint, flavor_type=flavor_type, cells=blueprint.cells if cells is None else tuple(cells))
