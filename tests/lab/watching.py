"""Which QEMUs run a guest: `python -m tests.lab.watching UUID` prints each change of them, until it is ended.

A line is the time (seconds since 1970) and the numbers of the processes. It has to see all hosts of the lab, so it runs
beside them, not in one.
"""

import sys
import time
from pathlib import Path

_PAUSE_SECONDS = 0.02


def find_processes(uuid: str) -> list[int]:
    """QEMUs with the guest's UUID in their command line. Those that have ended have none."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
        except OSError:
            continue  # it has ended
        if b"qemu-system" in line.partition(b"\0")[0] and uuid.encode() in line:
            found.append(int(entry.name))
    return sorted(found)


def watch(uuid: str) -> None:
    """Prints until it is killed."""
    known: list[int] | None = None
    while True:
        found = find_processes(uuid)
        if found != known:
            print(f"{time.time():.3f}", *found, flush=True)
            known = found
        time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    watch(sys.argv[1])
