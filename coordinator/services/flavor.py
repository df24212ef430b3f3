"""Flavors: sizes that instances come in."""

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.identifier import Prefix
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import FlavorInUse, ParameterInvalid, ResourceExists, ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.services.gpu_model import find_gpu_model
from coordinator.store.queries import flavor as queries
from coordinator.store.queries.flavor import FlavorUse
from coordinator.store.tables import Flavor, FlavorType

_MAXIMUM_GPUS = {"gpu": 8, "aiSpace": 8, "vgpu": 16}


def create_flavor(runtime: Runtime, caller: Caller, draft: Flavor) -> FlavorUse:
    """Stores `draft`, a row without its own id, in the flavor type that it names."""
    draft.flavor_id = runtime.identifiers.new(Prefix.FLAVOR)
    with runtime.database.write() as session:
        flavor_type = queries.find_flavor_type(session, draft.flavor_type_id, for_update=True)
        if flavor_type is None:
            raise ResourceNotFound("flavor type", draft.flavor_type_id)
        _check_gpus(draft, flavor_type)
        _check_vgpu(session, draft, flavor_type)
        _check_elastic_disks(draft, flavor_type)
        session.add(draft)
        try:
            session.flush()
        except IntegrityError:
            raise _name_taken(draft.name) from None
        return queries.get_flavor_use(session, draft.flavor_id)


def update_flavor(
    runtime: Runtime, caller: Caller, flavor_id: str, *, name: str, intranet_bw_max_gbps: int | None
) -> None:
    """Renames the flavor and sets its bandwidth, if one is given."""
    with runtime.database.write() as session:
        row = queries.find_flavor(session, flavor_id, for_update=True)
        if row is None:
            raise ResourceNotFound("flavor", flavor_id)
        row.name = name
        if intranet_bw_max_gbps is not None:
            row.intranet_bw_max_gbps = intranet_bw_max_gbps
        session.add(row)
        try:
            session.flush()
        except IntegrityError:
            raise _name_taken(name) from None


def delete_flavor(runtime: Runtime, caller: Caller, flavor_id: str) -> None:
    """Deletes the flavor; FlavorInUse while instances use it."""
    with runtime.database.write() as session:
        row = queries.find_flavor(session, flavor_id, for_update=True)
        if row is None:
            raise ResourceNotFound("flavor", flavor_id)
        instances = queries.count_instances_of_flavor(session, flavor_id)
        if instances:
            raise FlavorInUse(
                f"flavor {flavor_id} is used by {instances} instances", f"规格{flavor_id}正被{instances}台虚拟机使用"
            )
        row.deleted_at = runtime.now()
        session.add(row)


def list_flavors(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[FlavorUse]:
    """Flavors with their types and how much they are used."""
    with runtime.database.read() as session:
        return queries.list_flavors(session, query)


def _check_gpus(draft: Flavor, flavor_type: FlavorType) -> None:
    maximum = _MAXIMUM_GPUS.get(flavor_type.device_type, 0)
    if draft.gpu > maximum:
        raise ParameterInvalid(
            "gpu",
            f"at most {maximum} for a flavor type of device type {flavor_type.device_type}",
            f"设备类型为{flavor_type.device_type}的规格类型不能大于{maximum}",
        )


def _check_vgpu(session: Session, draft: Flavor, flavor_type: FlavorType) -> None:
    """The vGPU type must be one of the flavor type's GPU; what is not said about it comes from the catalogue."""
    if not draft.vgpu_type_id:
        if flavor_type.device_type == "vgpu" and draft.gpu:
            raise ParameterInvalid("vgpuTypeId", "is required for vGPUs", "vGPU规格必须指定vGPU类型")
        return
    if flavor_type.device_type != "vgpu":
        raise ParameterInvalid("vgpuTypeId", "the flavor type is not of device type vgpu", "规格类型的设备类型不是vgpu")
    model = find_gpu_model(session, flavor_type.gpu_type)
    vgpu = model.find_vgpu(draft.vgpu_type_id)
    if vgpu is None:
        raise ParameterInvalid(
            "vgpuTypeId",
            f"{model.product} has no type {draft.vgpu_type_id!r}",
            f"{model.product}没有vGPU类型{draft.vgpu_type_id!r}",
        )
    draft.vgpu_type_name = draft.vgpu_type_name or vgpu.type_name
    draft.vgpu_display_name = draft.vgpu_display_name or vgpu.display_name
    draft.vgpu_memory_gib = draft.vgpu_memory_gib or vgpu.memory_mib // 1024


def _check_elastic_disks(draft: Flavor, flavor_type: FlavorType) -> None:
    wanted = {
        "useElasticityLocalSysDisk": draft.use_elasticity_local_sys_disk,
        "elasticityLocalSysDiskSize": draft.elasticity_local_sys_disk_size_gib,
        "elasticityLocalDataDiskNum": draft.elasticity_local_data_disk_num,
        "elasticityLocalDataDiskSize": draft.elasticity_local_data_disk_size_gib,
    }
    field = next((name for name, value in wanted.items() if value), None)
    if field and flavor_type.local_disk_type != "elasticity":
        raise ParameterInvalid(
            field, "the flavor type has no elastic local disks", "规格类型的本地硬盘类型不是弹性本地盘"
        )
    if draft.use_elasticity_local_sys_disk and not draft.elasticity_local_sys_disk_size_gib:
        raise ParameterInvalid("elasticityLocalSysDiskSize", "is required", "不能为空")
    if draft.elasticity_local_data_disk_num and not draft.elasticity_local_data_disk_size_gib:
        raise ParameterInvalid("elasticityLocalDataDiskSize", "is required", "不能为空")


def _name_taken(name: str) -> ResourceExists:
    return ResourceExists(f"the flavor type has a flavor named {name!r}", f"该规格类型下已存在规格{name!r}")
