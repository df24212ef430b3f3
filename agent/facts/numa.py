"""NUMA cells of the node, their memory and huge pages."""

from __future__ import annotations

import re
from typing import Final

from agent.facts.cpu import parse_cpu_list
from agent.facts.sysfs import Sysfs
from protos.agent.v1.host_pb2 import HugePages, NumaNode

_NODES: Final = "devices/system/node"
_NODE_NAME: Final = re.compile(r"node(\d+)")
_POOL_NAME: Final = re.compile(r"hugepages-(\d+)kB")
_MEM_TOTAL: Final = re.compile(r"MemTotal:\s+(\d+) kB")
_BYTES_PER_KIB: Final = 1024


def collect_numa(sysfs: Sysfs, *, cpu_ids: list[int], memory_bytes: int) -> list[NumaNode]:
    """The cells; a machine whose kernel knows none is one cell with these CPUs and this memory."""
    found = [match for name in sysfs.names(_NODES) if (match := _NODE_NAME.fullmatch(name))]
    if not found:
        pages = _collect_huge_pages(sysfs, "kernel/mm/hugepages")
        return [NumaNode(id=0, cpu_ids=cpu_ids, memory_bytes=memory_bytes, huge_pages=pages)]
    return [_collect_node(sysfs, int(match.group(1))) for match in sorted(found, key=lambda match: int(match.group(1)))]


def _collect_node(sysfs: Sysfs, number: int) -> NumaNode:
    base = f"{_NODES}/node{number}"
    total = _MEM_TOTAL.search(sysfs.read(f"{base}/meminfo"))
    return NumaNode(
        id=number,
        cpu_ids=parse_cpu_list(sysfs.read(f"{base}/cpulist")),
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
