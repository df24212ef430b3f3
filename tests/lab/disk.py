"""The disk of a host's volumes, which can be full."""

import os
from pathlib import Path

from tests.lab.namespace import Namespace


class Disk:
    """A file system of its own. Fullness stays until `free`."""

    def __init__(self, namespace: Namespace, directory: Path) -> None:
        self._namespace = namespace
        self._directory = directory
        self._ballast = directory / ".ballast"

    def fill(self) -> None:
        """No byte is left."""
        # Allocated where that is possible, because it is quick; the last blocks are written.
        self._namespace.run("fallocate", "--length", str(self.available_bytes() or 1), self._ballast, check=False)
        self._namespace.run("sh", "-c", 'cat /dev/zero >> "$1"', "fill", self._ballast, check=False)
        assert self.available_bytes() == 0

    def free(self) -> None:
        """What `fill` took is given back."""
        self._namespace.run("rm", "-f", self._ballast)

    def available_bytes(self) -> int:
        """What can still be written."""
        status = os.statvfs(self._namespace.path(str(self._directory)))
        return status.f_bavail * status.f_frsize
