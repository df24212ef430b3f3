"""Questions about API tokens and enrolment tokens."""

from sqlmodel import Session, col, select

from coordinator.domain.listing import Listing, ListQuery, Ordering
from coordinator.store.queries.filter import Field, fetch_rows_of, fields
from coordinator.store.tables import ApiToken, EnrolmentToken

_NEWEST_FIRST = (Ordering("createdAt", descending=True),)

_TOKEN_FIELDS = fields(
    tokenId=ApiToken.id,
    name=ApiToken.name,
    role=Field(ApiToken.role, ignore_case=True),
    tenantId=ApiToken.tenant_id,
    createdAt=ApiToken.created_at,
)
_ENROLMENT_FIELDS = fields(
    tokenId=EnrolmentToken.id, nodeId=EnrolmentToken.node_id, createdAt=EnrolmentToken.created_at
)


def find_token_by_hash(session: Session, token_hash: str) -> ApiToken | None:
    """The token with that hash, expired or not."""
    return session.exec(select(ApiToken).where(ApiToken.token_hash == token_hash)).first()


def list_tokens(session: Session, tenant_id: str | None, query: ListQuery) -> Listing[ApiToken]:
    """Tokens of one tenant; tenant None: all."""
    statement = select(ApiToken)
    if tenant_id is not None:
        statement = statement.where(ApiToken.tenant_id == tenant_id)
    return fetch_rows_of(session, statement, query, _TOKEN_FIELDS, tie_break=col(ApiToken.id), default=_NEWEST_FIRST)


def list_enrolment_tokens(session: Session, query: ListQuery) -> Listing[EnrolmentToken]:
    """All enrolment tokens, used and expired ones too."""
    return fetch_rows_of(
        session,
        select(EnrolmentToken),
        query,
        _ENROLMENT_FIELDS,
        tie_break=col(EnrolmentToken.id),
        default=_NEWEST_FIRST,
    )


def lock_enrolment_token(session: Session, token_hash: str) -> EnrolmentToken | None:
    """The enrolment token with that hash; nobody else changes it until the transaction ends."""
    statement = select(EnrolmentToken).where(EnrolmentToken.token_hash == token_hash).with_for_update()
    return session.exec(statement).first()
