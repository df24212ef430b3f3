"""The agent's process, without the libraries of its command line: `python -m agent.process [CONFIG]`.

Typer parses with pydantic, and together they take 12 MB that a service needs for nothing.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from agent.config import ConfigInvalid, load_config
from agent.memory import limit_memory


def main(arguments: list[str]) -> int:
    """Serves until SIGTERM; answers the exit status."""
    limit_memory()
    # Not before the limits: what they say counts for memory taken afterwards.
    from agent.identity import IdentityMissing
    from agent.log import configure_log
    from agent.server import serve

    try:
        config = load_config(Path(arguments[0]) if arguments else None)
        configure_log(config.log_level)
        asyncio.run(serve(config))
    except ConfigInvalid as error:
        print(error, file=sys.stderr)  # noqa: T201 - for whoever started it
        return 1
    except IdentityMissing as error:
        print(f"{error}; run: nodewright-agent join", file=sys.stderr)  # noqa: T201 - for whoever started it
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
