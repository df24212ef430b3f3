"""Whether this process can do its work, and how the cloud is doing in numbers."""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from coordinator.errors import ServiceUnavailable
from coordinator.runtime import Runtime
from coordinator.store.queries.node import count_instances, count_nodes


@dataclass(frozen=True, slots=True)
class Population:
    """How many there are of what, by state."""

    nodes: dict[str, int]
    instances: dict[str, int]


def check_ready(runtime: Runtime) -> None:
    """ServiceUnavailable, naming the reason, unless the database answers and tasks are being worked on."""
    try:
        with runtime.database.read() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError as error:
        raise ServiceUnavailable("the database does not answer", "数据库无响应") from error
    if not runtime.is_engine_alive():
        raise ServiceUnavailable("the task engine does not run", "任务引擎未运行")


def count_population(runtime: Runtime) -> Population:
    """Nodes and instances by state."""
    with runtime.database.read() as session:
        return Population(count_nodes(session), count_instances(session))
