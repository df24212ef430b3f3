"""Directories below /tmp that belong to one process of the tests, and are removed by others once that is dead."""

import fcntl
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO


def make_own_directory(prefix: str, parent: Path) -> tuple[Path, IO[str]]:
    """A new directory, and its lock: it is this process's as long as that is open. Those of dead owners are removed."""
    # One at a time: another one's directory is not locked yet when it has just been made.
    with (parent / f".{prefix}turn").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        for stale in parent.glob(f"{prefix}*"):
            # Its owner may be removing it.
            with suppress(FileNotFoundError):
                if lock := _try_lock(stale):
                    shutil.rmtree(stale, ignore_errors=True)
                    lock.close()
        directory = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = _try_lock(directory)
    assert lock is not None
    return directory, lock


def _try_lock(directory: Path) -> IO[str] | None:
    lock = (directory / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
