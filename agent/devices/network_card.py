"""Network cards and InfiniBand adapters, whole or by their virtual functions (SR-IOV)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from agent.devices.base import Surroundings, drop_empty, find_function_cell
from agent.devices.passthrough import describe_function, find_obstacles
from agent.devices.pci import PciFunction
from agent.devices.rdma import RdmaDevice, read_rdma
from protos.agent.v1.host_pb2 import Device

_NETWORK: Final = 0x02
_INFINIBAND_CLASS: Final = 0x0207
# What InfiniBand adapters were before they had a subclass of network cards.
_OLD_INFINIBAND_CLASS: Final = 0x0C06


def discover_network_cards(around: Surroundings) -> Iterator[Device]:
    """Every network card, and every virtual function of one: "nic" and "vf", of InfiniBand both "infiniband"."""
    functions = around.pci.functions
    for function in functions.values():
        if not _is_network_card(function) or function.physical_function in functions:
            continue
        card = _Card(function, around)
        yield _describe_card(card)
        for number, address in enumerate(function.virtual_functions):
            if address in functions:
                yield _describe_virtual_function(functions[address], number, card)


@dataclass(frozen=True)
class _Card:
    """A physical function."""

    function: PciFunction
    around: Surroundings

    @cached_property
    def rdma(self) -> RdmaDevice:
        return _recall_rdma(self.function, self.around)

    @cached_property
    def interfaces(self) -> list[str]:
        return _recall_interfaces(self.function, self.around)

    @cached_property
    def silence(self) -> Sequence[str]:
        return tuple(self._find_silence())

    @property
    def is_infiniband(self) -> bool:
        """The ports decide, where they are known: one model may speak either, as it is configured."""
        if self.rdma.ports:
            return self.rdma.is_infiniband
        return self.function.class_code >> 8 in (_INFINIBAND_CLASS, _OLD_INFINIBAND_CLASS)

    def _find_silence(self) -> Iterator[str]:
        """That nothing goes over the wire. An interface that is off does not tell whether it has a link."""
        if self.is_infiniband and self.rdma.ports and not self.rdma.is_active:
            yield f"no port of {self.rdma.name} is active"
        carriers = {name: self.around.sysfs.read(f"class/net/{name}/carrier") for name in self.interfaces}
        if not self.is_infiniband and carriers and set(carriers.values()) == {"0"}:
            yield f"{', '.join(carriers)} has no link"


def _is_network_card(function: PciFunction) -> bool:
    return function.base_class == _NETWORK or function.class_code >> 8 == _OLD_INFINIBAND_CLASS


def _describe_card(card: _Card) -> Device:
    function, sysfs = card.function, card.around.sysfs
    device = _describe(function, card.around, "infiniband" if card.is_infiniband else "nic")
    total = sysfs.read_number(f"{function.path}/sriov_totalvfs")
    if total:
        device.details["sriov_total"] = str(total)
        device.details["sriov_enabled"] = str(len(function.virtual_functions))
    device.withheld_reason = next(_find_card_obstacles(card), "")
    return device


def _find_card_obstacles(card: _Card) -> Iterator[str]:
    yield from find_obstacles(card.function, (), card.around)
    if card.function.virtual_functions:
        yield f"has {len(card.function.virtual_functions)} virtual functions, which would go with it"
    yield from card.silence


def _describe_virtual_function(function: PciFunction, number: int, card: _Card) -> Device:
    device = _describe(function, card.around, "infiniband" if card.is_infiniband else "vf")
    device.details["number"] = str(number)
    if card.interfaces:
        device.details["physical_interface"] = card.interfaces[0]
    device.withheld_reason = next(_find_virtual_obstacles(function, card), "")
    return device


def _find_virtual_obstacles(function: PciFunction, card: _Card) -> Iterator[str]:
    yield from find_obstacles(function, (), card.around)
    yield from card.silence


def _describe(function: PciFunction, around: Surroundings, kind: str) -> Device:
    device = Device()
    device.CopyFrom(around.memory.recall(function.address, kind, lambda: _describe_anew(function, around, kind)))
    return device


def _describe_anew(function: PciFunction, around: Surroundings, kind: str) -> Device:
    interfaces, rdma = _recall_interfaces(function, around), _recall_rdma(function, around)
    details = {
        "interface": ",".join(interfaces),
        "mac_address": around.sysfs.read(f"class/net/{interfaces[0]}/address") if interfaces else "",
        "rdma_device": rdma.name,
        "node_guid": rdma.node_guid,
        "firmware": rdma.firmware,
    }
    return Device(
        id=function.address,
        kind=kind,
        attributes={"vendor": function.vendor_id, "product": function.product_id},
        numa_node=find_function_cell(function, around),
        details={**describe_function(function, around), **drop_empty(details)},
        rdma_ports=rdma.ports,
    )


def _recall_rdma(function: PciFunction, around: Surroundings) -> RdmaDevice:
    return around.memory.recall(function.address, "rdma", lambda: read_rdma(around.sysfs, function))


def _recall_interfaces(function: PciFunction, around: Surroundings) -> list[str]:
    return around.memory.recall(function.address, "interfaces", lambda: _list_interfaces(function, around))


def _list_interfaces(function: PciFunction, around: Surroundings) -> list[str]:
    """Its network interfaces; those of a virtio card are one level further down."""
    names = around.sysfs.names
    levels = [function.path, *(function.path / name for name in names(str(function.path)) if name.startswith("virtio"))]
    return [interface for level in levels for interface in names(f"{level}/net")]
