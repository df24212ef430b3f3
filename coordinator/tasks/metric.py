"""Numbers about tasks for Prometheus."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)

TASK_SECONDS: Final = Histogram(
    "nodewright_task_duration_seconds",
    "Time from the submission of a task to its end.",
    ["kind", "state"],
    buckets=_BUCKETS,
)
STEP_SECONDS: Final = Histogram(
    "nodewright_task_step_duration_seconds",
    "Time of one attempt of a step, without the engine's own transactions.",
    ["kind", "step"],
    buckets=_BUCKETS,
)
RETRIES: Final = Counter(
    "nodewright_task_retries_total", "Attempts that failed for now and will be repeated.", ["kind", "step"]
)
RUNNING: Final = Gauge("nodewright_tasks_running", "Tasks that this coordinator is working on.")
