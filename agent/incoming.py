"""A guest that comes from another node: what it needs is made before, and nothing is left when it does not come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from agent.definition import Definitions
from agent.errors import DomainForeign, DomainNotFound, DomainStateConflict, MigrationCompleted
from agent.hypervisor import migration
from agent.hypervisor.connection import Connection
from agent.hypervisor.guest import Guests
from agent.network.role import MANAGE, NetworkRoles
from protos.agent.v1.domain_pb2 import DomainSpec


@dataclass(frozen=True)
class IncomingOrder:
    """What shall come, and over which network."""

    spec: DomainSpec
    machine: str
    # Empty: not compared.
    cpu_xml: str
    network_role: str


@dataclass(frozen=True)
class IncomingGuest:
    """What the source has to know of the target."""

    definition_xml: str
    node_id: str
    control_address: str
    data_address: str


class IncomingGuests:
    """Guests on their way to this node."""

    def __init__(
        self,
        connection: Connection,
        guests: Guests,
        definitions: Definitions,
        roles: NetworkRoles,
        read_node_id: Callable[[], str],
    ) -> None:
        self._connection = connection
        self._guests = guests
        self._definitions = definitions
        self._roles = roles
        self._read_node_id = read_node_id

    async def prepare(self, order: IncomingOrder) -> IncomingGuest:
        """The guest can come. Raises GuestIncompatible, CapabilityMissing, NetworkRoleMissing, DomainStateConflict."""
        control_address = self._roles.address(MANAGE)
        data_address = self._roles.address(order.network_role or MANAGE)
        known = await self._guests.find(order.spec.uuid)
        if known is not None:
            kind = DomainForeign if known.foreign else DomainStateConflict
            raise kind(f"domain {known.name} ({known.uuid}) is on this node already, {known.power_state.value}")
        if order.cpu_xml:
            await migration.check_cpu(self._connection, order.cpu_xml, await self._definitions.read_profile())
        definition_xml = await self._definitions.prepare_incoming(order.spec, order.machine)
        return IncomingGuest(definition_xml, self._read_node_id(), control_address, data_address)

    async def ensure_removed(self, uuid: str) -> None:
        """Nothing is left of a guest that has not come. Raises MigrationCompleted when it has, DomainForeign."""
        try:
            is_here = await migration.discard_incoming(self._connection, uuid)
        except DomainNotFound:
            is_here = False
        if is_here:
            raise MigrationCompleted(f"domain {uuid} is on this node, and no migration is under way")
        await self._definitions.remove_files(uuid)
