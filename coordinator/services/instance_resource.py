"""What an instance takes of its host: its size and the promises of its flavor, in the scheduler's words."""

from dataclasses import dataclass
from typing import Final

from coordinator.domain.cell import CellWish
from coordinator.domain.device import WHOLE_MILLI, DeviceKind, DeviceWish
from coordinator.domain.device_order import ExtraDevices, InfinibandOrder
from coordinator.domain.gpu import load_catalogue
from coordinator.domain.placement import Consumer, ResourceClass
from coordinator.domain.space import SpaceWish
from coordinator.domain.unit import GIB, KIB, MIB
from coordinator.store.tables import Flavor, FlavorType

_MIB_PER_GIB: Final = 1024
# Flavor types whose cpuModel names an architecture, or nothing, run on any processor of their architecture.
_ANY_CPU_MODEL: Final = frozenset({"", "any", "generic", "x86", "x86_64", "arm", "aarch64"})


@dataclass(frozen=True, slots=True)
class InstanceSize:
    """How large an instance is."""

    vcpus: int
    memory_bytes: int
    # Space of its volumes by type.
    space: tuple[SpaceWish, ...] = ()
    # Size of the huge pages behind the memory; 0: ordinary pages.
    huge_page_bytes: int = 0


def cpu_model_of(flavor_type: FlavorType) -> str:
    """The processor that the host must have; empty: any."""
    named = flavor_type.cpu_model
    return "" if named.lower() in _ANY_CPU_MODEL else named


def floats_over_node(flavor_type: FlavorType, huge_page_bytes: int) -> bool:
    """Whether vCPUs and memory of such an instance may be anywhere on its node, whatever becomes of them."""
    is_bound = flavor_type.is_dedicated_cpu or flavor_type.is_dedicated_mem or flavor_type.v_numa
    return not is_bound and not huge_page_bytes


_NO_DEVICES: Final = ExtraDevices()


def make_consumer(
    uuid: str, size: InstanceSize, flavor: Flavor, flavor_type: FlavorType, extra: ExtraDevices = _NO_DEVICES
) -> Consumer:
    """The instance as one that takes resources, with the devices of its flavor and `extra`."""
    memory_mib = size.memory_bytes // MIB
    is_dedicated = flavor_type.is_dedicated_cpu
    return Consumer(
        uuid,
        {
            ResourceClass.DEDICATED_VCPU if is_dedicated else ResourceClass.VCPU: size.vcpus,
            # Huge pages were taken out of the memory that hosts offer, and are counted where they are.
            ResourceClass.MEMORY_MIB: 0 if size.huge_page_bytes else memory_mib,
            ResourceClass.STORAGE_GIB: sum(wish.size_gib for wish in size.space),
            ResourceClass.LOCAL_STORAGE_GIB: _elastic_gib(flavor),
        },
        (
            *_gpus(flavor, flavor_type, flavor.gpu + extra.gpus),
            *_local_disks(flavor_type, flavor.local_disk + extra.local_disks),
            *_virtual_functions(flavor.sriov + extra.functions),
            *map(_infiniband, extra.infiniband),
        ),
        CellWish(size.vcpus, memory_mib, size.huge_page_bytes // KIB, is_dedicated)
        if flavor_type.v_numa or is_dedicated or size.huge_page_bytes
        else None,
        size.space,
    )


def _gpus(flavor: Flavor, flavor_type: FlavorType, count: int) -> tuple[DeviceWish, ...]:
    """Whole GPUs, or vGPUs: each a share of some GPU by its memory. One that is split is not had as a whole."""
    if not count:
        return ()
    wanted = {"mode": frozenset({"vgpu" if flavor.vgpu_type_id else "passthrough"})}
    if flavor_type.gpu_type:
        wanted |= {
            "vendor": frozenset({flavor_type.gpu_type[:4]}),
            "product": frozenset({flavor_type.gpu_type[4:]}),
        }
    if not flavor.vgpu_type_id:
        return (DeviceWish(DeviceKind.GPU, count, attributes=wanted),)
    # A GPU whose mode is one type of vGPU makes no other; one without makes what its driver can.
    wanted["vgpu_type"] = frozenset({"", flavor.vgpu_type_id})
    share = DeviceWish(DeviceKind.GPU, milli=_vgpu_milli(flavor, flavor_type), attributes=wanted)
    return (share,) * count


def _vgpu_milli(flavor: Flavor, flavor_type: FlavorType) -> int:
    """Rounded up: the shares of a GPU must not be more than it has memory for."""
    model = load_catalogue().get(flavor_type.gpu_type)
    vgpu = model.find_vgpu(flavor.vgpu_type_id) if model else None
    if model is None or vgpu is None:
        return WHOLE_MILLI
    milli = -(-WHOLE_MILLI * vgpu.memory_mib // (model.memory_gib * _MIB_PER_GIB))
    return min(max(milli, 1), WHOLE_MILLI)


def _local_disks(flavor_type: FlavorType, count: int) -> tuple[DeviceWish, ...]:
    """Whole disks of the host, of the kind and at least the size that the flavor type names."""
    if not count:
        return ()
    named = {"media": flavor_type.local_disk_type, "interface": flavor_type.local_disk_interface}
    attributes = {name: frozenset({value.lower()}) for name, value in named.items() if value not in ("", "none")}
    least_bytes = flavor_type.local_disk_size * GIB
    return (DeviceWish(DeviceKind.DISK, count, WHOLE_MILLI, attributes, least_bytes),)


def _virtual_functions(count: int) -> tuple[DeviceWish, ...]:
    return (DeviceWish(DeviceKind.VF, count),) if count else ()


def _infiniband(order: InfinibandOrder) -> DeviceWish:
    """Any adapter, or virtual function of one, that is such."""
    named = {"vendor": order.vendor_id, "product": order.product_id}
    attributes = {name: frozenset({value}) for name, value in named.items() if value}
    return DeviceWish(DeviceKind.INFINIBAND, attributes=attributes)


def _elastic_gib(flavor: Flavor) -> int:
    data_gib = flavor.elasticity_local_data_disk_num * flavor.elasticity_local_data_disk_size_gib
    return data_gib + (flavor.elasticity_local_sys_disk_size_gib if flavor.use_elasticity_local_sys_disk else 0)
