"""Orders of instances that leave to a launch template what they do not say."""

from collections.abc import Mapping
from copy import copy
from typing import Annotated, Any, Final, TypeVar

from pydantic import Discriminator, Field, Tag, create_model
from pydantic.fields import FieldInfo

from coordinator.api.schemas.base import LenientModel, fold
from coordinator.api.schemas.instance_request import BatchCreateInstancesRequest, CreateInstanceRequest
from coordinator.domain.instance_order import InstanceOrder, NetworkOrder, VolumeOrder

Request = TypeVar("Request", bound=CreateInstanceRequest)

# Which of the two kinds of order a body is; names that no field has.
_WHOLE, _TEMPLATED = "~order", "~template"
ORDER_TAGS: Final = frozenset({_WHOLE, _TEMPLATED})


class TemplateReference(LenientModel):
    """The template that says the rest."""

    launch_template_id: str = Field(
        min_length=1, max_length=63, description="Launch template; what is given here comes before what it says."
    )
    launch_template_version: int | None = Field(
        default=None, ge=1, description="Version of the template; its default one unless given.", examples=[1]
    )

    def given(self) -> dict[str, Any]:
        """What the caller says itself, by the fields of the order's own request."""
        return self.model_dump(exclude_unset=True, exclude=set(TemplateReference.model_fields))


def _optional(field: FieldInfo) -> tuple[Any, FieldInfo]:
    """The field, which may be left out."""
    copied = copy(field)
    copied.default, copied.default_factory = None, None
    return field.annotation | None, copied  # type: ignore[operator]


def _templated(request: type[CreateInstanceRequest]) -> dict[str, Any]:
    return {name: _optional(field) for name, field in request.model_fields.items()}


TemplatedInstanceRequest = create_model(
    "TemplatedInstanceRequest",
    __base__=TemplateReference,
    __doc__="What an instance shall be, as far as the template does not say it.",
    **_templated(CreateInstanceRequest),
)
BatchTemplatedInstancesRequest = create_model(
    "BatchTemplatedInstancesRequest",
    __base__=TemplateReference,
    __doc__="What several alike instances shall be, as far as the template does not say it.",
    **_templated(BatchCreateInstancesRequest),
)


def _tell_kind(body: Any) -> str:
    is_templated = isinstance(body, Mapping) and any(
        fold(str(name)) == fold("launchTemplateId") and value not in (None, "") for name, value in body.items()
    )
    return _TEMPLATED if is_templated else _WHOLE


AnyOrder = Annotated[
    Annotated[CreateInstanceRequest, Tag(_WHOLE)] | Annotated[TemplatedInstanceRequest, Tag(_TEMPLATED)],
    Discriminator(_tell_kind),
]
AnyBatchOrder = Annotated[
    Annotated[BatchCreateInstancesRequest, Tag(_WHOLE)] | Annotated[BatchTemplatedInstancesRequest, Tag(_TEMPLATED)],
    Discriminator(_tell_kind),
]


def complete(request: type[Request], order: InstanceOrder, given: Mapping[str, Any]) -> Request:
    """The whole request: `given`, and for the rest what the template orders; pydantic's ValidationError if it fails."""
    return request.model_validate({**request_fields(order), **given})


def request_fields(order: InstanceOrder) -> dict[str, Any]:
    """A template's order as the fields of a request."""
    same = {name: getattr(order, name) for name in _SAME}
    return {
        **same,
        "az": order.zone,
        "arch_type": order.architecture,
        "hg_id": order.host_group_id,
        "rp_id": order.pool_id,
        "cpus": order.cpu_count,
        "memory": {"amount": order.memory_amount, "huge_page": order.huge_page},
        "image": {"image_uid": order.image_id},
        "volumes": [_volume_fields(volume) for volume in order.volumes],
        "networks": [*map(_network_fields, order.networks), *_adapter_fields(order)],
        # Not as `gpus`, which comes before what a caller says here.
        "host_gpus": {"number": order.devices.gpus},
        "local_disk": order.devices.local_disks,
        "sriov": order.devices.functions,
        "security_group_list": list(order.security_group_ids),
        "ssh_public_keys": list(order.ssh_public_keys),
        "vm_labels": [{"key": label.key, "value": label.value} for label in order.labels],
        "eviction_strategy": order.options.get("evictionStrategy", ""),
        "ha_priority": order.options.get("haPriority", 0),
    }


# Fields that both call the same.
_SAME: Final = (
    "tenant_id",
    "department_id",
    "resource_group_id",
    "region",
    "display_name",
    "description",
    "flavor_id",
    "image_source",
    "os_type",
    "user_data",
    "billing_mode",
    "cycle_count",
    "deployment_set",
    "ha_enabled",
)


def _volume_fields(volume: VolumeOrder) -> dict[str, Any]:
    return {
        **{name: getattr(volume, name) for name in ("volume_type", "disk_bus", "volume_mode", "delete_on_termination")},
        "volume_size": volume.size_gib,
        "boot_index": volume.boot_index or None,
        "is_os_disk": volume.is_os_disk,
        "os_snapshot_id": volume.snapshot_id,
    }


def _network_fields(network: NetworkOrder) -> dict[str, Any]:
    return {
        **{name: getattr(network, name) for name in ("index", "vpc_id", "subnet_id", "port_type", "network_type")},
        "security_group_list": list(network.security_group_ids),
    }


def _adapter_fields(order: InstanceOrder) -> list[dict[str, Any]]:
    """InfiniBand adapters are ordered as interfaces, of whatever subnet."""
    first = order.networks[0]
    return [
        {
            "vpc_id": first.vpc_id,
            "subnet_id": first.subnet_id,
            "network_type": "IBNic",
            "vendor_id": adapter.vendor_id,
            "product_id": adapter.product_id,
        }
        for adapter in order.devices.infiniband
    ]
