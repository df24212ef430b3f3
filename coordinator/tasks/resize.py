"""An instance as it shall be once it has another size: what tasks that resize it share."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from sqlmodel import Session

from coordinator.domain.growth import OUTGROWN, ROOM
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries.device_claim import (
    DeviceClaim,
    hand_claims_over,
    list_claims,
    merge_claims,
    split_claims,
    with_slices,
)
from coordinator.store.tables.device import CellAllocation
from coordinator.store.tables.instance import Instance
from coordinator.tasks.blueprint import Blueprint, read_blueprint
from coordinator.tasks.device_return import return_devices
from coordinator.tasks.host_device import device_uuid
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
            reserved = list_claims(session, args["reserveUuid"])
            blueprint = replace(blueprint, devices=_change(blueprint.devices, reserved, args.get("returned", {})))
            return _resize(session, blueprint, args, cells)

    return await asyncio.to_thread(read)


def apply_size(instance: Instance, args: Args) -> None:
    """The row says the new size."""
    for name, column in _COLUMNS.items():
        setattr(instance, column, args["size"][name])
    kept = {name: value for name, value in instance.options.items() if name != OUTGROWN}
    instance.options = {**kept, ROOM: args["size"]["room"], **args["size"]["options"]}


def exchange_devices(session: Session, instance: Instance, args: Args) -> None:
    """What was claimed for the new size is the instance's, what it has no more is given back by a task of its own.

    Before the reserve is let go of; one whose devices were taken over already is empty.
    """
    node_id, returned = instance.node_id or "", args.get("returned", {})
    kept = {claim.device_id: claim.slices - returned.get(claim.device_id, 0) for claim in _claims(session, instance)}
    if returned:
        split_claims(session, instance.uuid, args["returnUuid"], node_id, returned)
        uuids = _name_slices(instance, {device_id: (kept[device_id], count) for device_id, count in returned.items()})
        return_devices(session, instance, args["returnUuid"], node_id, uuids)
    merge_claims(session, args["reserveUuid"], instance.uuid, node_id)


def return_reserved(session: Session, instance: Instance, args: Args) -> None:
    """What was claimed for the new size, and perhaps made ready for it, is given back by a task of its own."""
    held = {claim.device_id: claim.slices for claim in _claims(session, instance)}
    claims = list_claims(session, args["reserveUuid"])
    if not claims:
        return
    node_id = claims[0].node_id
    hand_claims_over(session, args["reserveUuid"], args["returnUuid"], node_id)
    slices = {claim.device_id: (held.get(claim.device_id, 0), claim.slices) for claim in claims}
    return_devices(session, instance, args["returnUuid"], node_id, _name_slices(instance, slices))


def _claims(session: Session, instance: Instance) -> list[DeviceClaim]:
    return list_claims(session, instance.uuid, instance.node_id or "")


def _name_slices(instance: Instance, slices: Mapping[str, tuple[int, int]]) -> list[str]:
    """Names of slices in the instance's domain, by their devices: from which on, and how many."""
    return [
        device_uuid(instance.uuid, device_id, number)
        for device_id, (first, count) in slices.items()
        for number in range(first, first + count)
    ]


def _change(
    held: Sequence[DeviceClaim], reserved: Sequence[DeviceClaim], returned: Mapping[str, int]
) -> tuple[DeviceClaim, ...]:
    """The devices that it has and keeps, and those that it is to get, in the order of kind and id."""
    found = {claim.device_id: with_slices(claim, claim.slices - returned.get(claim.device_id, 0)) for claim in held}
    for claim in reserved:
        present = found.get(claim.device_id)
        found[claim.device_id] = with_slices(claim, claim.slices + (present.slices if present else 0))
    kept = (claim for claim in found.values() if claim.slices)
    return tuple(sorted(kept, key=lambda claim: (claim.kind, claim.device_id)))


def _resize(
    session: Session, blueprint: Blueprint, args: Args, cells: Sequence[CellAllocation] | None = None
) -> Blueprint:
    instance = blueprint.instance
    # What is changed from here on is stored nowhere.
    session.expunge(instance)
    apply_size(instance, args)
    flavor_type = instance_query.get_flavor_type(session, instance)
    vgpu_type_id = instance_query.get_flavor(session, instance).vgpu_type_id
    blueprint = replace(blueprint, vgpu_type_id=vgpu_type_id)
    return replace(blueprint, flavor_type=flavor_type, cells=blueprint.cells if cells is None else tuple(cells))
