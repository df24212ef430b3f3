"""/sys as files below a root that tests replace, and udev's knowledge about devices."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import pyudev

# What udev knows about the device of a subsystem and a name; nothing when it knows none.
DeviceProperties = Callable[[str, str], Mapping[str, str]]


@dataclass(frozen=True)
class Sysfs:
    """The kernel's view of the hardware. Paths are joined as texts: pathlib would take most of the time of reading."""

    root: Path = Path("/sys")

    def read(self, path: str) -> str:
        """The text of an attribute, empty when it cannot be read (drivers leave out what they do not know)."""
        try:
            with open(f"{self.root}/{path}", "rb", buffering=0) as file:
                return file.read().decode(errors="replace").strip()
        except OSError:
            return ""

    def read_number(self, path: str) -> int:
        """The number in an attribute; 0 when there is none, or when it is negative, which is the kernel's "unknown"."""
        text = self.read(path)
        return int(text) if text.isdecimal() else 0

    def names(self, path: str) -> list[str]:
        """What is in a directory, in order; nothing when there is none."""
        try:
            return sorted(os.listdir(f"{self.root}/{path}"))
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        """Whether there is such an attribute, directory or link."""
        return os.path.exists(f"{self.root}/{path}")

    def resolve(self, path: str) -> Path:
        """Where a link leads to."""
        return (self.root / path).resolve()

    def locate(self, path: str) -> Path:
        """Where a link leads to, relative to the root."""
        return self.resolve(path).relative_to(self._real_root)

    @cached_property
    def _real_root(self) -> Path:
        return self.root.resolve()

    def follow(self, entry: str) -> Path:
        """Where the entry of a bus or a class leads to, relative to the root; quicker, for no other link is met."""
        try:
            target = os.readlink(f"{self.root}/{entry}")
        except OSError:
            return Path(entry)
        return Path(os.path.normpath(f"{entry}/../{target}"))

    def link_name(self, path: str) -> str:
        """The last part of what a link names: a driver, a group, a function; empty when there is none."""
        try:
            return os.readlink(f"{self.root}/{path}").rpartition("/")[2]
        except OSError:
            return ""


class _Context(threading.local):
    """udev's library must not be entered by two threads with one context, and a new one takes a millisecond."""

    def __init__(self) -> None:
        self.udev = pyudev.Context()


_CONTEXT: Final = _Context()


def read_udev_properties(subsystem: str, name: str) -> Mapping[str, str]:
    """The properties in udev's database: stable identities that the kernel alone does not tell."""
    try:
        return dict(pyudev.Devices.from_name(_CONTEXT.udev, subsystem, name).properties)
    except pyudev.DeviceNotFoundError:
        return {}
