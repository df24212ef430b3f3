"""A size in the words of an order of instances, whose checks then count for both."""

from dataclasses import replace

from coordinator.domain.instance_order import InstanceOrder
from coordinator.domain.resize import ResizeOrder
from coordinator.domain.unit import KIB
from coordinator.runtime import Runtime
from coordinator.services.instance_device import extra_devices_of
from coordinator.store.tables import Instance


def as_instance_order(runtime: Runtime, instance: Instance, order: ResizeOrder) -> InstanceOrder:
    """The instance as if it was ordered with that size; huge pages stay unless something is said about them."""
    present_page = f"{instance.huge_page_bytes // KIB}Ki" if instance.huge_page_bytes else ""
    return InstanceOrder(
        tenant_id=instance.tenant_id,
        department_id=instance.department_id,
        region=runtime.settings.region,
        zone=instance.zone,
        display_name=instance.display_name,
        cpu_count=order.cpu_count,
        memory_amount=order.memory_amount,
        architecture=instance.architecture,
        volumes=(),
        networks=(),
        security_group_ids=(),
        flavor_id=order.flavor_id,
        pool_id=order.pool_id,
        huge_page=present_page if order.huge_page is None else order.huge_page,
        devices=replace(
            order.devices,
            local_disks=order.local_disks or 0,
            functions=order.functions or 0,
            infiniband=extra_devices_of(instance).infiniband if order.infiniband is None else order.infiniband,
        ),
    )
