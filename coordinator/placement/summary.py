"""Why a placement failed, in one sentence."""

from dataclasses import dataclass
from typing import Final

from coordinator.domain.message import Message
from coordinator.domain.placement import Decision, Rejection, RejectionReason

_CHINESE: Final = {
    RejectionReason.OTHER_HOST: "不是指定的物理机",
    RejectionReason.PRESENT_HOST: "是当前所在的物理机",
    RejectionReason.OTHER_ZONE: "不在指定的可用区",
    RejectionReason.OTHER_STORAGE: "不共享实例所在的存储",
    RejectionReason.OTHER_POOL: "不在可用的资源池中",
    RejectionReason.OTHER_GROUP: "不在指定的主机组中",
    RejectionReason.GROUPED: "已划入主机组",
    RejectionReason.OTHER_ARCHITECTURE: "CPU架构不符",
    RejectionReason.OTHER_CPU_MODEL: "CPU型号不符",
    RejectionReason.TRAIT_MISSING: "缺少所需特性",
    RejectionReason.NO_RACK_LABEL: "没有机架标签",
    RejectionReason.NO_SWITCH_LABEL: "没有交换机标签",
    RejectionReason.NO_NET_SWITCH_LABEL: "没有网络交换机标签",
    RejectionReason.NOT_HOST_OF_SET: "不是部署集所在的物理机",
    RejectionReason.NOT_RACK_OF_SET: "不在部署集所在的机架",
    RejectionReason.NOT_SWITCH_OF_SET: "不在部署集所在的交换机下",
    RejectionReason.NOT_NET_SWITCH_OF_SET: "不在部署集所在的网络交换机下",
    RejectionReason.HOST_TAKEN_BY_SET: "已有部署集的实例",
    RejectionReason.RACK_TAKEN_BY_SET: "所在机架已有部署集的实例",
    RejectionReason.SWITCH_TAKEN_BY_SET: "所在交换机下已有部署集的实例",
    RejectionReason.NET_SWITCH_TAKEN_BY_SET: "所在网络交换机下已有部署集的实例",
    RejectionReason.AWAY: "失去连接",
    RejectionReason.CORDONED: "已停止调度",
    RejectionReason.TOO_FEW_VCPUS: "vCPU不足",
    RejectionReason.TOO_FEW_DEDICATED_CPUS: "可独占的CPU不足",
    RejectionReason.TOO_LITTLE_MEMORY: "内存不足",
    RejectionReason.TOO_LITTLE_STORAGE: "存储不足",
    RejectionReason.VOLUME_TYPE_MISSING: "没有可用的该云盘类型存储",
    RejectionReason.TOO_LITTLE_LOCAL_STORAGE: "本地存储不足",
    RejectionReason.NUMA_MISFIT: "没有合适的NUMA节点",
    RejectionReason.TOO_FEW_DEVICES: "空闲设备不足",
}

_COUNTED: Final = frozenset(
    {
        RejectionReason.TOO_FEW_VCPUS,
        RejectionReason.TOO_FEW_DEDICATED_CPUS,
        RejectionReason.TOO_LITTLE_MEMORY,
        RejectionReason.TOO_LITTLE_STORAGE,
        RejectionReason.TOO_LITTLE_LOCAL_STORAGE,
    }
)
# What is wanted is worth telling; what each host has instead would be a list.
_NAMED: Final = frozenset(
    {
        RejectionReason.TRAIT_MISSING,
        RejectionReason.VOLUME_TYPE_MISSING,
        RejectionReason.OTHER_CPU_MODEL,
        RejectionReason.OTHER_POOL,
        RejectionReason.NUMA_MISFIT,
        RejectionReason.TOO_FEW_DEVICES,
    }
)


@dataclass(frozen=True, slots=True)
class RejectionGroup:
    """Hosts that have the same reason against them."""

    filter: str
    reason: RejectionReason
    count: int
    # Empty where it differs from host to host.
    wanted: str
    # The most that one of them has; of counted resources only.
    available: str


def summarize(decision: Decision) -> Message:
    """For example "0/3 hosts: 2 too little memory (wanted 8 GiB, at most 3.2 GiB free), 1 other zone"."""
    if decision.host_count == 0:
        return Message("no host has joined yet", "还没有加入任何物理机")
    groups = group_rejections(decision)
    accepted = decision.host_count - sum(group.count for group in groups)
    head = f"{accepted}/{decision.host_count}"
    if not groups:
        return Message(f"{head} hosts fit", f"{head} 台物理机符合要求")
    en = ", ".join(f"{group.count} {group.reason}{_detail_en(group)}" for group in groups)
    zh = "，".join(f"{group.count} 台{_CHINESE[group.reason]}{_detail_zh(group)}" for group in groups)
    return Message(f"{head} hosts: {en}", f"{head} 台物理机符合要求：{zh}")


def group_rejections(decision: Decision) -> tuple[RejectionGroup, ...]:
    """The rejections by reason, the most frequent first."""
    return tuple(_group(counted.rejection, counted.count) for counted in decision.reasons)


def _group(nearest: Rejection, count: int) -> RejectionGroup:
    counted = nearest.reason in _COUNTED
    return RejectionGroup(
        filter=nearest.filter,
        reason=nearest.reason,
        count=count,
        wanted=nearest.wanted if counted or nearest.reason in _NAMED else "",
        available=nearest.available if counted else "",
    )


def _detail_en(group: RejectionGroup) -> str:
    if group.available:
        return f" (wanted {group.wanted}, at most {group.available} free)"
    return f" (wanted {group.wanted})" if group.wanted else ""


def _detail_zh(group: RejectionGroup) -> str:
    if group.available:
        return f"（需要 {group.wanted}，最多剩余 {group.available}）"
    return f"（需要 {group.wanted}）" if group.wanted else ""
