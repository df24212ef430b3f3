"""Guests that are to become larger while they run, on libvirt's test driver; what a guest agent says is scripted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from agent.errors import DomainGrowthUnsupported, HypervisorFailed
from agent.hypervisor import growth
from agent.hypervisor.growth import Growths, Size
from agent.hypervisor.guest import find_owned
from agent.hypervisor.guest_agent import GuestAgents
from protos.agent.v1.domain_pb2 import EnsureDefinedRequest, EnsureRunningRequest
from tests.unit.agent.domain_server import DomainServer, serve
from tests.unit.agent.guest_builder import GIB, GUEST_UUID, a_spec


class Sleeper:
    """A guest with two vCPUs, which uses no others."""

    async def execute(self, _uuid: str, name: str, _arguments: object, *, timeout_seconds: float) -> Any:
        assert timeout_seconds
        return [{"logical-id": number, "online": True} for number in range(2)] if name == "guest-get-vcpus" else None


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[DomainServer]:
    async with serve(tmp_path) as serving:
        spec = a_spec(vcpus=2, memory_bytes=GIB, max_vcpus=8)
        await serving.domains.EnsureDefined(EnsureDefinedRequest(spec=spec))
        await serving.domains.EnsureRunning(EnsureRunningRequest(uuid=GUEST_UUID))
        yield serving


@pytest.mark.parametrize("is_stubborn", [False, True])
async def test_a_guest_that_does_not_take_all_gives_its_vcpus_back(
    server: DomainServer, monkeypatch: pytest.MonkeyPatch, is_stubborn: bool
) -> None:
    guest_agents = cast("GuestAgents", Sleeper())
    growths = Growths(server.connection, server.guests, guest_agents, server.affinities, server.events)
    monkeypatch.setattr(growth, "_NOTICE_SECONDS", 0.0)
    plugged: list[int] = []

    def count() -> Any:
        return server.connection.call(lambda handle: find_owned(handle, GUEST_UUID).vcpusFlags())

    async def settle(*, anew: bool) -> None:
        assert anew
        plugged.append(await count())
        if is_stubborn:
            monkeypatch.setattr(growth, "_read_room", refuse)

    def refuse(_domain: object) -> None:
        raise HypervisorFailed("vcpu unplug request timed out")

    monkeypatch.setattr(server.affinities, "settle", settle)
    with pytest.raises(DomainGrowthUnsupported, match="does not use"):
        await growths.ensure_grown(GUEST_UUID, Size(4, GIB))
    assert (plugged, await count()) == ([4], 4 if is_stubborn else 2)
