"""A cloud of one node for tests of instances: a catalogue, an image, a tenant's order, and waiting for operations."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func
from sqlmodel import select

from coordinator.runtime import Runtime
from coordinator.store.tables import Allocation, Department, Flavor, FlavorType, Image, Node, Port, Tenant, Volume
from tests.api.client import Api
from tests.builders import (
    a_department,
    a_flavor,
    a_flavor_type,
    a_node,
    a_stored_image_name,
    add,
    an_image,
    an_inventory,
)

INSTANCES = "/api/ecs/v1/instances"
