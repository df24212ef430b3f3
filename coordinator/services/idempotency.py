"""Creating calls that are sent twice act once: what is remembered about an idempotency key, and for how long.

A claim on a key passes three states, kept in `IdempotencyKey.response_status`: IN_PROGRESS while the first call is
being worked on; TOOK_EFFECT once a transaction of that call has committed (stamped within that very transaction); then
the HTTP status of its answer. So after a crash it is known whether the call acted: if not, the next one with the same
key takes the claim over; if it did, the next one is told so instead of acting again.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col

from coordinator.errors import IdempotencyKeyReused, ResourceExists
from coordinator.runtime import Runtime
from coordinator.store.tables import IdempotencyKey

IN_PROGRESS = 0
TOOK_EFFECT = 1

_KEPT = timedelta(hours=24)
# No call takes that long: its process has died.
_ABANDONED = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to act for a key; `claimed_at` tells it from a later one on the same key."""

    caller: str
    key: str
    claimed_at: datetime


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """What the first call was answered."""

    status: int
    body: str
    headers: dict[str, str]


# The claim under which the current request acts.
_current: ContextVar[Claim | None] = ContextVar("idempotency_claim", default=None)


def claim_key(runtime: Runtime, caller: str, key: str, request_hash: str) -> Claim | StoredAnswer | None:
    """The right to act, or the answer that was given; None while another call with this key is at work.

    IdempotencyKeyReused when the key came with another request; ResourceExists when the first call acted, but crashed
    before it could answer.
    """
    now = runtime.now()
    try:
        with runtime.database.write() as session:
            _drop_expired(session, now)
            row = session.get(IdempotencyKey, (caller, key), with_for_update=True)
            if row is not None:
                return _resume(row, request_hash, now)
            session.add(IdempotencyKey(caller=caller, key=key, request_hash=request_hash, created_at=now))
    except IntegrityError:
        # Another process was faster by a moment.
        return None
    return Claim(caller, key, now)


def _resume(row: IdempotencyKey, request_hash: str, now: datetime) -> Claim | StoredAnswer | None:
    if row.request_hash != request_hash:
        raise IdempotencyKeyReused(
            "Idempotency-Key", "this key was used for a different request", "该幂等键已用于其他请求"
        )
    if row.response_status > TOOK_EFFECT:
        return StoredAnswer(row.response_status, row.response_body, row.response_headers)
    if now - row.created_at < _ABANDONED:
        return None
    if row.response_status == TOOK_EFFECT:
        raise ResourceExists(
            "the first call with this Idempotency-Key took effect, but its answer was lost: look at what exists",
            "使用该幂等键的首次调用已生效，但其响应已丢失，请查询现有资源",
        )
    row.created_at = now
    return Claim(row.caller, row.key, now)


def act_under(claim: Claim) -> None:
    """From here on the current request's transactions stamp `claim`."""
    _current.set(claim)


def stamp_claim(session: Session) -> None:
    """Marks the current request's claim in the transaction that is about to commit; for `Database.before_commit`."""
    claim = _current.get()
    if claim is not None:
        session.execute(_of(claim).values(response_status=TOOK_EFFECT))


def keep_answer(runtime: Runtime, claim: Claim, answer: StoredAnswer) -> None:
    """Remembers the answer of a call that took effect, and frees the key of one that did not."""
    _current.set(None)
    with runtime.database.write() as session:
        session.execute(
            _of(claim, TOOK_EFFECT).values(
                response_status=answer.status, response_body=answer.body, response_headers=answer.headers
            )
        )
        _free(session, claim)


def abandon_claim(runtime: Runtime, claim: Claim) -> None:
    """Frees the key of a call that failed before it took effect."""
    _current.set(None)
    with runtime.database.write() as session:
        _free(session, claim)


def _of(claim: Claim, status: int = IN_PROGRESS):  # type: ignore[no-untyped-def]
    return update(IdempotencyKey).where(
        col(IdempotencyKey.caller) == claim.caller,
        col(IdempotencyKey.key) == claim.key,
        col(IdempotencyKey.created_at) == claim.claimed_at,
        col(IdempotencyKey.response_status) == status,
    )


def _free(session: Session, claim: Claim) -> None:
    session.execute(
        delete(IdempotencyKey).where(
            col(IdempotencyKey.caller) == claim.caller,
            col(IdempotencyKey.key) == claim.key,
            col(IdempotencyKey.created_at) == claim.claimed_at,
            col(IdempotencyKey.response_status) == IN_PROGRESS,
        )
    )


def _drop_expired(session: Session, now: datetime) -> None:
    session.execute(delete(IdempotencyKey).where(col(IdempotencyKey.created_at) < now - _KEPT))
