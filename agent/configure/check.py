"""What a domain specification must be, whatever the node: each failure names its field."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable

from agent.errors import RequestInvalid
from protos.agent.v1.device_pb2 import HostDevice
from protos.agent.v1.domain_pb2 import CloudInit, CpuMode, Disk, DiskBus, DomainSpec, Firmware, OpticalDrive, TpmModel
from protos.agent.v1.host_pb2 import Architecture
from protos.agent.v1.storage_pb2 import ImageFormat

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_PORT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAC_ADDRESS = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_HOSTNAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_INSTANCE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
# Of a disk it may be anything that its maker has printed on it.
_DEVICE_ID = re.compile(r"[^\s\x00-\x1f\x7f\ufffe\uffff]{1,256}")
_MOST_VLAN_ID = 4094
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ufffe\uffff]")
_GROUP_BIT = 1
_LEAST_MEMORY_BYTES = 1 << 20
_MOST_VCPUS = 288
_MOST_DRIVE_NUMBER = 15
_MOST_USER_DATA_BYTES = 1 << 20


def check_spec(spec: DomainSpec) -> None:
    """Raises RequestInvalid for the first field that no node could make a guest of."""
    check_uuid(spec.uuid, "spec.uuid")
    _require(_NAME.fullmatch(spec.name), "spec.name: letters, digits, '.', '_' and '-', at most 63")
    _require(1 <= spec.vcpus <= _MOST_VCPUS, f"spec.vcpus: 1 to {_MOST_VCPUS}, not {spec.vcpus}")
    _check_choices(spec)
    _check_text(spec)
    _check_memory(spec)
    _check_cells(spec)
    _check_disks(spec)
    _check_optical_drives(spec)
    _check_nics(spec)
    _check_host_devices(spec)
    if spec.HasField("cloud_init"):
        _check_cloud_init(spec.cloud_init)


def check_uuid(value: str, field: str) -> None:
    """Raises RequestInvalid unless the value is a UUID in its canonical, lower-case form."""
    try:
        canonical = str(uuid.UUID(value))
    except ValueError:
        canonical = ""
    _require(value == canonical and value, f"{field}: not a lower-case UUID")


def _check_choices(spec: DomainSpec) -> None:
    """A newer coordinator may send values that this agent does not know; they must not become a default."""
    _require(spec.architecture in Architecture.values(), f"spec.architecture: {spec.architecture} is not known")
    _require(spec.cpu_mode in CpuMode.values(), f"spec.cpu_mode: {spec.cpu_mode} is not known")
    _require(spec.firmware in Firmware.values(), f"spec.firmware: {spec.firmware} is not known")
    _require(spec.tpm in TpmModel.values(), f"spec.tpm: {spec.tpm} is not known")


def _check_text(spec: DomainSpec) -> None:
    _require(not _CONTROL.search(spec.title), "spec.title: control characters are not allowed")
    for name, value in spec.labels.items():
        _require(not _CONTROL.search(name + value), "spec.labels: control characters are not allowed")


def _check_memory(spec: DomainSpec) -> None:
    _require(spec.huge_page_bytes % 1024 == 0, "spec.huge_page_bytes: a multiple of 1 KiB")
    _check_amount(spec.memory_bytes, spec.huge_page_bytes, "spec.memory_bytes")
    if spec.max_memory_bytes:
        _check_amount(spec.max_memory_bytes, 0, "spec.max_memory_bytes")
    _require(spec.max_vcpus <= _MOST_VCPUS, f"spec.max_vcpus: at most {_MOST_VCPUS}, not {spec.max_vcpus}")
    has_room = spec.max_vcpus > spec.vcpus or spec.max_memory_bytes > spec.memory_bytes
    is_bound = spec.cells or spec.huge_page_bytes or spec.memory_locked
    _require(not (has_room and is_bound), "spec.max_vcpus: not with cells, huge pages or locked memory")


def _check_amount(memory_bytes: int, page_bytes: int, field: str) -> None:
    _require(memory_bytes >= _LEAST_MEMORY_BYTES, f"{field}: at least 1 MiB")
    _require(memory_bytes % 1024 == 0, f"{field}: a multiple of 1 KiB")
    _require(not page_bytes or memory_bytes % page_bytes == 0, f"{field}: a multiple of huge_page_bytes")


def _check_cells(spec: DomainSpec) -> None:
    cells = spec.cells
    _require(cells or not spec.has_virtual_numa, "spec.has_virtual_numa: there are no cells to show")
    if not cells:
        return
    _check_unique((cell.host_cell for cell in cells), "spec.cells.host_cell")
    _require(all(cell.vcpus for cell in cells), "spec.cells.vcpus: at least 1")
    _require(sum(cell.vcpus for cell in cells) == spec.vcpus, "spec.cells.vcpus: their sum is not spec.vcpus")
    for cell in cells:
        _check_amount(cell.memory_bytes, spec.huge_page_bytes, "spec.cells.memory_bytes")
    total_bytes = sum(cell.memory_bytes for cell in cells)
    _require(total_bytes == spec.memory_bytes, "spec.cells.memory_bytes: their sum is not spec.memory_bytes")
    _check_pins(spec)


def _check_pins(spec: DomainSpec) -> None:
    field = "spec.cells.pinned_cpu_ids"
    pins = [cpu for cell in spec.cells for cpu in cell.pinned_cpu_ids]
    if pins:
        complete = all(len(cell.pinned_cpu_ids) == cell.vcpus for cell in spec.cells)
        _require(complete, f"{field}: one for each vCPU, of all cells or of none")
    _check_unique(pins, field)


def _check_disks(spec: DomainSpec) -> None:
    for disk in spec.disks:
        check_disk(disk, "spec.disks")
    _check_unique((disk.volume_uuid for disk in spec.disks), "spec.disks.volume_uuid")
    _check_unique((disk.boot_index for disk in spec.disks if disk.boot_index), "spec.disks.boot_index")


def check_disk(disk: Disk, field: str) -> None:
    """Raises RequestInvalid for the first field that no disk could have."""
    check_uuid(disk.volume_uuid, f"{field}.volume_uuid")
    _require(disk.bus in DiskBus.values(), f"{field}.bus: {disk.bus} is not known")


def _check_optical_drives(spec: DomainSpec) -> None:
    for drive in spec.optical_drives:
        check_optical_drive(drive, "spec.optical_drives")
    _check_unique((drive.number for drive in spec.optical_drives), "spec.optical_drives.number")


def check_optical_drive(drive: OpticalDrive, field: str) -> None:
    """Raises RequestInvalid for the first field that no drive could have."""
    _require(drive.number <= _MOST_DRIVE_NUMBER, f"{field}.number: 0 to {_MOST_DRIVE_NUMBER}, not {drive.number}")
    _require(drive.bus in (DiskBus.DISK_BUS_SCSI, DiskBus.DISK_BUS_SATA), f"{field}.bus: SCSI or SATA")
    if drive.HasField("image"):
        is_iso = drive.image.format == ImageFormat.IMAGE_FORMAT_ISO
        _require(is_iso, f"{field}.image.format: only an ISO image can be in a drive")


def _check_nics(spec: DomainSpec) -> None:
    for nic in spec.nics:
        _require(_PORT_ID.fullmatch(nic.port_id), "spec.nics.port_id: letters, digits, '_' and '-'")
        _check_mac_address(nic.mac_address, "spec.nics.mac_address")
    _check_unique((nic.port_id for nic in spec.nics), "spec.nics.port_id")
    _check_unique((nic.mac_address for nic in spec.nics), "spec.nics.mac_address")


def _check_mac_address(address: str, field: str) -> None:
    _require(_MAC_ADDRESS.fullmatch(address), f"{field}: like 52:54:00:12:34:56")
    _require(not int(address[:2], 16) & _GROUP_BIT, f"{field}: a multicast address")


def _check_host_devices(spec: DomainSpec) -> None:
    field, devices = "spec.host_devices", spec.host_devices
    for device in devices:
        check_host_device(device, field)
    _check_unique((device.uuid for device in devices), f"{field}.uuid")
    _check_unique((device.device_id for device in devices if not device.vgpu_type_id), f"{field}.device_id")
    addresses = [*(nic.mac_address for nic in spec.nics), *(device.mac_address for device in devices)]
    _check_unique(filter(None, addresses), f"{field}.mac_address")
    places = [item.boot_index for items in (spec.disks, spec.optical_drives, devices) for item in items]
    _check_unique(filter(None, places), f"{field}.boot_index")


def check_host_device(device: HostDevice, field: str) -> None:
    """Raises RequestInvalid for the first field that no device of any node could have."""
    check_uuid(device.uuid, f"{field}.uuid")
    _require(_DEVICE_ID.fullmatch(device.device_id), f"{field}.device_id: not an id of HostInventory.devices")
    _require(device.vlan_id <= _MOST_VLAN_ID, f"{field}.vlan_id: 0 to {_MOST_VLAN_ID}, not {device.vlan_id}")
    if device.mac_address:
        _check_mac_address(device.mac_address, f"{field}.mac_address")
    # libvirt sets a VLAN together with an address, and would invent one.
    bare = device.mac_address or not (device.vlan_id or device.trusted)
    _require(bare, f"{field}.mac_address: needed by vlan_id and trusted")
    if device.vgpu_type_id:
        _require(_DEVICE_ID.fullmatch(device.vgpu_type_id), f"{field}.vgpu_type_id: not an id of a type")
        for other in ("mac_address", "boot_index", "wipe_on_release", "native"):
            _require(not getattr(device, other), f"{field}.{other}: not of a vGPU")


def _check_cloud_init(seed: CloudInit) -> None:
    field = "spec.cloud_init"
    _require(_HOSTNAME.fullmatch(seed.hostname), f"{field}.hostname: not a host name")
    _require(_INSTANCE_ID.fullmatch(seed.instance_id), f"{field}.instance_id: letters, digits, '.', '_' and '-'")
    # A hash or a key with a line break in it would be another line of the guest's shadow or authorized_keys file.
    _require(not re.search(r"[\s:]", seed.password_hash), f"{field}.password_hash: not a crypt(3) hash")
    for key in seed.ssh_public_keys:
        _require(key.strip() and not _CONTROL.search(key), f"{field}.ssh_public_keys: one line for each key")
    _require(len(seed.user_data) <= _MOST_USER_DATA_BYTES, f"{field}.user_data: at most {_MOST_USER_DATA_BYTES} bytes")


def _check_unique(values: Iterable[object], field: str) -> None:
    values = list(values)
    _require(len(values) == len(set(values)), f"{field}: given twice")


def _require(condition: object, message: str) -> None:
    if not condition:
        raise RequestInvalid(message)
