"""Instances that exist as the scheduler is asked about them: where they could be besides where they are."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.deployment import DeploymentRule, Place
from coordinator.domain.device import DeviceKind
from coordinator.domain.migration import MigrationType
from coordinator.domain.placement import PlacementRequest
from coordinator.domain.space import Placed, sum_space
from coordinator.domain.usb import make_wishes
from coordinator.domain.vgpu_migration import ask_alike, goes_along
from coordinator.errors import ResourceNotFound
from coordinator.placement.claim import find_candidates
from coordinator.runtime import Runtime
from coordinator.services.deployment_set import make_rule
from coordinator.services.device_tie import find_ties, require_movable
from coordinator.services.instance import check_batch
from coordinator.services.instance_device import extra_devices_of
from coordinator.services.instance_resource import InstanceSize, cpu_model_of, make_consumer
from coordinator.services.volume_space import keep_near
from coordinator.store.queries import instance as instance_query
from coordinator.store.queries.deployment_set import read_member_places, read_sets
from coordinator.store.queries.device_claim import DeviceClaim, list_claims_of
from coordinator.store.queries.instance_view import Surroundings, read_surroundings
from coordinator.store.queries.migration_setting import read_migration_settings
from coordinator.store.queries.node import read_cpu_models
from coordinator.store.queries.snapshot import find_instances_with_snapshots
from coordinator.store.queries.volume_attachment import find_sharing_instances, list_shared
from coordinator.store.tables import DeploymentSet, Instance
from coordinator.tasks.blueprint import traits_of

# Guests that see the processor as it is find no other one under them while they run.
_PASSTHROUGH: Final = "host-passthrough"


def list_schedulable_nodes(
    runtime: Runtime, caller: Caller, ecs_ids: Sequence[str], migration: MigrationType
) -> dict[str, list[str]]:
    """For each instance the names of nodes other than its own that could take it now; none while a device keeps it.

    ResourceNotFound names all instances that do not exist, StatusUnsupported the devices that keep a single one.
    """
    wanted = check_batch(ecs_ids)
    with runtime.database.read() as session:
        is_cpu_type_free = read_migration_settings(session).is_cpu_type_free
        found = {
            instance.ecs_id: instance
            for instance in instance_query.list_instances_by_id(session, wanted)
            if caller.may_see(instance.tenant_id)
        }
        if missing := [ecs_id for ecs_id in wanted if ecs_id not in found]:
            raise ResourceNotFound("instance", ", ".join(missing))
        instances = [found[ecs_id] for ecs_id in wanted]
        if len(instances) == 1:
            require_movable(session, instances[0], migration)
        ties = find_ties(session, instances, migration)
        requests = make_requests(session, instances, migration, is_cpu_type_free=is_cpu_type_free)
    candidates = find_candidates(runtime.hosts, requests)
    return {
        instance.ecs_id: [] if instance.ecs_id in ties else sorted(host.name for host in hosts)
        for instance, hosts in zip(instances, candidates, strict=True)
    }


def make_requests(
    session: Session,
    instances: Sequence[Instance],
    migration: MigrationType = MigrationType.COLD,
    *,
    is_cpu_type_free: bool = False,
) -> list[PlacementRequest]:
    """What each of the instances needs of another node than its own: each by itself, apart from what it holds."""
    surroundings = read_surroundings(session, instances)
    cpu_models = read_cpu_models(session, {instance.node_id for instance in instances if instance.node_id})
    set_ids = {instance.deployment_set for instance in instances} - {""}
    sets, members = read_sets(session, set_ids), read_member_places(session, set_ids)
    is_live = migration is MigrationType.LIVE
    staying = _find_staying(session, instances, surroundings, is_live=is_live)
    claims = list_claims_of(session, [instance.uuid for instance in instances]) if is_live else {}
    requests = []
    for instance in instances:
        request = _like_devices(_make_request(instance, surroundings), claims.get(instance.uuid, ()))
        if kept := staying.get(instance.id or 0):
            request = keep_near(session, request, instance.node_id or "", kept) or request
        keeps_processor = is_live and instance.vcpu_type == _PASSTHROUGH
        if keeps_processor and not is_cpu_type_free and instance.node_id:
            request = replace(request, cpu_model=cpu_models[instance.node_id])
        request = replace(request, away_from=instance.node_id or "")
        rule = _rule_without(instance, sets.get(instance.deployment_set), members.get(instance.deployment_set, []))
        requests.append(replace(request, deployment=rule))
    return requests


def _find_staying(
    session: Session, instances: Sequence[Instance], surroundings: Surroundings, *, is_live: bool
) -> dict[int, list[Placed]]:
    """Volumes that instances do not leave: what they share with others, and while they run those with snapshots."""
    ids = [instance.id for instance in instances if instance.node_id]
    sharing = find_sharing_instances(session, ids)
    staying: dict[int, list[Placed]] = {
        number: [volume for _, volume in list_shared(session, number)] for number in sharing
    }
    for number in find_instances_with_snapshots(session, ids) if is_live else ():
        own: list[Placed] = [volume for volume in surroundings.volumes.get(number, ()) if not volume.multi_attach]
        staying[number] = [*staying.get(number, ()), *own]
    return staying


def _make_request(instance: Instance, surroundings: Surroundings) -> PlacementRequest:
    assert instance.id is not None  # noqa: S101 - it was read from the database
    flavor, flavor_type = surroundings.flavors[instance.flavor_id], surroundings.flavor_types[instance.flavor_type_id]
    size = InstanceSize(
        vcpus=instance.vcpus,
        memory_bytes=instance.memory_bytes,
        # What it shares with others stays where it is.
        space=sum_space(it for it in surroundings.volumes.get(instance.id, ()) if not it.multi_attach),
        huge_page_bytes=instance.huge_page_bytes,
    )
    own_pools = {instance.rp_id} if instance.rp_id else set()
    return PlacementRequest(
        consumers=(make_consumer(instance.uuid, size, flavor, flavor_type, extra_devices_of(instance)),),
        architecture=instance.architecture,
        zone=instance.zone,
        cpu_model=cpu_model_of(flavor_type),
        traits=traits_of(instance.architecture, instance.security_type),
        pool_ids=frozenset(flavor_type.rp_ids or own_pools),
        group_id=instance.hg_id,
    )


def _like_devices(request: PlacementRequest, claims: Collection[DeviceClaim]) -> PlacementRequest:
    """A guest that runs on elsewhere needs devices like those that it has: USB devices are no part of its order, and
    the vGPUs that it takes along are of GPUs and drivers like theirs."""
    (consumer,) = request.consumers
    usb = make_wishes(claim.attributes for claim in claims if claim.kind == DeviceKind.USB)
    vgpus = (claim.attributes for claim in claims if goes_along(claim.kind, claim.attributes))
    devices = (*ask_alike(consumer.devices, vgpus), *usb)
    return replace(request, consumers=(replace(consumer, devices=devices),))


def _rule_without(
    instance: Instance, row: DeploymentSet | None, members: Sequence[tuple[str, Place]]
) -> DeploymentRule | None:
    """What the set's other members want of it."""
    if row is None:
        return None
    return make_rule(row, (place for uuid, place in members if uuid != instance.uuid))
