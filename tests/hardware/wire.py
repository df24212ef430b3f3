"""Frames that have gone over a wire of the node, as QEMU has recorded them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.hardware.boot_sector import ETHER_TYPE

# Source: the Internet draft on the PCAP capture file format.
_FILE_HEADER_BYTES: Final = 24
_RECORD: Final = struct.Struct("=IIII")
_ADDRESS_BYTES: Final = 6
# Source: IEEE 802.1Q.
_TAG_TYPE: Final = bytes.fromhex("8100")
_VLAN_MASK: Final = 0xFFF


def read_vlans(recording: Path, mac_address: str) -> set[int]:
    """The VLANs in which watchers have sent from this address; 0: without a tag."""
    source = bytes.fromhex(mac_address.replace(":", ""))
    return {
        vlan
        for frame in _read_frames(recording.read_bytes())
        if frame[_ADDRESS_BYTES : 2 * _ADDRESS_BYTES] == source
        for vlan in _read_vlan(frame[2 * _ADDRESS_BYTES :])
    }


def _read_vlan(rest: bytes) -> Iterator[int]:
    """Of a watcher's frame, behind its addresses."""
    vlan = 0
    if rest.startswith(_TAG_TYPE):
        vlan = int.from_bytes(rest[2:4]) & _VLAN_MASK
        rest = rest[4:]
    if rest.startswith(ETHER_TYPE):
        yield vlan


def _read_frames(recording: bytes) -> Iterator[bytes]:
    offset = _FILE_HEADER_BYTES
    while offset + _RECORD.size <= len(recording):
        _, _, length, _ = _RECORD.unpack_from(recording, offset)
        offset += _RECORD.size
        yield recording[offset : offset + length]
        offset += length
