"""Explanations of placements on the wire."""

from dataclasses import asdict
from typing import Final, Literal

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.api.schemas.instance_request import Texts
from coordinator.domain.difference import Difference, DifferenceKind
from coordinator.domain.message import Message
from coordinator.domain.migration import MigrationType
from coordinator.domain.placement import Verdict
from coordinator.placement.summary import RejectionGroup
from coordinator.services.placement import Explanation, PlacementStory

# What people order; recoveries are the coordinator's own.
OrderedMigration = Literal[MigrationType.COLD, MigrationType.LIVE]


class SchedulableNodesRequest(LenientModel):
    """Instances that are to move."""

    ecs_ids: Texts = Field(description="Ids of 1 to 1000 instances.", examples=[["ecs-k8d2n5s7a1f4g6"]])
    migration: OrderedMigration = Field(
        default=MigrationType.COLD,
        validation_alias="type",
        description="live: while they run, which some can only on the same processor.",
    )


class HostVerdictBody(AnswerModel):
    """The word on one host."""

    node_id: str
    node_name: str
    accepted: bool
    filter: str = Field(description="The filter that rejected it; empty for an accepted one.", examples=["capacity"])
    reason: str = Field(description="What that filter has against it.", examples=["too little memory"])
    wanted: str = Field(examples=["8 GiB"])
    available: str = Field(examples=["3.2 GiB"])
    score: float = Field(description="Sum of what the weighers give; the highest is chosen.", examples=[1.2])
    scores: dict[str, float] = Field(description="By weigher.", examples=[{"room": 0.95, "balance": 0.25}])

    @classmethod
    def of(cls, verdict: Verdict) -> "HostVerdictBody":
        rejection = verdict.rejection
        return cls(
            node_id=verdict.node_id,
            node_name=verdict.node_name,
            accepted=rejection is None,
            filter=rejection.filter if rejection else "",
            reason=rejection.reason if rejection else "",
            wanted=rejection.wanted if rejection else "",
            available=rejection.available if rejection else "",
            score=round(sum(verdict.scores.values()), 4),
            scores=dict(verdict.scores),
        )


class RejectionCountBody(AnswerModel):
    """How many hosts have one reason against them."""

    filter: str = Field(examples=["capacity"])
    reason: str = Field(examples=["too little memory"])
    count: int = Field(description="Hosts.", examples=[2])
    wanted: str = Field(description="What is wanted; empty where it differs.", examples=["8 GiB"])
    available: str = Field(description="The most that one of them has, of counted resources.", examples=["3.2 GiB"])

    @classmethod
    def of(cls, group: RejectionGroup) -> "RejectionCountBody":
        return cls(
            filter=group.filter,
            reason=group.reason,
            count=group.count,
            wanted=group.wanted,
            available=group.available,
        )


class ExplanationBody(AnswerModel):
    """What creating these instances would decide now."""

    placeable: bool = Field(description="Whether all of them would find a host.")
    summary: str = Field(examples=["0/3 hosts: 2 too little memory (wanted 8 GiB, at most 3.2 GiB free), 1 other zone"])
    host_count: int = Field(description="Hosts that were looked at.")
    accepted_count: int = Field(description="Hosts that would take the first instance without one.")
    rejections: list[RejectionCountBody] = Field(description="Why the others would not, the most frequent first.")
    hosts: list[HostVerdictBody] | None = Field(description="Each host, the best first; for operators only.")
    node_names: list[str] | None = Field(description="Chosen host of each instance; for operators only.")

    @classmethod
    def of(cls, explanation: Explanation, language: str) -> "ExplanationBody":
        decision, shown = explanation.decision, explanation.shows_hosts
        return cls(
            placeable=decision.placed,
            summary=explanation.summary.text(language),
            host_count=decision.host_count,
            accepted_count=decision.host_count - sum(counted.count for counted in decision.reasons),
            rejections=[RejectionCountBody.of(group) for group in explanation.groups],
            hosts=[HostVerdictBody.of(verdict) for verdict in decision.verdicts] if shown else None,
            node_names=[assignment.host.name for assignment in decision.assignments] if shown else None,
        )


class CellShareBody(AnswerModel):
    """What an instance has of a NUMA cell."""

    cell: int
    vcpus: int
    memory_mib: int
    page_kib: int = Field(description="Size of the huge pages behind the memory; 0: ordinary pages.")
    cpus: list[int] = Field(description="Host CPUs of its own, whole cores; empty: it has a share of the cell's.")


class DeviceShareBody(AnswerModel):
    """A device that an instance has."""

    device_id: str = Field(examples=["0000:3b:00.0"])
    milli: int = Field(description="Thousandths of it.", examples=[1000])


class PlacementStoryBody(AnswerModel):
    """Why an instance is where it is."""

    ecs_id: str
    placed: bool = Field(description="Whether it has a host.")
    reason: str = Field(description="Why it has none.")
    node_id: str = Field(description="Its host when it was placed; empty for tenants.")
    node_name: str = Field(description="Its host's name then; empty for tenants.")
    decided_at: Moment
    host_count: int | None = Field(description="Hosts that were looked at; null when nothing is known any more.")
    rejected: dict[str, int] = Field(
        description="How many of them each filter rejected.", examples=[{"zone": 4, "capacity": 2}]
    )
    scores: dict[str, float] = Field(
        description="What each weigher gave the chosen host.", examples=[{"room": 0.95, "balance": 0.25}]
    )
    cells: list[CellShareBody] = Field(description="NUMA cells that it was placed in; for operators only.")
    devices: list[DeviceShareBody] = Field(description="Devices that it has; for operators only.")

    @classmethod
    def of(cls, story: PlacementStory) -> "PlacementStoryBody":
        return cls.model_validate(story)


_MEANINGS: Final = {
    DifferenceKind.ALLOCATION_WITHOUT_INSTANCE: Message(
        "resources of the node are held for an instance that is not there", "节点资源被不存在的云主机占用"
    ),
    DifferenceKind.ALLOCATION_ELSEWHERE: Message(
        "the instance holds resources of a node that it is not on", "云主机占用了其不在的节点的资源"
    ),
    DifferenceKind.INSTANCE_WITHOUT_ALLOCATION: Message(
        "the instance is on the node and holds nothing there", "云主机在该节点上但未占用资源"
    ),
    DifferenceKind.DOMAIN_WITHOUT_ALLOCATION: Message(
        "the node has a domain of this cloud that nobody placed there", "节点上存在未经调度的虚拟机"
    ),
    DifferenceKind.INSTANCE_WITHOUT_DOMAIN: Message(
        "the node does not have the instance's domain", "节点上没有该云主机的虚拟机"
    ),
    DifferenceKind.DOMAIN_OF_OTHER_SIZE: Message(
        "the domain has other vCPUs or memory than the instance", "虚拟机的CPU或内存与云主机不一致"
    ),
    DifferenceKind.DEVICE_WITHOUT_INSTANCE: Message(
        "a device of the node is held for an instance that is not there", "节点设备被不存在的云主机占用"
    ),
    DifferenceKind.DEVICE_ELSEWHERE: Message(
        "the instance holds a device of a node that it is not on", "云主机占用了其不在的节点的设备"
    ),
    DifferenceKind.NODE_NOT_CLEAN: Message(
        "what a move has left on the node could not be removed for more than an hour",
        "迁移残留在节点上超过一小时未能清理",
    ),
}


class DifferenceBody(AnswerModel):
    """Something that does not agree."""

    kind: DifferenceKind
    node_id: str
    node_name: str
    consumer_uuid: str = Field(description="UUID of the instance, the domain, or who else holds the allocation.")
    name: str = Field(description="Id of the instance or the device, or name of the domain; else empty.")
    meaning: str = Field(description="What it means, for people.")

    @classmethod
    def of(cls, difference: Difference, language: str) -> "DifferenceBody":
        return cls(**asdict(difference), meaning=_MEANINGS[difference.kind].text(language))
