"""The three ways in which callers of this API ask for a page."""

from typing import Annotated

from fastapi import Depends, Query

from coordinator.domain.listing import DEFAULT_PAGE_SIZE, MAXIMUM_PAGE_NUMBER, MAXIMUM_PAGE_SIZE, Page

_SIZE = {"ge": 1, "le": MAXIMUM_PAGE_SIZE, "description": "Entries on a page."}
_NUMBER = {"ge": 0, "le": MAXIMUM_PAGE_NUMBER, "description": "Page to answer; 0 and 1 are both the first."}


def _page(size: int, number: int) -> Page:
    return Page(size, max(number, 1))


async def page_by_number(
    page_size: Annotated[int, Query(alias="pageSize", **_SIZE)] = DEFAULT_PAGE_SIZE,
    page_number: Annotated[int, Query(alias="pageNumber", **_NUMBER)] = 1,
) -> Page:
    """`pageSize` and `pageNumber`."""
    return _page(page_size, page_number)


async def page_by_current(
    size: Annotated[int, Query(**_SIZE)] = DEFAULT_PAGE_SIZE,
    current: Annotated[int, Query(**_NUMBER)] = 1,
) -> Page:
    """`size` and `current`."""
    return _page(size, current)


async def page_by_index(
    page_index: Annotated[int, Query(alias="pageIndex", **_NUMBER)] = 1,
    page_size: Annotated[int, Query(alias="pageSize", **_SIZE)] = DEFAULT_PAGE_SIZE,
) -> Page:
    """`pageIndex` and `pageSize`."""
    return _page(page_size, page_index)


async def whole_page(
    size: Annotated[int, Query(**_SIZE)] = MAXIMUM_PAGE_SIZE,
    current: Annotated[int, Query(**_NUMBER)] = 1,
) -> Page:
    """`size` and `current` of lists that callers expect to be whole."""
    return _page(size, current)


PageByNumber = Annotated[Page, Depends(page_by_number)]
PageByCurrent = Annotated[Page, Depends(page_by_current)]
WholePage = Annotated[Page, Depends(whole_page)]
PageByIndex = Annotated[Page, Depends(page_by_index)]
