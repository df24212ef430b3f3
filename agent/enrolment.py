"""How a machine becomes a node: an enrolment token pins the coordinator's authority, and buys a certificate.

May be repeated at any time: the same key asks again until it has its certificate.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from agent.coordinator_client import CoordinatorUnavailable, join
from agent.identity import Identity, Membership, TokenInvalid, check_authority
from protos.coordinator.v1 import join_pb2

AUTHORITY_PATH: Final = "/api/ecs/v1/enrolment-authority"

_TIMEOUT_SECONDS: Final = 15.0
_MOST_ANSWER_BYTES: Final = 1 << 20
_ANY_ADDRESS: Final = frozenset(("", "0.0.0.0", "::", "[::]"))  # noqa: S104 - told apart, never bound


@dataclass(frozen=True)
class Authority:
    """What a coordinator says of itself to anybody; not to be trusted before its fingerprint was checked."""

    authority_pem: str
    join_address: str
    grpc_address: str


async def enrol(identity: Identity, *, coordinator_url: str, token: str, machine_uuid: str) -> Membership:
    """The node has a certificate of the coordinator at "https://host:port".

    Raises TokenInvalid, CoordinatorUnavailable, CoordinatorRefused.
    """
    authority = await asyncio.to_thread(_fetch_authority, coordinator_url)
    check_authority(token, authority.authority_pem)
    identity.prepare()
    request = join_pb2.JoinRequest(
        token=token,
        certificate_request_pem=identity.request_to_join(),
        hostname=socket.gethostname(),
        machine_uuid=machine_uuid,
    )
    answer = await join(authority.join_address, authority.authority_pem, request)
    check_authority(token, answer.authority_pem)
    identity.accept(answer.certificate_pem, answer.authority_pem)
    address = _reachable(answer.grpc_address or authority.grpc_address, coordinator_url)
    membership = Membership(node_id=answer.node_id, region=answer.region, coordinator_address=address)
    identity.accept_membership(membership)
    return membership


def _fetch_authority(coordinator_url: str) -> Authority:
    data = _get(coordinator_url)
    try:
        return Authority(
            authority_pem=str(data["caPem"]),
            join_address=_reachable(str(data["joinAddress"]), coordinator_url),
            grpc_address=_reachable(str(data["grpcAddress"]), coordinator_url),
        )
    except (KeyError, TypeError):
        raise TokenInvalid(f"{coordinator_url} does not answer as a coordinator") from None


def _get(coordinator_url: str) -> Any:
    """The data of the coordinator's answer, fetched without trust: the token's fingerprint is what is trusted."""
    url = urlsplit(coordinator_url)
    if url.scheme not in ("https", "http") or not url.hostname:
        raise TokenInvalid(f"{coordinator_url} is no address of a coordinator: https://host:8443")
    connection: http.client.HTTPConnection
    if url.scheme == "http":
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=_TIMEOUT_SECONDS)
    else:
        context = ssl._create_unverified_context()  # noqa: S323 - see above
        connection = http.client.HTTPSConnection(url.hostname, url.port, timeout=_TIMEOUT_SECONDS, context=context)
    try:
        connection.request("GET", AUTHORITY_PATH, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        body = answer.read(_MOST_ANSWER_BYTES)
        if answer.status != http.client.OK:
            raise CoordinatorUnavailable(f"{coordinator_url} answered {answer.status}")
        return json.loads(body)["data"]
    except (OSError, http.client.HTTPException) as error:
        raise CoordinatorUnavailable(f"{coordinator_url}: {error}") from error
    except (ValueError, KeyError, TypeError):
        raise TokenInvalid(f"{coordinator_url} does not answer as a coordinator") from None
    finally:
        connection.close()


def _reachable(address: str, coordinator_url: str) -> str:
    """A coordinator that listens everywhere may not know under which name it is reached; this node does."""
    host, _, port = address.rpartition(":")
    if host not in _ANY_ADDRESS:
        return address
    known = urlsplit(coordinator_url).hostname or ""
    return f"[{known}]:{port}" if ":" in known else f"{known}:{port}"
