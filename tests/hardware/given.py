"""Devices that a guest gets together: asked for, seen from inside, and the node's again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import pytest

from protos.agent.v1.device_pb2 import HostDevice
from protos.agent.v1.host_pb2 import HostInventory
from tests.hardware.device_row import ROWS, DeviceRow
from tests.hardware.footprint import read_footprint, wait_for_footprint
from tests.hardware.guest import Guest
from tests.hardware.host import NodeHost
from tests.lab.waiting import wait_until

_BACK_SECONDS: Final = 180.0


@dataclass(frozen=True)
class Given:
    """A kind of device, and what a guest asks for of it."""

    row: DeviceRow
    wish: HostDevice


def find_row(name: str) -> DeviceRow:
    """The kind of this name."""
    return next(row for row in ROWS if row.name == name)


def skip_missing(host: NodeHost, row: DeviceRow) -> None:
    """The test needs what could not be prepared here."""
    if row.needs in host.node.preparation.missing:
        pytest.skip(host.node.preparation.missing[row.needs])


def ask_for(host: NodeHost, rows: Iterable[DeviceRow] = ROWS) -> list[Given]:
    """Wishes for a device of each kind that the node can have; all of them are offered."""
    inventory = host.read_inventory()
    present = [row for row in rows if row.needs not in host.node.preparation.missing]
    assert all(_is_offered(inventory, row) for row in present)
    return [Given(row, row.ask(row.pick(inventory))) for row in present]


def prove_withheld(host: NodeHost, given: Collection[Given]) -> None:
    """Nobody else is offered these, but what is made of devices that are split."""
    inventory = host.read_inventory()
    whole = [one.row for one in given if not one.row.pick(inventory).shareable]
    assert [row.name for row in whole if _is_offered(inventory, row)] == []


def _is_offered(inventory: HostInventory, row: DeviceRow) -> bool:
    return not row.pick(inventory).withheld_reason


def prove_functions(guest: Guest, present: Collection[Given], absent: Collection[Given] = ()) -> None:
    """The guest sees the PCI functions of these, and no more of the others'."""
    seen = [identity for one in present for identity in one.row.functions]
    for identity in {*seen, *(identity for one in absent for identity in one.row.functions)}:
        guest.wait_for_function(identity, seen.count(identity))


def prove_all(guest: Guest, present: Collection[Given], absent: Collection[Given] = ()) -> None:
    """After a start of the guest: it also tells what it has read from these, and from no others."""
    prove_functions(guest, present, absent)
    for one in present:
        for text in one.row.texts:
            guest.wait_for_line(text)
    for one in absent:
        for text in one.row.texts:
            guest.wait_for_line(text, present=False)


class Snapshot:
    """The node before guests got anything."""

    def __init__(self, host: NodeHost) -> None:
        self._host = host
        self._footprint = read_footprint(host)

    def wait_until_back(self, given: Sequence[Given]) -> None:
        """These are offered again, all that the node has for its devices is as it was, and nothing is left over."""
        wait_for_footprint(self._host, self._footprint)

        def are_offered() -> bool:
            inventory = self._host.read_inventory()
            return all(_is_offered(inventory, one.row) for one in given)

        wait_until(are_offered, "all devices are offered again", _BACK_SECONDS, 0.5)
