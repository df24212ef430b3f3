"""Deployment sets: instances that shall run together or apart, on the scale of hosts, racks or switches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Scope(StrEnum):
    """On what scale; the values are the attributes of a Place."""

    HOST = "node_id"
    RACK = "rack"
    SWITCH = "switch"
    NET_SWITCH = "net_switch"


class Policy(StrEnum):
    """What members of a set want of each other; soft ones are wishes, the others conditions."""

    NONE = ""
    AFFINITY = "affinity"
    SOFT_AFFINITY = "soft-affinity"
    ANTI_AFFINITY = "anti-affinity"
    SOFT_ANTI_AFFINITY = "soft-anti-affinity"

    @property
    def is_hard(self) -> bool:
        """Whether hosts that do not fulfil it are out."""
        return self in (Policy.AFFINITY, Policy.ANTI_AFFINITY)

    @property
    def is_soft(self) -> bool:
        """Whether hosts that do not fulfil it are only worse."""
        return self in (Policy.SOFT_AFFINITY, Policy.SOFT_ANTI_AFFINITY)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a host stands; a label that nobody gave is empty and says nothing."""

    node_id: str
    rack: str = ""
    switch: str = ""
    net_switch: str = ""

    def domain(self, scope: Scope) -> str:
        """What it has in common with all others of that rack, or of that switch."""
        domain: str = getattr(self, scope.value)
        return domain


@dataclass(frozen=True, slots=True)
class DeploymentRule:
    """The policies of a set and the places of the members that it has."""

    policies: Mapping[Scope, Policy] = field(default_factory=dict)
    members: tuple[Place, ...] = ()

    def with_member(self, place: Place) -> "DeploymentRule":
        """As it is once another member is there."""
        return replace(self, members=(*self.members, place))

    def count_members(self, scope: Scope) -> dict[str, int]:
        """How many members each domain has. Those on hosts without the label are in none."""
        counts: dict[str, int] = {}
        for member in self.members:
            if domain := member.domain(scope):
                counts[domain] = counts.get(domain, 0) + 1
        return counts

    def hard_policies(self) -> Iterator[tuple[Scope, Policy]]:
        """Conditions, the narrowest scope first."""
        return ((scope, policy) for scope in Scope if (policy := self.policies.get(scope, Policy.NONE)).is_hard)

    def soft_policies(self) -> Iterator[tuple[Scope, Policy]]:
        """Wishes, the narrowest scope first."""
        return ((scope, policy) for scope in Scope if (policy := self.policies.get(scope, Policy.NONE)).is_soft)

    def open_scopes(self) -> tuple[Scope, ...]:
        """Scopes whose domain the next member determines for all that come after it."""
        return tuple(
            scope
            for scope, policy in self.hard_policies()
            if policy is Policy.AFFINITY and not self.count_members(scope)
        )
