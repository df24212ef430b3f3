"""Why a placement failed, in one sentence."""

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from coordinator.domain.message import Message
from coordinator.domain.placement import Decision, Rejection, RejectionReason

_CHINESE: Final = {
    RejectionReason.OTHER_HOST: "不是指定的物理机",
    RejectionReason.OTHER_ZONE: "不在指定的可用区",
    RejectionReason.OTHER_ARCHITECTURE: "CPU架构不符",
    RejectionReason.OTHER_CPU_MODEL: "CPU型号不符",
    RejectionReason.TRAIT_MISSING: "缺少所需特性",
    RejectionReason.AWAY: "失去连接",
    RejectionReason.CORDONED: "已停止调度",
    RejectionReason.TOO_FEW_VCPUS: "vCPU不足",
    RejectionReason.TOO_LITTLE_MEMORY: "内存不足",
    RejectionReason.TOO_LITTLE_STORAGE: "存储不足",
}

_COUNTED: Final = frozenset(
    {RejectionReason.TOO_FEW_VCPUS, RejectionReason.TOO_LITTLE_MEMORY, RejectionReason.TOO_LITTLE_STORAGE}
)
# What is wanted is worth telling; what each host has instead would be a list.
_NAMED: Final = frozenset({RejectionReason.TRAIT_MISSING, RejectionReason.OTHER_CPU_MODEL})


def summarize(decision: Decision) -> Message:
    """For example "0/3 hosts: 2 too little memory (wanted 8 GiB, at most 3.2 GiB free), 1 other zone"."""
    if decision.host_count == 0:
        return Message("no host has joined yet", "还没有加入任何物理机")
    groups = _group([verdict.rejection for verdict in decision.verdicts if verdict.rejection])
    accepted = len(decision.verdicts) - sum(len(group) for group in groups)
    head = f"{accepted}/{decision.host_count}"
    if not groups:
        return Message(f"{head} hosts fit", f"{head} 台物理机符合要求")
    en = ", ".join(f"{len(group)} {group[0].reason}{_detail_en(group)}" for group in groups)
    zh = "，".join(f"{len(group)} 台{_CHINESE[group[0].reason]}{_detail_zh(group)}" for group in groups)
    return Message(f"{head} hosts: {en}", f"{head} 台物理机符合要求：{zh}")


def _group(rejections: list[Rejection]) -> list[list[Rejection]]:
    """The rejections by reason, the most frequent reason first."""
    ordered = sorted(rejections, key=lambda rejection: rejection.reason)
    groups = [list(group) for _reason, group in groupby(ordered, key=lambda rejection: rejection.reason)]
    return sorted(groups, key=lambda group: (-len(group), group[0].reason))


def _detail_en(group: Sequence[Rejection]) -> str:
    best = max(group, key=lambda rejection: rejection.available_amount)
    if best.reason in _COUNTED:
        return f" (wanted {best.wanted}, at most {best.available} free)"
    return f" (wanted {best.wanted})" if best.reason in _NAMED else ""


def _detail_zh(group: Sequence[Rejection]) -> str:
    best = max(group, key=lambda rejection: rejection.available_amount)
    if best.reason in _COUNTED:
        return f"（需要 {best.wanted}，最多剩余 {best.available}）"
    return f"（需要 {best.wanted}）" if best.reason in _NAMED else ""
