"""Why instances are, or would be, where they are."""

from dataclasses import dataclass, replace
from datetime import datetime

from coordinator.domain.caller import Caller
from coordinator.domain.cell import CellShare
from coordinator.domain.device import DeviceShare
from coordinator.domain.difference import Difference
from coordinator.domain.instance import InstanceStatus
from coordinator.domain.instance_order import InstanceOrder
from coordinator.domain.message import Message
from coordinator.domain.placement import Decision
from coordinator.placement.claim import explain
from coordinator.placement.summary import RejectionGroup, group_rejections, summarize
from coordinator.runtime import Runtime
from coordinator.services.deployment_set import read_rule
from coordinator.services.instance import find_own
from coordinator.services.instance_creation import placement_request
from coordinator.services.instance_reference import find_references
from coordinator.services.instance_validation import check_order
from coordinator.store.queries.difference import find_differences
from coordinator.store.queries.placement import read_held
from coordinator.store.tables.placement import PlacementRecord


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a creation would decide at this moment; verdicts on single hosts are for operators."""

    decision: Decision
    summary: Message
    groups: tuple[RejectionGroup, ...]
    shows_hosts: bool


@dataclass(frozen=True, slots=True)
class PlacementStory:
    """Why an instance is where it is; None where nothing was decided or nothing is known any more."""

    ecs_id: str
    placed: bool
    # Why it is nowhere.
    reason: str
    node_id: str
    node_name: str
    decided_at: datetime | None
    host_count: int | None
    rejected: dict[str, int]
    scores: dict[str, float]
    # What it has by name now.
    cells: tuple[CellShare, ...]
    devices: tuple[DeviceShare, ...]


def explain_order(runtime: Runtime, caller: Caller, order: InstanceOrder) -> Explanation:
    """What creating these instances would decide now, and why; checked like the creation, changes nothing."""
    check_order(order, runtime.settings)
    with runtime.database.read() as session:
        references = find_references(session, runtime, caller, order)
        uuids = [runtime.identifiers.new_uuid() for _ in range(order.count)]
        rule = read_rule(session, order.deployment_set, order.tenant_id, locks=False)
        request = placement_request(order, references, rule, uuids)
        # Tenants see no hosts: nobody shall wait until each is judged.
        decision = explain(session, runtime.hosts, request, judges=not caller.is_tenant)
    return Explanation(decision, summarize(decision), group_rejections(decision), not caller.is_tenant)


def list_differences(runtime: Runtime, caller: Caller) -> list[Difference]:
    """Where allocations, instances and nodes' reports do not agree; shown, never mended by itself.

    Instances with which a task is busy are left out, and domains of nodes that are away cannot be missed.
    """
    with runtime.database.read() as session:
        return find_differences(session)


def tell_placement(runtime: Runtime, caller: Caller, ecs_id: str) -> PlacementStory:
    """Why the instance is where it is. Names of nodes, and of what they have, are for operators."""
    with runtime.database.read() as session:
        instance = find_own(session, caller, ecs_id)
        record = session.get(PlacementRecord, instance.id)
        held = read_held(session, [instance.uuid]).get(instance.uuid)
    placed = instance.node_id is not None
    unschedulable = instance.status == InstanceStatus.ERROR_UNSCHEDULABLE
    story = PlacementStory(
        ecs_id=ecs_id,
        placed=placed,
        reason=instance.error_message if unschedulable else "",
        node_id=record.node_id if record and placed else "",
        node_name=record.node_name if record and placed else "",
        decided_at=record.decided_at if record else None,
        host_count=record.host_count if record else None,
        rejected=record.rejected if record else {},
        scores=record.scores if record else {},
        cells=tuple(held.cells) if held else (),
        devices=tuple(held.devices) if held else (),
    )
    return replace(story, node_id="", node_name="", cells=(), devices=()) if caller.is_tenant else story
