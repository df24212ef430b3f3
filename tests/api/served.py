"""The application behind a real HTTP server, for answers that do not end."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from coordinator.http_server import listen
from coordinator.runtime import Runtime


@contextmanager
def served(app: FastAPI, runtime: Runtime) -> Iterator[str]:
    """The URL of a server in a thread of its own, with the feed of events at work."""
    socket = listen("127.0.0.1:0")
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))

    async def serve() -> None:
        feed = asyncio.create_task(runtime.events.run())
        await server.serve(sockets=[socket])
        feed.cancel()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        runtime.events.close()
        server.should_exit = True
        thread.join()
        socket.close()


@dataclass(frozen=True)
class Told:
    """One server-sent event."""

    id: int
    kind: str
    data: dict[str, Any]


class Listener:
    """Reads a stream of events."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.lines = response.iter_lines()

    def next(self) -> Told:
        """The next event; comments and settings are passed over."""
        fields: dict[str, str] = {}
        for line in self.lines:
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
            elif "data" in fields:
                return Told(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            else:
                fields = {}
        raise AssertionError("the stream ended")


@contextmanager
def listening(url: str, token: str, query: str = "", headers: dict[str, str] | None = None) -> Iterator[Listener]:
    """Follows events; what is committed from now on will be heard."""
    sent = {"authorization": f"Bearer {token}", "x-regionid": "region0", "accept-language": "en", **(headers or {})}
    with (
        httpx.Client(timeout=60, trust_env=False) as client,
        client.stream("GET", f"{url}/api/ecs/v1/events{query}", headers=sent) as response,
    ):
        yield Listener(response)
