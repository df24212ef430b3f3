"""Orders of instances: placed, written down and handed to the task engine, all in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.deployment import DeploymentRule
from coordinator.domain.growth import ROOM, make_room
from coordinator.domain.identifier import Prefix
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.instance_order import InstanceOrder, VolumeOrder
from coordinator.domain.iso import IsoState
from coordinator.domain.placement import Decision, HostView, PlacementRequest
from coordinator.domain.space import sum_space
from coordinator.domain.ssh_key import BindingState
from coordinator.errors import BatchUnschedulable
from coordinator.placement.claim import claim
from coordinator.placement.summary import summarize
from coordinator.runtime import Runtime
from coordinator.services.deployment_set import read_rule
from coordinator.services.instance import make_labels
from coordinator.services.instance_device import EXTRA_DEVICES
from coordinator.services.instance_reference import References, find_references
from coordinator.services.instance_resource import InstanceSize, cpu_model_of, floats_over_node, make_consumer
from coordinator.services.instance_task import begin_task
from coordinator.services.instance_validation import check_order, huge_page_bytes_of
from coordinator.services.instance_view import InstanceView, load_views
from coordinator.services.network import PortRequest, allocate_port
from coordinator.services.password import hash_password, new_vnc_password
from coordinator.services.quota import Wish, check_quota
from coordinator.services.ssh_key_binding import new_binding
from coordinator.services.volume_key import make_key, require_plain
from coordinator.services.volume_space import keep_near, settle_space
from coordinator.store.tables import Image, Instance, IsoAttachment, PlacementRecord, Volume
from coordinator.tasks.blueprint import traits_of
from coordinator.tasks.kinds.clone_instance import CLONE_INSTANCE
from coordinator.tasks.kinds.create_instance import CREATE_INSTANCE
from coordinator.tasks.model import TaskKind


@dataclass(frozen=True, slots=True)
class Created:
    """The new instances, and the operations that make them real; none when they found no host."""

    views: list[InstanceView]
    operation_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CloneOrigin:
    """What a clone's volumes are copied from."""

    ecs_id: str
    # In the order of the order's volumes.
    volumes: tuple[Volume, ...]
    # The node that has them.
    node_id: str

    def keep_near(self, session: Session, request: PlacementRequest) -> PlacementRequest:
        """The request, for hosts that can reach the volumes."""
        return keep_near(session, request, self.node_id, self.volumes) or replace(request, node_id=self.node_id)


@dataclass(frozen=True, slots=True)
class Secrets:
    """What is derived from the order's secrets, once for all its instances."""

    password_hash: str
    vnc_password_encrypted: str


def create_instances(runtime: Runtime, caller: Caller, order: InstanceOrder) -> Created:
    """Creates `order.count` instances. A single one that finds no host is kept as ErrorUnschedulable.

    BatchUnschedulable when not all of several find one: then there is none.
    """
    check_order(order, runtime.settings)
    if not caller.is_operator:
        order = within_quotas(order)
    secrets = make_secrets(runtime, order)
    with runtime.database.write() as session:
        references = find_references(session, runtime, caller, order)
        created = add_instances(session, runtime, caller, order, references, secrets)
    runtime.wake_tasks()
    return created


def make_secrets(runtime: Runtime, order: InstanceOrder) -> Secrets:
    """Before the transaction: hashing takes a few milliseconds, which no other writer shall wait for."""
    return Secrets(hash_password(order.password), runtime.secrets.encrypt(order.vnc_password or new_vnc_password()))


def add_instances(
    session: Session,
    runtime: Runtime,
    caller: Caller,
    order: InstanceOrder,
    references: References,
    secrets: Secrets,
    origin: CloneOrigin | None = None,
) -> Created:
    """The same in the caller's transaction, of an order that was checked; the caller wakes the engine.

    With `origin` a single one, which has to find a host where the volumes are that its own are copied from.
    """
    check_order_quota(session, order, references)
    order = replace(order, volumes=references.volumes)
    instances = [_new_instance(runtime, order, references, secrets, number) for number in range(order.count)]
    rule = read_rule(session, order.deployment_set, order.tenant_id, locks=True)
    request = placement_request(order, references, rule, [instance.uuid for instance in instances])
    request = origin.keep_near(session, request) if origin else request
    decision = claim(session, runtime.hosts, request)
    _settle_placement(instances, request, decision, keeps_unplaced=origin is None)
    session.add_all(instances)
    session.flush()
    session.add_all(label for instance in instances for label in make_labels(instance, order.labels))
    _bind_key(session, runtime, references, instances)
    _record_placement(session, runtime, instances, decision)
    hosts = [assignment.host for assignment in decision.assignments]
    operations = _realize(session, runtime, caller, order, references, instances, hosts, origin) if hosts else []
    views = load_views(session, runtime, [instance.id for instance in instances if instance.id is not None])
    return Created(views, tuple(operations))


def _bind_key(session: Session, runtime: Runtime, references: References, instances: list[Instance]) -> None:
    if references.ssh_key is not None:
        # The seed brings the key: nobody has to be told.
        session.add_all(new_binding(runtime, references.ssh_key, it, BindingState.BOUND) for it in instances)
        session.flush()


def _new_instance(
    runtime: Runtime, order: InstanceOrder, references: References, secrets: Secrets, number: int
) -> Instance:
    suffix = f"-{number + 1}" if order.count > 1 else ""
    display_name = order.display_name + suffix
    flavor_type, group = references.flavor_type, references.owner.resource_group
    return Instance(
        ecs_id=runtime.identifiers.new(Prefix.INSTANCE),
        uuid=runtime.identifiers.new_uuid(),
        tenant_id=order.tenant_id,
        department_id=references.owner.department.id,
        resource_group_id=group.id if group else "",
        display_name=display_name,
        host_name=order.host_name + suffix if order.host_name else display_name,
        description=order.description,
        zone=order.zone,
        architecture=order.architecture,
        os_type=order.os_type or references.image.os_type,
        flavor_id=references.flavor.flavor_id,
        flavor_type_id=flavor_type.flavor_type_id,
        vcpus=order.cpu_count,
        memory_bytes=references.memory_bytes,
        huge_page_bytes=huge_page_bytes_of(order),
        vcpu_type=flavor_type.vcpu_type,
        security_type=flavor_type.security_type or "none",
        image_id=references.image.id,
        image_source=order.image_source or references.image.visibility,
        status=InstanceStatus.PROVISIONING,
        task_at=runtime.now(),
        password_hash=secrets.password_hash,
        ssh_public_keys=list(order.ssh_public_keys),
        user_data=order.user_data,
        vnc_password_encrypted=secrets.vnc_password_encrypted,
        vnc_password_enabled=bool(order.vnc_password),
        billing_mode=order.billing_mode,
        ha_enabled=order.ha_enabled,
        rp_id=order.pool_id,
        hg_id=order.host_group_id,
        deployment_set=order.deployment_set,
        options=_options(runtime, order, references),
    )


def _options(runtime: Runtime, order: InstanceOrder, references: References) -> dict[str, Any]:
    extra, factor = references.extra_devices.to_json(), runtime.settings.hot_plug_factor
    floats = floats_over_node(references.flavor_type, huge_page_bytes_of(order))
    room = make_room(order.cpu_count, references.memory_bytes, factor, architecture=order.architecture, floats=floats)
    return {**order.options, ROOM: room.to_json(), **({EXTRA_DEVICES: extra} if extra else {})}


def placement_request(
    order: InstanceOrder, references: References, rule: DeploymentRule | None, uuids: Sequence[str]
) -> PlacementRequest:
    """What the scheduler is asked for consumers with these UUIDs, `rule` being that of their deployment set."""
    size = InstanceSize(
        vcpus=order.cpu_count,
        memory_bytes=references.memory_bytes,
        space=sum_space(references.volumes),
        huge_page_bytes=huge_page_bytes_of(order),
    )
    request = PlacementRequest(
        consumers=tuple(
            make_consumer(uuid, size, references.flavor, references.flavor_type, references.extra_devices)
            for uuid in uuids
        ),
        architecture=order.architecture,
        zone=order.zone,
        node_id=order.node_id,
        cpu_model=cpu_model_of(references.flavor_type),
        traits=traits_of(order.architecture, references.flavor_type.security_type),
        pool_ids=references.pool_ids,
        group_id=order.host_group_id,
        deployment=rule,
    )
    return references.origin.place(request) if references.origin else request


def _settle_placement(
    instances: list[Instance], request: PlacementRequest, decision: Decision, *, keeps_unplaced: bool
) -> None:
    if decision.placed:
        for instance, assignment in zip(instances, decision.assignments, strict=True):
            instance.node_id = assignment.host.node_id
            # Who may run anywhere is no instance of the pool that its host happens to be in.
            instance.rp_id = assignment.host.pool_id if request.pool_ids else ""
        return
    reason = summarize(decision)
    if len(instances) > 1 or not keeps_unplaced:
        raise BatchUnschedulable(reason.en, reason.zh)
    [instance] = instances
    instance.status = InstanceStatus.ERROR_UNSCHEDULABLE
    instance.error_message = reason.en


def _record_placement(session: Session, runtime: Runtime, instances: list[Instance], decision: Decision) -> None:
    """Why each instance is where it is, for those who ask later."""
    session.add_all(
        PlacementRecord(
            instance_id=instance.id,
            node_id=assignment.host.node_id,
            node_name=assignment.host.name,
            decided_at=runtime.now(),
            host_count=decision.host_count,
            rejected=dict(decision.rejected),
            scores=dict(decision.scores.get(instance.uuid, {})),
        )
        for instance, assignment in zip(instances, decision.assignments, strict=False)
        if instance.id is not None
    )


def _realize(
    session: Session,
    runtime: Runtime,
    caller: Caller,
    order: InstanceOrder,
    references: References,
    instances: list[Instance],
    hosts: Sequence[HostView],
    origin: CloneOrigin | None,
) -> list[str]:
    """Volumes, ports and a task for each placed instance; answers the operation ids."""
    operations = []
    for instance, host in zip(instances, hosts, strict=True):
        volumes = _new_volumes(runtime, order, instance, references.disk_image_id)
        settle_space(session, instance.uuid, host.pools, volumes)
        kind, args = _settle_task(volumes, references, origin)
        session.add_all(volumes)
        if references.is_installation:
            session.add(_new_disc(instance, references.image))
        _add_ports(session, runtime, order, references, instance)
        operations.append(begin_task(session, runtime, caller, kind, instance, args=args))
    session.flush()
    return operations


def _settle_task(
    volumes: list[Volume], references: References, clone: CloneOrigin | None
) -> tuple[TaskKind, dict[str, Any]]:
    """The task that makes the instance with these volumes, and what it must know."""
    copied = volumes if clone else volumes[: bool(references.origin)]
    require_plain(copied, "copies are made of volumes in the clear alone", "仅支持复制未加密的云盘")
    if clone is None:
        origins = {volumes[0].uuid: references.origin.to_args()} if references.origin else {}
        return CREATE_INSTANCE, {"origins": origins} if origins else {}
    copies = {}
    for volume, original in zip(volumes, clone.volumes, strict=True):
        # It stands on the same image.
        volume.image_id = original.image_id
        copies[volume.uuid] = original.uuid
    return CLONE_INSTANCE, {"sourceEcsId": clone.ecs_id, "sourceNodeId": clone.node_id, "copies": copies}


def _new_disc(instance: Instance, image: Image) -> IsoAttachment:
    """What the instance starts from until somebody says otherwise, as its disk has nothing to start from."""
    assert instance.id is not None  # noqa: S101 - flushed before
    return IsoAttachment(instance_id=instance.id, number=0, image_id=image.id, state=IsoState.ATTACHING, is_boot=True)


def _new_volumes(runtime: Runtime, order: InstanceOrder, instance: Instance, disk_image_id: str | None) -> list[Volume]:
    counts = {True: 0, False: 0}
    volumes = []
    # The system disk first: rows are numbered in this order.
    for volume in sorted(order.volumes, key=lambda volume: not volume.is_os_disk):
        counts[volume.is_os_disk] += 1
        role = "os" if volume.is_os_disk else "data"
        volumes.append(
            Volume(
                uuid=runtime.identifiers.new_uuid(),
                name=f"{instance.ecs_id}-{role}-{counts[volume.is_os_disk]}",
                tenant_id=instance.tenant_id,
                size_gib=volume.size_gib,
                volume_type=volume.volume_type,
                encryption_key=make_key(runtime, volume.volume_type),
                status="creating",
                instance_id=instance.id,
                image_id=disk_image_id if volume.is_os_disk else None,
                is_os_disk=volume.is_os_disk,
                disk_bus=volume.disk_bus,
                volume_mode=volume.volume_mode,
                boot_index=_boot_index(volume, order),
                delete_on_termination=volume.delete_on_termination,
            )
        )
    return volumes


def _boot_index(volume: VolumeOrder, order: InstanceOrder) -> int:
    """As asked for; when nobody asks, the system disk boots."""
    if any(other.boot_index for other in order.volumes):
        return volume.boot_index
    return 1 if volume.is_os_disk else 0


def _add_ports(
    session: Session, runtime: Runtime, order: InstanceOrder, references: References, instance: Instance
) -> None:
    assert instance.id is not None  # noqa: S101 - flushed before
    wanted = sorted(zip(order.networks, references.networks, strict=True), key=lambda pair: pair[0].sort_key)
    for position, (network, (subnet, group)) in enumerate(wanted):
        request = PortRequest(
            name=f"{instance.ecs_id}{position}",
            position=position,
            ipv4_address=network.fixed_ip,
            mac_address=network.mac_address,
            port_type=network.port_type,
            network_type=network.network_type,
        )
        allocate_port(session, runtime, subnet, group, instance_id=instance.id, request=request)


def within_quotas(order: InstanceOrder) -> InstanceOrder:
    """Only an operator may order beyond a tenant's quotas: what others say about it is neither done nor answered."""
    options = {name: value for name, value in order.options.items() if name != "bUpdateQuotas"}
    return replace(order, checks_quota=True, options=options)


def check_order_quota(session: Session, order: InstanceOrder, references: References) -> None:
    """QuotaExceeded if the order's tenant may not have that much more."""
    if not order.checks_quota:
        return
    wish = Wish(
        instances=order.count,
        vcpus=order.count * order.cpu_count,
        memory_bytes=order.count * references.memory_bytes,
        gpus=order.count * (references.flavor.gpu + references.extra_devices.gpus),
        volumes=order.count * len(references.volumes),
        storage_gib=order.count * sum(volume.size_gib for volume in references.volumes),
    )
    check_quota(session, references.owner.tenant, wish)
