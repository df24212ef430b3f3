"""The real coordinator, which kills itself at one commit of a task: `python -m tests.lab.faulty_coordinator POINT`.

Points are named by coordinator.tasks.engine, for example "create_instance.define.result.before".
"""

import os
import signal
import sys

from coordinator.config import Settings
from coordinator.main import run


def main(point: str) -> None:
    """Serves until the point is reached."""

    def watch(reached: str) -> None:
        if reached == point:
            os.kill(os.getpid(), signal.SIGKILL)

    run(Settings.load(), on_commit=watch)


if __name__ == "__main__":
    main(sys.argv[1])
