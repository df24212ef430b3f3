"""Resource pools: hosts set apart for flavor types that are bound to them."""

from datetime import datetime

from sqlmodel import JSON, Field

from coordinator.store.column import UtcDateTime
from coordinator.store.tables.base import Timestamped


class ResourcePool(Timestamped, table=True):
    """Hosts of one zone, with an overcommitment of their own."""

    __tablename__ = "resource_pool"

    id: str = Field(primary_key=True, max_length=32)
    name: str = Field(unique=True, max_length=127)
    zone: str = Field(max_length=63)
    cpu_allocation_ratio: int
    # Weights of the scheduler's weighers that count for its hosts instead of the configured ones.
    weights: dict[str, float] = Field(default_factory=dict, sa_type=JSON)


class PoolHost(Timestamped, table=True):
    """That a host belongs to a pool: a row a host, so that it cannot belong to two."""

    __tablename__ = "pool_host"

    node_id: str = Field(primary_key=True, foreign_key="node.id", max_length=32)
    rp_id: str = Field(foreign_key="resource_pool.id", index=True, max_length=32)
    # Later than `created_at` when the host came from another pool.
    joined_at: datetime = Field(sa_type=UtcDateTime)
