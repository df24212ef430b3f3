"""The REST server: uvicorn within the coordinator's own event loop."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from fastapi import FastAPI

from coordinator.config import Settings, split_address
from coordinator.pki import CoordinatorIdentity
from coordinator.rpc.server import ListenFailed

# How long requests in flight may take when the process ends.
_STOP_GRACE_SECONDS: Final = 5
_BACKLOG: Final = 1024


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves `app` over TLS, or without it where the configuration says so. It listens as soon as it is made."""

    def __init__(self, app: FastAPI, settings: Settings, identity: CoordinatorIdentity) -> None:
        self._identity = identity
        self._uses_identity = not settings.plain_http and settings.tls_certificate_file is None
        self._socket = listen(settings.rest_listen)
        self.port: int = self._socket.getsockname()[1]
        certificate_path = settings.tls_certificate_file or identity.path
        self._config = uvicorn.Config(
            app,
            ssl_certfile=None if settings.plain_http else certificate_path,
            ssl_keyfile=None if settings.plain_http else settings.tls_key_file,
            # One line a request comes from our own middleware.
            access_log=False,
            log_config=None,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=_STOP_GRACE_SECONDS,
        )
        try:
            self._config.load()
        except OSError as error:
            raise ListenFailed(f"REST cannot use the certificate {certificate_path} and its key: {error}") from error
        self._server = _Server(self._config)

    async def run(self) -> None:
        """Serves until `stop`."""
        await self._server.serve(sockets=[self._socket])

    def stop(self) -> None:
        """Ends `run` soon: requests in flight may end."""
        self._server.should_exit = True

    def reload_certificate(self) -> None:
        """New connections see the identity's present certificate."""
        if self._uses_identity and self._config.ssl is not None:
            self._config.ssl.load_cert_chain(self._identity.path)


def listen(address: str) -> socket.socket:
    """A socket that listens at "host:port"; ListenFailed when that cannot be."""
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ListenFailed(f"cannot listen at {address}: {error.strerror}") from error
    # Connections inherit it: else the body of an answer waits 40 ms until the head of it is acknowledged.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
