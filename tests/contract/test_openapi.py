"""The OpenAPI document: complete, about what is really served, and the same as the facts of the API reference."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from coordinator.api.app import OPEN_ROUTERS, ROUTERS
from coordinator.api.openapi import TAGS
from coordinator.api.query import LenientRoute

METHODS = {"get", "put", "post", "delete", "patch"}
EXPECTED: list[dict[str, str]] = json.loads(
    (Path(__file__).parent.parent / "data" / "operations.json").read_text(encoding="utf-8")
)
# An operation that is served under two methods or paths has an id of its own for the second: the document admits no
# other way.
SECOND_IDS = {
    ("GET", "/api/ecs/v1/instances/{ecsId}/house-disk-list"): "listUnusedLocalDisksOfNodeByOtherPath",
    ("POST", "/api/ecs/v1/instances/batch-delete"): "batchDeleteInstancesByPost",
    ("POST", "/api/ecs/v1/policy"): "createSnapshotPolicyByPost",
    ("GET", "/api/ecs/v1/policy/{policyId}/bind"): "bindSnapshotPolicyByGet",
    ("DELETE", "/api/ecs/v1/host-group/{hgId}"): "deleteHostGroupBySingularPath",
    ("POST", "/api/ecs/v1/global-config/live-migrate-arch"): "setLiveMigrationAcrossCpuTypesByPost",
}


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda fact: f"{fact['method']}-{fact['path']}")
def test_an_operation_of_the_reference_has_its_id_method_and_path(
    document: dict[str, Any], expected: dict[str, str]
) -> None:
    operation = document["paths"].get(expected["path"], {}).get(expected["method"].lower())
    assert operation, "not served"
    named = (expected["method"], expected["path"])
    assert operation["operationId"] == SECOND_IDS.get(named, expected["operationId"])


def test_it_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))


def test_every_operation_has_a_known_tag_and_says_what_it_does(document: dict[str, Any]) -> None:
    known = {name for name, _ in TAGS}
    for path, method, operation in operations(document):
        assert set(operation["tags"]) <= known, (method, path)
        assert operation.get("description", "").endswith("."), (method, path)


def test_every_operation_asks_for_the_region_and_for_a_token(document: dict[str, Any]) -> None:
    public = {"getEnrolmentAuthority"}
    # They tell the region.
    without_region = {"getIdentity", "listServiceRegions"}
    for path, method, operation in operations(document):
        if path.startswith("/api/") and operation["operationId"] not in public:
            assert operation["security"] == [{"HTTPBearer": []}], (method, path)
            headers = {item["name"] for item in operation.get("parameters", []) if item["in"] == "header"}
            assert ("x-regionid" in headers) == (operation["operationId"] not in without_region), (method, path)


def test_every_operation_documents_how_it_is_refused(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        answers = set(operation["responses"])
        assert "422" not in answers, (method, path)
        if operation.get("security"):
            assert {"200", "400", "401", "413", "500", "503"} <= answers, (method, path)


def test_creating_calls_take_an_idempotency_key(document: dict[str, Any]) -> None:
    for operation_id in ("createFlavor", "createFlavorType", "createVolume", "registerImage"):
        operation = next(item for _, _, item in operations(document) if item["operationId"] == operation_id)
        assert "Idempotency-Key" in {item["name"] for item in operation["parameters"]}


def test_every_operation_with_a_query_reads_it_leniently(document: dict[str, Any]) -> None:
    with_query = {
        operation["operationId"]
        for _, _, operation in operations(document)
        if any(item["in"] == "query" for item in operation.get("parameters", []))
    }
    routes = [route for router in (*ROUTERS, *OPEN_ROUTERS) for route in router.routes if isinstance(route, APIRoute)]
    lenient = {str(route.operation_id) for route in routes if isinstance(route, LenientRoute)}
    assert with_query - lenient == set()


def test_every_schema_is_described_in_words(document: dict[str, Any]) -> None:
    undescribed = [
        name
        for name, schema in document["components"]["schemas"].items()
        if schema.get("type") == "object" and not schema.get("description")
    ]
    assert not undescribed


def test_the_document_is_served(app: FastAPI, document: dict[str, Any]) -> None:
    with TestClient(app) as client:
        assert client.get("/openapi.json").json() == document


def test_interactive_documentation_needs_no_other_host(app: FastAPI) -> None:
    with TestClient(app) as client:
        page = client.get("/docs")
        assert page.status_code == 200
        assert "//" not in page.text.replace("http-equiv", "")
        for asset in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png"):
            assert f"/docs/static/{asset}" in page.text
            assert client.get(f"/docs/static/{asset}").status_code == 200
