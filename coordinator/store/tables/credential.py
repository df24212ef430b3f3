"""Credentials: only hashes are stored."""

from datetime import datetime

from sqlmodel import Field

from coordinator.store.column import UtcDateTime
from coordinator.store.tables.base import Timestamped


class ApiToken(Timestamped, table=True):
    """Bearer token of the REST API."""

    __tablename__ = "api_token"

    id: str = Field(primary_key=True, max_length=32)
    name: str = Field(max_length=127)
    # SHA-256 of the token in hex.
    token_hash: str = Field(unique=True, max_length=64)
    # "operator", "tenant" or "auditor".
    role: str = Field(max_length=16)
    tenant_id: str | None = Field(default=None, foreign_key="tenant.id", index=True)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class EnrolmentToken(Timestamped, table=True):
    """One-time token with which a node joins."""

    __tablename__ = "enrolment_token"

    id: str = Field(primary_key=True, max_length=32)
    token_hash: str = Field(unique=True, max_length=64)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    # SHA-256 of the public key that used it: a repeated join with the same key gets the same answer.
    public_key_hash: str | None = Field(default=None, max_length=64)
    node_id: str | None = Field(default=None, max_length=32)
