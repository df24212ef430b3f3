"""Which guest has which device of the node, and what was made, bound and changed for it.

An entry is written before anything is done and removed after all of it is undone: whatever a crash leaves has an entry,
and what has none is somebody else's.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from agent.durable_file import is_temporary, remove_file, write_file
from agent.errors import DeviceFailed
from protos.agent.v1.device_pb2 import HostDevice
from protos.agent.v1.host_pb2 import Device

UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Making:
    """What a device is on the node, and what it was before; which fields count depends on the way."""

    # The name in `keeper.MAKERS` of who has made it.
    way: str
    # PCI functions, the one that was asked for first.
    addresses: tuple[str, ...] = ()
    # Their drivers before; empty: none was bound.
    drivers: Mapping[str, str] = field(default_factory=dict)
    # Of a mediated device: the parent's name on its bus.
    parent: str = ""
    # A stable link to a block device.
    path: str = ""


@dataclass(frozen=True)
class Entry:
    """A device that a guest has."""

    domain_uuid: str
    wish: HostDevice
    # As it was when it was given.
    device: Device
    making: Making
    # All of it was there once: from then on the guest may have written to it.
    made: bool = False
    # It is being taken back, and never given again under this entry.
    releasing: bool = False
    wiped_bytes: int = 0
    # A person has said that nobody waits for its being given back any more.
    given_up: bool = False

    @property
    def uuid(self) -> str:
        """HostDevice.uuid."""
        return self.wish.uuid

    @property
    def must_be_wiped(self) -> bool:
        """Whether it holds what only the guest may read. A guest that has never had it has written nothing."""
        return self.wish.wipe_on_release and self.made


class DeviceJournal:
    """Entries in one file a domain, read once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._entries: dict[str, dict[str, Entry]] = {}
        # By domain, what cannot be read.
        self._unreadable: dict[str, Path] = {}
        # Disks are wiped side by side, and each writes down how far it is: no change may overwrite another one.
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """The directory exists and its entries are known; a file that cannot be read is left for a person to see."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in sorted(self._directory.iterdir()):
            if is_temporary(path):
                path.unlink(missing_ok=True)
            elif path.suffix == ".json" and UUID.fullmatch(path.stem):
                self._read(path)
            else:
                log.warning("device.entry_foreign", path=str(path))

    def check_readable(self, domain_uuid: str) -> None:
        """Raises DeviceFailed when nobody knows what the domain has, and what must be wiped before others get it."""
        if path := self._unreadable.get(domain_uuid):
            raise DeviceFailed(f"what this domain has of the node's devices cannot be read: see {path}")

    def find(self, domain_uuid: str, device_uuid: str) -> Entry | None:
        """The entry of one device."""
        return self._entries.get(domain_uuid, {}).get(device_uuid)

    def entries(self) -> list[Entry]:
        """All entries."""
        return [entry for domain in self._entries.values() for entry in domain.values()]

    def entries_of(self, domain_uuid: str) -> list[Entry]:
        """The entries of one domain."""
        return list(self._entries.get(domain_uuid, {}).values())

    def put(self, entry: Entry) -> Entry:
        """The device has this entry, durably."""
        with self._lock:
            domain = {**self._entries.get(entry.domain_uuid, {}), entry.uuid: entry}
            self._write(entry.domain_uuid, domain.values())
            # A new one, for discovery reads it in another thread.
            self._entries = {**self._entries, entry.domain_uuid: domain}
        return entry

    def remove(self, entry: Entry) -> None:
        """The device has no entry. Absence is success."""
        with self._lock:
            domain = {**self._entries.get(entry.domain_uuid, {})}
            if domain.pop(entry.uuid, None) is None:
                return
            self._write(entry.domain_uuid, domain.values())
            others = {uuid: kept for uuid, kept in self._entries.items() if uuid != entry.domain_uuid}
            self._entries = {**others, entry.domain_uuid: domain} if domain else others

    def _read(self, path: Path) -> None:
        try:
            entries = [_decode(path.stem, one) for one in json.loads(path.read_bytes())["devices"]]
        except (ValueError, KeyError, TypeError, AttributeError, ParseError) as error:
            log.warning("device.entry_unreadable", path=str(path), reason=str(error))
            self._unreadable[path.stem] = path
            return
        if entries:
            self._entries[path.stem] = {entry.uuid: entry for entry in entries}

    def _write(self, domain_uuid: str, entries: Iterable[Entry]) -> None:
        path = self._directory / f"{domain_uuid}.json"
        if content := [_encode(entry) for entry in entries]:
            write_file(path, json.dumps({"devices": content}, indent=1).encode())
        else:
            remove_file(path)


def _encode(entry: Entry) -> dict[str, Any]:
    return {
        "wish": MessageToDict(entry.wish),
        "device": MessageToDict(entry.device),
        "making": asdict(entry.making),
        "made": entry.made,
        "releasing": entry.releasing,
        "wiped_bytes": entry.wiped_bytes,
        "given_up": entry.given_up,
    }


def _decode(domain_uuid: str, content: dict[str, Any]) -> Entry:
    """Of a later version it may say more than is known here."""
    wish = ParseDict(content["wish"], HostDevice(), ignore_unknown_fields=True)
    making = content["making"]
    return Entry(
        domain_uuid=domain_uuid,
        wish=wish,
        device=ParseDict(content["device"], Device(), ignore_unknown_fields=True),
        making=Making(
            way=making["way"],
            addresses=tuple(making["addresses"]),
            drivers=dict(making["drivers"]),
            parent=making["parent"],
            path=making["path"],
        ),
        made=bool(content["made"]),
        releasing=bool(content["releasing"]),
        wiped_bytes=int(content["wiped_bytes"]),
        given_up=bool(content.get("given_up")),
    )
