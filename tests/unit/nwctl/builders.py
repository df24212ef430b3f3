"""Answers of the API as tests need them."""

from typing import Any

INSTANCE_ID = "ecs-aaaabbbbccccdd"
OTHER_INSTANCE_ID = "ecs-ddddccccbbbbaa"
OPERATION_ID = "op-aaaabbbbccccddddeeee"
OTHER_OPERATION_ID = "op-eeeeddddccccbbbbaaaa"
TENANT_ID = "1838431777337657974"
DEPARTMENT_ID = "1838431777337657975"


def an_instance(ecs_id: str = INSTANCE_ID, **changes: Any) -> dict[str, Any]:
    """The members of an instance that people see, and one that they do not."""
    instance = {
        "ecsId": ecs_id,
        "displayName": "web",
        "status": "Running",
        "vCpus": 2,
        "ram": 4 << 30,
        "networkMappings": [{"ipv4Address": "10.0.0.10"}, {"ipv4Address": "10.0.1.10"}],
        "image": {"name": "debian"},
        "nodeName": "host-1",
        "createdAt": "2026-07-18T17:49:09.555+08:00",
        "errMessage": "",
        "isLock": False,
        "evictionStrategy": "LiveMigrate",
    }
    return {**instance, **changes}


def an_operation(operation_id: str = OPERATION_ID, **changes: Any) -> dict[str, Any]:
    """An operation that succeeded."""
    operation = {
        "operationId": operation_id,
        "kind": "create_instance",
        "state": "Succeeded",
        "resourceId": INSTANCE_ID,
        "progress": 100,
        "message": "",
        "error": None,
        "steps": [],
        "createdAt": "2026-07-18T17:49:09.555+08:00",
        "finishedAt": "2026-07-18T17:49:12.555+08:00",
        "cancelable": False,
    }
    return {**operation, **changes}


def a_running_operation(operation_id: str = OPERATION_ID, step: str = "ensure_image") -> dict[str, Any]:
    """An operation in the middle of a step."""
    steps = [{"name": "claim", "state": "done"}, {"name": step, "state": "running"}]
    return an_operation(operation_id, state="Running", progress=40, finishedAt=None, steps=steps)


def a_failed_operation(operation_id: str = OPERATION_ID) -> dict[str, Any]:
    """An operation whose second step failed."""
    steps = [{"name": "ensure_image", "state": "done"}, {"name": "define", "state": "failed", "error": "DomainInvalid"}]
    error = {"code": "DomainInvalid", "message": "no such machine type"}
    return an_operation(operation_id, state="Failed", steps=steps, error=error)
