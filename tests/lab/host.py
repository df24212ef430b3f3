"""A compute host of the lab: real libvirt and QEMU, and the agent."""

import json
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.peer import describe_settings
from tests.lab.cable import Cable
from tests.lab.disk import Disk
from tests.lab.namespace import GuestProcess, Namespace, Process
from tests.lab.waiting import wait_until

PROGRAMS = Path(sys.executable).parent
CHECKOUT = Path(__file__).parents[2]
LIBVIRTD = "/usr/sbin/libvirtd"
QEMU = "/usr/bin/qemu-system-x86_64"
PEER_DIRECTORY = Path("/var/lib/nodewright/agent/tls")
VOLUMES = Path("/var/lib/nodewright/agent/volumes")

# The host's own file systems: what libvirt and the agent keep is not the development machine's. A boot empties /run.
_SETUP = """
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
# What libvirt keeps outlives a power failure, as on a real disk.
for directory in /etc/libvirt /var/lib/libvirt /var/log/libvirt /etc/nodewright /var/lib/swtpm-localca; do
  mkdir -p $directory {directory}/libvirt$directory
  mount --bind {directory}/libvirt$directory $directory
done
# What libvirt finds out about QEMU depends on its configuration: not the machine's, but kept between runs.
mkdir -p /var/cache/nodewright/lab-libvirt /var/cache/libvirt
mount --bind /var/cache/nodewright/lab-libvirt /var/cache/libvirt
mkdir -p /var/lib/nodewright
mount --bind {directory} /var/lib/nodewright
mount --bind {directory}/machine-id /etc/machine-id
mount --bind {directory}/hosts /etc/hosts
# The kernel's own is that of the development machine, which is not rebooted.
mount --bind {directory}/boot-id /proc/sys/kernel/random/boot_id
"""
# A file system of their own for the volumes, which can be filled without filling this machine's disk.
_OWN_DISK = """
[ -e {directory}/disk ] || {{
  truncate -s {mib}M {directory}/disk
  mkfs.ext4 -q -m 0 {directory}/disk
}}
mkdir -p {volumes}
# The kernel may still be giving the disk back that the machine had before a power failure.
for attempt in $(seq 50); do
  mount -o loop {directory}/disk {volumes} 2> {directory}/mount.log && break
  [ $attempt -lt 50 ] && sleep 0.1
done
rmdir {volumes}/lost+found 2> /dev/null || true
"""
_QEMU_CONF = """
user = "root"
group = "root"
swtpm_user = "root"
swtpm_group = "root"
cgroup_controllers = []
namespaces = []
security_driver = "none"
lock_manager = "lockd"
"""
_LIBVIRTD_CONF = """
host_uuid = "{machine_uuid}"
unix_sock_group = "root"
auth_unix_rw = "none"
"""


_BY_HAND = """
<domain type="qemu"><name>{name}</name><memory unit="MiB">64</memory>
  <os><type arch="x86_64" machine="q35">hvm</type></os>
  <devices><emulator>{emulator}</emulator>
    <disk type="file" device="disk"><driver name="qemu" type="qcow2"/><source file="{disk}"/><backingStore/>
      <target dev="vda" bus="virtio"/></disk>
  </devices>
</domain>
"""
_RECKLESS_QEMU = f"""#!{sys.executable}
import os, sys
words = [word.replace('"driver":"file"', '"driver":"file","locking":"off"') for word in sys.argv]
os.execv("{QEMU}", words)
"""


class Host:
    """One host. Its index from 1 up decides its name and its addresses."""

    def __init__(self, index: int, directory: Path, disk_mib: int = 0) -> None:
        self.index = index
        self.name = f"host{index}"
        self.directory = directory / self.name
        self.machine_uuid = str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{directory}/{self.name}"))
        self.directory.mkdir()
        (self.directory / "machine-id").write_text(self.machine_uuid.replace("-", "") + "\n")
        (self.directory / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        self._renew_boot_id()
        setup = _SETUP.format(directory=self.directory)
        if disk_mib:
            setup += _OWN_DISK.format(directory=self.directory, mib=disk_mib, volumes=VOLUMES)
        self.namespace = Namespace(self.name, setup)
        self.disk = Disk(self.namespace, VOLUMES) if disk_mib else None
        # By network; the lab plugs them in.
        self.cables: dict[str, Cable] = {}
        self._configure_libvirt()
        self.virtlogd = self._process("virtlogd", "/usr/sbin/virtlogd")
        self.virtlockd = self._process("virtlockd", "/usr/sbin/virtlockd")
        self.libvirtd = self._process("libvirtd", LIBVIRTD)
        self.agent = self._process("agent", PROGRAMS / "nodewright-agent", "serve")
        self.watchdog = self._process("watchdog", PROGRAMS / "nodewright-watchdog")
        self.agent_environment: dict[str, str] = {"NODEWRIGHT_AGENT_MACHINE_UUID": self.machine_uuid}

    def logs(self) -> dict[str, Path]:
        """The output of its programs by name."""
        return {f"{self.name} {process.name}": process.log for process in (self.agent, self.libvirtd, self.watchdog)}

    def start_libvirt(self) -> None:
        """libvirtd runs and answers, with the keepers of its guests' logs and disk locks."""
        self.virtlogd.start()
        self.virtlockd.start()
        self.start_libvirtd()

    def start_libvirtd(self) -> None:
        """libvirtd runs and answers."""
        self.libvirtd.start()
        wait_until(lambda: self.virsh("version"), f"{self.name}: libvirtd answers", timeout_seconds=60)

    def restart_libvirtd(self) -> None:
        """As an upgrade of libvirt does it; guests stay."""
        self.libvirtd.stop()
        self.start_libvirtd()

    def serve_peers(self) -> None:
        """libvirt admits the other nodes: it needs the files that the agent has written by now."""
        for name, settings in describe_settings(PEER_DIRECTORY).items():
            with (self.namespace.path("/etc/libvirt") / name).open("a") as file:
                file.write(settings)
        self.libvirtd.argv = (LIBVIRTD, "--listen")
        self.restart_libvirtd()

    def join(self, coordinator_url: str, token: str) -> None:
        """The host becomes a node of the cloud."""
        joining = ("join", "--coordinator", coordinator_url, "--token", token)
        self.namespace.run("env", *self._assignments(), PROGRAMS / "nodewright-agent", *joining)

    def start_agent(
        self, argv: Sequence[str | Path] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        """The agent runs; a launcher with an injected fault goes into `argv`."""
        self.agent.start(argv, self.agent_environment | dict(environment or {}))

    def start_faulty_agent(self, moment: str, call: str) -> None:
        """The agent runs until it kills itself "before" or "after" its first call of this name."""
        launcher = (sys.executable, "-m", "tests.lab.faulty_agent", moment, call)
        self.start_agent(launcher, {"PYTHONPATH": str(CHECKOUT)})

    def virsh(self, *argv: str) -> str:
        """What virsh prints on this host."""
        return self.namespace.run("virsh", "--quiet", *argv)

    def examine(self) -> dict[str, dict[str, str]]:
        """The doctor's findings by what they are about."""
        doctor = (PROGRAMS / "nodewright-agent", "doctor", "--json")
        findings = json.loads(self.namespace.run("env", *self._assignments(), *doctor, check=False))
        return {finding["check"]: finding for finding in findings}

    def create_by_hand(self, name: str, disk: str, *, emulator: str = QEMU) -> None:
        """A guest on this disk, past Nodewright, as a person would start it; AssertionError with libvirt's words."""
        path = self.namespace.path(f"/run/{name}.xml")
        path.write_text(_BY_HAND.format(name=name, disk=disk, emulator=emulator))
        self.virsh("create", f"/run/{name}.xml")

    def add_reckless_qemu(self) -> str:
        """The path of a QEMU that locks no images, as on a file system that has no locks for it."""
        program = self.namespace.path("/run/reckless-qemu")
        program.write_text(_RECKLESS_QEMU)
        program.chmod(0o755)
        return "/run/reckless-qemu"

    def domain_state(self, domain: str) -> str:
        """libvirt's word for the state: "running", "paused", "shut off"; "absent" without such a domain."""
        if domain not in self.virsh("list", "--all", "--name").split():
            return "absent"
        return self.virsh("domstate", domain).strip()

    def guest_agent(self, domain: str, command: str, **arguments: object) -> object:
        """Asks the guest agent past Nodewright, through virsh."""
        request = json.dumps({"execute": command, "arguments": arguments})
        return json.loads(self.virsh("qemu-agent-command", domain, request))["return"]

    def guest(self, domain: str) -> GuestProcess:
        """The QEMU of a running domain."""
        return GuestProcess(self.namespace, domain)

    def process(self, name: str) -> Process | GuestProcess:
        """One of its programs, or the QEMU of the domain of this name."""
        return next((program for program in self._programs if program.name == name), None) or self.guest(name)

    def end(self) -> None:
        """Everything on it is killed, as by a power failure; Lab.boot brings it back."""
        self.namespace.end()
        for cable in self.cables.values():
            cable.unplug()
        for process in self._programs:
            process.wait_for_end()

    def boot(self) -> None:
        """After `end`: its kernel runs again, and its disks are as they were; no program runs, and no network is up."""
        self._renew_boot_id()
        self.namespace.start()

    @property
    def _programs(self) -> tuple[Process, ...]:
        return self.agent, self.libvirtd, self.virtlogd, self.virtlockd, self.watchdog

    @property
    def boot_id(self) -> str:
        """Of the kernel that runs there now, as its programs see it."""
        return (self.directory / "boot-id").read_text().strip()

    def _renew_boot_id(self) -> None:
        (self.directory / "boot-id").write_text(f"{uuid.uuid4()}\n")

    def _assignments(self) -> list[str]:
        return [f"{name}={value}" for name, value in self.agent_environment.items()]

    def _process(self, name: str, *argv: str | Path) -> Process:
        return Process(self.namespace, name, argv, self.directory / f"{name}.log")

    def _configure_libvirt(self) -> None:
        etc = self.namespace.path("/etc/libvirt")
        (etc / "qemu.conf").write_text(_QEMU_CONF)
        (etc / "libvirtd.conf").write_text(_LIBVIRTD_CONF.format(machine_uuid=self.machine_uuid))
