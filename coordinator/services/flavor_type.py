"""Flavor types: families of hardware that flavors belong to."""

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.identifier import Prefix
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import FlavorTypeInUse, ParameterInvalid, ResourceExists, ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.services.gpu_model import find_gpu_model
from coordinator.services.overcommit import read_cpu_ratios
from coordinator.services.region import zone_names
from coordinator.store.queries import flavor as queries
from coordinator.store.queries.flavor import FlavorTypeUse
from coordinator.store.queries.resource_pool import lock_pools
from coordinator.store.tables import Flavor, FlavorType

CUSTOM_FLAVOR_NAME = "自定义规格"

# Price that each kind of hardware cannot do without, by the field's name in the API.
_GPU_PRICE = "gpuPrice"
_VGPU_PRICE = "gpuMemoryPrice"
_ELASTIC_DISK_PRICE = "elasticityLocalDiskPrice"


def create_flavor_type(
    runtime: Runtime, caller: Caller, draft: FlavorType, *, with_custom_flavor: bool = False
) -> FlavorTypeUse:
    """Stores `draft`, a row without ids; optionally with a flavor that stands for any size."""
    _complete(runtime, draft)
    _check_processor(draft)
    _check_prices(draft)
    with runtime.database.write() as session:
        _check_gpu(session, draft)
        if draft.az and draft.az not in zone_names(session, runtime.settings):
            raise ParameterInvalid("az", f"unknown zone {draft.az!r}", f"可用区{draft.az!r}不存在")
        _settle_overcommitment(session, runtime, draft)
        _check_pools(session, draft.az, draft.rp_ids)
        session.add(draft)
        try:
            session.flush()
        except IntegrityError:
            raise _name_taken(draft.name) from None
        if with_custom_flavor:
            session.add(_custom_flavor(runtime, draft))
            session.flush()
        return queries.get_flavor_type_use(session, draft.flavor_type_id)


def update_flavor_type(runtime: Runtime, caller: Caller, flavor_type_id: str, *, name: str, rp_ids: list[str]) -> None:
    """Renames the type and sets its pools; none at all unbinds it."""
    with runtime.database.write() as session:
        row = queries.find_flavor_type(session, flavor_type_id, for_update=True)
        if row is None:
            raise ResourceNotFound("flavor type", flavor_type_id)
        _check_pools(session, row.az, rp_ids)
        row.name, row.rp_ids = name, rp_ids
        session.add(row)
        try:
            session.flush()
        except IntegrityError:
            raise _name_taken(name) from None


def delete_flavor_type(runtime: Runtime, caller: Caller, flavor_type_id: str) -> None:
    """Deletes the type and its custom flavor; FlavorTypeInUse while it has other flavors or instances."""
    with runtime.database.write() as session:
        row = queries.find_flavor_type(session, flavor_type_id, for_update=True)
        if row is None:
            raise ResourceNotFound("flavor type", flavor_type_id)
        flavors = queries.list_flavors_of_type(session, flavor_type_id)
        regular = sum(not flavor.is_custom for flavor in flavors)
        instances = queries.count_instances_of_type(session, flavor_type_id)
        if regular or instances:
            raise FlavorTypeInUse(
                f"flavor type {flavor_type_id} has {regular} flavors and {instances} instances",
                f"规格类型{flavor_type_id}下存在{regular}个规格、{instances}台虚拟机，不能删除",
            )
        for deleted in (row, *flavors):
            deleted.deleted_at = runtime.now()
            session.add(deleted)


def list_flavor_types(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[FlavorTypeUse]:
    """Flavor types with how much they are used."""
    with runtime.database.read() as session:
        return queries.list_flavor_types(session, query)


def _settle_overcommitment(session: Session, runtime: Runtime, draft: FlavorType) -> None:
    ratio = draft.cpu_overscaling_ratio or read_cpu_ratios(session, runtime.settings).region
    draft.cpu_overscaling_ratio = int(ratio)
    if draft.is_dedicated_cpu and ratio != 1:
        raise ParameterInvalid(
            "isDedicatedCPU",
            f"dedicated CPUs need an overcommit ratio of 1, not {ratio:g}",
            f"CPU独占要求超分比为1，当前为{ratio:g}",
        )


def _complete(runtime: Runtime, draft: FlavorType) -> None:
    draft.flavor_type_id = runtime.identifiers.new(Prefix.FLAVOR_TYPE)
    draft.spec_code = runtime.identifiers.new(Prefix.SPEC_CODE)
    if not draft.vcpu_type:
        draft.vcpu_type = "host-passthrough" if draft.arch_type == "arm" else "custom"


def _check_processor(draft: FlavorType) -> None:
    if draft.arch_type == "arm" and draft.vcpu_type != "host-passthrough":
        raise ParameterInvalid(
            "vcpuType", "an arm type admits host-passthrough only", "arm规格类型仅支持host-passthrough"
        )


def _check_gpu(session: Session, draft: FlavorType) -> None:
    if not draft.gpu_type:
        if draft.device_type in {"gpu", "vgpu"}:
            raise ParameterInvalid(
                "gpuType",
                f"is required for deviceType {draft.device_type}",
                f"deviceType为{draft.device_type}时不能为空",
            )
        return
    if draft.device_type == "normal":
        raise ParameterInvalid("gpuType", "deviceType normal has no GPU", "deviceType为normal时不能指定GPU")
    model = find_gpu_model(session, draft.gpu_type)
    if draft.device_type == "vgpu" and not model.vgpus:
        raise ParameterInvalid("gpuType", f"{model.product} has no vGPU types", f"{model.product}不支持vGPU")
    draft.gpu_type, draft.gpu_product = model.pci_id, model.product


def _check_prices(draft: FlavorType) -> None:
    needed = {
        _GPU_PRICE: draft.device_type == "gpu",
        _VGPU_PRICE: draft.device_type == "vgpu",
        _ELASTIC_DISK_PRICE: draft.local_disk_type == "elasticity",
    }
    for position, price in enumerate(draft.prices):
        for name in (name for name, applies in needed.items() if applies and price.get(name) is None):
            raise ParameterInvalid(
                f"flavorPrices.{position}.{name}",
                "is required for this kind of flavor type",
                "该规格类型必须指定此价格",
            )


def _check_pools(session: Session, zone: str, rp_ids: list[str]) -> None:
    """All of them exist, until the transaction ends, and lie where the type is offered."""
    pools = lock_pools(session, rp_ids)
    for rp_id in rp_ids:
        if rp_id not in pools:
            raise ResourceNotFound("resource pool", rp_id)
        if zone and pools[rp_id].zone != zone:
            raise ParameterInvalid(
                "rpIds",
                f"resource pool {rp_id} is in zone {pools[rp_id].zone!r}, the flavor type in {zone!r}",
                f"资源池{rp_id}位于可用区{pools[rp_id].zone!r}，规格类型位于{zone!r}",
            )


def _custom_flavor(runtime: Runtime, flavor_type: FlavorType) -> Flavor:
    """Stands for any size: the numbers are the least that an instance of it may ask for."""
    return Flavor(
        flavor_id=runtime.identifiers.new(Prefix.FLAVOR),
        flavor_type_id=flavor_type.flavor_type_id,
        name=CUSTOM_FLAVOR_NAME,
        cpu=1,
        ram_gib=1,
        is_custom=True,
    )


def _name_taken(name: str) -> ResourceExists:
    return ResourceExists(f"a flavor type named {name!r} exists", f"规格类型{name!r}已存在")
