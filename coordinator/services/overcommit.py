"""How many vCPUs a CPU of a host stands for: by region, zone and pool, and kept in the inventory of each node."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Final

import structlog
from sqlmodel import Session

from coordinator.config import Settings
from coordinator.domain.caller import Caller
from coordinator.domain.overcommit import CpuRatios
from coordinator.errors import ParameterInvalid
from coordinator.runtime import Runtime
from coordinator.services.region import zone_names
from coordinator.store.queries import overcommit as queries
from coordinator.store.queries.placement import advance_generations

_REGION: Final = ""
# So many nodes at most are named in one statement: databases bound its parameters.
_NODES_AT_ONCE: Final = 1000

log = structlog.get_logger(__name__)


def get_cpu_overcommit(runtime: Runtime, caller: Caller) -> CpuRatios:
    """The ratios that hold now."""
    with runtime.database.read() as session:
        return read_cpu_ratios(session, runtime.settings)


def set_cpu_overcommit(runtime: Runtime, caller: Caller, region: int, zones: Sequence[tuple[str, int]]) -> None:
    """Replaces the ratios of the region and of all zones; a zone that is not named follows the region.

    A ratio below what is in use takes nothing away: it keeps new instances off until there is room again.
    """
    with runtime.database.write() as session:
        _check_zones(session, runtime.settings, [zone for zone, _ in zones])
        queries.replace_cpu_ratios(session, {_REGION: region, **dict(zones)})
        apply_cpu_ratios(session, runtime.settings, queries.list_node_ids(session))
    log.info("overcommit.changed", region=region, zones=dict(zones), by=caller.token_id)


def read_cpu_ratios(session: Session, settings: Settings) -> CpuRatios:
    """The stored ratios; the configuration's for a region that has none."""
    stored = dict(queries.read_cpu_ratios(session))
    region = stored.pop(_REGION, None)
    return CpuRatios(region or settings.cpu_allocation_ratio, stored)


def apply_cpu_ratios(session: Session, settings: Settings, node_ids: Collection[str]) -> None:
    """The inventories of these nodes get the ratios that hold for them now.

    The nodes' rows are locked before they are read, so that a node which registers meanwhile is not missed.
    """
    advance_generations(session, node_ids)
    ratios = read_cpu_ratios(session, settings)
    concerned = list(node_ids)
    for start in range(0, len(concerned), _NODES_AT_ONCE):
        changed: dict[float, list[str]] = defaultdict(list)
        for node in queries.list_node_ratios(session, concerned[start : start + _NODES_AT_ONCE]):
            ratio = ratios.of_host(node.zone, node.pool_ratio)
            if ratio != node.present:
                changed[ratio].append(node.node_id)
        for ratio, its_nodes in changed.items():
            queries.set_cpu_ratio(session, its_nodes, ratio)


def cpu_ratio_of_node(session: Session, settings: Settings, node_id: str) -> float:
    """What holds for one node, whose row the caller has locked."""
    (node,) = queries.list_node_ratios(session, [node_id])
    return read_cpu_ratios(session, settings).of_host(node.zone, node.pool_ratio)


def _check_zones(session: Session, settings: Settings, zones: Sequence[str]) -> None:
    known = zone_names(session, settings)
    for position, zone in enumerate(zones):
        field = f"azCpuConfigs.{position}.az"
        if zone not in known:
            raise ParameterInvalid(field, f"unknown zone {zone!r}", f"可用区{zone!r}不存在")
        if zone in zones[:position]:
            raise ParameterInvalid(field, f"zone {zone!r} occurs twice", f"可用区{zone!r}重复")
