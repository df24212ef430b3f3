"""A file on its way between nodes, by QEMU's own tools: qemu-nbd offers an empty file, qemu-img fills it.

It is the file that is copied, not the disk in it: so what is in an overlay is moved and the image below is not, both
sides can compare checksums, and no byte of a guest is taken for metadata. QEMU's locks keep writers from the file that
is read. Both programs end with the agent.

Source: https://www.qemu.org/docs/master/tools/qemu-nbd.html, https://www.qemu.org/docs/master/system/tls.html.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from agent.errors import StorageFailed

_START_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.02
_STOP_SECONDS: Final = 5.0
_COMPLAINT_BYTES: Final = 1000
# A connection whose other end has lost its power stays open, and must not keep a second attempt out.
_CONNECTIONS: Final = 4


@dataclass(frozen=True)
class Tls:
    """How two nodes trust each other."""

    # Laid out as QEMU wants it.
    directory: Path
    # What the other side's certificate must say: its subject (seen from the server), its name (from the client).
    peer: str


@dataclass(frozen=True)
class Export:
    """Where a file is filled."""

    # Clients must know it; one for each transfer.
    name: str
    address: str
    port: int
    tls: Tls | None


class Program:
    """A child process that is killed when the agent ends, however that ends."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process = process
        self._name = name
        self._complaint = b""
        self._listening = asyncio.create_task(self._listen(), name=f"{name}-{process.pid}")

    @classmethod
    async def start(cls, *command: str) -> Program:
        """Runs the command; what it complains about is kept."""
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--", *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process, command[0])

    @property
    def has_ended(self) -> bool:
        """Whether it does not run any more."""
        return self._process.returncode is not None

    @property
    def moved_bytes(self) -> int:
        """What it has read and written until now, sockets left out."""
        try:
            lines = Path(f"/proc/{self._process.pid}/io").read_text().splitlines()
        except OSError:  # it has ended
            return 0
        numbers = dict(line.split(": ") for line in lines)
        return int(numbers["rchar"]) + int(numbers["wchar"])

    def listens(self, port: int) -> bool:
        """Whether it accepts connections there."""
        try:
            sockets = psutil.Process(self._process.pid).net_connections("tcp")
        except psutil.Error:
            return False
        return any(item.status == psutil.CONN_LISTEN and item.laddr.port == port for item in sockets)

    async def wait(self) -> str:
        """Empty when it has done its work, else its complaint."""
        status = await self._process.wait()
        await self._listening
        reason = self._complaint.decode(errors="replace").strip()
        return "" if status == 0 else reason or f"{self._name}: exit status {status}"

    async def end(self) -> None:
        """It does not run any more."""
        for stop in (self._process.terminate, self._process.kill):
            with contextlib.suppress(ProcessLookupError):
                stop()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
                return

    async def _listen(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - for the type checker
        while text := await self._process.stderr.read(_COMPLAINT_BYTES):
            self._complaint = (self._complaint + text)[-_COMPLAINT_BYTES:]


async def start_export(path: Path, export: Export, *, direct_io: bool) -> Program | None:
    """The file can be filled there; None when the port is taken. Raises StorageFailed."""
    program = await Program.start(
        *("qemu-nbd", "--persistent", f"--shared={_CONNECTIONS}", f"--export-name={export.name}"),
        *("--format=raw", "--discard=unmap", f"--cache={'none' if direct_io else 'writeback'}"),
        *(f"--bind={export.address}", f"--port={export.port}", *_server_tls(export.tls), str(path)),
    )
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not program.has_ended and not program.listens(export.port):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(_LOOK_SECONDS)
    except BaseException as error:
        await program.end()
        if isinstance(error, TimeoutError):
            raise StorageFailed(f"qemu-nbd did not listen within {_START_SECONDS:g} s") from None
        raise
    if not program.has_ended:
        return program
    complaint = await program.wait()
    if "Address already in use" in complaint:
        return None
    raise StorageFailed(complaint)


async def start_copy(path: Path, export: Export, *, bandwidth_mib_per_second: int) -> Program:
    """The file's bytes are being sent there. QEMU's locks keep everybody from writing to it meanwhile."""
    protocol = "host_device" if await asyncio.to_thread(path.is_block_device) else "file"
    source = f"driver=raw,file.driver={protocol},file.locking=on,file.filename={_escape(str(path))}"
    target = (
        "driver=raw,file.driver=nbd,file.server.type=inet,"
        f"file.server.host={export.address},file.server.port={export.port},file.export={export.name}"
    )
    tls: tuple[str, ...] = ()
    if export.tls is not None:
        target += f",file.tls-creds=tls,file.tls-hostname={_escape(export.tls.peer)}"
        tls = ("--object", _credentials(export.tls, "client"))
    limit = ("-r", f"{bandwidth_mib_per_second}M") if bandwidth_mib_per_second else ()
    return await Program.start(
        *("qemu-img", "convert", "-n", *limit, *tls, "--image-opts", "--target-image-opts", source, target)
    )


def _server_tls(tls: Tls | None) -> tuple[str, ...]:
    if tls is None:
        return ()
    peer = f"authz-simple,id=peer,identity={_escape(tls.peer)}"
    return ("--object", _credentials(tls, "server"), "--object", peer, "--tls-creds=tls", "--tls-authz=peer")


def _credentials(tls: Tls, endpoint: str) -> str:
    return f"tls-creds-x509,id=tls,endpoint={endpoint},verify-peer=on,dir={_escape(str(tls.directory))}"


def _escape(value: str) -> str:
    """As a value among QEMU's options, which commas part."""
    return value.replace(",", ",,")
