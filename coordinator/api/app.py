"""The REST application: its routers in order, and what surrounds them."""

from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from coordinator.api import error_handler
from coordinator.api.deps import get_caller
from coordinator.api.middleware import RequestMiddleware
from coordinator.api.openapi import build_document
from coordinator.api.routes import (
    audit,
    backup,
    bmc,
    deployment_set,
    device,
    enrolment,
    event,
    flavor,
    flavor_type,
    guest,
    ha_config,
    health,
    host_group,
    iam,
    image,
    instance,
    instance_change,
    instance_clone,
    instance_export,
    iso,
    launch_template,
    local_disk,
    migration,
    migration_setting,
    monitor,
    network,
    node,
    operation,
    overcommit,
    placement,
    power,
    recycle,
    region,
    resource_pool,
    schedule,
    snapshot,
    snapshot_policy,
    ssh_key,
    volume,
    volume_attachment,
    webhook,
)
from coordinator.runtime import Runtime
from coordinator.services.idempotency import stamp_claim

VERSION = "1.0.0"

# Each is tried in turn: first those of instances, which are asked for most. Where paths overlap, fixed paths stand
# before those with parameters.
ROUTERS: tuple[APIRouter, ...] = (
    ha_config.router,
    recycle.config_router,
    region.router,
    power.router,
    migration.router,
    placement.router,
    instance.router,
    instance_export.router,
    instance_clone.router,
    instance_change.router,
    guest.router,
    enrolment.router,
    flavor_type.router,
    flavor.router,
    bmc.router,
    node.router,
    resource_pool.router,
    host_group.router,
    overcommit.router,
    migration_setting.router,
    monitor.router,
    operation.router,
    event.router,
    webhook.router,
    audit.router,
    image.router,
    image.file_router,
    placement.cluster_router,
    local_disk.router,
    local_disk.instance_router,
    device.router,
    deployment_set.router,
    ssh_key.router,
    ssh_key.file_router,
    launch_template.router,
    launch_template.instance_router,
    schedule.router,
    snapshot_policy.router,
    recycle.router,
    snapshot.router,
    backup.router,
    volume.router,
    volume_attachment.router,
    iso.router,
    network.router,
    iam.token_router,
    iam.router,
)
# Answer to everybody.
OPEN_ROUTERS: tuple[APIRouter, ...] = (enrolment.open_router, health.router)


def create_app(runtime: Runtime) -> FastAPI:
    """The application over `runtime`."""
    app = make_routes()
    serve_from(app, runtime)
    return app


def serve_from(app: FastAPI, runtime: Runtime) -> None:
    """Requests are answered out of `runtime` from now on."""
    app.state.runtime = runtime
    runtime.database.before_commit = stamp_claim


def make_routes() -> FastAPI:
    """The application over nothing yet: `serve_from` says what it answers from."""
    app = FastAPI(
        title="Nodewright",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        # A path with a slash too many is none of ours; a redirection would lose bodies.
        redirect_slashes=False,
        # Bodies without a content type are read as JSON.
        strict_content_type=False,
    )
    app.add_middleware(RequestMiddleware)
    error_handler.install(app)
    for router in ROUTERS:
        # First of all dependencies: strangers are not told what else is wrong with their requests.
        app.include_router(router, dependencies=[Depends(get_caller)])
    for router in OPEN_ROUTERS:
        app.include_router(router)
    app.openapi = _cached_document(app)  # type: ignore[method-assign]
    _add_docs(app)
    return app


def _cached_document(app: FastAPI) -> Any:
    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build_document(app)
        return app.openapi_schema

    return document


def _add_docs(app: FastAPI) -> None:
    """Interactive documentation under /docs, from files that an installed package carries."""
    app.mount("/docs/static", StaticFiles(packages=[("fastapi_swagger", "resources")]), name="docs-static")

    @app.get("/docs", include_in_schema=False)
    def show_docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url="/docs/static/swagger-ui-bundle.js",
            swagger_css_url="/docs/static/swagger-ui.css",
            swagger_favicon_url="/docs/static/favicon-32x32.png",
        )
