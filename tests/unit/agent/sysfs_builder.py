"""Machines as the kernel shows them in /sys, built in a directory."""

from __future__ import annotations

import os
from pathlib import Path

from agent.facts.sysfs import Sysfs

KIB_PER_GIB = 1024**2
_SECTORS_PER_GIB = 1024**3 // 512


class Machine:
    """Starts with nothing; every method adds a part."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "sys"
        self.root.mkdir()
        self.sysfs = Sysfs(self.root)

    def write(self, path: str, value: object) -> None:
        """An attribute."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")

    def add_processors(self, *, sockets: int, cores: int, threads: int, online: str = "") -> None:
        """As Linux numbers them: first one thread of every core, then the others. Each socket counts its cores anew."""
        core_count = sockets * cores
        self.write("devices/system/cpu/online", online or f"0-{core_count * threads - 1}")
        for number in range(core_count * threads):
            core = number % core_count
            topology = f"devices/system/cpu/cpu{number}/topology"
            self.write(f"{topology}/physical_package_id", core // cores)
            self.write(f"{topology}/core_id", core % cores)
            siblings = ",".join(str(core + thread * core_count) for thread in range(threads))
            self.write(f"{topology}/thread_siblings_list", siblings)

    def add_numa_node(self, number: int, cpus: str, memory_gib: int) -> None:
        """A cell, which may have no CPUs."""
        base = f"devices/system/node/node{number}"
        self.write(f"{base}/cpulist", cpus)
        total = f"Node {number} MemTotal:       {memory_gib * KIB_PER_GIB} kB"
        self.write(f"{base}/meminfo", f"{total}\nNode {number} MemFree:        1024 kB")

    def add_huge_pages(self, directory: str, size_kib: int, total: int, free: int) -> None:
        """A pool of one page size."""
        self.write(f"{directory}/hugepages-{size_kib}kB/nr_hugepages", total)
        self.write(f"{directory}/hugepages-{size_kib}kB/free_hugepages", free)

    def add_block(self, name: str, *, size_gib: int, device: str = "", **attributes: object) -> None:
        """A block device; `device` is the path of its hardware below /sys/devices, empty: it has none."""
        home = f"devices/{device}/block/{name}" if device else f"devices/virtual/block/{name}"
        self.write(f"{home}/size", size_gib * _SECTORS_PER_GIB)
        for attribute, value in attributes.items():
            self.write(f"{home}/{attribute.replace('__', '/')}", value)
        if device:
            self.link(f"{home}/device", f"devices/{device}")
        self.link(f"class/block/{name}", home)

    def add_nic(self, name: str, *, device: str = "", **attributes: object) -> None:
        """A network interface; `device` is the path of its hardware below /sys/devices, empty: software made it."""
        home = f"devices/{device}/net/{name}" if device else f"devices/virtual/net/{name}"
        self.directory(home)
        for attribute, value in attributes.items():
            self.write(f"{home}/{attribute.replace('__', '/')}", value)
        if device:
            self.link(f"{home}/device", f"devices/{device}")
        self.link(f"class/net/{name}", home)

    def directory(self, path: str) -> None:
        """An empty directory."""
        (self.root / path).mkdir(parents=True, exist_ok=True)

    def link(self, path: str, target: str) -> None:
        """A link to another place in /sys, relative as the kernel makes them."""
        link = self.root / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(self.root / target, link.parent))
