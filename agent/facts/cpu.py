"""The processors of the node."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from agent.cpu_list import parse_cpu_list
from agent.facts.sysfs import Sysfs
from protos.agent.v1.host_pb2 import CpuCore, CpuFacts

_CPUS: Final = "devices/system/cpu"
_KHZ_PER_MHZ: Final = 1000


def collect_cpu(sysfs: Sysfs, *, libvirt_model: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> CpuFacts:
    """Model and topology of the processors that are online."""
    online = parse_cpu_list(sysfs.read(f"{_CPUS}/online"))
    topology = [_place(sysfs, number) for number in online]
    sockets = len({package for package, _ in topology}) or 1
    cores = len(set(topology)) or 1
    words = _first_processor(cpuinfo)
    khz = sysfs.read_number(f"{_CPUS}/cpu0/cpufreq/cpuinfo_max_freq")
    return CpuFacts(
        model_name=words.get("model name", ""),
        vendor=words.get("vendor_id", ""),
        libvirt_model=libvirt_model,
        sockets=sockets,
        cores_per_socket=max(1, cores // sockets),
        threads_per_core=max(1, len(online) // cores),
        logical_cpus=len(online),
        # The speed of the moment, which cpuinfo has, is no fact: it changes all the time.
        frequency_mhz=khz // _KHZ_PER_MHZ,
    )


def _place(sysfs: Sysfs, number: int) -> tuple[str, str]:
    """The socket, and the core: the kernel counts cores anew in each die or cluster, so its threads tell it apart."""
    base = f"{_CPUS}/cpu{number}/topology"
    return sysfs.read(f"{base}/physical_package_id"), _siblings(sysfs, number)


def group_threads(sysfs: Sysfs, cpu_ids: list[int]) -> list[CpuCore]:
    """These CPUs by physical core; where the kernel tells no topology each is a core of its own.

    Source: Documentation/ABI/stable/sysfs-devices-system-cpu, "thread_siblings_list", which libvirt reads as well.
    """
    cores: dict[str, list[int]] = {}
    for number in sorted(cpu_ids):
        cores.setdefault(_siblings(sysfs, number), []).append(number)
    return [CpuCore(cpu_ids=threads) for threads in cores.values()]


def _siblings(sysfs: Sysfs, number: int) -> str:
    return sysfs.read(f"{_CPUS}/cpu{number}/topology/thread_siblings_list") or str(number)


def _first_processor(cpuinfo: Path) -> dict[str, str]:
    words = {}
    for line in cpuinfo.read_text(errors="replace").split("\n\n", maxsplit=1)[0].splitlines():
        key, _, value = line.partition(":")
        words[key.strip()] = value.strip()
    return words
