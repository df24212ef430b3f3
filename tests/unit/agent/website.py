"""What a machine that wants to join finds at the address that a person typed: real HTTPS."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from agent.enrolment import AUTHORITY_PATH
from coordinator.pki import Authority


@dataclass
class Website:
    """What is served at the address that a person types."""

    url: str
    status: int = 200
    body: bytes = b""
    asked: int = 0

    def tell(self, authority_pem: bytes, join_address: str, grpc_address: str) -> None:
        """As a coordinator does."""
        data = {"caPem": authority_pem.decode(), "joinAddress": join_address, "grpcAddress": grpc_address}
        self.body = json.dumps({"data": data}).encode()


@contextmanager
def website(authority: Authority, directory: Path, host: str = "127.0.0.1") -> Iterator[Website]:
    """A server of HTTPS with a certificate that no machine knows yet."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    site = Website("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked += 1
            self.send_response(site.status if self.path == AUTHORITY_PATH else 404)
            self.send_header("Content-Length", str(len(site.body)))
            self.end_headers()
            self.wfile.write(site.body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        address_family = family

    issued = authority.issue_coordinator([host])
    pem = directory / "website.pem"
    pem.write_bytes(issued.certificate_pem + issued.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with Server((host, 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        site.url = f"https://{f'[{host}]' if ':' in host else host}:{server.server_address[1]}"
        thread = threading.Thread(target=lambda: server.serve_forever(0.01))
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
