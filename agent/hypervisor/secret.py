"""Keys that QEMU needs and nobody may read: libvirt keeps them, and gives them to QEMU encrypted.

Source: https://libvirt.org/formatsecret.html.
"""

from __future__ import annotations

import base64
from functools import partial

import libvirt

from agent.domainxml.element import format_document
from agent.domainxml.secret import Secret, SecretUsage
from agent.hypervisor.connection import Connection


async def ensure_secret(connection: Connection, uuid: str, name: str, key: str) -> None:
    """libvirt keeps Ceph's key, in base64, under this UUID. Raises HypervisorUnavailable."""
    secret = Secret(uuid=uuid, usage=SecretUsage("ceph", name))
    await connection.call(partial(_define, document=format_document(secret), value=base64.b64decode(key)))


async def keep_passphrase(connection: Connection, uuid: str, passphrase: bytes) -> None:
    """libvirt keeps the passphrase under this UUID, in memory alone. Raises HypervisorUnavailable."""
    document = format_document(Secret(uuid=uuid, ephemeral=True))
    await connection.call(partial(_define, document=document, value=passphrase))


async def forget_secret(connection: Connection, uuid: str) -> None:
    """libvirt keeps nothing under this UUID. Raises HypervisorUnavailable."""
    await connection.call(partial(_undefine, uuid=uuid))


def _define(handle: libvirt.virConnect, *, document: str, value: bytes) -> None:
    handle.secretDefineXML(document).setValue(value)


def _undefine(handle: libvirt.virConnect, *, uuid: str) -> None:
    try:
        handle.secretLookupByUUIDString(uuid).undefine()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_SECRET:
            raise
