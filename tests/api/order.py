"""Bodies of creating calls: valid ones, to which tests add what they care about."""

from itertools import count
from typing import Any

from tests.api.client import Api

FLAVOR_TYPES = "/api/ecs/v1/flavortypes"
FLAVORS = "/api/ecs/v1/flavors"

_numbers = count(1)


def a_flavor_type_order(**fields: Any) -> dict[str, Any]:
    """A plain x86 family with a name of its own."""
    prices = {"billingMode": "OnDemand", "cpuPrice": 1, "ramPrice": 0.5, "gpuPrice": 3, "gpuMemoryPrice": 2}
    return {
        "name": f"general {next(_numbers)}",
        "archType": "x86",
        "cpuModel": "Icelake",
        "deviceType": "normal",
        "isSystemLocalDisk": False,
        "flavorPrices": [{**prices, "elasticityLocalDiskPrice": 0.1}],
        **fields,
    }


def a_flavor_order(flavor_type: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A small size with a name of its own."""
    return {
        "flavorTypeId": flavor_type["flavorTypeId"],
        "name": f"size {next(_numbers)}",
        "cpu": 2,
        "ram": 4,
        **fields,
    }


def make_flavor_type(api: Api, **fields: Any) -> dict[str, Any]:
    """A stored flavor type."""
    made: dict[str, Any] = api.ok("POST", FLAVOR_TYPES, a_flavor_type_order(**fields))
    return made


def make_flavor(api: Api, flavor_type: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A stored flavor."""
    made: dict[str, Any] = api.ok("POST", FLAVORS, a_flavor_order(flavor_type, **fields))
    return made
