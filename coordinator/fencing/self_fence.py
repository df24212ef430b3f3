"""The node's own watchdog: nothing is to be done but to wait until its time is over."""

from coordinator.domain.clock import Clock
from coordinator.domain.fence import FenceKind
from coordinator.domain.message import Message
from coordinator.domain.silence import SilenceClock
from coordinator.fencing.model import FenceResult, FenceSubject


class SelfFence:
    """Confirmed when the watchdog ran at the last heartbeat, and the node was silent for longer than it may be.

    The node counts from the sending of that heartbeat or of an earlier one, and less a margin: `agent.watchdog.lease`
    proves that it is done by then. A watchdog that died after that heartbeat is not noticed; systemd starts it anew.
    """

    kind = FenceKind.SELF

    def __init__(self, now: Clock, silence: SilenceClock) -> None:
        self._now = now
        self._silence = silence

    def confirm(self, node: FenceSubject) -> FenceResult:
        """Answers at once."""
        if node.heard_at is None:
            return self._answer(False, "the node was never heard of", "从未收到该节点的心跳")
        if not node.self_fence:
            return self._answer(
                False,
                "with its last heartbeat the node did not say that its watchdog runs",
                "该节点最后一次心跳未报告看门狗正在运行",
            )
        silent_seconds = self._silence.measure_seconds(node.heard_at)
        if silent_seconds <= node.tolerance_seconds:
            return self._answer(
                False,
                f"the watchdog acts within {node.tolerance_seconds} s of silence, and it is {silent_seconds:.0f} s",
                f"节点静默{node.tolerance_seconds}秒后由看门狗隔离，目前为{silent_seconds:.0f}秒",
            )
        return self._answer(
            True,
            f"silent for {silent_seconds:.0f} s, so its watchdog has ended its highly available guests",
            f"节点已静默{silent_seconds:.0f}秒，看门狗已终止其高可用实例",
        )

    def _answer(self, confirmed: bool, en: str, zh: str) -> FenceResult:
        return FenceResult(self.kind, confirmed, Message(en, zh), self._now())
