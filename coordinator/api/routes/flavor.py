"""Flavors."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from coordinator.api.deps import Operator, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.filtering import Conditions, Orderings, equal_to, like
from coordinator.api.idempotency import IdempotentRoute
from coordinator.api.paging import PageByNumber
from coordinator.api.schemas.flavor import CreateFlavorRequest, FlavorBody, FlavorListBody, UpdateFlavorRequest
from coordinator.domain.listing import Condition, ListQuery
from coordinator.services import flavor as service

router = APIRouter(prefix="/api/ecs/v1/flavors", tags=["flavors"], route_class=IdempotentRoute)


@router.post("", operation_id="createFlavor")
def create_flavor(body: CreateFlavorRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[FlavorBody]:
    """Creates a flavor in a flavor type."""
    return success(FlavorBody.of(service.create_flavor(runtime, caller, body.to_row())))


@router.post("/{flavor_id}", operation_id="updateFlavor")
def update_flavor(flavor_id: str, body: UpdateFlavorRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Renames a flavor and sets its bandwidth."""
    service.update_flavor(runtime, caller, flavor_id, name=body.name, intranet_bw_max_gbps=body.intranet_bw_max_gbps)
    return success(None)


@router.delete("/{flavor_id}", operation_id="deleteFlavor")
def delete_flavor(flavor_id: str, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Deletes a flavor that no instance uses."""
    service.delete_flavor(runtime, caller, flavor_id)
    return success(None)


async def _conditions(
    name: Annotated[str, Query(max_length=127, description="Part of the name.")] = "",
    flavor_id: Annotated[str, Query(alias="flavorId")] = "",
    flavor_type_id: Annotated[str, Query(alias="flavorTypeId")] = "",
    flavor_type: Annotated[str, Query(alias="flavorType", description="Part of the flavor type's name.")] = "",
    arch_type: Annotated[str, Query(alias="archType", description="x86 or arm.")] = "",
) -> tuple[Condition, ...]:
    return (
        *like(name=name, flavorType=flavor_type),
        *equal_to(flavorId=flavor_id, flavorTypeId=flavor_type_id, archType=arch_type),
    )


@router.get("", operation_id="listFlavors")
def list_flavors(
    page: PageByNumber,
    named: Annotated[tuple[Condition, ...], Depends(_conditions)],
    conditions: Conditions,
    orderings: Orderings,
    caller: Operator,
    runtime: RuntimeDep,
) -> Envelope[FlavorListBody]:
    """Lists flavors with their types, the newest first."""
    query = ListQuery(page, named + conditions, orderings)
    listing = service.list_flavors(runtime, caller, query)
    flavors = [FlavorBody.of(use) for use in listing.items]
    return success(FlavorListBody(flavors=flavors, total_count=listing.total))
