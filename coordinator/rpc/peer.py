"""Who is at the other end of a call, from the certificate that TLS has checked."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import grpc

from coordinator.errors import CredentialsInvalid
from coordinator.pki import NODE_URN_PREFIX, ROLE_URN_PREFIX, CertificateRole


@dataclass(frozen=True, slots=True)
class Peer:
    """The bearer of a certificate; only agents have a node."""

    role: CertificateRole
    node_id: str = ""


# A call is a task: it asks several times, and gRPC reads the certificate anew each time.
_known: ContextVar[tuple[object, Peer] | None] = ContextVar("peer", default=None)


def read_peer(context: grpc.aio.ServicerContext[Any, Any]) -> Peer:
    """The caller; CredentialsInvalid when its certificate carries no role that we know."""
    known = _known.get()
    if known is None or known[0] is not context:
        known = context, _read(context)
        _known.set(known)
    return known[1]


def _read(context: grpc.aio.ServicerContext[Any, Any]) -> Peer:
    names = [
        value.decode(errors="replace")
        for value in (context.auth_context() or {}).get("x509_subject_alternative_name", ())
    ]
    roles = [name.removeprefix(ROLE_URN_PREFIX) for name in names if name.startswith(ROLE_URN_PREFIX)]
    nodes = [name.removeprefix(NODE_URN_PREFIX) for name in names if name.startswith(NODE_URN_PREFIX)]
    if len(roles) != 1 or roles[0] not in list(CertificateRole):
        raise CredentialsInvalid("the certificate carries no role of this cloud", "证书中没有有效角色")
    role = CertificateRole(roles[0])
    if (role is CertificateRole.AGENT) != (len(nodes) == 1):
        raise CredentialsInvalid("the certificate names no node", "证书中没有节点标识")
    return Peer(role, nodes[0] if nodes else "")
