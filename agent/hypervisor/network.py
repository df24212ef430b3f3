"""libvirt's virtual networks: find, define, start, change DHCP hosts, remove. No policy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import libvirt

from agent.errors import NetworkConflict, NetworkNotFound
from agent.hypervisor.connection import Connection

_LIVE_AND_CONFIG: Final = libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE | libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG
# What libvirt calls a range of addresses that the node uses already, a name that is taken, …
_CONFLICTS: Final = (libvirt.VIR_ERR_NETWORK_EXIST, libvirt.VIR_ERR_OPERATION_FAILED)
# … and an address or a bridge that is there already.
_TAKEN: Final = ("already in use", "File exists")


@dataclass(frozen=True)
class NetworkState:
    """A network as libvirt has it."""

    name: str
    uuid: str
    active: bool
    # The persistent definition.
    xml: str


@dataclass(frozen=True)
class DhcpLease:
    """An address that DHCP has given to somebody."""

    mac_address: str
    ip_address: str
    # Client identifier as "ff:00:…"; empty when the client sent none.
    client_id: str


class Networks:
    """The node's virtual networks."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def find(self, name: str) -> NetworkState | None:
        """The network of this name, None when there is none."""

        def run(handle: libvirt.virConnect) -> NetworkState | None:
            network = _find(handle, name)
            return None if network is None else _describe(network)

        return await self._connection.call(run)

    async def define(self, xml: str) -> None:
        """The network has this persistent definition and is started with the node; what runs is not changed.

        Raises NetworkConflict when its name or UUID is another network's.
        """

        def run(handle: libvirt.virConnect) -> None:
            with _conflicts():
                handle.networkDefineXML(xml).setAutostart(1)

        await self._connection.call(run)

    async def ensure_active(self, name: str) -> None:
        """The network is up. Raises NetworkNotFound, NetworkConflict when its addresses are used on the node."""

        def run(handle: libvirt.virConnect) -> None:
            network = _require(handle, name)
            if not network.isActive():
                with _conflicts():
                    network.create()

        await self._connection.call(run)

    async def add_dhcp_host(self, name: str, host_xml: str) -> None:
        """DHCP serves this host from now on."""
        await self._update_dhcp_host(name, libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST, host_xml)

    async def remove_dhcp_host(self, name: str, host_xml: str) -> None:
        """DHCP does not serve this host any more."""
        await self._update_dhcp_host(name, libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE, host_xml)

    async def list_leases(self, name: str) -> list[DhcpLease]:
        """Addresses that DHCP has given out; none where the driver cannot tell."""

        def run(handle: libvirt.virConnect) -> list[DhcpLease]:
            network = _find(handle, name)
            if network is None:
                return []
            try:
                leases = network.DHCPLeases()
            except libvirt.libvirtError as error:
                if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
                    return []
                raise
            return [DhcpLease(lease["mac"], lease["ipaddr"], lease.get("clientid") or "") for lease in leases]

        return await self._connection.call(run)

    async def remove(self, name: str) -> None:
        """The network is neither up nor defined. Absence is success."""

        def run(handle: libvirt.virConnect) -> None:
            network = _find(handle, name)
            if network is None:
                return
            if network.isActive():
                network.destroy()
            network.undefine()

        await self._connection.call(run)

    async def _update_dhcp_host(self, name: str, command: int, host_xml: str) -> None:
        def run(handle: libvirt.virConnect) -> None:
            network = _require(handle, name)
            flags = _LIVE_AND_CONFIG if network.isActive() else libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG
            network.update(command, libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST, -1, host_xml, flags)

        await self._connection.call(run)


def _find(handle: libvirt.virConnect, name: str) -> libvirt.virNetwork | None:
    try:
        return handle.networkLookupByName(name)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_NETWORK:
            return None
        raise


def _require(handle: libvirt.virConnect, name: str) -> libvirt.virNetwork:
    network = _find(handle, name)
    if network is None:
        raise NetworkNotFound(f"libvirt has no network {name}")
    return network


def _describe(network: libvirt.virNetwork) -> NetworkState:
    return NetworkState(
        name=network.name(),
        uuid=network.UUIDString(),
        active=bool(network.isActive()),
        xml=network.XMLDesc(libvirt.VIR_NETWORK_XML_INACTIVE),
    )


@contextlib.contextmanager
def _conflicts() -> Iterator[None]:
    try:
        yield
    except libvirt.libvirtError as error:
        message = error.get_error_message() or ""
        if error.get_error_code() in _CONFLICTS or any(words in message for words in _TAKEN):
            raise NetworkConflict(message) from error
        raise
