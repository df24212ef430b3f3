"""How libvirt and QEMU of this node and of another know each other: certificates of the nodes, and names that fit them.

Both read files of their own, so the node's key and certificate are written for them at the start and at every renewal.
A certificate names its node and no address. libvirt checks the name in the URI, so the node's name leads to its address
in /etc/hosts; QEMU is told which name to expect.

Source: https://libvirt.org/tlscerts.html, https://www.qemu.org/docs/master/system/tls.html.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import re
import ssl
from pathlib import Path
from typing import Final

import structlog

from agent.durable_file import write_file
from agent.errors import RequestInvalid
from agent.identity import Credentials

PORT: Final = 16514
# What may connect to a node's libvirt: the certificates of nodes, and of nobody else.
ALLOWED_NAMES: Final = "O=Nodewright,CN=node-*"

_NODE_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_DOMAIN: Final = "node.nodewright.internal"
_MARK: Final = "# nodewright"
# QEMU reads its key as the user that the distribution runs it as.
_QEMU_USERS: Final = ("libvirt-qemu", "qemu")
_RELOAD_SECONDS: Final = 10.0
_CONNECT_SECONDS: Final = 5.0
# What libvirt says first to a client that it lets in.
_ADMITTED: Final = b"\1"
_LIBVIRT_FILES: Final = ("cacert.pem", ("clientcert.pem", "servercert.pem"), ("clientkey.pem", "serverkey.pem"))
_QEMU_FILES: Final = ("ca-cert.pem", ("client-cert.pem", "server-cert.pem"), ("client-key.pem", "server-key.pem"))

log = structlog.get_logger(__name__)


class Peers:
    """The files by which nodes trust each other, and the names under which they find each other."""

    def __init__(self, directory: Path, *, hosts: Path = Path("/etc/hosts")) -> None:
        self.libvirt_directory = directory / "libvirt"
        self.qemu_directory = directory / "qemu"
        self._hosts = hosts

    def write(self, credentials: Credentials) -> None:
        """libvirt and QEMU find these credentials. A guest's QEMU can read the key: it moves the guest's memory."""
        self.libvirt_directory.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        group = _qemu_group()
        for directory, names, mode in (
            (self.libvirt_directory, _LIBVIRT_FILES, 0o600),
            (self.qemu_directory, _QEMU_FILES, 0o600 if group is None else 0o640),
        ):
            directory.mkdir(mode=0o700 if mode == 0o600 else 0o750, exist_ok=True)
            authority, certificates, keys = names
            contents = {authority: credentials.authority_pem}
            contents |= dict.fromkeys(certificates, credentials.certificate_pem)
            contents |= dict.fromkeys(keys, credentials.key_pem)
            for name, content in contents.items():
                write_file(directory / name, content, mode=mode)
            if mode != 0o600 and group is not None:
                for path in (directory, *directory.iterdir()):
                    os.chown(path, 0, group)

    async def reload(self) -> None:
        """libvirtd uses the files as they are now; QEMU reads them for each migration by itself."""
        for daemon in ("libvirtd", "virtproxyd"):
            with contextlib.suppress(OSError, TimeoutError):
                process = await asyncio.create_subprocess_exec(
                    *("virt-admin", "--connect", f"{daemon}:///system", "server-update-tls", daemon),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.DEVNULL,
                )
                if not await asyncio.wait_for(process.wait(), _RELOAD_SECONDS):
                    log.info("peer.certificate_reloaded", daemon=daemon)
                    return

    def uri(self, node_id: str) -> str:
        """libvirt of another node, with mutual TLS and a checked name."""
        return f"qemu+tls://{name_node(node_id)}/system?pkipath={self.libvirt_directory}"

    def ensure_name(self, node_id: str, address: str) -> None:
        """The node's name leads to this address, for every program of this node."""
        name = name_node(node_id)
        content = self._hosts.read_text() if self._hosts.exists() else ""
        kept = [line for line in content.splitlines() if not (line.endswith(_MARK) and name in line.split())]
        wanted = "".join(f"{line}\n" for line in [*kept, f"{address} {name} {_MARK}"])
        if wanted != content:
            # In place, since the file may be mounted by itself; all lines but those of nodes are where they were.
            self._hosts.write_text(wanted)


def name_node(node_id: str) -> str:
    """The name in a node's certificate. Raises RequestInvalid."""
    if not _NODE_ID.fullmatch(node_id):
        raise RequestInvalid("node_id: lower-case letters, digits and '-', at most 63")
    return f"{node_id}.{_DOMAIN}"


def name_subject(node_id: str) -> str:
    """The subject of a node's certificate, as GnuTLS writes it. Raises RequestInvalid."""
    name_node(node_id)
    return f"O=Nodewright,CN={node_id}"


def describe_settings(directory: Path) -> dict[str, str]:
    """What libvirt's configuration must say, by the name of its file."""
    libvirt, qemu = directory / "libvirt", directory / "qemu"
    return {
        "libvirtd.conf": "listen_tls = 1\n"
        f'key_file = "{libvirt}/serverkey.pem"\n'
        f'cert_file = "{libvirt}/servercert.pem"\n'
        f'ca_file = "{libvirt}/cacert.pem"\n'
        f'tls_allowed_dn_list = ["{ALLOWED_NAMES}"]\n',
        "qemu.conf": f'migrate_tls_x509_cert_dir = "{qemu}"\nmigrate_tls_x509_verify = 1\n',
    }


async def try_libvirt(directory: Path, node_id: str, address: str) -> str:
    """Why libvirt at this address does not admit this node with its certificate; empty: it does."""
    files = directory / "libvirt"
    try:
        context = ssl.create_default_context(cafile=str(files / "cacert.pem"))
        context.load_cert_chain(files / "clientcert.pem", files / "clientkey.pem")
        async with asyncio.timeout(_CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                address, PORT, ssl=context, server_hostname=name_node(node_id)
            )
            answer = await reader.read(1)
            writer.close()
    except TimeoutError:
        return f"no answer from {address} port {PORT}"
    except (OSError, ssl.SSLError) as error:
        return str(error)
    return "" if answer == _ADMITTED else "libvirt does not admit the certificate of a node"


def _qemu_group() -> int | None:
    for name in _QEMU_USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_gid
    return None
