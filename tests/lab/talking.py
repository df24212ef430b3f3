"""A conversation over one TCP connection: `python -m tests.lab.talking ADDRESS PORT`, until its standard input ends.

The other side repeats every line. At the end it prints how many came back and the longest wait for one, in seconds; a
connection that breaks is a failure.
"""

import select
import socket
import sys
import time

_PAUSE_SECONDS = 0.02
# TCP gives up later; whoever talks would long be gone.
_PATIENCE_SECONDS = 60


def converse(address: str, port: int) -> tuple[int, float]:
    """How often the other side answered, and the longest wait."""
    longest, answered = 0.0, 0
    with socket.create_connection((address, port), _PATIENCE_SECONDS) as connection:
        answers = connection.makefile()
        print("talking", flush=True)
        while not select.select([sys.stdin], [], [], _PAUSE_SECONDS)[0]:
            begin = time.monotonic()
            connection.sendall(f"{answered}\n".encode())
            if answers.readline() != f"{answered}\n":
                raise ConnectionError(f"the other side did not repeat {answered}")
            longest = max(longest, time.monotonic() - begin)
            answered += 1
    return answered, longest


if __name__ == "__main__":
    print(*converse(sys.argv[1], int(sys.argv[2])), flush=True)
