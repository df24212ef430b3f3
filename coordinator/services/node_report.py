"""What agents tell about themselves: registration, signs of life, inventory and events; and what silence means."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog
from sqlmodel import Session

from coordinator.agents.device_report import make_devices
from coordinator.domain.lease import HaTerms, Heard, Heartbeat, NodeSession
from coordinator.errors import CredentialsInvalid, NodeIdentityTaken, NodeSessionUnknown, ParameterInvalid
from coordinator.runtime import Runtime
from coordinator.services.domain_report import apply_loss, apply_self_fence, reconcile_domains, record_domain
from coordinator.services.ha_config import read_told_tolerance
from coordinator.services.host_fact import apply_facts, make_inventory
from coordinator.services.interruption import NodeEnds, Reboot, note_boot, record_fenced, record_interruptions
from coordinator.services.overcommit import cpu_ratio_of_node
from coordinator.services.storage_report import apply_places, is_news
from coordinator.store.queries import node as queries
from coordinator.store.queries.device import replace_devices
from coordinator.store.queries.node import SignOfLife
from coordinator.store.queries.placement import advance_generations
from coordinator.store.tables import Node
from protos.agent.v1 import domain_pb2, host_pb2
from protos.coordinator.v1 import node_pb2

_ADDRESS_MAXIMUM: Final = 255
_SESSION_MAXIMUM: Final = 64
_STORAGE_ID_MAXIMUM: Final = 36

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Registration:
    """Everything that a (re)started agent knows."""

    session_id: str
    address: str
    # Empty: the coordinator's default zone.
    zone: str
    facts: host_pb2.HostFacts
    inventory: host_pb2.HostInventory
    domains: Sequence[domain_pb2.Domain]
    self_fence: node_pb2.SelfFence
    # What the node's watchdog has ended.
    fenced_domains: Sequence[node_pb2.FencedDomain] = ()
    # UUIDs of guests that the agent saw end, and not start since.
    ended_domains: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RegistrationAnswer:
    """What the agent has to know."""

    # UUIDs of Nodewright's own domains that nobody placed there.
    unexpected: list[str]
    # UUIDs of fenced domains that may be started there again.
    released: list[str]
    tolerance_seconds: int


@dataclass(frozen=True, slots=True)
class SequencedEvent:
    """An event, and its place among those of one session."""

    sequence: int
    domain: domain_pb2.Domain


def register_node(runtime: Runtime, node_id: str, report: Registration) -> RegistrationAnswer:
    """The node is ready, and what it says replaces what was known about it."""
    _check_registration(runtime, report)
    now = runtime.now()
    with runtime.database.write() as session:
        node = _lock(session, node_id)
        _refuse_twin(node, report, now)
        if node.session_id != report.session_id:
            node.session_id, node.last_event_sequence = report.session_id, 0
        node.address = report.address
        node.zone = report.zone or runtime.settings.default_zone
        tolerance_seconds = read_told_tolerance(session, runtime.settings)
        node.ready, node.lease_expires_at = True, now + runtime.settings.node_lease
        reboot = note_boot(session, node, _ends_of(node, report))
        node.heard_at, node.self_fence = now, is_fencing(report.self_fence)
        node.ha_tolerance_seconds = max(report.self_fence.tolerance_seconds, tolerance_seconds)
        session.add(node)
        # Its capacity depends on its zone.
        session.flush()
        _apply_host(session, runtime, node, report.facts, report.inventory)
        # Whether or not it offers what it did: it is ready again.
        advance_generations(session, [node.id])
        apply_places(session, node, report.inventory.storage_places)
        unexpected, released = _apply_domains(session, runtime, node, report, reboot)
    runtime.leases.open(NodeSession(node_id, report.session_id), HaTerms(0, tolerance_seconds))
    # The agent may have another address now.
    runtime.agents.node_registered(node_id)
    log.info("node.registered", nodeId=node_id, name=node.name, unexpectedDomains=unexpected)
    if report.fenced_domains:
        log.warning("node.fenced_itself", nodeId=node_id, uuids=[domain.uuid for domain in report.fenced_domains])
    return RegistrationAnswer(unexpected, released, tolerance_seconds)


def is_fencing(said: node_pb2.SelfFence) -> bool:
    """Whether a node would end its guests: its watchdog runs, and it goes by a tolerance already."""
    return said.armed and said.tolerance_seconds > 0


def renew_lease(runtime: Runtime, node: NodeSession, heartbeat: Heartbeat) -> HaTerms | None:
    """A sign of life; answers what the node renews its own lease by.

    NodeSessionUnknown when the agent must register first; CredentialsInvalid when the node is gone. Costs no
    transaction: the sweep stores the signs of life of all nodes together.
    """
    heard = runtime.leases.renew(node, heartbeat)
    if heard is None:
        with runtime.database.read() as session:
            _check_session(session.get(Node, node.node_id), node)
        runtime.leases.open(node)
        heard = runtime.leases.renew(node, heartbeat)
    return heard.told if heard else None


def record_inventory(
    runtime: Runtime, node: NodeSession, facts: host_pb2.HostFacts, inventory: host_pb2.HostInventory
) -> None:
    """Facts or inventory changed. What is stored already costs no write transaction: free space, for one, is not."""
    with runtime.database.read() as session:
        row = _check_session(session.get(Node, node.node_id), node)
        has_space_news = is_news(session, row, inventory.storage_places)
        if not _apply_host(session, runtime, row, facts, inventory) and not has_space_news:
            return
    with runtime.database.write() as session:
        row = _check_session(queries.lock_node(session, node.node_id), node)
        if _apply_host(session, runtime, row, facts, inventory):
            advance_generations(session, [row.id])
        # Nodes are locked before pools, everywhere.
        if apply_places(session, row, inventory.storage_places):
            advance_generations(session, [row.id])


def record_events(runtime: Runtime, node: NodeSession, events: Sequence[SequencedEvent]) -> int:
    """Takes over the changes that are not known yet, in their order; answers the highest number that is stored now."""
    with runtime.database.write() as session:
        row = _check_session(queries.lock_node_without_facts(session, node.node_id), node)
        fresh = [event for event in events if event.sequence > row.last_event_sequence]
        for event in sorted(fresh, key=lambda event: event.sequence):
            record_domain(session, row, event.domain, runtime.now())
            row.last_event_sequence = event.sequence
        session.add(row)
        return row.last_event_sequence


def refresh_leases(runtime: Runtime) -> None:
    """The coordinator was away itself: no node shall count as lost for that."""
    with runtime.database.write() as session:
        queries.extend_all_leases(session, runtime.now() + runtime.settings.node_lease)


class LeaseSweep:
    """The repeated look at leases. After a time in which this process stood still, silence was not the nodes' fault."""

    def __init__(self, runtime: Runtime, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        self._monotonic = monotonic
        self._last = self._moments()

    def __call__(self) -> list[str]:
        """Gives up nodes whose lease is over; answers those."""
        moments = self._moments()
        passed, passed_on_the_wall = (after - since for after, since in zip(moments, self._last, strict=True))
        patience_seconds = self._runtime.settings.node_lease.total_seconds() / 2
        # Either nothing ran here for long, or the clock that leases are written with was turned.
        if passed > patience_seconds or abs(passed_on_the_wall - passed) > patience_seconds:
            log.warning("leases.extended", pausedSeconds=passed, clockTurnedSeconds=passed_on_the_wall - passed)
            refresh_leases(self._runtime)
        lost = expire_leases(self._runtime)
        # Looks that failed, for the database was away, are times in which nothing was heard.
        self._last = moments
        return lost

    def _moments(self) -> tuple[float, float]:
        return self._monotonic(), self._runtime.now().timestamp()


def expire_leases(runtime: Runtime) -> list[str]:
    """Stores the signs of life since the last call, and gives up nodes whose lease is over; answers those."""
    _store_heard(runtime)
    with runtime.database.read() as session:
        lapsed = queries.find_lapsed(session, runtime.now())
    return [node_id for node_id in lapsed if _give_up(runtime, node_id)]


def _store_heard(runtime: Runtime) -> None:
    heard = runtime.leases.take_heard()
    if not heard:
        return
    with runtime.database.write() as session:
        tolerance_seconds = read_told_tolerance(session, runtime.settings)
        signs = [_sign_of(runtime, node, last, tolerance_seconds) for node, last in heard.items()]
        stored = queries.extend_leases(session, signs)
    for node in heard.keys() - stored:
        # It registered with another coordinator, was given up or deleted: its next heartbeat asks the database.
        runtime.leases.close(node)
    for node in stored:
        runtime.leases.set_terms(node, HaTerms(heard[node].heartbeat.sequence, tolerance_seconds))


def _sign_of(runtime: Runtime, node: NodeSession, heard: Heard, tolerance_seconds: int) -> SignOfLife:
    """A node may go by what it had, by what it was told meanwhile and is being told, or by what it will be told."""
    told = runtime.leases.find_terms(node)
    longest = max(heard.longest_seconds, told.tolerance_seconds if told else 0, tolerance_seconds)
    return SignOfLife(node, heard.heartbeat, heard.heartbeat.at + runtime.settings.node_lease, longest)


def _give_up(runtime: Runtime, node_id: str) -> bool:
    now = runtime.now()
    with runtime.database.write() as session:
        node = queries.lock_node(session, node_id)
        # Another look: it may have registered meanwhile.
        if node is None or not node.ready or node.lease_expires_at is None or node.lease_expires_at >= now:
            return False
        node.ready = False
        session.add(node)
        session.flush()
        advance_generations(session, [node_id])
        for instance in queries.lock_resident_instances(session, node_id).values():
            apply_loss(instance, node)
            session.add(instance)
    runtime.leases.close(NodeSession(node_id, node.session_id))
    log.warning("node.lost", nodeId=node_id, name=node.name)
    return True


def _lock(session: Session, node_id: str) -> Node:
    return _require(queries.lock_node(session, node_id), node_id)


def _apply_domains(
    session: Session, runtime: Runtime, node: Node, report: Registration, reboot: Reboot | None
) -> tuple[list[str], list[str]]:
    """Takes over what is told of domains; answers the unexpected and the released ones."""
    now = runtime.now()
    unexpected = reconcile_domains(session, node, report.domains, now)
    released = apply_self_fence(session, node, report.fenced_domains)
    if reboot is not None:
        record_interruptions(session, runtime, node, reboot, now)
    record_fenced(session, node, released, now)
    return unexpected, released


def _ends_of(node: Node, report: Registration) -> NodeEnds:
    return NodeEnds(report.facts.boot_id, report.domains, frozenset(report.ended_domains), node.heard_at)


def _require(node: Node | None, node_id: str) -> Node:
    """A certificate outlives its node: whose node was deleted is refused."""
    if node is None:
        raise CredentialsInvalid(f"node {node_id} does not exist", f"节点{node_id}不存在")
    return node


def _check_session(row: Node | None, node: NodeSession) -> Node:
    known = _require(row, node.node_id)
    if not known.ready or known.session_id != node.session_id:
        raise NodeSessionUnknown(node.node_id)
    return known


def _refuse_twin(node: Node, report: Registration, now: datetime) -> None:
    """Two machines with one identity (a cloned disk, a restored backup) would take each other's guests for lost."""
    is_alive = node.ready and node.lease_expires_at is not None and now <= node.lease_expires_at
    if is_alive and node.session_id != report.session_id and node.address != report.address:
        log.warning("node.twin_refused", nodeId=node.id, name=node.name, address=node.address, twin=report.address)
        raise NodeIdentityTaken(node.id, node.address, report.address)


def _check_registration(runtime: Runtime, report: Registration) -> None:
    if not 1 <= len(report.session_id) <= _SESSION_MAXIMUM:
        raise ParameterInvalid("sessionId", f"1 to {_SESSION_MAXIMUM} characters", f"长度为1到{_SESSION_MAXIMUM}")
    if not 1 <= len(report.address) <= _ADDRESS_MAXIMUM or ":" not in report.address:
        raise ParameterInvalid("advertiseAddress", "must be host:port", "格式为host:port")
    if report.zone and report.zone not in runtime.settings.zones:
        known = ", ".join(runtime.settings.zones)
        raise ParameterInvalid("zone", f"{report.zone!r} is none of {known}", f"{report.zone!r}不在{known}中")


def _apply_host(
    session: Session, runtime: Runtime, node: Node, facts: host_pb2.HostFacts, inventory: host_pb2.HostInventory
) -> bool:
    """Whether anything differs from what is stored: then the caller gives the node, whose row it has locked, a new
    generation. Claims in progress are made against the old capacity, and look again.
    """
    known = queries.find_inventories(session, node.id)
    cpu_ratio = cpu_ratio_of_node(session, runtime.settings, node.id)
    # What was flushed already could not be told from what was there before.
    with session.no_autoflush:
        apply_facts(node, facts)
        # An agent that has begun while its share was away cannot tell: who shares it has not changed by that.
        node.storage_id = inventory.storage_id[:_STORAGE_ID_MAXIMUM] or node.storage_id
        for row in make_inventory(node, inventory, runtime.settings, cpu_ratio):
            if row.resource_class in known:
                session.merge(row)
            else:
                session.add(row)
        replace_devices(session, node.id, make_devices(node.id, inventory.devices))
    return bool(session.new or session.deleted) or any(session.is_modified(row) for row in session.dirty)
