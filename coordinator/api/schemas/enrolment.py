"""Enrolment on the wire."""

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, Moment
from coordinator.services.enrolment import DEFAULT_LIFE, MAXIMUM_LIFE, EnrolmentAuthority, NewEnrolmentToken
from coordinator.store.tables import EnrolmentToken


class CreateEnrolmentTokenRequest(LenientModel):
    """A token with which one machine may become a node."""

    valid_for_seconds: int = Field(
        default=int(DEFAULT_LIFE.total_seconds()),
        ge=1,
        le=int(MAXIMUM_LIFE.total_seconds()),
        description="How long it can be used.",
        examples=[3600],
    )


class EnrolmentTokenBody(AnswerModel):
    """An enrolment token, without what it is made of."""

    token_id: str = Field(description="Id of the token; not a secret.", examples=["enr-9k2w7p4d1s8m5x"])
    expires_at: Moment
    used_at: Moment = Field(description="Year 1: not yet.")
    node_id: str | None = Field(description="The node that joined with it; null: none yet.")
    created_at: Moment

    @classmethod
    def of(cls, row: EnrolmentToken) -> "EnrolmentTokenBody":
        return cls(
            token_id=row.id,
            expires_at=row.expires_at,
            used_at=row.used_at,
            node_id=row.node_id,
            created_at=row.created_at,
        )


class NewEnrolmentTokenBody(AnswerModel):
    """An enrolment token that was just made."""

    token_id: str = Field(description="Id of the token; not a secret.")
    token: str = Field(description="The token itself. Shown only now.")
    expires_at: Moment
    join_command: str = Field(description="What to run on the machine that shall join.")

    @classmethod
    def of(cls, made: NewEnrolmentToken) -> "NewEnrolmentTokenBody":
        return cls(
            token_id=made.row.id,
            token=made.secret,
            expires_at=made.row.expires_at,
            join_command=made.join_command,
        )


class EnrolmentTokenListBody(AnswerModel):
    """One page of enrolment tokens."""

    items: list[EnrolmentTokenBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")


class EnrolmentAuthorityBody(AnswerModel):
    """What a machine needs before it can trust anything. It checks the certificate against its token."""

    ca_pem: str = Field(description="Certificate of the coordinator's authority, PEM.")
    join_address: str = Field(description="host:port at which machines join.", examples=["192.0.2.10:8445"])
    grpc_address: str = Field(description="host:port at which nodes report.", examples=["192.0.2.10:8444"])

    @classmethod
    def of(cls, authority: EnrolmentAuthority) -> "EnrolmentAuthorityBody":
        return cls(
            ca_pem=authority.authority_pem,
            join_address=authority.join_address,
            grpc_address=authority.grpc_address,
        )
