"""What the cloud adds to the start of a guest: from the REST call to the running domain, beside `virsh create`.

Both are measured in one run, in turn, on the same host with the same XML and the same disk. Needs root, like the lab.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import threading
import time
from dataclasses import asdict, dataclass

import libvirt
from rich.console import Console
from rich.table import Table

from tests.bench.lab_cloud import running_cloud
from tests.lab.cloud import INSTANCES, Cloud, Instance

LIMIT_MS = 250
ANSWER_LIMIT_MS = 50


@dataclass(frozen=True)
class Sample:
    """One guest, in milliseconds."""

    # Until the create call was answered.
    answer_ms: float
    # From the create call until libvirt told that the domain had started.
    cloud_ms: float
    # `virsh create` of the same domain.
    virsh_ms: float


class StartWatch:
    """When libvirt told that a domain had started, by its name."""

    def __init__(self, uri: str) -> None:
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=self._run, daemon=True).start()
        self._started: dict[str, float] = {}
        self._changed = threading.Condition()
        self._connection = libvirt.openReadOnly(uri)
        self._connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._record, None)

    def wait(self, name: str) -> float:
        """The moment on the monotonic clock; fails when it does not come within a minute."""
        with self._changed:
            if not self._changed.wait_for(lambda: name in self._started, timeout=60):
                raise TimeoutError(f"{name} did not start")
            return self._started.pop(name)

    def _record(self, _connection: object, domain: libvirt.virDomain, event: int, _detail: int, _data: object) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_STARTED:
            with self._changed:
                self._started[domain.name()] = time.monotonic()
                self._changed.notify_all()

    @staticmethod
    def _run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()


def main() -> None:
    """Measures and prints a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="guests to create (default: 10)")
    runs = parser.parse_args().runs
    with running_cloud() as cloud:
        uri = f"qemu+unix:///system?socket={cloud.host.namespace.path('/run/libvirt/libvirt-sock')}"
        watch = StartWatch(uri)
        _measure(cloud, watch, uri)  # fetches the image and warms every cache
        samples = [_measure(cloud, watch, uri) for _ in range(runs)]
    _print(samples)


def _measure(cloud: Cloud, watch: StartWatch, uri: str) -> Sample:
    body = cloud.instance_body(displayName="bench")
    begin = time.monotonic()
    (created,) = cloud.rest.post(f"{INSTANCES}/batch-create", body)
    answered = time.monotonic()
    instance = Instance(cloud, created["ecsId"])
    started = watch.wait(instance.id)
    instance.wait_for_status("Running")
    instance.succeed(instance.power("stop", gracePeriodSeconds=0))
    virsh_ms = _time_virsh_create(instance.id, uri)
    instance.succeed(instance.delete())
    return Sample((answered - begin) * 1000, (started - begin) * 1000, virsh_ms)


def _time_virsh_create(domain: str, uri: str) -> float:
    virsh = ("virsh", "--quiet", "--connect", uri)
    described = subprocess.run(
        [*virsh, "dumpxml", "--security-info", domain], check=True, capture_output=True, text=True
    )
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as file:
        file.write(described.stdout)
        file.flush()
        begin = time.monotonic()
        subprocess.run([*virsh, "create", file.name], check=True, capture_output=True)
        elapsed_ms = (time.monotonic() - begin) * 1000
    subprocess.run([*virsh, "destroy", domain], check=True, capture_output=True)
    return elapsed_ms


def _print(samples: list[Sample]) -> None:
    medians = {name: statistics.median(getattr(sample, name) for sample in samples) for name in asdict(samples[0])}
    overhead_ms = statistics.median(sample.cloud_ms - sample.virsh_ms for sample in samples)
    table = Table(title=f"{len(samples)} guests, medians")
    for column in ("what", "ms", "limit"):
        table.add_column(column, justify="left" if column == "what" else "right")
    table.add_row("create call answered", f"{medians['answer_ms']:.1f}", f"{ANSWER_LIMIT_MS}")
    table.add_row("REST call to domain running", f"{medians['cloud_ms']:.1f}", "")
    table.add_row("virsh create", f"{medians['virsh_ms']:.1f}", "")
    table.add_row("added by the cloud", f"{overhead_ms:.1f}", f"{LIMIT_MS}")
    Console().print(table)
    print(json.dumps({"medians": medians, "overhead_ms": overhead_ms, "samples": [asdict(item) for item in samples]}))


if __name__ == "__main__":
    main()
