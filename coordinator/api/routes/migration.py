"""Moves of instances to other nodes."""

from fastapi import APIRouter

from coordinator.api.deps import Operator, RuntimeDep, TenantUser
from coordinator.api.envelope import Envelope, success
from coordinator.api.operation_header import OperationHeader
from coordinator.api.paging import PageByNumber
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.migration import (
    BatchColdMigrateRequest,
    BatchMigrateRequest,
    MigrateRequest,
    MigrationBody,
    MigrationListBody,
    MigrationOptionsRequest,
    WishResultBody,
)
from coordinator.domain.caller import Caller
from coordinator.domain.migration import MigrationType
from coordinator.errors import AccessDenied
from coordinator.services import migration as service

router = APIRouter(prefix="/api/ecs/v1/instances", tags=["migration"], route_class=LenientRoute)


@router.post("/batch-live-migrate", operation_id="batchLiveMigrate")
def batch_live_migrate(
    body: BatchMigrateRequest, caller: Operator, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[list[WishResultBody]]:
    """Moves running instances, each by itself; tells for each its operation, or why it is refused."""
    results = service.migrate_batch(runtime, caller, MigrationType.LIVE, body.to_wishes(), body.to_options())
    header.name(*(result.operation_id for result in results if result.operation_id))
    return success([WishResultBody.of(result, caller.language) for result in results])


@router.post("/batch-cold-migrate", operation_id="batchColdMigrate")
def batch_cold_migrate(
    body: BatchColdMigrateRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[list[WishResultBody]]:
    """Moves instances that are shut off, each by itself; tells for each its operation, or why it is refused."""
    _require_operator(caller, body)
    results = service.migrate_batch(runtime, caller, MigrationType.COLD, body.to_wishes(), body.to_options())
    header.name(*(result.operation_id for result in results if result.operation_id))
    return success([WishResultBody.of(result, caller.language) for result in results])


@router.post("/{ecs_id}/cold-migrate", operation_id="coldMigrate")
def cold_migrate(
    ecs_id: str, body: MigrateRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Moves an instance that is shut off, with its disks; anything beside the node's name is for operators."""
    _require_operator(caller, body)
    wish = body.to_wish(ecs_id)
    header.name(service.migrate_instance(runtime, caller, MigrationType.COLD, wish, body.to_options()))
    return success(None)


@router.post("/{ecs_id}/live-migrate", operation_id="liveMigrate")
def live_migrate(
    ecs_id: str, body: MigrateRequest, caller: TenantUser, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Moves a running instance without its noticing; anything beside the node's name is for operators."""
    _require_operator(caller, body)
    wish = body.to_wish(ecs_id)
    header.name(service.migrate_instance(runtime, caller, MigrationType.LIVE, wish, body.to_options()))
    return success(None)


@router.delete("/{ecs_id}/live-migrate", operation_id="cancelLiveMigration")
def cancel_live_migration(
    ecs_id: str, caller: Operator, runtime: RuntimeDep, header: OperationHeader
) -> Envelope[None]:
    """Gives a live migration up: the instance runs on where it is. Too late once it has been cut over."""
    header.name(service.cancel_live_migration(runtime, caller, ecs_id))
    return success(None)


@router.get("/{ecs_id}/migrations", operation_id="listMigrations")
def list_migrations(
    ecs_id: str, page: PageByNumber, caller: TenantUser, runtime: RuntimeDep
) -> Envelope[MigrationListBody]:
    """Lists the moves of an instance, the newest first."""
    listing = service.list_migrations(runtime, caller, ecs_id, page)
    items = [MigrationBody.of(view) for view in listing.items]
    return success(MigrationListBody(items=items, total_count=listing.total))


def _require_operator(caller: Caller, body: MigrationOptionsRequest) -> None:
    if body.is_given and caller.is_tenant:
        raise AccessDenied("only operators say how guests are moved", "仅运维人员可指定迁移方式")
