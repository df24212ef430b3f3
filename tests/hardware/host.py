"""The node as a compute host: libvirt and this checkout's agent run on it, and are called as a coordinator does."""

from __future__ import annotations

import compileall
import sys
import time
from pathlib import Path
from typing import Any, Final

import grpc

from protos.agent.v1 import device_pb2_grpc, domain_pb2_grpc, host_pb2_grpc, migration_pb2_grpc, storage_pb2_grpc
from protos.agent.v1.host_pb2 import GetInventoryRequest, HostInventory
from tests.hardware.coordinator import StandIn
from tests.hardware.machine import AGENT_PORT, NODE_ADDRESS, SPLIT_NIC
from tests.hardware.node import SHARE, HardwareNode
from tests.lab.waiting import wait_until
from tests.unit.agent.coordinator_server import NODE_ID

VIRTUAL_FUNCTIONS: Final = 2
CHECKOUT: Final = Path(__file__).parents[2]
STATE: Final = "/var/lib/nodewright/agent"
_MACHINE_UUID: Final = "8c1f0e4a-7e64-4a7e-9c60-0e2a4a7a7d99"
_START_SECONDS: Final = 240.0
_CALL_SECONDS: Final = 120.0
_LIBVIRT: Final = f"""
printf 'user = "root"\\ngroup = "root"\\nsecurity_driver = "none"\\n' > /etc/libvirt/qemu.conf
printf 'host_uuid = "{_MACHINE_UUID}"\\nauth_unix_rw = "none"\\n' > /etc/libvirt/libvirtd.conf
virtlogd --daemon && libvirtd --daemon
"""


class NodeHost:
    """Libvirt and an agent on a hardware node that has booted."""

    def __init__(self, node: HardwareNode, coordinator: StandIn) -> None:
        self.node = node
        self.coordinator = coordinator
        self._pid = 0
        _compile_agent()
        coordinator.write_identity(node.shared / "identity")
        node.run(f"mkdir -p {STATE} && cp -r {SHARE}/identity/. {STATE}/")
        self._channel = self._connect()
        self.domains: Any = domain_pb2_grpc.DomainServiceStub(self._channel)
        self.devices: Any = device_pb2_grpc.DeviceServiceStub(self._channel)
        self.host: Any = host_pb2_grpc.HostServiceStub(self._channel)
        self.migrations: Any = migration_pb2_grpc.MigrationServiceStub(self._channel)
        self.images: Any = storage_pb2_grpc.ImageServiceStub(self._channel)
        self.volumes: Any = storage_pb2_grpc.VolumeServiceStub(self._channel)

    def start_libvirt(self) -> None:
        """libvirtd runs, answers, and has found the devices."""
        self.node.run(_LIBVIRT)
        wait_until(lambda: self.node.run("virsh --quiet nodedev-list --cap system"), "libvirtd answers", 120)

    def start_agent(self) -> float:
        """The agent runs and answers; the seconds that it took."""
        began = time.monotonic()
        settings = {
            "PYTHONPATH": CHECKOUT,
            "NODEWRIGHT_AGENT_MACHINE_UUID": _MACHINE_UUID,
            "NODEWRIGHT_AGENT_ADVERTISE_ADDRESS": f"{NODE_ADDRESS}:{AGENT_PORT}",
            "NODEWRIGHT_AGENT_VIRTUAL_FUNCTIONS": f"{SPLIT_NIC}={VIRTUAL_FUNCTIONS}",
        }
        assignments = " ".join(f"{name}={value}" for name, value in settings.items())
        program = f"env -C {CHECKOUT} {assignments} {sys.executable} -m agent.process"
        self._pid = self.node.spawn(program, "agent.log")
        wait_until(self._answers, "the agent answers", timeout_seconds=_START_SECONDS)
        return time.monotonic() - began

    def kill_agent(self) -> None:
        """As the kernel does when memory is short."""
        self.node.run(f"kill -9 {self._pid}; while kill -0 {self._pid} 2> /dev/null; do sleep 0.05; done")

    def boot(self) -> None:
        """After the end of the node: all of it runs again."""
        self.node.boot()
        self.start_libvirt()
        self.start_agent()

    def read_inventory(self) -> HostInventory:
        """What the node offers at this moment."""
        inventory: HostInventory = self.host.GetInventory(GetInventoryRequest(), timeout=_CALL_SECONDS)
        return inventory

    def measure_memory(self) -> int:
        """What the agent holds, in bytes."""
        return 1024 * int(self.node.run(f"sed -n 's/^VmRSS:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/{self._pid}/status"))

    def close(self) -> None:
        """The agent is not called any more."""
        self._channel.close()

    def _answers(self) -> bool:
        self.host.GetInventory(GetInventoryRequest(), timeout=_CALL_SECONDS, wait_for_ready=True)
        return True

    def _connect(self) -> grpc.Channel:
        issued = self.coordinator.authority.issue_coordinator(["localhost"])
        trust = grpc.ssl_channel_credentials(self.coordinator.authority.pem, issued.key_pem, issued.certificate_pem)
        options = (
            ("grpc.ssl_target_name_override", f"{NODE_ID}.node.nodewright.internal"),
            # A node that boots is to be noticed at once.
            ("grpc.max_reconnect_backoff_ms", 500),
        )
        return grpc.secure_channel(f"127.0.0.1:{self.node.agent_port}", trust, options)


def _compile_agent() -> None:
    """In the checkout: the node would do it after each boot, slowly, and forget it."""
    for package in ("agent", "protos"):
        compileall.compile_dir(CHECKOUT / package, quiet=2)
