"""For supervisors, load balancers and Prometheus. Open to everybody: nothing here tells of single tenants."""

from typing import Final

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest
from starlette.responses import PlainTextResponse

from coordinator.api.deps import RuntimeDep
from coordinator.api.envelope import Envelope, success
from coordinator.api.schemas.health import HealthBody
from coordinator.services import health as service

router = APIRouter(tags=["health"])

_NODES: Final = Gauge("nodewright_nodes", "Nodes by state.", ["state"])
_INSTANCES: Final = Gauge("nodewright_instances", "Instances by status.", ["status"])


@router.get("/healthz", operation_id="getHealth")
async def get_health() -> Envelope[HealthBody]:
    """Answers as long as the process does."""
    return success(HealthBody(status="alive"))


@router.get("/readyz", operation_id="getReadiness")
def get_readiness(runtime: RuntimeDep) -> Envelope[HealthBody]:
    """Answers 503 while the database or the task engine does not work."""
    service.check_ready(runtime)
    return success(HealthBody(status="ready"))


@router.get("/metrics", operation_id="getMetrics", response_class=PlainTextResponse)
def get_metrics(runtime: RuntimeDep) -> Response:
    """Numbers in the text format of Prometheus."""
    population = service.count_population(runtime)
    for gauge, counts in ((_NODES, population.nodes), (_INSTANCES, population.instances)):
        gauge.clear()
        for state, count in counts.items():
            gauge.labels(state).set(count)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
