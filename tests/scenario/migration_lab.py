"""Two hosts of the lab with their real agents, which the test orders about in the coordinator's place."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from agent.identity import Identity, Membership
from coordinator.pki import Authority
from protos.agent.v1 import (
    domain_pb2,
    domain_pb2_grpc,
    host_pb2,
    host_pb2_grpc,
    migration_pb2,
    migration_pb2_grpc,
    network_pb2,
    network_pb2_grpc,
    storage_pb2,
    storage_pb2_grpc,
)
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.waiting import wait_until
from tests.unit.agent.guest_builder import SUBNET_ID, a_spec

# Programs of the lab start as forks of this process, of which gRPC then shuts the parent's sockets down, too.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

MIB = 1024**2
GIB = 1024**3
GUEST = "ecs-traveller"
GUEST_UUID = "3c1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d11"
VOLUME_UUID = "4d1e8c1e-7e64-4a7e-9c60-0e2a4a7a7d12"
IMAGE_ID = "img-demo"
PORT_ID = "port-traveller"
MAC_ADDRESS = "52:54:00:12:34:57"
_CALL_SECONDS = 60.0


class MigrationHost:
    """A host, and its agent's services."""

    def __init__(self, host: Host, authority: Authority, image: Path) -> None:
        self.host = host
        self.node_id = f"node-{host.index:014d}"
        self._authority = authority
        self._become_member()
        self._keep_image(image)
        self.address = self._connect()
        host.agent_environment |= {
            "NODEWRIGHT_AGENT_MANAGE_NETWORK": "manage",
            "NODEWRIGHT_AGENT_STORAGE_NETWORK": "10.91.0.0/24",
            "NODEWRIGHT_AGENT_VNC_LISTEN": f"10.90.0.{10 + host.index}",
        }
        self.start_agent()
        host.serve_peers()
        wait_until(self.answers, "libvirt is back")

    def _connect(self) -> str:
        """The host's address on a cable to this process."""
        # From the end of the range that labs take from its start.
        for number in range(255, 127, -1):
            prefix = f"198.18.{number}"
            if self.host.namespace.connect_here("testing", f"{prefix}.2/30", f"nwmig{number}", f"{prefix}.1/30"):
                return f"{prefix}.2"
        raise RuntimeError("128 such tests run on this machine")

    def start_agent(self) -> None:
        """The agent serves; the clients are new."""
        self.host.start_agent()
        issued = self._authority.issue_coordinator(["coordinator"])
        credentials = grpc.ssl_channel_credentials(self._authority.pem, issued.key_pem, issued.certificate_pem)
        name = ("grpc.ssl_target_name_override", f"{self.node_id}.node.nodewright.internal")
        channel = grpc.secure_channel(
            f"{self.address}:8446", credentials, (name, ("grpc.use_local_subchannel_pool", 1))
        )
        grpc.channel_ready_future(channel).result(_CALL_SECONDS)
        self.domains: Any = domain_pb2_grpc.DomainServiceStub(channel)
        self.volumes: Any = storage_pb2_grpc.VolumeServiceStub(channel)
        self.transfers: Any = storage_pb2_grpc.VolumeTransferServiceStub(channel)
        self.networks: Any = network_pb2_grpc.NetworkServiceStub(channel)
        self.migrations: Any = migration_pb2_grpc.MigrationServiceStub(channel)
        self.hosts: Any = host_pb2_grpc.HostServiceStub(channel)

    def answers(self) -> bool:
        """Whether the agent has libvirt."""
        self.domains.List(domain_pb2.ListDomainsRequest(), timeout=5)
        return True

    def role_addresses(self) -> dict[str, str]:
        """As the facts tell them."""
        return dict(self.hosts.GetFacts(host_pb2.GetFactsRequest(), timeout=_CALL_SECONDS).role_addresses)

    def ensure_volume(self) -> None:
        """An overlay on the image."""
        request = storage_pb2.EnsureVolumeRequest(
            uuid=VOLUME_UUID, size_bytes=GIB, volume_type="hdd", image=self._image
        )
        self.volumes.EnsureVolume(request, timeout=_CALL_SECONDS)

    def list_volumes(self) -> list[str]:
        """Their UUIDs."""
        volumes = self.volumes.List(storage_pb2.ListVolumesRequest(), timeout=_CALL_SECONDS).volumes
        return [volume.uuid for volume in volumes]

    def storage_id(self) -> str:
        """As the inventory tells it."""
        request = host_pb2.GetInventoryRequest()
        return str(self.hosts.GetInventory(request, timeout=_CALL_SECONDS).storage_id)

    def ensure_port(self) -> None:
        """The guest's card has its network."""
        subnet = network_pb2.Subnet(subnet_id=SUBNET_ID, cidr="10.80.0.0/24", gateway_ip="10.80.0.1")
        port = network_pb2.Port(
            port_id=PORT_ID, subnet=subnet, mac_address=MAC_ADDRESS, ip_address="10.80.0.9", hostname="traveller"
        )
        self.networks.EnsurePort(network_pb2.EnsurePortRequest(port=port), timeout=_CALL_SECONDS)

    def bytes_sent(self, network: str) -> int:
        """What went out on an interface."""
        return int(self.host.namespace.run("cat", f"/sys/class/net/{network}/statistics/tx_bytes"))

    def run(self, script: str) -> str:
        """What a shell prints in the guest."""
        arguments = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": True}
        started: Any = self.host.guest_agent(GUEST, "guest-exec", **arguments)
        status: Any = wait_until(lambda: self._ended(started["pid"]), f"{script} ends")
        return _decode(status)

    def _ended(self, pid: int) -> Any:
        status: Any = self.host.guest_agent(GUEST, "guest-exec-status", pid=pid)
        return status if status["exited"] else None

    def state(self) -> str:
        """libvirt's word for the guest's state."""
        return self.host.domain_state(GUEST)

    def remove(self) -> None:
        """Nothing of the guest is left here."""
        self.domains.EnsureRemoved(domain_pb2.EnsureRemovedRequest(uuid=GUEST_UUID), timeout=_CALL_SECONDS)
        self.networks.EnsurePortRemoved(network_pb2.EnsurePortRemovedRequest(port_id=PORT_ID), timeout=_CALL_SECONDS)
        self.volumes.EnsureRemoved(storage_pb2.EnsureVolumeRemovedRequest(uuid=VOLUME_UUID), timeout=_CALL_SECONDS)

    def _become_member(self) -> None:
        directory = self.host.directory / "agent"
        identity = Identity(directory, directory / "pki")
        identity.prepare()
        issued = self._authority.sign_agent(self.node_id, identity.request_to_join().encode())
        identity.accept(issued.certificate_pem.decode(), self._authority.pem.decode())
        identity.accept_membership(Membership(self.node_id, "region", "10.90.0.1:8445"))

    def _keep_image(self, image: Path) -> None:
        directory = self.host.directory / "agent/images"
        directory.mkdir()
        shutil.copy(image, directory / f"{IMAGE_ID}.qcow2")
        content = image.read_bytes()
        description = {
            "image_id": IMAGE_ID,
            "sha256": hashlib.sha256(content).hexdigest(),
            "format": "qcow2",
            "size_bytes": len(content),
        }
        (directory / f"{IMAGE_ID}.json").write_text(json.dumps(description | {"virtual_size_bytes": 64 * MIB}))
        self._image = storage_pb2.ImageRef(**description | {"format": storage_pb2.IMAGE_FORMAT_QCOW2})  # type: ignore[arg-type]


class MigrationLab:
    """A source, a target, and the calls of a migration."""

    def __init__(self, lab: Lab, image: Path) -> None:
        authority = Authority.open(lab.directory / "authority")
        self.lab = lab
        # All hosts before the first client: gRPC has threads, and a host starts as a fork of this process.
        hosts = [lab.add_host(), lab.add_host()]
        self.source, self.target = (MigrationHost(host, authority, image) for host in hosts)

    def start_guest(self, *, boots: bool = True, **changes: Any) -> domain_pb2.DomainSpec:
        """The demo guest runs on the source, and its agent answers."""
        disk = domain_pb2.Disk(volume_uuid=VOLUME_UUID, bus=domain_pb2.DISK_BUS_VIRTIO, boot_index=1)
        values = {"vcpus": 1, "memory_bytes": 256 * MIB, "nics": [], "disks": [disk], "name": GUEST, "uuid": GUEST_UUID}
        spec = a_spec(**values | changes)
        source = self.source
        source.ensure_volume()
        source.domains.EnsureDefined(domain_pb2.EnsureDefinedRequest(spec=spec), timeout=_CALL_SECONDS)
        source.domains.EnsureRunning(domain_pb2.EnsureRunningRequest(uuid=GUEST_UUID), timeout=_CALL_SECONDS)
        if boots:
            wait_until(lambda: source.host.guest_agent(GUEST, "guest-ping") == {}, "the guest has booted", 120)
        return spec

    def prepare(self, spec: domain_pb2.DomainSpec, migration_id: str, role: str = "storage") -> Any:
        """What the target answers."""
        inspected = self.source.migrations.InspectOutgoing(
            migration_pb2.InspectOutgoingRequest(uuid=GUEST_UUID), timeout=_CALL_SECONDS
        )
        assert not inspected.blockers
        self.target.ensure_volume()
        request = migration_pb2.PrepareIncomingRequest(
            spec=spec,
            migration_id=migration_id,
            machine=inspected.machine,
            cpu_xml=inspected.cpu_xml,
            network_role=role,
        )
        return self.target.migrations.PrepareIncoming(request, timeout=_CALL_SECONDS)

    def request(self, incoming: Any, migration_id: str, **changes: Any) -> migration_pb2.MigrateRequest:
        """A migration with a copy of the overlay."""
        values = {"uuid": GUEST_UUID, "migration_id": migration_id, "copied_volume_uuids": [VOLUME_UUID]}
        return migration_pb2.MigrateRequest(target=incoming, **values | {"auto_converge": True} | changes)

    def migrate(self, request: migration_pb2.MigrateRequest) -> list[Any]:
        """All progress until the end."""
        return list(self.source.migrations.Migrate(request, timeout=180))

    def remove_incoming(self, migration_id: str) -> None:
        """The target is cleaned."""
        request = migration_pb2.EnsureIncomingRemovedRequest(uuid=GUEST_UUID, migration_id=migration_id)
        self.target.migrations.EnsureIncomingRemoved(request, timeout=_CALL_SECONDS)

    def outcome(self, migration_id: str) -> Any:
        """As the source's agent tells it."""
        request = migration_pb2.GetMigrationOutcomeRequest(migration_id=migration_id)
        return self.source.migrations.GetOutcome(request, timeout=_CALL_SECONDS)


@contextmanager
def open_lab(image: Path) -> Iterator[MigrationLab]:
    """The lab, until the end of the block."""
    lab = Lab()
    try:
        yield MigrationLab(lab, image)
    finally:
        lab.stop()


def _decode(status: dict[str, Any]) -> str:
    return base64.b64decode(status.get("out-data", "")).decode().strip()
