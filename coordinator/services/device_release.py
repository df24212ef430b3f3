"""Devices that are not given back, because they are dead, away or forgotten: a person's word ends that."""

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.instance import InstanceStatus
from coordinator.errors import NodeDisconnected, ParameterInvalid, ResourceInUse, ResourceNotFound
from coordinator.runtime import Runtime
from coordinator.services.host import HostReference, find_hosts
from coordinator.store.queries.device_claim import find_holders, list_instances
from coordinator.store.queries.placement import advance_generations
from coordinator.store.queries.task import list_active_of
from coordinator.store.tables import Device, Node
from coordinator.tasks.kinds.release_device import RELEASE_DEVICE
from coordinator.tasks.submission import submit_task


def release_device(runtime: Runtime, caller: Caller, reference: HostReference, device_id: str) -> str:
    """Has the node give the device back by force; answers the operation, the one under way if there is one.

    A disk that cannot be wiped is withheld from then on. ResourceInUse while an instance has it and is not giving it
    back, ResourceNotFound, NodeDisconnected.
    """
    if not device_id:
        raise ParameterInvalid("deviceId", "is required", "必填")
    with runtime.database.write() as session:
        (node,) = find_hosts(session, runtime.settings, [reference])
        # Nobody claims anything there before the transaction ends.
        advance_generations(session, [node.id])
        session.refresh(node)
        args = {"nodeId": node.id, "deviceId": device_id}
        for task in list_active_of(session, RELEASE_DEVICE.name, node.id):
            if task.args["deviceId"] == device_id:
                return task.id
        is_claimed = _check(session, node, device_id)
        task = submit_task(
            session,
            runtime,
            RELEASE_DEVICE,
            args={**args, "isClaimed": is_claimed},
            tenant_id=None,
            resource_id=node.id,
            request_id=caller.request_id,
        )
    runtime.wake_tasks()
    return task.id


def _check(session: Session, node: Node, device_id: str) -> bool:
    """Whether somebody has a claim on it."""
    if session.get(Device, (node.id, device_id)) is None:
        raise ResourceNotFound("device", device_id)
    if not node.ready:
        raise NodeDisconnected(f"node {node.name} is away", f"节点{node.name}已失联")
    holders = find_holders(session, node.id, [device_id]).get(device_id, set())
    for instance in list_instances(session, holders):
        is_resting = instance.task_id is None and instance.status != InstanceStatus.TERMINATING
        if instance.deleted_at is None and instance.node_id == node.id and is_resting:
            raise ResourceInUse(
                f"instance {instance.ecs_id} has {device_id}: detach it, or delete the instance, first",
                f"实例{instance.ecs_id}正在使用{device_id}，请先卸载设备或删除实例",
            )
    return bool(holders)
