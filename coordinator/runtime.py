"""What use cases and tasks need from the process: built once in main, replaced piece by piece in tests."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.config import Settings
from coordinator.domain.clock import Clock, utc_now
from coordinator.domain.identifier import Identifiers
from coordinator.secret import SecretBox
from coordinator.store.database import Database

if TYPE_CHECKING:
    from coordinator.agents.client import AgentClients


def _nobody_to_wake() -> None:
    """Without a task engine in this process there is nobody to wake."""


@dataclass(slots=True)
class Runtime:
    """The process's collaborators."""

    settings: Settings
    database: Database
    secrets: SecretBox
    agents: "AgentClients"
    identifiers: Identifiers = field(default_factory=Identifiers)
    now: Clock = utc_now
    # Tells the task engine that a task was committed; callable from any thread.
    wake_tasks: Callable[[], None] = _nobody_to_wake
