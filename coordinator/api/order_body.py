"""The body of a creating call, with what its launch template says filled in."""

from typing import Annotated, TypeVar

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from coordinator.api.deps import RuntimeDep, TenantUser
from coordinator.api.schemas.instance_request import BatchCreateInstancesRequest, CreateInstanceRequest
from coordinator.api.schemas.template_order import (
    AnyBatchOrder,
    AnyOrder,
    TemplateReference,
    complete,
)
from coordinator.domain.caller import Caller
from coordinator.runtime import Runtime
from coordinator.services.template_order import Given, take_order

Request = TypeVar("Request", bound=CreateInstanceRequest)

# Fields that decide what is looked up in the template, as the service calls them.
_NAMES = {
    "flavor_id": "flavorId",
    "cpus": "cpus",
    "memory": "memory",
    "image": "image",
    "networks": "networks",
    "deployment_set": "deploymentSet",
    "hg_id": "hgId",
    "rp_id": "rpId",
}


def _read_order(body: AnyOrder, caller: TenantUser, runtime: RuntimeDep) -> CreateInstanceRequest:
    if isinstance(body, TemplateReference):
        return _complete(runtime, caller, CreateInstanceRequest, body)
    return body


def _read_batch_order(body: AnyBatchOrder, caller: TenantUser, runtime: RuntimeDep) -> BatchCreateInstancesRequest:
    if isinstance(body, TemplateReference):
        return _complete(runtime, caller, BatchCreateInstancesRequest, body)
    return body


OrderBody = Annotated[CreateInstanceRequest, Depends(_read_order)]
BatchOrderBody = Annotated[BatchCreateInstancesRequest, Depends(_read_batch_order)]


def _complete(runtime: Runtime, caller: Caller, request: type[Request], body: TemplateReference) -> Request:
    given = body.given()
    names = frozenset(_NAMES[name] for name in given if name in _NAMES)
    wanted = Given(names, given.get("flavor_id", ""))
    order = take_order(runtime, caller, body.launch_template_id, body.launch_template_version, wanted)
    try:
        return complete(request, order, given)
    except ValidationError as error:
        raise RequestValidationError([{**found, "loc": ("body", *found["loc"])} for found in error.errors()]) from None
