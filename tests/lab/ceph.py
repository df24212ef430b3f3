"""A real Ceph cluster of one node: a monitor, a manager and one OSD on a file, in a directory of a test.

Everything is in one process group of namespaces' kind: whatever way a test ends, no daemon outlives it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final
from uuid import uuid4

from tests.lab.namespace import DYING_WITH_PARENT
from tests.lab.waiting import wait_until

POOL: Final = "guests"
USER: Final = "nodewright"
# A key that does what an agent needs, as `agent/README.md` tells to make it.
_CAPABILITIES: Final = ("mon", "profile rbd", "osd", f"profile rbd pool={POOL}", "mgr", f"profile rbd pool={POOL}")
_ALL: Final = ("--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr", "allow *")
_CONFIGURATION: Final = """[global]
fsid = {fsid}
mon host = v2:{address}:{port}
public addr = {address}
cluster addr = {address}
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
"""
# Small: what it does is looked at, not how fast.
_DAEMONS: Final = """keyring = {directory}/ceph.client.admin.keyring
run dir = {directory}
admin socket = {directory}/$name.asok
pid file =
log file = {directory}/$name.log
mon cluster log file = {directory}/cluster.log
[mon]
mon data = {directory}/mon
mon data avail warn = 1
mon data avail crit = 0
mon allow pool delete = true
[mgr]
mgr data = {directory}/mgr
keyring = {directory}/mgr/keyring
mgr initial modules =
[osd]
osd data = {directory}/osd
keyring = {directory}/osd/keyring
osd objectstore = bluestore
bluestore block size = {size_bytes}
bluestore block wal create = false
bluestore block db create = false
bluestore cache size = 134217728
osd memory target = 939524096
osd op num shards = 2
"""


def find_ceph_gap() -> str:
    """Why no cluster can be had here; empty: one can."""
    if not os.environ.get("NODEWRIGHT_TEST_CEPH"):
        return "NODEWRIGHT_TEST_CEPH=1 runs a Ceph cluster for it"
    if os.geteuid():
        return "needs root"
    programs = ("ceph", "ceph-mon", "ceph-mgr", "ceph-osd", "rbd", "monmaptool")
    missing = [name for name in programs if shutil.which(name) is None]
    return (
        f"not installed: {', '.join(missing)} (packages ceph-mon, ceph-mgr, ceph-osd, ceph-common)" if missing else ""
    )


class OneNodeCeph:
    """Runs from its making until `end`."""

    def __init__(self, directory: Path, *, address: str = "127.0.0.1", port: int = 13300, size_gib: int = 6) -> None:
        """`address` is one of the machine that all who use the cluster reach."""
        self.directory = directory
        self.fsid = str(uuid4())
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("mon", "mgr", "osd"):
            (directory / name).mkdir(parents=True)
        clients = _CONFIGURATION.format(fsid=self.fsid, address=address, port=port)
        daemons = _DAEMONS.format(directory=directory, size_bytes=size_gib * 1024**3)
        (directory / "ceph.conf").write_text(clients)
        (directory / "cluster.conf").write_text(clients + daemons)
        self._begin_monitor(address, port)
        self._begin_manager()
        self._begin_osd()
        self._make_pool()

    @property
    def config(self) -> Path:
        """What an agent and QEMU are told; the key is beside it."""
        return self.directory / "ceph.conf"

    def ceph(self, *arguments: str) -> str:
        """What the cluster answers its administrator."""
        return self._run("ceph", *arguments)

    def rbd(self, *arguments: str) -> str:
        """The same, of images."""
        return self._run("rbd", *arguments)

    def kill(self, name: str) -> None:
        """A daemon, "mon", "mgr" or "osd", is gone."""
        self._daemons[name].kill()
        self._daemons[name].wait()

    def start(self, name: str) -> None:
        """A daemon that was killed runs again."""
        identity = {"mon": "a", "mgr": "a", "osd": "0"}[name]
        command = (f"ceph-{name}", "-f", "-i", identity, "--conf", str(self.directory / "cluster.conf"))
        with (self.directory / f"{name}.out").open("ab") as output:
            self._daemons[name] = subprocess.Popen(
                [*DYING_WITH_PARENT, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def end(self) -> None:
        """No daemon runs."""
        for name in reversed(list(self._daemons)):
            self.kill(name)

    def _begin_monitor(self, address: str, port: int) -> None:
        admin, keyring, monmap = "ceph.client.admin.keyring", "mon.keyring", str(self.directory / "monmap")
        self._make_key(keyring, "mon.", "--cap", "mon", "allow *")
        self._make_key(admin, "client.admin", *_ALL)
        self._run("ceph-authtool", str(self.directory / keyring), "--import-keyring", str(self.directory / admin))
        place = f"[v2:{address}:{port}]"
        self._run("monmaptool", "--create", "--fsid", self.fsid, "--addv", "a", place, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", str(self.directory / keyring))
        self.start("mon")
        self.ceph("status")

    def _begin_manager(self) -> None:
        self._admit("mgr.a", "mgr", "mon", "profile mgr", "osd", "allow *")
        self.start("mgr")

    def _begin_osd(self) -> None:
        uuid = str(uuid4())
        self.ceph("osd", "new", uuid)
        self._admit("osd.0", "osd", "mon", "profile osd", "mgr", "profile osd", "osd", "allow *")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", uuid)
        self.start("osd")

    def _make_pool(self) -> None:
        self.ceph("osd", "pool", "create", POOL, "8")
        self.rbd("pool", "init", POOL)
        keyring = self.directory / f"ceph.client.{USER}.keyring"
        self.ceph("auth", "get-or-create", f"client.{USER}", *_CAPABILITIES, "-o", str(keyring))
        keyring.chmod(0o600)
        wait_until(self._knows_its_space, "Ceph knows its space")

    def _knows_its_space(self) -> bool:
        pools = json.loads(self.ceph("df", "--format", "json"))["pools"]
        return any(pool["name"] == POOL and pool["stats"]["max_avail"] > 0 for pool in pools)

    def _make_key(self, name: str, user: str, *capabilities: str) -> None:
        keyring = str(self.directory / name)
        self._run("ceph-authtool", keyring, "--create-keyring", "--gen-key", "-n", user, *capabilities)

    def _admit(self, user: str, name: str, *capabilities: str) -> None:
        self.ceph("auth", "get-or-create", user, *capabilities, "-o", str(self.directory / name / "keyring"))

    def _run(self, *command: str) -> str:
        environment = os.environ | {"CEPH_CONF": str(self.directory / "cluster.conf")}
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=120, env=environment, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout
