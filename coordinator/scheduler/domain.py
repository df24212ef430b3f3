"""Domains: hosts with the same labels, of which consumers that must stay together can have one."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from coordinator.domain.deployment import DeploymentRule, Policy, Scope
from coordinator.domain.placement import Consumer, ResourceClass
from coordinator.scheduler.column import BoolColumn, FloatColumn, IntColumn
from coordinator.scheduler.snapshot import Snapshot

# More domains than this are not tried for one batch.
_MAX_DOMAINS: Final = 64


def find_domains(
    hosts: Snapshot, rule: DeploymentRule, rows: IntColumn, merits: FloatColumn, consumers: Sequence[Consumer]
) -> Iterator[BoolColumn]:
    """The hosts of each domain that the first of the consumers would bind the others to, that with the best one first.

    `rows` are the hosts that admit it, and with that all of them: consumers of one order are alike. Without domains
    that are too small for all the consumers together; a limited number of them.
    """
    domains = _number_domains(hosts, rule.open_scopes())
    room = _count_room(hosts, rule, rows, domains[rows], consumers)
    best_first = domains[rows[np.lexsort((hosts.rank[rows], -merits))]]
    found = list(dict.fromkeys(best_first[room[best_first] >= len(consumers)].tolist()))
    return (domains == domain for domain in found[:_MAX_DOMAINS])


def _number_domains(hosts: Snapshot, scopes: Sequence[Scope]) -> IntColumn:
    """A number for each host: the same for the same labels of all the scopes."""
    numbers = np.zeros(len(hosts), np.int64)
    for scope in scopes:
        codes = hosts.codes(scope)
        numbers = numbers * (codes.max() + 1) + codes
    return np.unique(numbers, return_inverse=True)[1]


def _count_room(
    hosts: Snapshot, rule: DeploymentRule, rows: IntColumn, domains: IntColumn, consumers: Sequence[Consumer]
) -> FloatColumn:
    """How many of the consumers each domain could take at most: where they must be apart, one a host or a switch."""
    room = [np.bincount(domains, _count_slots(hosts, consumers)[rows])]
    for scope, policy in rule.hard_policies():
        if policy is Policy.ANTI_AFFINITY:
            pairs = np.unique(np.stack((domains, hosts.codes(scope)[rows])), axis=1)
            room.append(np.bincount(pairs[0]))
    least: FloatColumn = np.min(room, axis=0)
    return least


def _count_slots(hosts: Snapshot, consumers: Sequence[Consumer]) -> IntColumn:
    """How many of the consumers each host could take at most, by what is counted."""
    slots = np.full(len(hosts), len(consumers), np.int64)
    for resource_class in ResourceClass:
        least = min(consumer.resources.get(resource_class, 0) for consumer in consumers)
        if least > 0 and not (resource_class is ResourceClass.STORAGE_GIB and hosts.storage.is_used):
            slots = np.minimum(slots, np.maximum(hosts.free(resource_class), 0) // least)
    return slots
