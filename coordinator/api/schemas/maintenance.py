"""Maintenance of nodes on the wire."""

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel
from coordinator.api.schemas.migration import MigrationOptionsRequest
from coordinator.services.host import HostReference
from coordinator.services.maintenance import Eviction, Maintenance, MaintenanceOrder


class MaintenanceRequest(MigrationOptionsRequest):
    """Which node goes into maintenance, or comes out of it."""

    node_name: str = Field(min_length=1, max_length=255, examples=["node-1"])
    maintenance: bool = Field(description="false opens the node again, and cancels what is still moving.")
    force: bool = Field(default=False, description="Move those that can although others cannot.")
    dry_run: bool = Field(default=False, description="Tell what would become of each instance, and change nothing.")

    @property
    def reference(self) -> HostReference:
        """The node."""
        return HostReference("", self.node_name)

    def to_order(self) -> MaintenanceOrder:
        """The order to begin."""
        return MaintenanceOrder(self.reference, self.force, self.dry_run, self.to_options())


class EvictionBody(AnswerModel):
    """One instance of the node."""

    ecs_id: str
    display_name: str
    status: str
    fate: str = Field(description="moves, stays or blocks.")
    target_node: str
    operation_id: str
    reason: str = Field(description="Why it does not move.")

    @classmethod
    def of(cls, eviction: Eviction, language: str) -> "EvictionBody":
        names = ("ecs_id", "display_name", "status", "fate", "target_node", "operation_id")
        return cls(**{name: getattr(eviction, name) for name in names}, reason=eviction.reason.text(language))


class MaintenanceBody(AnswerModel):
    """What becomes of the instances of a node."""

    node_name: str
    operation_id: str = Field(description="Watches over the moves; empty when nothing moves.")
    instances: list[EvictionBody]

    @classmethod
    def of(cls, maintenance: Maintenance, language: str) -> "MaintenanceBody":
        return cls(
            node_name=maintenance.node_name,
            operation_id=maintenance.operation_id,
            instances=[EvictionBody.of(it, language) for it in maintenance.evictions],
        )
