"""ISO images in drives of instances, on the wire."""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from coordinator.api.schemas.base import AnswerModel, LenientModel, fold
from coordinator.store.queries.iso import IsoRow


class IsoRequest(LenientModel):
    """An ISO image."""

    image_id: str = Field(min_length=1, max_length=32, description="Of the image.", examples=["img-5dmc7tzc5auj1b"])


def _unwrap(body: Any) -> Any:
    """The reference's tables name the list, its examples are the list."""
    if isinstance(body, dict) and len(body) == 1:
        name, value = next(iter(body.items()))
        return value if fold(str(name)) in _NAMES else body
    return body


_NAMES = {fold("attachRequests"), fold("imageId")}
IsoRequests = Annotated[list[IsoRequest], BeforeValidator(_unwrap)]


class VmtoolsIsoState(StrEnum):
    """What becomes of the disc with the guest tools."""

    DETACHED = "detached"
    ATTACHING = "attaching"
    ATTACHED = "attached"
    DETACHING = "detaching"


class AttachedIsoBody(AnswerModel):
    """What is in a drive, or on its way there."""

    ecs_id: str
    image_id: str
    image_name: str
    tenant_id: str = Field(description="Owner of the instance.")
    os_type: str
    platform: str
    status: str = Field(description="attaching, attached or detaching.", examples=["attached"])
    boot_state: bool = Field(description="Whether the guest starts from it.")

    @classmethod
    def of(cls, ecs_id: str, tenant_id: str, row: IsoRow) -> "AttachedIsoBody":
        attachment, image = row
        return cls(
            ecs_id=ecs_id,
            image_id=image.id,
            image_name=image.name,
            tenant_id=tenant_id,
            os_type=image.os_type,
            platform=image.platform,
            status=attachment.state,
            boot_state=attachment.is_boot,
        )
