"""One lab for all scenario tests of a worker: starting it costs seconds, and each test removes what it creates."""

import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.lab.cloud import Cloud, Instance
from tests.lab.lab import Lab

ROOT = Path(__file__).parents[2]
LOG_TAIL_BYTES = 4000


@pytest.fixture(scope="session")
def demo_image() -> Path:
    """The demo guest's disk image."""
    given = os.environ.get("NODEWRIGHT_DEMO_IMAGE")
    if given:
        return Path(given)
    done = subprocess.run([ROOT / "packaging/demo-image", "--quiet"], check=True, capture_output=True, text=True)
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def cloud(demo_image: Path) -> Iterator[Cloud]:
    """A coordinator and one host that has joined."""
    if os.geteuid():
        pytest.skip("the lab needs root: namespaces, libvirt's system instance")
    lab = Lab()
    try:
        lab.add_host()
        cloud = Cloud(lab, demo_image)
        cloud.join(lab.hosts[0])
        yield cloud
    finally:
        lab.stop()


@pytest.fixture(scope="module")
def guest(cloud: Cloud) -> Iterator[Instance]:
    """A running instance whose guest agent answers, for the tests of a module."""
    instance = cloud.create_instance(displayName="shared guest")
    instance.wait_for_status("Running")
    instance.wait_for_guest_agent()
    yield instance
    instance.succeed(instance.delete())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the last lines of every program of the lab."""
    report = yield
    cloud = getattr(item, "funcargs", {}).get("cloud")
    if report.failed and isinstance(cloud, Cloud):
        for name, log in cloud.lab.logs().items():
            if log.exists():
                report.sections.append((name, log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")))
    return report
