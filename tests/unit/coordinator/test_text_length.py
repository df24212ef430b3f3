"""No text that a request may carry is longer than the column that keeps it: one of the databases would refuse it."""

from typing import Any

import pytest
from sqlmodel import SQLModel

from coordinator.api.schemas.base import LenientModel
from coordinator.api.schemas.deployment_set import CreateDeploymentSetRequest
from coordinator.api.schemas.flavor import CreateFlavorRequest, UpdateFlavorRequest
from coordinator.api.schemas.flavor_type import CreateFlavorTypeRequest, UpdateFlavorTypeRequest
from coordinator.api.schemas.host_group import CreateHostGroupRequest
from coordinator.api.schemas.iam import (
    CreateDepartmentRequest,
    CreateResourceGroupRequest,
    CreateTenantRequest,
    CreateTokenRequest,
)
from coordinator.api.schemas.image import RegisterImageRequest
from coordinator.api.schemas.resource_pool import CreateResourcePoolRequest
from coordinator.api.schemas.schedule import CreateScheduleRequest
from coordinator.api.schemas.ssh_key import CreateKeyRequest, ImportKeyRequest
from coordinator.api.schemas.volume import CreateVolumeRequest
from coordinator.api.schemas.webhook import CreateWebhookRequest
from coordinator.store.tables import (
    ApiToken,
    Department,
    DeploymentSet,
    Flavor,
    FlavorType,
    HostGroup,
    Image,
    ResourceGroup,
    ResourcePool,
    Schedule,
    SshKey,
    Tenant,
    Volume,
    Webhook,
)

# Requests whose fields become columns of the same name. What an order of instances carries, its service checks.
STORED: list[tuple[type[LenientModel], type[SQLModel]]] = [
    (CreateFlavorTypeRequest, FlavorType),
    (UpdateFlavorTypeRequest, FlavorType),
    (CreateFlavorRequest, Flavor),
    (UpdateFlavorRequest, Flavor),
    (RegisterImageRequest, Image),
    (CreateVolumeRequest, Volume),
    (CreateTokenRequest, ApiToken),
    (CreateTenantRequest, Tenant),
    (CreateDepartmentRequest, Department),
    (CreateResourceGroupRequest, ResourceGroup),
    (CreateResourcePoolRequest, ResourcePool),
    (CreateHostGroupRequest, HostGroup),
    (CreateDeploymentSetRequest, DeploymentSet),
    (CreateWebhookRequest, Webhook),
    (CreateKeyRequest, SshKey),
    (ImportKeyRequest, SshKey),
    (CreateScheduleRequest, Schedule),
]


@pytest.mark.parametrize(("request_model", "table"), STORED, ids=lambda item: str(item.__name__))
def test_texts_fit_their_columns(request_model: type[LenientModel], table: type[SQLModel]) -> None:
    properties = request_model.model_json_schema(by_alias=False)["properties"]
    lengths = {
        column.name: length
        for column in table.metadata.tables[str(table.__tablename__)].columns
        if (length := getattr(column.type, "length", None))
    }
    too_long = {name for name, length in lengths.items() if _longest_text(properties.get(name, {})) > length}
    assert too_long == set()


def _longest_text(schema: dict[str, Any]) -> float:
    if "anyOf" in schema:
        return max(_longest_text(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return max(len(value) for value in schema["enum"])
    # A pattern bounds what it admits.
    is_open = schema.get("type") == "string" and "pattern" not in schema
    return float(schema.get("maxLength", "inf" if is_open else 0))
