"""The audit log on the wire."""

from pydantic import Field

from coordinator.api.schemas.base import AnswerModel, Moment
from coordinator.store.tables import AuditRecord


class AuditBody(AnswerModel):
    """A call that changed something, or was to."""

    audit_id: int = Field(examples=[4711])
    at: Moment
    request_id: str = Field(description="As in the answer, and in every log line about it.")
    caller_id: str = Field(
        description="A token's id, oidc:<subject>, certificate:<name> or system; empty: unknown credentials.",
        examples=["tok-4f8j2m6q1x9z3c"],
    )
    caller_name: str = Field(description="What the token is for.")
    role: str
    tenant_id: str | None = Field(description="The tenant that the caller acts for; null: none.")
    method: str = Field(description="Of HTTP, gRPC, or CLI on the coordinator's own machine.", examples=["DELETE"])
    path: str
    operation: str = Field(description="As in the OpenAPI document.", examples=["deleteInstance"])
    resources: list[str] = Field(description="Ids of what it named, made or works on.")
    status: int = Field(description="How it was answered, as HTTP or gRPC numbers it; 0 over HTTP: it was broken off.")
    code: str = Field(description="Success, or the code of the error.", examples=["Success"])
    operation_ids: list[str] = Field(description="Operations that it began.")
    source_address: str
    body_digest: str = Field(
        description="HMAC-SHA256 with the coordinator's key, in hex; empty: no body, or a long one."
    )

    @classmethod
    def of(cls, row: AuditRecord) -> "AuditBody":
        lists = {"resources": _split(row.resources), "operation_ids": _split(row.operation_ids)}
        return cls(**{**row.model_dump(exclude={"id"}), **lists}, audit_id=row.id)


class AuditListBody(AnswerModel):
    """One page of the audit log."""

    items: list[AuditBody] = Field(alias="list")
    total_count: int = Field(description="On all pages together.")


def _split(text: str) -> list[str]:
    return text.split(",") if text else []
