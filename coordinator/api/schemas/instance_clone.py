"""What callers send to clone an instance."""

from pydantic import Field, field_validator

from coordinator.api.schemas.base import FieldError
from coordinator.api.schemas.instance_request import CreateInstanceRequest, ImageRequest, Text, VolumeRequest


class CloneInstanceRequest(CreateInstanceRequest):
    """What the clone shall be; disks, image, labels and keys are the source's."""

    tenant_id: Text = Field(default="", description="The source's tenant.")
    source_ecs_id: Text = Field(default="", description="The source once more.", examples=["ecs-k8d2n5s7a1f4g6"])
    is_clone: bool = Field(default=True, description="True.")
    image: ImageRequest = Field(default_factory=ImageRequest, description="Not looked at: the source's counts.")
    volumes: list[VolumeRequest] = Field(
        default_factory=list, max_length=0, description="None: the source's are copied."
    )
    user_data: str = Field(default="", description="For the clone alone: that of the source is not run again.")

    @field_validator("is_clone")
    @classmethod
    def _check_is_clone(cls, value: bool) -> bool:
        if not value:
            raise FieldError("must be true", "须为true")
        return value
