"""A guest that does nothing but prove that an accelerator runs guests: it enters long mode, counts, and leaves QEMU.

A file /dev/kvm is no proof: some clouds offer one that runs real-mode code and hangs or aborts at the first page table.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path
from typing import Final

# The boot sector, in the order of execution.
_CODE: Final = bytes.fromhex(
    "fa"  # cli
    "6631c0 8ed8 8ec0 8ed0"  # clear eax, ds, es and ss
    "bc007c"  # stack below the code
    "bf0010 b9000c fc 66f3ab"  # clear three pages at 0x1000
    "c70600100320 c70600200330 c606003083"  # page tables: the first 2 MiB map to themselves
    "b0a0 0f22e0"  # cr4: PAE, PGE
    "b80010 0f22d8"  # cr3: the page tables
    "66b9800000c0 0f32 80cc01 0f30"  # EFER: long mode
    "660f0116757c"  # lgdt
    "0f20c0 660d01000080 0f22c0"  # cr0: protection and paging
    "ea577c0800"  # jump into the 64-bit segment
    "b940420f00 ffc9 75fc"  # count from 1000000 to 0
    "b010 e6f4 f4"  # write 0x10 to the exit device, halt
    "0000000000000000 00000000009a2000"  # global descriptor table: none, 64-bit code
    "0f00 657c0000"  # its limit and address
)
# Firmware does not start from a smaller disk.
_DISK_BYTES: Final = 1 << 20
_SIGNATURE_OFFSET: Final = 510
# The exit device makes (value << 1) | 1 of what is written to it.
_EXIT_STATUS: Final = (0x10 << 1) | 1


async def run_probe_guest(emulator: str, accelerator: str, *, timeout_seconds: float = 10.0) -> str:
    """Runs the guest; answers the empty text when it ran to its end, else why it did not."""
    with tempfile.TemporaryDirectory(prefix="nodewright-probe-") as directory:
        disk = Path(directory) / "disk.img"
        disk.write_bytes(_CODE.ljust(_SIGNATURE_OFFSET, b"\0") + b"\x55\xaa")
        with disk.open("r+b") as file:
            file.truncate(_DISK_BYTES)
        try:
            process = await asyncio.create_subprocess_exec(
                *_command(emulator, accelerator, disk),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            return f"{emulator} cannot be run: {error.strerror}"
        return await _outcome(process, timeout_seconds)


def _command(emulator: str, accelerator: str, disk: Path) -> tuple[str, ...]:
    machine = ("-machine", f"q35,accel={accelerator}", "-cpu", "host" if accelerator == "kvm" else "max", "-m", "16")
    nothing_else = ("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot")
    exit_device = ("-device", "isa-debug-exit,iobase=0xf4,iosize=0x1")
    return (emulator, *machine, *nothing_else, *exit_device, "-drive", f"file={disk},format=raw,if=ide")


async def _outcome(process: asyncio.subprocess.Process, timeout_seconds: float) -> str:
    try:
        _, errors = await asyncio.wait_for(process.communicate(), timeout_seconds)
    except TimeoutError:
        return f"a probe guest did not end within {timeout_seconds:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode == _EXIT_STATUS:
        return ""
    words = errors.decode(errors="replace").strip().splitlines()
    return f"a probe guest failed: {words[0][:200] if words else f'QEMU ended with {process.returncode}'}"
