"""What holds for all migrations of the region."""

from fastapi import APIRouter

from coordinator.api.deps import Operator, RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.query import LenientRoute
from coordinator.api.schemas.migration import (
    CpuMultiArchRequest,
    LiveMigrationConfigBody,
    MigrateLimitRequest,
    MigrationNetworkBody,
    MigrationNetworkRequest,
)
from coordinator.services import migration_setting as service

router = APIRouter(prefix="/api/ecs/v1/global-config", tags=["settings"], route_class=LenientRoute)


@router.get("/network-config", operation_id="getMigrationNetwork")
def get_migration_network(caller: Operator, runtime: RuntimeDep) -> Envelope[MigrationNetworkBody]:
    """Tells which network memory and disks of moving guests take."""
    settings = service.get_migration_settings(runtime, caller)
    return success(MigrationNetworkBody(global_network=settings.network))


@router.put("/network-config", operation_id="setMigrationNetwork")
def set_migration_network(body: MigrationNetworkRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Sets the network of migrations: those under way keep theirs. cninet is the management network, encrypted."""
    service.set_migration_network(runtime, caller, body.global_network)
    return success(None)


@router.get("/live-migrate", operation_id="getLiveMigrationConfig")
def get_live_migration_config(caller: Operator, runtime: RuntimeDep) -> Envelope[LiveMigrationConfigBody]:
    """Tells how many live migrations run at once, and whether they may change the type of processor."""
    return success(LiveMigrationConfigBody.of(service.get_migration_settings(runtime, caller)))


@router.put("/live-migrate-limit", operation_id="setLiveMigrationLimit")
def set_live_migration_limit(body: MigrateLimitRequest, caller: Operator, runtime: RuntimeDep) -> Envelope[None]:
    """Sets how many live migrations run at once; those beyond it wait for their turn."""
    service.set_migrate_limit(runtime, caller, body.migrate_limit)
    return success(None)


@router.put("/live-migrate-arch", operation_id="setLiveMigrationAcrossCpuTypes")
@router.post("/live-migrate-arch", operation_id="setLiveMigrationAcrossCpuTypesByPost")
def set_live_migration_across_cpu_types(
    body: CpuMultiArchRequest, caller: Operator, runtime: RuntimeDep
) -> Envelope[None]:
    """Sets whether guests may move to processors of another type than theirs."""
    service.set_cpu_type_free(runtime, caller, body.cpu_multi_arch == "ON")
    return success(None)
