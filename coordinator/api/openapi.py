"""The OpenAPI document: what FastAPI derives from the routes, plus what holds for all of them."""

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.alias_generators import to_camel

from coordinator.api.deps import REGION_HEADER, REGION_QUERY_PATHS
from coordinator.api.envelope import Envelope, Problem

JsonObject = dict[str, Any]

_METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options", "trace"})

_DESCRIPTION = """\
Everything that Nodewright does, it does through this interface. Answers are JSON in one envelope:
`{"requestId", "code", "message", "data"}`; `code` is `Success` or the stable code of an error, `message` is meant for
people and comes in Chinese, or in English with `Accept-Language: en`.

Work that takes longer is accepted at once; the header `x-operation-id` of the answer names the operation, and
`GET /api/ecs/v1/operations/{operationId}` tells how far it is. A call that changes several resources names
one operation for each, separated by commas.
"""

TAGS = (
    ("flavors", "Sizes of instances, and the families of hardware that they belong to."),
    ("nodes", "Hosts that run instances, and how they join."),
    ("pools", "Resource pools and host groups: hosts set apart for flavor types, or for single instances."),
    ("settings", "What holds for the whole region."),
    ("recycle", "What was deleted, and can still be restored."),
    ("monitor", "How many instances there are, and how much room is left."),
    ("instances", "Virtual machines."),
    ("deploymentsets", "Instances that run together or apart, by host, rack or switch."),
    ("placement", "Why instances are, or would be, where they are."),
    ("localdisks", "Whole disks of nodes."),
    ("devices", "GPUs, network cards, disks and USB devices of nodes: who has them, and why one is not offered."),
    ("power", "Starting, stopping, suspending and resuming."),
    ("migration", "Moving instances to other nodes."),
    ("guest", "What happens inside of a guest, through its agent."),
    ("sshkeys", "SSH keys, and the instances that they open."),
    ("regions", "Region, zones and what is offered there."),
    ("templates", "Orders of instances that are kept to be made again, in versions."),
    ("scheduledtasks", "What is done with instances again and again, and what came of it."),
    ("snapshotpolicies", "When snapshots are taken by themselves, and for how long they are kept."),
    ("snapshots", "Volumes of instances as they were at one moment."),
    ("backups", "Files of volumes as they were at one moment, to be kept elsewhere."),
    ("images", "What system disks are made from."),
    ("isos", "ISO images in the optical drives of instances."),
    ("volumes", "Disks."),
    ("network", "VPCs, subnets, ports and security groups."),
    ("operations", "Work in progress, and how it ended."),
    ("events", "What happens, as it does and as it did, and who is told of it."),
    ("iam", "Tokens, tenants, departments and resource groups."),
    ("health", "Whether this process is alive and ready."),
)

_REGION_PARAMETER: JsonObject = {
    "name": REGION_HEADER,
    "in": "header",
    "required": True,
    "description": "The region that the request is for.",
    "schema": {"type": "string"},
    "example": "region0",
}

_PROBLEMS = {
    "400": "Refused: `code` says why, `message` names the field.",
    "401": "Credentials are absent, unknown or expired.",
    "413": "The body is too large.",
    "500": "Something went wrong inside; the log has it under the requestId.",
    "503": "Something that is needed cannot be reached now; try again.",
}


def build_document(app: FastAPI) -> JsonObject:
    """The OpenAPI 3.1 document of `app`."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=_DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": description} for name, description in TAGS],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    document["paths"] = {_camel_case(path): item for path, item in document["paths"].items()}
    for path, item in document["paths"].items():
        for method in _METHODS & item.keys():
            _complete_operation(path, item[method])
    for name, schema in components.items():
        if name.startswith("Envelope_"):
            schema["description"] = Envelope.__doc__
    # FastAPI describes its own validation answer, which this API never gives.
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    return document


def _camel_case(path: str) -> str:
    """The path with its parameters named as everything else on the wire."""
    return re.sub(r"\{(\w+)\}", lambda match: "{" + to_camel(match[1]) + "}", path)


def _complete_operation(path: str, operation: JsonObject) -> None:
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path":
            parameter["name"] = to_camel(parameter["name"])
    responses = operation["responses"]
    responses.pop("422", None)
    authenticated = bool(operation.get("security"))
    for status, description in _PROBLEMS.items():
        if authenticated or status not in {"400", "401"}:
            responses.setdefault(status, _problem(description))
    if authenticated and path not in REGION_QUERY_PATHS:
        operation.setdefault("parameters", []).append(_REGION_PARAMETER)


def _problem(description: str) -> JsonObject:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
