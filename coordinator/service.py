"""The coordinator as a service: `python -m coordinator.service [--config FILE] [--migrate]`, which `serve` becomes.

What it says about memory must be said before anything else is loaded.
"""

import argparse
import ctypes
import sys
from pathlib import Path
from typing import Final

# Source: mallopt(3).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE_BYTES: Final = 64 * 1024


def limit_memory() -> None:
    """Freed memory goes back to the system at once; else forty threads keep 8 MB of it after a few calls."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # not in musl
        libc.mallopt(_M_ARENA_MAX, 2)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
    # structlog imports rich and pygments where it finds them, for colours that a log in JSON does not have.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type]  # what the import system takes for "not there"


def main() -> None:
    """Serves until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path)
    parser.add_argument("--migrate", action="store_true")
    arguments = parser.parse_args()
    limit_memory()
    from coordinator.main import run_service

    run_service(arguments.config, migrate_postgresql=arguments.migrate)


if __name__ == "__main__":
    main()
