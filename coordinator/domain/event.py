"""What happened, in words that outlive the rows it happened to, and which of it somebody wants to hear."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

# A kind, or the beginning of kinds: "instance.status_changed", "migration.*", "*".
KIND_PATTERN: Final = re.compile(r"\*|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*(\.\*)?")


class Severity(StrEnum):
    """How much attention an event asks for; an alarm wants somebody to act."""

    INFO = "info"
    WARNING = "warning"
    ALARM = "alarm"

    @property
    def and_above(self) -> tuple["Severity", ...]:
        """This one and those that are more urgent."""
        members = tuple(Severity)
        return members[members.index(self) :]


class EventFacts(Protocol):
    """What a filter looks at."""

    kind: str
    severity: str
    resource_id: str
    tenant_id: str | None


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events somebody wants to hear, and may."""

    # Patterns as in KIND_PATTERN; none: all kinds.
    kinds: tuple[str, ...] = ()
    resource_id: str = ""
    # Only those of this tenant; None: everybody's.
    tenant_id: str | None = None
    least: Severity = Severity.INFO

    def admits(self, event: EventFacts) -> bool:
        """Whether the event is one of those."""
        return (
            (self.tenant_id is None or event.tenant_id == self.tenant_id)
            and (not self.resource_id or event.resource_id == self.resource_id)
            and event.severity in self.least.and_above
            and (not self.kinds or any(_matches(event.kind, pattern) for pattern in self.kinds))
        )


def split_kinds(patterns: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Exact kinds and beginnings among the patterns; None when one of them stands for all kinds."""
    if not patterns or "*" in patterns:
        return None
    exact = tuple(pattern for pattern in patterns if not pattern.endswith("*"))
    return exact, tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))


def _matches(kind: str, pattern: str) -> bool:
    return kind.startswith(pattern[:-1]) if pattern.endswith("*") else kind == pattern
