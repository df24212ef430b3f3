"""NUMA cells of the node, their memory and huge pages."""

from __future__ import annotations

import re
from typing import Final

from agent.cpu_list import parse_cpu_list
from agent.facts.cpu import group_threads
from agent.facts.sysfs import Sysfs
from protos.agent.v1.host_pb2 import HugePages, NumaNode

_NODES: Final = "devices/system/node"
_NODE_NAME: Final = re.compile(r"node(\d+)")
_POOL_NAME: Final = re.compile(r"hugepages-(\d+)kB")
_MEM_TOTAL: Final = re.compile(r"MemTotal:\s+(\d+) kB")
_BYTES_PER_KIB: Final = 1024


def collect_numa(sysfs: Sysfs, *, cpu_ids: list[int], memory_bytes: int) -> list[NumaNode]:
    """The cells with those of these CPUs (the ones that are online) that each has.

    A machine whose kernel knows no cells is one with all of the CPUs and this memory.
    """
    found = [match for name in sysfs.names(_NODES) if (match := _NODE_NAME.fullmatch(name))]
    if not found:
        pages = _collect_huge_pages(sysfs, "kernel/mm/hugepages")
        cores = group_threads(sysfs, cpu_ids)
        return [NumaNode(id=0, cpu_ids=cpu_ids, cores=cores, memory_bytes=memory_bytes, huge_pages=pages)]
    return [_collect_node(sysfs, number, set(cpu_ids)) for number in sorted(int(match.group(1)) for match in found)]


def _collect_node(sysfs: Sysfs, number: int, online: set[int]) -> NumaNode:
    base = f"{_NODES}/node{number}"
    cpu_ids = [cpu for cpu in parse_cpu_list(sysfs.read(f"{base}/cpulist")) if cpu in online]
    total = _MEM_TOTAL.search(sysfs.read(f"{base}/meminfo"))
    return NumaNode(
        id=number,
        cpu_ids=cpu_ids,
        cores=group_threads(sysfs, cpu_ids),
        memory_bytes=int(total.group(1)) * _BYTES_PER_KIB if total else 0,
        huge_pages=_collect_huge_pages(sysfs, f"{base}/hugepages"),
    )


def _collect_huge_pages(sysfs: Sysfs, directory: str) -> list[HugePages]:
    sizes = (match for name in sysfs.names(directory) if (match := _POOL_NAME.fullmatch(name)))
    return [
        HugePages(
            page_size_bytes=int(size.group(1)) * _BYTES_PER_KIB,
            total_pages=sysfs.read_number(f"{directory}/{size.group()}/nr_hugepages"),
            free_pages=sysfs.read_number(f"{directory}/{size.group()}/free_hugepages"),
        )
        for size in sorted(sizes, key=lambda match: int(match.group(1)))
    ]
