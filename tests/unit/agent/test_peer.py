"""The files and names by which nodes know each other."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.errors import RequestInvalid
from agent.identity import Credentials, Validity
from agent.peer import Peers, describe_settings, name_node, try_libvirt

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CREDENTIALS = Credentials(b"key", b"certificate", b"authority", Validity(NOW, NOW))


def test_libvirt_and_qemu_find_the_credentials_that_their_settings_name(tmp_path: Path) -> None:
    peers = Peers(tmp_path / "tls")
    peers.write(CREDENTIALS)
    peers.write(CREDENTIALS)
    settings = describe_settings(tmp_path / "tls")
    named = dict(line.split(" = ") for text in settings.values() for line in text.splitlines())
    contents = {name: Path(named[name].strip('"')).read_bytes() for name in ("key_file", "cert_file", "ca_file")}
    assert contents == {"key_file": b"key", "cert_file": b"certificate", "ca_file": b"authority"}
    qemu = Path(named["migrate_tls_x509_cert_dir"].strip('"'))
    assert {path.name for path in qemu.iterdir()} == {
        *("ca-cert.pem", "client-cert.pem", "client-key.pem", "server-cert.pem", "server-key.pem")
    }
    for path in (*peers.libvirt_directory.iterdir(), *qemu.iterdir()):
        assert not path.stat().st_mode & 0o007


def test_a_name_leads_to_the_latest_address_and_other_lines_stay(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n10.0.0.9 node-1.node.nodewright.internal # by hand\n")
    peers = Peers(tmp_path, hosts=hosts)
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.2"):
        peers.ensure_name("node-1", address)
        peers.ensure_name("node-2", "10.0.0.3")
    assert sorted(hosts.read_text().splitlines()) == [
        "10.0.0.2 node-1.node.nodewright.internal # nodewright",
        "10.0.0.3 node-2.node.nodewright.internal # nodewright",
        "10.0.0.9 node-1.node.nodewright.internal # by hand",
        "127.0.0.1 localhost",
    ]


@pytest.mark.parametrize("node_id", ["", "-x", "a/b", "a?no_verify=1", "A", "a" * 64, "a.b", "a\n"])
def test_what_is_no_node_gets_into_no_uri(node_id: str) -> None:
    with pytest.raises(RequestInvalid, match="node_id"):
        name_node(node_id)


def test_the_uri_of_another_node_is_checked_by_name(tmp_path: Path) -> None:
    uri = Peers(tmp_path).uri("node-1")
    assert uri == f"qemu+tls://node-1.node.nodewright.internal/system?pkipath={tmp_path}/libvirt"


async def test_who_has_no_certificate_is_told_so(tmp_path: Path) -> None:
    assert "No such file" in await try_libvirt(tmp_path, "node-1", "127.0.0.1")
