"""Outcomes of migrations and what is kept of them, on libvirt's test driver, which can move nothing."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import DomainNotFound, DomainStateConflict, MigrationNotFound, RequestInvalid
from agent.hypervisor.description import PowerState
from agent.hypervisor.migration import MigrationOrder
from agent.hypervisor.migration_job import MigrationProgress, Migrations
from protos.agent.v1.domain_pb2 import EnsureDefinedRequest, EnsureRunningRequest
from tests.unit.agent.domain_server import FOREIGN_UUID, DomainServer, serve
from tests.unit.agent.guest_builder import GUEST_UUID, a_spec

WEEK_SECONDS = 7 * 24 * 3600


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[DomainServer]:
    async with serve(tmp_path) as server:
        await server.domains.EnsureDefined(EnsureDefinedRequest(spec=a_spec()))
        await server.domains.EnsureRunning(EnsureRunningRequest(uuid=GUEST_UUID))
        yield server


async def _sever(_address: str) -> None:
    raise AssertionError("nothing is cut")


def _migrations(server: DomainServer) -> Migrations:
    return Migrations(server.connection, server.guests, server.directory / "journal", sever=_sever)


def _order(**changes: Any) -> MigrationOrder:
    values = {
        "uuid": GUEST_UUID,
        "migration_id": "m-1",
        "uri": "test:///default",
        "certificate_name": "node-1.node.nodewright.internal",
        "data_address": "192.0.2.1",
        "definition_xml": "<domain/>",
    }
    return MigrationOrder(**values | changes)


async def _migrate(migrations: Migrations, **changes: Any) -> MigrationProgress:
    return [look async for look in migrations.migrate(_order(**changes))][-1]


def _write(server: DomainServer, **entry: Any) -> Path:
    path = server.directory / "journal/migration-m-1.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"migration_id": "m-1", "uuid": GUEST_UUID, "state": "running"} | entry))
    return path


async def test_what_cannot_be_moved_stays_and_the_reason_is_kept(server: DomainServer) -> None:
    migrations = _migrations(server)
    end = await _migrate(migrations)
    assert end.entry.state == "failed"
    assert end.entry.reason
    assert (await server.guests.get(GUEST_UUID)).power_state is PowerState.RUNNING
    # The same for the next agent, and without another try.
    assert (await _migrate(_migrations(server))).entry == end.entry
    assert (await _migrations(server).outcome("m-1"))[0] == end.entry


async def test_nothing_is_kept_of_a_migration_that_cannot_begin(server: DomainServer) -> None:
    migrations = _migrations(server)
    with pytest.raises(DomainNotFound):
        await _migrate(migrations, uuid="bbbbbbbb-7e64-4a7e-9c60-0e2a4a7a7d11")
    await server.guests.destroy(GUEST_UUID)
    with pytest.raises(DomainStateConflict, match="does not run"):
        await _migrate(migrations)
    with pytest.raises(MigrationNotFound):
        await migrations.outcome("m-1")


async def test_an_id_belongs_to_one_guest(server: DomainServer) -> None:
    migrations = _migrations(server)
    await migrations.cancel(GUEST_UUID, "m-1")
    with pytest.raises(RequestInvalid, match="another domain"):
        await migrations.cancel(FOREIGN_UUID, "m-1")
    with pytest.raises(RequestInvalid, match="migration_id"):
        await migrations.outcome("../x")


async def test_a_guest_that_is_gone_after_a_restart_has_arrived(server: DomainServer) -> None:
    nvram = server.directory / "guest_VARS.fd"
    nvram.touch()
    _write(server, nvram=str(nvram))
    await server.guests.remove(GUEST_UUID)
    assert (await _migrate(_migrations(server))).entry.state == "completed"
    assert not nvram.exists()


@pytest.mark.parametrize(("is_cancelled", "state"), [(False, "failed"), (True, "canceled")])
async def test_a_guest_that_is_still_there_after_a_restart_has_not(
    server: DomainServer, is_cancelled: bool, state: str
) -> None:
    _write(server, is_cancelled=is_cancelled)
    migrations = _migrations(server)
    migrations.resume()
    assert (await _migrate(migrations)).entry.state == state


async def test_a_guest_that_has_ended_meanwhile_is_told_as_such(server: DomainServer) -> None:
    _write(server)
    await server.guests.destroy(GUEST_UUID)
    assert "off" in (await _migrate(_migrations(server))).entry.reason


async def test_old_outcomes_are_forgotten(server: DomainServer) -> None:
    path = _write(server, state="completed")
    modified_at = path.stat().st_mtime - WEEK_SECONDS - 60
    os.utime(path, (modified_at, modified_at))
    await _migrate(_migrations(server), migration_id="m-2")
    assert not path.exists()


async def test_a_guest_that_a_boot_of_its_node_has_ended_may_be_elsewhere(server: DomainServer) -> None:
    _write(server)
    await server.guests.remove(GUEST_UUID)
    await server.domains.EnsureDefined(EnsureDefinedRequest(spec=a_spec()))
    assert (await _migrate(_migrations(server))).entry.state == "undecided"
