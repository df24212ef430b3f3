"""All fences of the region in their order: the first that confirms is enough."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from coordinator.domain.clock import Clock
from coordinator.domain.fence import BmcKind, FenceKind
from coordinator.domain.message import Message
from coordinator.domain.silence import SilenceClock
from coordinator.fencing.bmc import BmcFence
from coordinator.fencing.model import Fence, FenceResult, FenceSubject
from coordinator.fencing.self_fence import SelfFence

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FenceOutcome:
    """What came of fencing a node: confirmed by the last of the results, or by none."""

    confirmed: bool
    # Of the fences that were tried, in their order; none before the node was silent for long enough.
    results: tuple[FenceResult, ...]
    # For people: the reason that counts, or all that speak against it.
    reason: Message


class Fences:
    """Makes sure that a node runs no highly available guest, or says why nobody can. Lives as long as the process."""

    def __init__(self, fences: Sequence[Fence], silence: SilenceClock) -> None:
        self._fences = tuple(fences)
        self._silence = silence

    def confirm(self, node: FenceSubject) -> FenceOutcome:
        """Blocks for up to a minute and a half a fence; never raises; may be repeated.

        A node that was heard of within its tolerance is left alone: it may come back.
        """
        silent_seconds = self._silence.measure_seconds(node.heard_at) if node.heard_at else float("inf")
        if silent_seconds <= node.tolerance_seconds:
            return FenceOutcome(
                False,
                (),
                Message(
                    f"silent for {silent_seconds:.0f} s of the {node.tolerance_seconds} s that are tolerated",
                    f"已静默{silent_seconds:.0f}秒，容忍时间为{node.tolerance_seconds}秒",
                ),
            )
        results: list[FenceResult] = []
        for fence in self._fences:
            results.append(fence.confirm(node))
            if results[-1].confirmed:
                log.warning("node.fenced", nodeId=node.node_id, name=node.name, by=fence.kind)
                return FenceOutcome(True, tuple(results), results[-1].reason)
        outcome = FenceOutcome(False, tuple(results), _explain(results))
        log.error("node.not_fenced", nodeId=node.node_id, name=node.name, reason=outcome.reason.en)
        return outcome


def make_fences(kinds: Sequence[FenceKind], now: Clock, silence: SilenceClock) -> Fences:
    """The fences that are configured."""
    return Fences([_make_fence(kind, now, silence) for kind in kinds], silence)


def _make_fence(kind: FenceKind, now: Clock, silence: SilenceClock) -> Fence:
    if kind is FenceKind.SELF:
        return SelfFence(now, silence)
    return BmcFence(BmcKind(kind), now)


def _explain(results: Sequence[FenceResult]) -> Message:
    if not results:
        return Message("no fence is configured", "未配置任何隔离方式")
    return Message(
        "; ".join(f"{result.kind}: {result.reason.en}" for result in results),
        "；".join(f"{result.kind}：{result.reason.zh}" for result in results),
    )
