"""What supervisors, load balancers and Prometheus see."""

from coordinator.runtime import Runtime
from tests.api.client import Api
from tests.builders import a_node, add
from tests.database import BOTH_DATABASES


def test_process_that_answers_is_alive(anybody: Api) -> None:
    assert anybody.ok("GET", "/healthz") == {"status": "alive"}


def test_process_is_ready_while_database_and_engine_work(anybody: Api, runtime: Runtime) -> None:
    assert anybody.ok("GET", "/readyz") == {"status": "ready"}
    runtime.is_engine_alive = lambda: False
    assert anybody.refused("GET", "/readyz", status=503).code == "ECS.ServiceUnavailable"


@BOTH_DATABASES
def test_metrics_count_nodes_by_state(anybody: Api, runtime: Runtime) -> None:
    with runtime.database.write() as session:
        add(session, a_node("one"), a_node("two"), a_node("three", ready=False))
    answer = anybody.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'nodewright_nodes{state="ready"} 2.0' in answer.text
    assert 'nodewright_nodes{state="away"} 1.0' in answer.text
