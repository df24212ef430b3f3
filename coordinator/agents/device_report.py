"""What a node tells of its devices, as it is stored."""

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from coordinator.store.tables import Device
from protos.agent.v1 import host_pb2

# Lengths of the columns, and the largest number in them.
_ID_MAXIMUM: Final = 127
_KIND_MAXIMUM: Final = 16
_REASON_MAXIMUM: Final = 255
_SIZE_MAXIMUM: Final = 2**63 - 1


def make_devices(node_id: str, devices: Iterable[host_pb2.Device]) -> list[Device]:
    """The devices as they are stored; one whose id is too long is left out."""
    return [
        Device(
            node_id=node_id,
            id=device.id,
            kind=device.kind,
            attributes=dict(device.attributes),
            cell=device.numa_node,
            size_bytes=min(device.size_bytes, _SIZE_MAXIMUM),
            shareable=device.shareable,
            withheld_reason=(device.withheld_reason or device.fault)[:_REASON_MAXIMUM],
            report=_report_of(device),
        )
        for device in devices
        if 0 < len(device.id) <= _ID_MAXIMUM and 0 < len(device.kind) <= _KIND_MAXIMUM
    ]


def _report_of(device: host_pb2.Device) -> dict[str, Any]:
    rest = host_pb2.Device(
        details=device.details,
        vgpu_types=device.vgpu_types,
        vgpus=device.vgpus,
        rdma_ports=device.rdma_ports,
        fault=device.fault,
    )
    return MessageToDict(rest, preserving_proto_field_name=True)
