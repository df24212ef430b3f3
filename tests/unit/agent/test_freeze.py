"""Guests are thawed whatever happens: a guest agent that does as the test says, and an agent that dies."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from agent.errors import (
    AgentError,
    DomainNotFound,
    GuestAgentCommandFailed,
    GuestAgentTimeout,
    GuestAgentUnavailable,
    HypervisorUnavailable,
)
from agent.hypervisor import freeze as freeze_module
from agent.hypervisor.freeze import Freezes
from agent.hypervisor.guest_agent import GuestAgents
from agent.hypervisor.snapshot import LiveSnapshots
from tests.unit.agent.guest_builder import GUEST_UUID


class AGuest:
    """Its agent, which fails as often as it is told to; whether the domain is active."""

    def __init__(self) -> None:
        self.freezing: list[AgentError] = []
        self.thawing: list[AgentError] = []
        self.is_frozen = self.held = False
        self.active = True
        self.thaws = 0
        self.file_systems = 1

    async def freeze(self, uuid: str, *, timeout_seconds: float) -> int:
        self.held = True
        if self.freezing:
            error = self.freezing.pop()
            self.held = not isinstance(error, GuestAgentUnavailable)
            # A guest that does not answer may have heard.
            self.is_frozen = isinstance(error, GuestAgentTimeout)
            raise error
        self.is_frozen = True
        return self.file_systems

    async def thaw(self, uuid: str, *, timeout_seconds: float) -> None:
        self.thaws += 1
        if self.thawing:
            raise self.thawing.pop()
        self.is_frozen = False

    def is_held(self, uuid: str) -> bool:
        return self.held

    def release(self, uuid: str) -> None:
        self.held = False

    async def is_active(self, uuid: str) -> bool:
        return self.active


@pytest.fixture
def guest() -> AGuest:
    return AGuest()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freeze_module, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(freeze_module, "_LIMIT_SECONDS", 0.2)


def an_agent(guest: AGuest, directory: Path) -> Freezes:
    """One that has just been started."""
    made = Freezes(cast("GuestAgents", guest), cast("LiveSnapshots", guest), directory)
    made.resume()
    return made


async def settled(guest: AGuest, directory: Path) -> None:
    """The guest is thawed, others are heard again, and nothing is left on disk."""
    async with asyncio.timeout(5):
        while guest.is_frozen or guest.held or list(directory.iterdir()):
            await asyncio.sleep(0.01)


async def test_a_guest_is_frozen_for_as_long_as_it_is_asked(guest: AGuest, tmp_path: Path) -> None:
    freezes = an_agent(guest, tmp_path)
    async with freezes.frozen(GUEST_UUID) as freeze:
        assert (guest.is_frozen, freeze.reason, freeze.is_broken) == (True, "", False)
        assert [path.name for path in tmp_path.iterdir()] == [GUEST_UUID]
    assert not guest.is_frozen
    await settled(guest, tmp_path)


async def test_a_guest_without_file_systems_that_freeze_is_told_from_others(guest: AGuest, tmp_path: Path) -> None:
    guest.file_systems = 0
    async with an_agent(guest, tmp_path).frozen(GUEST_UUID) as freeze:
        assert freeze.reason == freeze_module.NOTHING_FROZEN
    assert (guest.is_frozen, guest.held) == (False, False)


@pytest.mark.parametrize(
    ("error", "thaws"),
    [
        (GuestAgentUnavailable("no guest agent"), 0),
        (GuestAgentTimeout("silent"), 1),
        (GuestAgentCommandFailed("disabled"), 1),
        (HypervisorUnavailable("libvirt is away"), 1),
    ],
)
async def test_a_guest_that_does_not_freeze_is_thawed_if_it_may_have(
    guest: AGuest, tmp_path: Path, error: AgentError, thaws: int
) -> None:
    guest.freezing = [error]
    # One that cannot freeze may not be able to thaw either.
    guest.thawing = [error] if isinstance(error, GuestAgentCommandFailed) else []
    async with an_agent(guest, tmp_path).frozen(GUEST_UUID) as freeze:
        assert freeze.reason == error.message
    await settled(guest, tmp_path)
    assert guest.thaws == thaws


async def test_thawing_goes_on_until_the_guest_has_answered(guest: AGuest, tmp_path: Path) -> None:
    freezes = an_agent(guest, tmp_path)

    async def fail() -> None:
        async with freezes.frozen(GUEST_UUID):
            paused = [GuestAgentUnavailable("paused")] * 3
            guest.thawing = [*paused, GuestAgentTimeout("silent"), GuestAgentCommandFailed("busy")]
            raise RuntimeError("whoever froze it has failed")

    with pytest.raises(RuntimeError):
        await fail()
    await settled(guest, tmp_path)
    assert guest.thaws == 6


@pytest.mark.parametrize("ends", ["stopped", "removed"])
async def test_a_guest_that_has_ended_is_not_waited_for(guest: AGuest, tmp_path: Path, ends: str) -> None:
    async with an_agent(guest, tmp_path).frozen(GUEST_UUID):
        guest.is_frozen = guest.active = False
        error = GuestAgentUnavailable("shut off") if ends == "stopped" else DomainNotFound("gone")
        guest.thawing = [error] * 100
    await settled(guest, tmp_path)
    assert guest.thaws == 1


async def test_who_takes_too_long_is_told_and_the_guest_goes_on(guest: AGuest, tmp_path: Path) -> None:
    async with an_agent(guest, tmp_path).frozen(GUEST_UUID) as freeze:
        async with asyncio.timeout(5):
            while guest.is_frozen:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        assert freeze.is_broken
    await settled(guest, tmp_path)


async def test_the_next_agent_thaws_what_a_dead_one_has_frozen(guest: AGuest, tmp_path: Path) -> None:
    freezing = an_agent(guest, tmp_path).frozen(GUEST_UUID)
    await freezing.__aenter__()
    assert guest.is_frozen
    # What another one has left that died while it wrote.
    (tmp_path / ".new-0123abcd-half").touch()
    freezes = an_agent(guest, tmp_path)
    # Nobody freezes it anew before that has ended.
    async with freezes.frozen(GUEST_UUID) as freeze:
        assert freeze.reason
    await settled(guest, tmp_path)
