"""What instances cost after the first one of an image, and what happens at what time when a batch of them is created.

The first instance brings the image to its node, where it is verified; the others stand on it. The batch goes to two
hosts of the lab, which share this machine's processors. Guests do not have to boot. Needs root, like the lab.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from tests.bench.lab_cloud import running_cloud
from tests.lab.cloud import INSTANCES, Cloud, Instance

LIMIT_PERCENT: Final = 20
# Parts of the time that one character of the timeline stands for.
_WIDTH: Final = 60
_MIB: Final = 1024**2
_DISK: Final = {"isOsDisk": True, "bootIndex": 1, "volumeSize": 8, "volumeType": "hdd", "deleteOnTermination": True}


@dataclass(frozen=True)
class Step:
    """A step of an operation: seconds since the batch was ordered."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True)
class Batch:
    """Instances that were ordered together."""

    # Until the call was answered, and until the last one ran.
    answer_seconds: float
    seconds: float
    # Of the processors' time until then.
    busy_percent: float
    # Of each instance.
    timelines: list[list[Step]]


def main() -> None:
    """Measures and prints tables and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--image-mib", type=int, default=1024, help="size of the image, noise; up to 8192 (default: 1024)"
    )
    parser.add_argument("--count", type=int, default=20, help="instances one by one, and in the batch (default: 20)")
    options = parser.parse_args()
    with running_cloud(hosts=2) as cloud, tempfile.TemporaryDirectory() as directory:
        cloud.rest.post("/api/ecs/v1/global-config/cpu", {"globalCpuOR": 6, "azCpuConfigs": []})
        image = cloud.register_image(_make_noise(Path(directory), options.image_mib), name="noise", format="raw")
        near, far = ({"image": {"imageUid": image}, "hostId": cloud.node(host)["hostId"]} for host in cloud.lab.hosts)
        seconds = [_create_one(cloud, near) for _ in range(options.count)]
        # So that the batch finds the image on both hosts.
        _create_one(cloud, far)
        batch = _create_batch(cloud, image, options.count)
    _print(seconds, batch)


def _make_noise(directory: Path, size_mib: int) -> Path:
    path, source = directory / "noise.raw", random.Random(0)
    with path.open("wb") as file:
        for _ in range(size_mib):
            file.write(source.randbytes(_MIB))
    return path


def _create_one(cloud: Cloud, place: dict[str, Any]) -> float:
    begin = time.monotonic()
    instance = cloud.create_instance(**place, volumes=[_DISK])
    instance.wait_for_status("Running", timeout_seconds=300)
    elapsed = time.monotonic() - begin
    instance.succeed(instance.delete())
    return elapsed


def _create_batch(cloud: Cloud, image: str, count: int) -> Batch:
    body = cloud.instance_body(image={"imageUid": image}, volumes=[_DISK], ecsCount=count)
    busy, begin, at = _processor_seconds(), time.monotonic(), time.time()
    response = cloud.rest.request("POST", f"{INSTANCES}/batch-create", json=body)
    answer_seconds = time.monotonic() - begin
    instances = [Instance(cloud, item["ecsId"]) for item in response.json()["data"]]
    for instance in instances:
        instance.wait_for_status("Running", timeout_seconds=300)
    seconds = time.monotonic() - begin
    busy_percent = 100 * (_processor_seconds() - busy) / (seconds * (os.cpu_count() or 1))
    operations = response.headers["x-operation-id"].split(",")
    timelines = [_timeline(instances[0].finish(operation.strip()), at) for operation in operations]
    for instance in instances:
        instance.succeed(instance.delete())
    return Batch(answer_seconds, seconds, busy_percent, timelines)


def _processor_seconds() -> float:
    """Of all processors since the machine booted, without what they were idle or waited."""
    user, nice, system, _idle, _wait, *others = Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    return sum(int(ticks) for ticks in (user, nice, system, *others[:3])) / os.sysconf("SC_CLK_TCK")


def _timeline(operation: dict[str, Any], at: float) -> list[Step]:
    def since(moment: str) -> float:
        return datetime.fromisoformat(moment).timestamp() - at

    return [Step(it["name"], since(it["startedAt"]), since(it["finishedAt"])) for it in operation["steps"]]


def _print(seconds: list[float], batch: Batch) -> None:
    first, later = seconds[0], statistics.mean(seconds[1:])
    percent = 100 * later / first
    console = Console(width=120)
    table = Table(title="one by one, from the call until it runs")
    for column in ("what", "seconds", "limit"):
        table.add_column(column, justify="left" if column == "what" else "right")
    table.add_row("the first", f"{first:.2f}", "")
    table.add_row(f"the other {len(seconds) - 1}, mean", f"{later:.2f}", f"{first * LIMIT_PERCENT / 100:.2f}")
    table.add_row(f"{len(batch.timelines)} at once, the last", f"{batch.seconds:.2f}", "")
    console.print(table)
    console.print(f"processors busy during the batch: {batch.busy_percent:.0f} %")
    names = list(dict.fromkeys(step.name for steps in batch.timelines for step in steps))
    console.print("; ".join(f"{_letter(names, name)} {name}" for name in names))
    for steps in sorted(batch.timelines, key=lambda steps: steps[0].begin):
        console.print(_draw(names, steps, batch.seconds), highlight=False)
    result = {"first_seconds": first, "later_seconds": later, "percent": percent, "batch": asdict(batch)}
    print(json.dumps(result))


def _letter(names: list[str], name: str) -> str:
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[names.index(name)]


def _draw(names: list[str], steps: list[Step], seconds: float) -> str:
    line = ["."] * _WIDTH
    for step in steps:
        begin, end = (min(_WIDTH - 1, int(_WIDTH * at / seconds)) for at in (step.begin, step.end))
        line[begin : end + 1] = _letter(names, step.name) * (end + 1 - begin)
    return "".join(line)


if __name__ == "__main__":
    main()
