"""How machines become nodes: one-time tokens, the authority that they pin, and the certificates that they get."""

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog
from sqlmodel import Session

from coordinator.domain.caller import Caller
from coordinator.domain.identifier import Prefix
from coordinator.domain.listing import Listing, ListQuery
from coordinator.errors import CredentialsInvalid, ParameterInvalid, ResourceNotFound
from coordinator.pki import IssuedCertificate, hash_public_key, parse_request
from coordinator.runtime import Runtime
from coordinator.services.credential import hash_token
from coordinator.store.queries import credential as queries
from coordinator.store.queries.node import find_node_by_machine
from coordinator.store.tables import EnrolmentToken, Node

TOKEN_PREFIX: Final = "nwe_"  # noqa: S105 (a prefix, not a secret)
DEFAULT_LIFE: Final = timedelta(hours=1)
MAXIMUM_LIFE: Final = timedelta(days=30)

_NAME_MAXIMUM: Final = 255
_MACHINE_MAXIMUM: Final = 64

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NewEnrolmentToken:
    """A token that was just made; `secret` is known now and never again."""

    row: EnrolmentToken
    secret: str
    join_command: str


@dataclass(frozen=True, slots=True)
class EnrolmentAuthority:
    """What a machine needs before it can trust anything: checked against the fingerprint in its token."""

    authority_pem: str
    join_address: str
    grpc_address: str


@dataclass(frozen=True, slots=True)
class JoinOrder:
    """What a joining machine says."""

    token: str
    request_pem: bytes
    hostname: str
    machine_uuid: str


@dataclass(frozen=True, slots=True)
class Membership:
    """What a machine gets that became a node."""

    node_id: str
    certificate: IssuedCertificate
    authority_pem: bytes


def get_authority(runtime: Runtime) -> EnrolmentAuthority:
    """The authority's certificate, and where to go with it. Public."""
    settings = runtime.settings
    return EnrolmentAuthority(
        authority_pem=runtime.authority.pem.decode(),
        join_address=settings.public_address(settings.join_listen),
        grpc_address=settings.public_address(settings.grpc_listen),
    )


def create_enrolment_token(runtime: Runtime, caller: Caller, life: timedelta = DEFAULT_LIFE) -> NewEnrolmentToken:
    """A new token, with which one machine may join within `life`."""
    if not timedelta(seconds=1) <= life <= MAXIMUM_LIFE:
        longest = int(MAXIMUM_LIFE.total_seconds())
        raise ParameterInvalid("validForSeconds", f"1 to {longest}", f"取值范围为1到{longest}")
    secret = f"{TOKEN_PREFIX}{secrets.token_urlsafe(32)}.{runtime.authority.fingerprint}"
    now = runtime.now()
    row = EnrolmentToken(
        id=runtime.identifiers.new(Prefix.ENROLMENT_TOKEN),
        token_hash=hash_token(secret),
        expires_at=now + life,
        created_at=now,
        updated_at=now,
    )
    with runtime.database.write() as session:
        session.add(row)
    log.info("enrolment_token.created", enrolmentTokenId=row.id, by=caller.token_id)
    scheme = "http" if runtime.settings.plain_http else "https"
    endpoint = f"{scheme}://{runtime.settings.public_address(runtime.settings.rest_listen)}"
    return NewEnrolmentToken(row, secret, f"nodewright-agent join --coordinator {endpoint} --token {secret}")


def list_enrolment_tokens(runtime: Runtime, caller: Caller, query: ListQuery) -> Listing[EnrolmentToken]:
    """All enrolment tokens."""
    with runtime.database.read() as session:
        return queries.list_enrolment_tokens(session, query)


def delete_enrolment_token(runtime: Runtime, caller: Caller, token_id: str) -> None:
    """Withdraws a token; a node that joined with it stays."""
    with runtime.database.write() as session:
        row = session.get(EnrolmentToken, token_id)
        if row is None:
            raise ResourceNotFound("enrolment token", token_id)
        session.delete(row)
    log.info("enrolment_token.deleted", enrolmentTokenId=token_id, by=caller.token_id)


def join_node(runtime: Runtime, order: JoinOrder) -> Membership:
    """Makes the machine a node, with a certificate for its key. The token counts once.

    Repeated with the same token and key within the token's life, the answer is the same node. A machine that was a node
    before stays that one. CredentialsInvalid for an unknown, used or expired token; ParameterInvalid for a bad request.
    """
    _check_order(order)
    key_hash = hash_public_key(parse_request(order.request_pem))
    with runtime.database.write() as session:
        token = _admit(session, runtime, order.token, key_hash)
        if token.node_id is None:
            token.node_id = _ensure_node(session, runtime, order)
            token.public_key_hash = key_hash
            token.used_at = runtime.now()
            session.add(token)
        node_id, token_id = token.node_id, token.id
        certificate = runtime.authority.sign_agent(node_id, order.request_pem)
    log.info("node.joined", nodeId=node_id, hostname=order.hostname, machineUuid=order.machine_uuid, by=token_id)
    return Membership(node_id, certificate, runtime.authority.pem)


def renew_certificate(runtime: Runtime, node_id: str, request_pem: bytes) -> Membership:
    """A new certificate for a node that still exists."""
    with runtime.database.read() as session:
        if session.get(Node, node_id) is None:
            raise CredentialsInvalid(f"node {node_id} does not exist", f"节点{node_id}不存在")
    return Membership(node_id, runtime.authority.sign_agent(node_id, request_pem), runtime.authority.pem)


def _check_order(order: JoinOrder) -> None:
    for field, text, maximum in (
        ("hostname", order.hostname, _NAME_MAXIMUM),
        ("machineUuid", order.machine_uuid, _MACHINE_MAXIMUM),
    ):
        if not 1 <= len(text) <= maximum or not text.isprintable():
            raise ParameterInvalid(field, f"1 to {maximum} printable characters", f"长度为1到{maximum}个可见字符")


def _admit(session: Session, runtime: Runtime, token: str, key_hash: str) -> EnrolmentToken:
    """The token's row, locked, when this key may (still) join with it."""
    row = queries.lock_enrolment_token(session, hash_token(token))
    if row is None:
        raise CredentialsInvalid("this enrolment token is unknown", "注册令牌无效")
    if row.expires_at <= runtime.now():
        raise CredentialsInvalid("this enrolment token has expired", "注册令牌已过期")
    if row.used_at is not None and row.public_key_hash != key_hash:
        raise CredentialsInvalid("this enrolment token was used", "注册令牌已被使用")
    return row


def _ensure_node(session: Session, runtime: Runtime, order: JoinOrder) -> str:
    node = find_node_by_machine(session, order.machine_uuid)
    if node is None:
        node = Node(
            id=runtime.identifiers.new(Prefix.NODE),
            name=order.hostname,
            machine_uuid=order.machine_uuid,
            created_at=runtime.now(),
            updated_at=runtime.now(),
        )
        session.add(node)
        session.flush()
    return node.id
