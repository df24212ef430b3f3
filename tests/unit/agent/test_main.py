"""The command line: what it prints, with which status it ends, and what it starts."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import structlog
from typer.testing import CliRunner, Result

from agent import doctor, main
from agent.finding import Finding, Verdict
from agent.identity import Identity
from coordinator.pki import Authority
from tests.unit.agent.coordinator_server import NODE_ID, Coordinator, serving
from tests.unit.agent.website import Website, website


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A command sets up the log of its process, which here is that of all tests."""
    former = structlog.get_config()
    yield
    structlog.configure(**former)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "authority")


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Iterator[Website]:
    with website(authority, tmp_path) as site:
        yield site


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(f'state_dir = "{tmp_path}/state"\nmachine_uuid = "4c4c4544-0038-5a10-8052-b4c04f4e3732"\n')
    return path


def run(*arguments: str, stdin: str = "", **environment: str) -> Result:
    return CliRunner().invoke(main.app, arguments, input=stdin, env=environment)


class TestJoin:
    """nodewright-agent join."""

    @pytest.mark.parametrize("way", ["option", "stdin", "environment"])
    async def test_a_machine_joins_and_is_told_what_comes_next(
        self, config: Path, site: Website, authority: Authority, way: str
    ) -> None:
        token = f"nwe_{'C' * 43}.{authority.fingerprint}"
        given = {"option": ("--token", token), "stdin": ("--token", "-"), "environment": ()}[way]
        environment = {"NODEWRIGHT_AGENT_TOKEN": token} if way == "environment" else {}
        coordinator = Coordinator(authority)
        async with serving(coordinator, client_certificate=False) as port:
            site.tell(authority.pem, f"127.0.0.1:{port}", "127.0.0.1:8444")
            arguments = ("join", "--coordinator", site.url, *given, "--config", str(config))
            result = await asyncio.to_thread(run, *arguments, stdin=f"{token}\n", **environment)
        assert (result.exit_code, result.stderr) == (0, "")
        assert f"{NODE_ID} in region0" in result.stdout
        assert "nodewright-agent serve" in result.stdout
        state = config.parent / "state"
        assert Identity(state, state / "pki").membership().node_id == NODE_ID
        request = await coordinator.request("Join")
        assert (request.token, request.machine_uuid) == (token, "4c4c4544-0038-5a10-8052-b4c04f4e3732")

    async def test_a_refusal_is_told_without_a_traceback(
        self, config: Path, site: Website, authority: Authority
    ) -> None:
        coordinator = Coordinator(authority)
        coordinator.failures["Join"] = [grpc.StatusCode.UNAUTHENTICATED]
        async with serving(coordinator, client_certificate=False) as port:
            site.tell(authority.pem, f"127.0.0.1:{port}", "127.0.0.1:8444")
            token = f"nwe_{'C' * 43}.{authority.fingerprint}"
            arguments = ("join", "--coordinator", site.url, "--token", token, "--config", str(config))
            result = await asyncio.to_thread(run, *arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr == "not joined: UNAUTHENTICATED: Join as told\n"

    @pytest.mark.parametrize("coordinator", ["nonsense", "https://127.0.0.1:1", "https://127.0.0.1:99999"])
    def test_an_address_that_does_not_work_is_told(self, config: Path, coordinator: str) -> None:
        result = run("join", "--coordinator", coordinator, "--token", "nwe_x", "--config", str(config))
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("not joined: ")


class TestServe:
    """nodewright-agent serve becomes a smaller program."""

    @pytest.mark.parametrize("is_given", [False, True])
    def test_the_process_goes_on_as_the_service(
        self, config: Path, monkeypatch: pytest.MonkeyPatch, is_given: bool
    ) -> None:
        executed: list[tuple[str, list[str]]] = []
        monkeypatch.setattr(os, "execv", lambda path, argv: executed.append((path, argv)))
        result = run("serve", *(("--config", str(config)) if is_given else ()))
        assert result.exit_code == 0
        arguments = [str(config)] if is_given else []
        assert executed == [(sys.executable, [sys.executable, "-P", "-m", "agent.process", *arguments])]


class TestDoctor:
    """nodewright-agent doctor."""

    @pytest.mark.parametrize(("verdict", "status"), [("ok", 0), ("warn", 0), ("fail", 1)])
    @pytest.mark.parametrize("as_json", [False, True])
    def test_a_failure_is_told_by_the_status(
        self, config: Path, monkeypatch: pytest.MonkeyPatch, verdict: Verdict, status: int, as_json: bool
    ) -> None:
        async def examine(settings: object) -> list[Finding]:
            assert getattr(settings, "state_dir") == config.parent / "state"  # noqa: B009 - of any kind
            return [Finding("kvm", "ok", "runs"), Finding("clock", verdict, "as found")]

        monkeypatch.setattr(doctor, "examine", examine)
        result = run("doctor", "--config", str(config), *(("--json",) if as_json else ()))
        assert result.exit_code == status
        if as_json:
            assert [finding["verdict"] for finding in json.loads(result.stdout)] == ["ok", verdict]
        else:
            assert "as found" in result.stdout

    def test_a_configuration_that_is_wrong_is_named(self, config: Path) -> None:
        config.write_text("zome = 'AZ1'\n")
        result = run("doctor", "--config", str(config))
        assert (result.exit_code, result.stdout, result.stderr) == (1, "", "zome: there is no such setting\n")


def test_without_a_command_there_is_help() -> None:
    result = run()
    assert {"join", "serve", "doctor"} <= {*(result.stdout + result.stderr).split()}
