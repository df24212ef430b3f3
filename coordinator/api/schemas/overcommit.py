"""Overcommitment of CPUs on the wire."""

from typing import Annotated

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel
from coordinator.domain.overcommit import GREATEST_RATIO, LEAST_RATIO, CpuRatios

CpuRatio = Annotated[int, Field(ge=LEAST_RATIO, le=GREATEST_RATIO, description="vCPUs for each host CPU.")]


class ZoneCpuRatio(LenientModel):
    """The ratio of one zone."""

    az: str = Field(min_length=1, max_length=63, description="Name of the zone.", examples=["AZ0"])
    az_cpu_or: CpuRatio = Field(validation_alias="azCpuOR", examples=[2])


class SetCpuOvercommitRequest(LenientModel):
    """The ratios of the region and of its zones."""

    global_cpu_or: CpuRatio = Field(validation_alias="globalCpuOR", examples=[4])
    az_cpu_configs: list[ZoneCpuRatio] = Field(
        default_factory=list,
        max_length=1000,
        description="Zones with a ratio of their own; all others follow the region.",
    )


class ZoneCpuRatioBody(AnswerModel):
    """The ratio of one zone."""

    az: str
    az_cpu_or: int = Field(alias="azCpuOR", description="vCPUs for each host CPU.")


class CpuOvercommitBody(AnswerModel):
    """The ratios of the region and of the zones that have one of their own."""

    # A configured ratio may be no whole number.
    global_cpu_or: int | float = Field(alias="globalCpuOR", description="vCPUs for each host CPU.")
    az_cpu_configs: list[ZoneCpuRatioBody]

    @classmethod
    def of(cls, ratios: CpuRatios) -> "CpuOvercommitBody":
        return cls(
            global_cpu_or=plain_ratio(ratios.region),
            az_cpu_configs=[ZoneCpuRatioBody(az=zone, az_cpu_or=ratio) for zone, ratio in sorted(ratios.zones.items())],
        )


def plain_ratio(ratio: float) -> int | float:
    """The ratio as people write it: 2, not 2.0."""
    return int(ratio) if float(ratio).is_integer() else ratio
