"""Devices of an order: what the flavor promises, and what is asked for beside it."""

from coordinator.domain.device_order import DeviceOrder, ExtraDevices
from coordinator.domain.instance_order import InstanceOrder
from coordinator.errors import ParameterInvalid
from coordinator.store.tables import Flavor, FlavorType, Instance

# Key of `Instance.options`.
EXTRA_DEVICES = "devices"
_ELASTIC = "elasticity"


def extra_devices_of(instance: Instance) -> ExtraDevices:
    """What the instance was ordered with beside the devices of its flavor."""
    return ExtraDevices.from_json(instance.options.get(EXTRA_DEVICES, {}))


def settle_devices(order: DeviceOrder, flavor: Flavor, flavor_type: FlavorType) -> ExtraDevices:
    """What is asked for beside the flavor's devices.

    Numbers are totals. GPUs are as many as the flavor has, of a custom one as many as are asked for; of local disks and
    virtual functions there may be more. ParameterInvalid names the field that does not fit.
    """
    gpus = _settle_gpus(order, flavor, flavor_type)
    local_disks = _settle_more("localDisk", order.local_disks, flavor.local_disk)
    if local_disks and flavor_type.local_disk_type.lower() == _ELASTIC:
        raise ParameterInvalid(
            "localDisk", "the flavor has elastic local disks: whole ones not beside them", "弹性本地盘规格不支持整盘"
        )
    return ExtraDevices(gpus, local_disks, _settle_more("sriov", order.functions, flavor.sriov), order.infiniband)


def has_what_is_asked(order: InstanceOrder, flavor: Flavor, flavor_type: FlavorType) -> bool:
    """Whether the flavor, chosen by size alone, has the GPUs of the order, and no device that is not asked for."""
    asked = order.devices
    if flavor.local_disk > asked.local_disks or flavor.sriov > asked.functions:
        return False
    if bool(flavor_type.gpu_type) != bool(asked.gpus or asked.vgpus):
        return False
    if flavor.use_elasticity_local_sys_disk or flavor.elasticity_local_data_disk_num:
        return False
    try:
        settle_devices(asked, flavor, flavor_type)
    except ParameterInvalid:
        return False
    return True


def unavailable_features(flavor: Flavor, flavor_type: FlavorType) -> list[str]:
    """What the flavor promises and this cluster cannot give yet; a promise that is not kept would be a lie."""
    promises = {
        "a system disk on a local disk": flavor_type.is_system_local_disk and not flavor.use_elasticity_local_sys_disk,
    }
    return [name for name, is_promised in promises.items() if is_promised]


def _settle_gpus(order: DeviceOrder, flavor: Flavor, flavor_type: FlavorType) -> int:
    """How many more than the flavor has: of a custom one all."""
    if order.gpu_type and order.gpu_type != flavor_type.gpu_type:
        told = flavor_type.gpu_type or "no GPU"
        raise ParameterInvalid("hostGpus.gpuType", f"the flavor has {told}", f"规格的GPU型号为{told}")
    is_split = bool(flavor.vgpu_type_id) or flavor_type.device_type.lower() == "vgpu"
    field, asked = ("vgpu", order.vgpus) if is_split else ("gpus", order.gpus)
    other, other_asked = ("gpus", order.gpus) if is_split else ("vgpu", order.vgpus)
    if other_asked:
        has = "vGPUs" if is_split else "whole GPUs, or none"
        raise ParameterInvalid(other, f"the flavor has {has}", "与规格的GPU类型不符")
    if not flavor.is_custom or not flavor_type.gpu_type:
        if asked not in (0, flavor.gpu):
            raise ParameterInvalid(field, f"the flavor has {flavor.gpu}, not {asked}", f"规格的GPU数量为{flavor.gpu}")
        return 0
    if is_split:
        raise ParameterInvalid("flavorId", "a custom flavor names no type of vGPU", "自定义规格未指定vGPU类型")
    if not asked:
        raise ParameterInvalid(field, "is required with a custom flavor that has GPUs", "使用GPU自定义规格时必填")
    return asked - flavor.gpu


def _settle_more(field: str, asked: int, present: int) -> int:
    if asked and asked < present:
        raise ParameterInvalid(field, f"the flavor has {present}, not {asked}", f"规格的数量为{present}")
    return max(asked - present, 0)
