"""The mode in which the GPUs of a node work: given as a whole, or split into vGPUs of one type."""

import re
from collections.abc import Sequence
from typing import Final

from sqlmodel import Session, col

from coordinator.domain.caller import Caller
from coordinator.domain.device import DeviceKind
from coordinator.errors import NodeDisconnected, ParameterInvalid, ResourceInUse, StatusUnsupported
from coordinator.runtime import Runtime
from coordinator.services.host import HostReference, find_hosts
from coordinator.store.queries import device as device_query
from coordinator.store.queries.device_claim import add_claims
from coordinator.store.queries.placement import advance_generations
from coordinator.store.queries.task import find_active_of
from coordinator.store.tables import Device, Node, Task
from coordinator.tasks.kinds.set_gpu_mode import SET_GPU_MODE
from coordinator.tasks.submission import submit_task

_MODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_KINDS: Final = (DeviceKind.GPU, DeviceKind.GPU_VF)


def set_gpu_mode(runtime: Runtime, caller: Caller, reference: HostReference, mode: str) -> str:
    """Has the node's GPUs work in that mode, "passthrough" or a type of vGPU; answers the operation.

    ResourceInUse lists who has one. Asked again it answers the operation that is under way.
    """
    if not _MODE.fullmatch(mode):
        raise ParameterInvalid(
            "gpuMode",
            "passthrough, or a type of vGPU such as nvidia-223",
            "取值为passthrough或vGPU类型，例如nvidia-223",
        )
    with runtime.database.write() as session:
        (node,) = find_hosts(session, runtime.settings, [reference])
        # Nobody else claims anything there before the transaction ends.
        advance_generations(session, [node.id])
        session.refresh(node)
        if (operation := _find_running(session, node, mode)) is not None:
            return operation
        devices = _read_gpus(session, node)
        consumer_uuid = runtime.identifiers.new_uuid()
        add_claims(session, consumer_uuid, devices)
        task = submit_task(
            session,
            runtime,
            SET_GPU_MODE,
            args={"nodeId": node.id, "mode": mode, "consumerUuid": consumer_uuid},
            tenant_id=None,
            resource_id=node.id,
            request_id=caller.request_id,
        )
    runtime.wake_tasks()
    return task.id


def _find_running(session: Session, node: Node, mode: str) -> str | None:
    operation_id = find_active_of(session, SET_GPU_MODE.name, node.id)
    if operation_id is None:
        return None
    present = session.get_one(Task, operation_id).args["mode"]
    if present != mode:
        raise StatusUnsupported(
            f"node {node.name}: operation {operation_id} sets the mode {present} now",
            f"节点{node.name}：操作{operation_id}正在设置模式{present}",
        )
    return operation_id


def _read_gpus(session: Session, node: Node) -> Sequence[Device]:
    """All of the node's GPUs, which nobody has."""
    if not node.ready:
        raise NodeDisconnected(f"node {node.name} is away", f"节点{node.name}已失联")
    on_node = (col(Device.node_id) == node.id, col(Device.kind).in_(_KINDS))
    devices = [row.device for row in device_query.list_devices(session, *on_node)]
    if not any(device.kind == DeviceKind.GPU for device in devices):
        raise StatusUnsupported(f"node {node.name} has no GPU", f"节点{node.name}没有GPU")
    holders = device_query.read_holders(session, devices)
    if holders:
        told = "; ".join(
            f"{device_id}: {', '.join(holder.ecs_id or holder.consumer_uuid for holder in held)}"
            for (_, device_id), held in sorted(holders.items())
        )
        raise ResourceInUse(f"GPUs of node {node.name} are in use: {told}", f"节点{node.name}的GPU正在使用：{told}")
    return devices
