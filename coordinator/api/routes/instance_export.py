"""Instances as a file for spreadsheets."""

from fastapi import APIRouter, Response

from coordinator.api.deps import Reader, RuntimeDep
from coordinator.api.query import LenientRoute
from coordinator.api.request_context import current_request
from coordinator.api.schemas.instance_export import ExportRequest
from coordinator.api.spreadsheet import MAXIMUM_ROWS, MEDIA_TYPE, WorkbookResponse, write_workbook
from coordinator.domain.message import Message
from coordinator.services.instance_export import export_instances

_TITLE = Message("Instances", "云服务器")

# Not IdempotentRoute: a file is not kept for idempotency keys, and nothing is changed.
router = APIRouter(prefix="/api/ecs/v1/instances", tags=["instances"], route_class=LenientRoute)


@router.post(
    "/export",
    operation_id="exportInstances",
    response_class=Response,
    responses={200: {"description": "The workbook.", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}},
)
def export(body: ExportRequest, caller: Reader, runtime: RuntimeDep) -> Response:
    """Answers the caller's instances as an xlsx file; headings are in the caller's language."""
    language = current_request().language
    wanted = body.filter_params
    views = export_instances(runtime, caller, wanted.to_narrowing(), wanted.to_query(), MAXIMUM_ROWS)
    title, columns = _TITLE.text(language), body.columns
    headings = [column.heading.text(language) for column in columns]
    rows = ([column.cell_of(view) for column in columns] for view in views)
    return WorkbookResponse(write_workbook(title, headings, rows), f"{title}.xlsx")
