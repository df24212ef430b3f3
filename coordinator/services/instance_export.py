"""Instances for a table: all that fulfil the conditions, some of them at a time."""

from collections.abc import Iterator, Sequence

from coordinator.domain.caller import Caller
from coordinator.domain.listing import ListQuery, Page
from coordinator.errors import ParameterInvalid
from coordinator.runtime import Runtime
from coordinator.services.instance_view import InstanceView, load_views
from coordinator.store.queries.instance import Narrowing, list_numbers

_CHUNK = 500


def export_instances(
    runtime: Runtime, caller: Caller, narrowing: Narrowing, query: ListQuery, limit: int
) -> Iterator[InstanceView]:
    """The caller's instances in the order of the query, whose page does not count.

    Which they are is settled at once; what is told of each is as it is read. ParameterInvalid for more than `limit`.
    """
    whole = ListQuery(Page(size=limit + 1), query.conditions, query.orderings)
    with runtime.database.read() as session:
        numbers = list_numbers(session, caller.tenant_id if caller.is_tenant else None, narrowing, whole).items
    if len(numbers) > limit:
        raise ParameterInvalid(
            "filterParams", f"more than {limit} instances: narrow them", f"实例超过{limit}个，请缩小筛选范围"
        )
    return _load(runtime, numbers)


def _load(runtime: Runtime, numbers: Sequence[int]) -> Iterator[InstanceView]:
    for start in range(0, len(numbers), _CHUNK):
        # A session for each: no transaction is open while rows are written.
        with runtime.database.read() as session:
            views = load_views(session, runtime, numbers[start : start + _CHUNK])
        yield from views
