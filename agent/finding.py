"""What the doctor has found, whoever looked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    verdict: Verdict
    detail: str
    # What to do; empty when there is nothing to do.
    remedy: str = ""
