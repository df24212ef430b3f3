"""Differences between what is allocated and what is there."""

from dataclasses import dataclass
from enum import StrEnum


class DifferenceKind(StrEnum):
    """What does not agree."""

    ALLOCATION_WITHOUT_INSTANCE = "allocation-without-instance"
    ALLOCATION_ELSEWHERE = "allocation-elsewhere"
    INSTANCE_WITHOUT_ALLOCATION = "instance-without-allocation"
    DOMAIN_WITHOUT_ALLOCATION = "domain-without-allocation"
    INSTANCE_WITHOUT_DOMAIN = "instance-without-domain"
    DOMAIN_OF_OTHER_SIZE = "domain-of-other-size"
    DEVICE_WITHOUT_INSTANCE = "device-without-instance"
    DEVICE_ELSEWHERE = "device-elsewhere"
    NODE_NOT_CLEAN = "node-not-clean"


@dataclass(frozen=True, slots=True)
class Difference:
    """One of them: where, and about whom."""

    kind: DifferenceKind
    node_id: str
    node_name: str
    consumer_uuid: str
    # Id of the instance or the device, or name of the domain; empty where there is none.
    name: str
