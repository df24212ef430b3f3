"""Files as block devices, which the kernel takes back however a test ends."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LoopDevicesUnavailable(Exception):
    """This machine, or this user, has none."""


@contextmanager
def loop_device(file: Path) -> Iterator[Path]:
    """The device that holds what the file holds. Raises LoopDevicesUnavailable."""
    try:
        attached = subprocess.run(["losetup", "--find", "--show", file], capture_output=True, text=True, check=True)
        path = Path(attached.stdout.strip())
        held = os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise LoopDevicesUnavailable(str(error)) from error
    except subprocess.CalledProcessError as error:
        raise LoopDevicesUnavailable(error.stderr) from error
    # It is detached when nobody has it open any more: at the latest when this process has ended.
    subprocess.run(["losetup", "--detach", path], check=True)
    try:
        yield path
    finally:
        os.close(held)
