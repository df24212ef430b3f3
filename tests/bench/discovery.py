"""What the devices of a large node cost its agent: all of them at once, one hotplug event, resident memory.

A tree like /sys with 16 GPUs of both vGPU frameworks, 512 virtual functions of network cards, 60 disks in shelves and
40 USB devices is read by a process that has loaded what the service loads. Processor time counts; the tree is in
memory, so that what the kernel takes for real attributes comes on top. Needs no root.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

MIB: Final = 1024**2
DISCOVERY_LIMIT_MS: Final = 1000
EVENT_LIMIT_MS: Final = 100
RESIDENT_LIMIT_MIB: Final = 100
# What the kernel's events name: parts of the paths of the devices.
EVENTS: Final = {
    "a virtual function": ("0000:40:00.0", "0000:40:01.2", "ens0f0v2", "networks"),
    "a disk": ("0000:80:00.0", "host1", "1:0:7:0", "block", "sdh"),
    "a USB device": ("0000:00:14.0", "usb1", "1-2", "1-2.3"),
    "a mediated device": ("0000:10:00.0", "7d3a2f10-93a1-4b5c-8e77-0c9f3d1b2a44"),
}


@dataclass(frozen=True)
class Sample:
    """Processor time in milliseconds, the median of all runs; memory in MiB."""

    devices: dict[str, int]
    discovery_ms: float
    event_ms: dict[str, float]
    # When everything is loaded and nothing read yet.
    resident_before_mib: float
    resident_mib: float


def main() -> None:
    """Measures and prints a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20, help="how often each is measured (default: 20)")
    parser.add_argument("--tree", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tree:
        print(json.dumps(asdict(asyncio.run(_measure(options.tree, options.runs)))))
        return
    with tempfile.TemporaryDirectory(prefix="nodewright-discovery-") as directory:
        _build(Path(directory))
        command = [sys.executable, "-m", "tests.bench.discovery", "--tree", directory, "--runs", str(options.runs)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    _print(Sample(**json.loads(answer)))


def _build(directory: Path) -> None:
    from tests.unit.agent.large_node import build_large_node

    node = build_large_node(directory)
    (directory / "udev.json").write_text(json.dumps({name: dict(values) for name, values in node.udev.items()}))


async def _measure(directory: Path, runs: int) -> Sample:
    import psutil

    import agent.node
    import agent.server  # noqa: F401
    from agent.devices.fault import Faults
    from agent.devices.journal import DeviceJournal
    from agent.devices.state import DeviceStates
    from agent.devices.survey import DeviceSurvey
    from agent.facts.disk import collect_disks
    from agent.facts.memory import Memory
    from agent.facts.nic import collect_nics
    from agent.facts.sysfs import Sysfs
    from protos.agent.v1.host_pb2 import Device

    process, sysfs = psutil.Process(), Sysfs(directory / "sys")
    before = process.memory_info().rss / MIB
    udev = json.loads((directory / "udev.json").read_text())
    states = DeviceStates(DeviceJournal(directory / "journal"), Faults(sysfs))
    survey = DeviceSurvey(sysfs, lambda _, name: udev.get(name, {}), complete=states.complete)

    async def look(memory: Memory) -> tuple[list[Device], float]:
        """As an agent does that reports a change."""
        began = time.process_time()
        collect_disks(sysfs, survey.read_properties, memory)
        collect_nics(sysfs, memory)
        devices = await survey.discover(await survey.look_anyway(memory))
        return devices, (time.process_time() - began) * 1000

    full = [(await look(Memory()))[1] for _ in range(runs)]
    memory, events = Memory(), dict[str, float]()
    devices, _ = await look(memory)
    for name, places in EVENTS.items():
        taken = []
        for _ in range(runs):
            memory.forget(places)
            taken.append((await look(memory))[1])
        events[name] = statistics.median(taken)
    counts = Counter(device.kind for device in devices)
    return Sample(dict(counts), statistics.median(full), events, before, process.memory_info().rss / MIB)


def _print(sample: Sample) -> None:
    from rich.console import Console
    from rich.table import Table

    told = ", ".join(f"{count} {kind}" for kind, count in sorted(sample.devices.items()))
    table = Table(title=f"a node with {told}")
    for column in ("what", "measured", "limit"):
        table.add_column(column, justify="left" if column == "what" else "right")
    table.add_row("all of it, read anew", f"{sample.discovery_ms:.0f} ms", f"{DISCOVERY_LIMIT_MS} ms")
    for name, taken in sample.event_ms.items():
        table.add_row(f"an event of {name}", f"{taken:.0f} ms", f"{EVENT_LIMIT_MS} ms")
    table.add_row("resident, before anything is read", f"{sample.resident_before_mib:.0f} MiB", "")
    table.add_row("resident, with what is remembered", f"{sample.resident_mib:.0f} MiB", f"{RESIDENT_LIMIT_MIB} MiB")
    Console().print(table)
    print(json.dumps(asdict(sample)))


if __name__ == "__main__":
    main()
