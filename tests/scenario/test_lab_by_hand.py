"""The lab by hand: it comes up, does as it is told, and leaves nothing, also when its start was killed half way."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.lab.rest import Rest
from tests.lab.standing import CHECKOUT
from tests.lab.waiting import wait_until

pytestmark = [
    pytest.mark.scenario,
    pytest.mark.xdist_group("agents"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

ENVIRONMENT = os.environ | {"PYTHONPATH": str(CHECKOUT)}


class ByHand:
    """The verbs on one state directory."""

    def __init__(self, directory: Path, image: Path) -> None:
        self.directory = directory
        self._image = image

    def command(self, verb: str, *arguments: str) -> list[str]:
        """What a person's script executes."""
        image = ("--image", str(self._image)) if verb == "up" else ()
        options = (*image, "--state-dir", str(self.directory))
        return [sys.executable, "-m", "tests.lab.by_hand", verb, *options, *arguments]

    def run(self, verb: str, *arguments: str) -> str:
        """What it prints; it must succeed."""
        done = self._call(verb, *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refusal(self, verb: str, *arguments: str) -> str:
        """Why it does not do that."""
        done = self._call(verb, *arguments)
        assert done.returncode == 1
        return done.stderr

    def _call(self, verb: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = self.command(verb, *arguments)
        return subprocess.run(command, check=False, capture_output=True, text=True, env=ENVIRONMENT)

    def start(self) -> "subprocess.Popen[bytes]":
        """`up`, which the test does not wait for."""
        return subprocess.Popen(
            self.command("up", "--hosts", "1"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
        )


class Traces:
    """What a lab leaves on the machine, beyond what was there before."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def check(self) -> None:
        """Nothing is there."""
        assert not self._directory.exists()
        assert not self._processes()
        # The kernel tears networks and mounts down behind the processes.
        wait_until(lambda: not self._links(), "no link is left")
        wait_until(lambda: str(self._directory) not in Path("/proc/self/mountinfo").read_text(), "no mount is left")
        wait_until(lambda: not self._loops(), "no loop device is left")

    def _processes(self) -> list[list[str]]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and str(self._directory) in " ".join(process.cmdline()):
                    found.append(process.cmdline())
            except psutil.NoSuchProcess:
                continue
        return found

    def _loops(self) -> list[str]:
        backing = Path("/sys/block").glob("loop*/loop/backing_file")
        return [file for file in map(_read, backing) if file.startswith(str(self._directory))]

    def _links(self) -> list[str]:
        aliases = Path("/sys/class/net").glob("nwlab*/ifalias")
        return [path.parent.name for path in aliases if _read(path) == str(self._directory)]


def _read(path: Path) -> str:
    """Empty when it is gone."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


@pytest.fixture
def by_hand(tmp_path: Path, demo_image: Path) -> Iterator[ByHand]:
    traces = Traces(tmp_path / "lab")
    by_hand = ByHand(tmp_path / "lab", demo_image)
    yield by_hand
    by_hand.run("down")
    traces.check()


def test_it_comes_up_once_does_as_it_is_told_and_goes(by_hand: ByHand) -> None:
    told = by_hand.run("up", "--hosts", "2")
    description = json.loads((by_hand.directory / "lab.json").read_text())
    assert f"REST      {description['url']}" in told
    assert "is up already" in by_hand.refusal("up")
    token = (by_hand.directory / "operator-token").read_text().strip()
    rest = Rest(description["url"], token, Path(description["ca"]))

    def ready() -> dict[str, bool]:
        return {node["name"]: node["ready"] for node in rest.get("/api/ecs/v1/nodes")["list"]}

    assert ready() == {"host1": True, "host2": True}
    assert "QEMU" in by_hand.run("on", "host2", "virsh", "version")
    by_hand.run("fault", "host2", "fill-disk")
    assert by_hand.run("on", "host2", "stat", "-f", "-c", "%a", "/var/lib/nodewright/agent/volumes").strip() == "0"
    by_hand.run("fault", "host2", "kill")
    assert "was killed" in by_hand.refusal("fault", "host2", "cut", "storage")
    wait_until(lambda: ready() == {"host1": True, "host2": False}, "a node is away")
    by_hand.run("fault", "host2", "boot")
    wait_until(lambda: ready() == {"host1": True, "host2": True}, "it is back")


def test_a_start_that_is_killed_leaves_what_down_removes(by_hand: ByHand) -> None:
    traces = Traces(by_hand.directory)
    # Nothing but the lock is there, or a host and a coordinator.
    for file in ("lab.log", "coordinator/pki/ca.crt"):
        starting = by_hand.start()
        wait_until((by_hand.directory / file).exists, f"{file} is there", 60)
        starting.kill()
        starting.wait()
        by_hand.run("down")
        traces.check()


def test_a_lab_whose_process_was_killed_is_replaced(by_hand: ByHand) -> None:
    starting = by_hand.start()
    wait_until((by_hand.directory / "host1/libvirtd.log").exists, "it has begun", 60)
    for process in psutil.Process(starting.pid).children():
        process.kill()
    assert starting.wait(30) == 1
    assert not by_hand.directory.exists()
    by_hand.directory.mkdir()
    (by_hand.directory / "precious").touch()
    assert "no lab's" in by_hand.refusal("up")
    (by_hand.directory / "precious").unlink()
    by_hand.directory.rmdir()


def test_help_explains_every_verb() -> None:
    for verb in ("up", "down", "on", "fault"):
        script = CHECKOUT / "tests/lab" / verb
        environment = ENVIRONMENT | {"VIRTUAL_ENV": sys.prefix}
        done = subprocess.run([script, "--help"], check=True, capture_output=True, text=True, env=environment)
        assert done.stdout.startswith(f"usage: tests/lab/{verb}")
