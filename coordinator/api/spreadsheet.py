"""Tables as Office Open XML workbooks, of which no more than a row is in memory."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Final, TypeAlias
from urllib.parse import quote

from starlette.responses import StreamingResponse
from xlsxwriter import Workbook
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

MEDIA_TYPE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
# What a sheet can have below its headings.
MAXIMUM_ROWS: Final = 1_048_575

Cell: TypeAlias = str | int | datetime | None

_MAXIMUM_TEXT: Final = 32_767
_COLUMN_WIDTH: Final = 24
_CHUNK_BYTES: Final = 256 * 1024
_MOMENT_FORMAT: Final = "yyyy-mm-dd hh:mm:ss"


def write_workbook(title: str, headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> IO[bytes]:
    """A file without a name, at its start, with one sheet; texts are never formulas, moments are in UTC."""
    file = TemporaryFile()  # noqa: SIM115 - the caller reads and closes it
    try:
        with TemporaryDirectory(prefix="nodewright-export-") as directory:
            book = Workbook(file, {"constant_memory": True, "tmpdir": directory})
            _fill(book, book.add_worksheet(title), headings, rows)
            book.close()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _fill(book: Workbook, sheet: Worksheet, headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    sheet.set_column(0, len(headings) - 1, _COLUMN_WIDTH)
    sheet.freeze_panes(1, 0)
    bold, moment = book.add_format({"bold": True}), book.add_format({"num_format": _MOMENT_FORMAT})
    for column, heading in enumerate(headings):
        sheet.write_string(0, column, heading, bold)
    for number, row in enumerate(rows, start=1):
        for column, cell in enumerate(row):
            _write(sheet, number, column, cell, moment)


def _write(sheet: Worksheet, row: int, column: int, cell: Cell, moment: Format) -> None:
    match cell:
        case None | "":
            pass
        case datetime():
            sheet.write_datetime(row, column, cell.astimezone(UTC).replace(tzinfo=None), moment)
        case int():
            sheet.write_number(row, column, cell)
        case _:
            # The library takes a text within this tag for XML of its own making.
            text = f" {cell}" if cell.startswith("<r>") else cell
            sheet.write_string(row, column, text[:_MAXIMUM_TEXT])


class WorkbookResponse(StreamingResponse):
    """Answers a workbook as a download, and closes it."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        """`name` is the file's, with its suffix."""
        size_bytes = file.seek(0, 2)
        file.seek(0)
        headers = {
            "content-length": str(size_bytes),
            "content-disposition": f"attachment; filename=\"export.xlsx\"; filename*=UTF-8''{quote(name, safe='')}",
            "cache-control": "no-store",
        }
        super().__init__(_chunks(file), media_type=MEDIA_TYPE, headers=headers)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
