"""The header that tells which operation is doing the work."""

from typing import Annotated

from fastapi import Depends, Response

OPERATION_HEADER = "x-operation-id"


class _OperationHeader:
    """Sets the header on the answer being made."""

    def __init__(self, response: Response) -> None:
        self._response = response

    def name(self, *operation_ids: str) -> None:
        """Tells the caller these operations; none at all leaves the header out."""
        if operation_ids:
            self._response.headers[OPERATION_HEADER] = ",".join(operation_ids)

    def name_any(self, operation_id: str | None) -> None:
        """Tells the caller the operation, if there is one."""
        self.name(*filter(None, [operation_id]))


async def _get_operation_header(response: Response) -> _OperationHeader:
    return _OperationHeader(response)


OperationHeader = Annotated[_OperationHeader, Depends(_get_operation_header)]
