"""VolumeExportService: what it takes for an order, and what not."""

from typing import Any, cast

import pytest

from agent.errors import RequestInvalid
from agent.rpc.volume_export import VolumeExportServicer
from agent.storage.exporting import ExportOrder, ExportProgress, Exports
from protos.agent.v1 import storage_pb2

UUID = "0f1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d12"


class Recorder:
    """In the place of the copies: keeps what is asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def ensure(self, *order: Any) -> Any:
        """As Exports."""
        self.asked.append(order)
        yield ExportProgress(100, 7, "ab", "crash", is_increment=True)


async def ask(recorder: Recorder, **fields: Any) -> list[storage_pb2.VolumeExportProgress]:
    request = storage_pb2.EnsureVolumeExportedRequest(uuid=UUID, export_id="backup-1", **fields)
    servicer = VolumeExportServicer(cast("Exports", recorder))
    return [progress async for progress in servicer.EnsureExported(request, cast("Any", None))]


async def test_a_state_is_asked_for_and_what_came_of_it_told() -> None:
    recorder = Recorder()
    [told] = await ask(recorder)
    assert (told.size_bytes, told.sha256, told.is_increment) == (7, "ab", True)
    await ask(recorder, snapshot_id="two", parent_snapshot_id="one", parent_name="backup-0.qcow2")
    assert [order for (order,) in recorder.asked] == [
        ExportOrder(UUID, "backup-1"),
        ExportOrder(UUID, "backup-1", snapshot_id="two", parent_id="one", parent_name="backup-0.qcow2"),
    ]


@pytest.mark.parametrize(
    ("state", "field"),
    [
        ({"parent_snapshot_id": "one", "parent_name": "x.qcow2"}, "parent_snapshot_id"),
        ({"snapshot_id": "a/b"}, "snapshot_id"),
        ({"snapshot_id": "two", "parent_snapshot_id": "one"}, "parent_name"),
        ({"snapshot_id": "two", "parent_name": "x.qcow2"}, "snapshot_id"),
        ({"snapshot_id": "two", "parent_snapshot_id": "one", "parent_name": "/etc/passwd"}, "parent_name"),
        ({"snapshot_id": "two", "parent_snapshot_id": "one", "parent_name": "x" * 65}, "parent_name"),
        ({"snapshot_id": "two", "parent_snapshot_id": "two", "parent_name": "x"}, "parent_snapshot_id"),
    ],
)
async def test_what_makes_no_sense_is_refused(state: dict[str, str], field: str) -> None:
    recorder = Recorder()
    with pytest.raises(RequestInvalid, match=field):
        await ask(recorder, **state)
    assert recorder.asked == []
