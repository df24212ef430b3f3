"""Other systems for instances: a system disk from another image, everything else stays."""

import base64
import re
from dataclasses import replace
from typing import Any, Final

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller, Role
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.placement import Consumer, PlacementRequest, ResourceClass
from coordinator.domain.resize import ResizeOrder
from coordinator.domain.space import sum_space
from coordinator.domain.system_change import SystemOrder
from coordinator.domain.unit import GIB
from coordinator.domain.volume import VolumeStatus
from coordinator.errors import ParameterInvalid, StatusUnsupported, SystemChangeImpossible, TargetUnsuitable
from coordinator.placement.claim import claim
from coordinator.placement.summary import summarize
from coordinator.runtime import Runtime
from coordinator.services.domain_report import VMTOOLS_NOT_INSTALLED
from coordinator.services.elastic_disk import refuse_elastic
from coordinator.services.instance import find_own
from coordinator.services.instance_reference import find_image
from coordinator.services.instance_task import begin_task, changed_meanwhile, require_unlocked
from coordinator.services.instance_validation import check_password
from coordinator.services.password import hash_password
from coordinator.services.quota import Wish, check_quota
from coordinator.services.resize_order import as_instance_order
from coordinator.services.volume_key import make_key
from coordinator.services.volume_space import settle_space
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries.placement import read_held
from coordinator.store.queries.snapshot import list_of_volumes
from coordinator.store.tables import Image, Instance, Tenant, Volume
from coordinator.tasks.kinds.change_os import CHANGE_OS

_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,31}")
_STORAGE: Final = ResourceClass.STORAGE_GIB

log = structlog.get_logger(__name__)


def change_system(runtime: Runtime, caller: Caller, ecs_id: str, order: SystemOrder) -> str:
    """Gives the instance, which runs or is shut off, a system disk made from an image; answers the operation.

    It runs afterwards. Data disks, addresses, host name and keys stay, and so does the password unless one is given.
    The old disk is back when the new system does not boot.
    """
    _check_access(order)
    password_hash = hash_password(order.password)
    with runtime.database.write() as session:
        instance = find_own(session, caller, ecs_id)
        require_unlocked(instance)
        CHANGE_OS.check(session, {"ecsId": ecs_id})
        image = _find_image(session, runtime, caller, instance, order)
        old = _find_system_disk(session, instance)
        refuse_elastic([old], instance, "is made once: the system on it stays", "不支持变更系统")
        _require_no_snapshots(session, old)
        new = _make_volume(runtime, old, image)
        more_gib = new.size_gib - old.size_gib
        check_quota(session, session.get_one(Tenant, instance.tenant_id), Wish(storage_gib=more_gib))
        reserve_uuid = _reserve(session, runtime, instance, new)
        session.refresh(instance, with_for_update=True)
        require_unlocked(instance)
        CHANGE_OS.check(session, {"ecsId": ecs_id})
        _require_same_disk(session, instance, old)
        held = read_held(session, [instance.uuid])[instance.uuid].amounts
        args: dict[str, Any] = {
            "imageId": image.id,
            "osType": image.os_type,
            "oldUuid": old.uuid,
            "newUuid": new.uuid,
            "reserveUuid": reserve_uuid,
            "amounts": {**held, _STORAGE: held.get(_STORAGE, 0) + more_gib},
            "runs": instance.status == InstanceStatus.RUNNING,
            "user": order.user,
            "passwordHash": password_hash or instance.password_hash,
            "password": runtime.secrets.encrypt(base64.b64encode(order.password.encode()).decode()),
            "expectsGuestAgent": _expects_guest_agent(instance, order),
        }
        session.add(new)
        instance.generation += 1
        operation = begin_task(session, runtime, caller, CHANGE_OS, instance, args=args)
    runtime.wake_tasks()
    log.info("system.change_accepted", ecsId=ecs_id, imageId=image.id, operationId=operation)
    return operation


def _check_access(order: SystemOrder) -> None:
    if order.user and not _USER.fullmatch(order.user):
        raise ParameterInvalid("user", "not the name of an account", "不是有效的用户名")
    if order.user and not order.password:
        raise ParameterInvalid("password", "is required with user", "指定user时必填")
    if order.password:
        check_password(order.password)


def _expects_guest_agent(instance: Instance, order: SystemOrder) -> bool:
    if order.expects_guest_agent is not None:
        return order.expects_guest_agent
    # It was seen before, be it off now.
    return instance.vmtools_status != VMTOOLS_NOT_INSTALLED


def _find_image(session: Session, runtime: Runtime, caller: Caller, instance: Instance, order: SystemOrder) -> Image:
    """What counts is what the tenant may use, also when an operator asks for it."""
    user = replace(caller, role=Role.TENANT, tenant_id=instance.tenant_id)
    wanted = as_instance_order(runtime, instance, ResizeOrder(instance.vcpus, "", instance.flavor_id))
    wanted = replace(wanted, image_id=order.image_id or instance.image_id or "")
    if not wanted.image_id:
        raise ParameterInvalid("imageId", "is required: the instance has no image of its own", "必填")
    return find_image(session, user, wanted, "imageId")


def _find_system_disk(session: Session, instance: Instance) -> Volume:
    volume = next((it for it in instance_query.list_volumes(session, instance) if it.is_os_disk), None)
    if volume is None:
        raise SystemChangeImpossible("the instance has no system disk", "实例没有系统盘")
    return volume


def _require_same_disk(session: Session, instance: Instance, old: Volume) -> None:
    """What was looked at before the instance was locked may have changed until then."""
    size_gib, node_id = old.size_gib, old.node_id
    session.refresh(old)
    if (old.size_gib, old.node_id, old.instance_id) != (size_gib, node_id, instance.id):
        raise changed_meanwhile(instance)
    _require_no_snapshots(session, old)


def _require_no_snapshots(session: Session, old: Volume) -> None:
    """Their data is in the volume's own file, which goes."""
    if found := list_of_volumes(session, [old.id]):
        names = ", ".join(snapshot.snapshot_id for snapshot in found)
        raise SystemChangeImpossible(
            f"the system disk is part of snapshots: delete {names} first", f"系统盘存在快照{names}，请先删除"
        )


def _make_volume(runtime: Runtime, old: Volume, image: Image) -> Volume:
    """Like the old one, and large enough; nobody's until the new system has booted."""
    return Volume(
        uuid=runtime.identifiers.new_uuid(),
        name=old.name,
        tenant_id=old.tenant_id,
        size_gib=max(old.size_gib, -(-image.virtual_size_bytes // GIB)),
        volume_type=old.volume_type,
        encryption_key=make_key(runtime, old.volume_type, always=old.is_encrypted),
        status=VolumeStatus.CREATING,
        image_id=image.id,
        disk_bus=old.disk_bus,
        volume_mode=old.volume_mode,
        boot_index=old.boot_index,
        delete_on_termination=old.delete_on_termination,
    )


def _reserve(session: Session, runtime: Runtime, instance: Instance, new: Volume) -> str:
    """Room for both disks on the instance's node, which is held under the UUID that this answers."""
    if instance.node_id is None:
        raise StatusUnsupported(f"instance {instance.ecs_id} is on no node", f"实例{instance.ecs_id}不在任何节点上")
    reserve_uuid = runtime.identifiers.new_uuid()
    request = PlacementRequest(
        consumers=(Consumer(reserve_uuid, {_STORAGE: new.size_gib}, space=sum_space([new])),),
        node_id=instance.node_id,
        group_id=instance.hg_id,
    )
    decision = claim(session, runtime.hosts, request)
    if not decision.placed:
        reason = summarize(decision)
        raise TargetUnsuitable(
            f"its node must have room for the old and the new disk: {reason.en}",
            f"所在节点需同时容纳新旧系统盘：{reason.zh}",
        )
    settle_space(session, reserve_uuid, decision.assignments[0].host.pools, [new])
    return reserve_uuid
