"""Generated calls of every operation: no failure inside, and no answer that the document does not describe."""

from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.schemas import OpenApiSchema

from coordinator.api.app import OPEN_ROUTERS, ROUTERS
from coordinator.domain.caller import Caller, Role
from coordinator.runtime import Runtime
from coordinator.services.credential import create_token

# Not among them: whether what breaks the schema is refused. This API takes numbers as text, null as absent and
# confused field names on purpose.
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 20
# Each answer comes within milliseconds; a machine that stalls is not what is looked for.
PATIENCE_SECONDS = 120

# Pieces of files are bytes like whole files.
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")

OPERATION_IDS = [
    route.operation_id
    for router in (*ROUTERS, *OPEN_ROUTERS)
    for route in router.routes
    if isinstance(route, APIRoute)
    and route.include_in_schema
    and route.operation_id
    # An answer that does not end cannot be waited for.
    and route.operation_id != "streamEvents"
]


@pytest.fixture(scope="module")
def headers(runtime: Runtime) -> dict[str, str]:
    issuer = Caller("tok-of-the-tests", Role.OPERATOR)
    token = create_token(runtime, issuer, name="schemathesis", role=Role.OPERATOR).secret
    return {"authorization": f"Bearer {token}", "x-regionid": runtime.settings.region}


@pytest.fixture(scope="module")
def schema(app: FastAPI) -> OpenApiSchema:
    loaded = schemathesis.openapi.from_asgi("/openapi.json", app)
    assert isinstance(loaded, OpenApiSchema)
    return loaded


@pytest.mark.parametrize("operation_id", OPERATION_IDS)
def test_no_generated_call_fails_inside_or_surprises(
    schema: OpenApiSchema, headers: dict[str, str], operation_id: str
) -> None:
    @given(case=schema.find_operation_by_id(operation_id).as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def call(case: Case[Any]) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS, timeout=PATIENCE_SECONDS)

    call()
