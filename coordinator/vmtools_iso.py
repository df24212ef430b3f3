"""The disc with the guest tools: an installer, and packages for guests without sources of their own."""

import os
import shutil
import subprocess
import tempfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from coordinator.errors import ServiceUnavailable

VOLUME_LABEL: Final = "NWVMTOOLS"
# Of the monitoring helper on the disc, which says it itself.
MONITOR_VERSION: Final = 1
_PROGRAM: Final = "xorriso"
_TIMEOUT_SECONDS: Final = 300.0
# Of all that is on it: the same content is the same disc, byte for byte, whoever makes it.
_EPOCH: Final = 1_767_225_600
_PACKAGES: Final = ("*.deb", "*.rpm")


def build_vmtools_iso(target: Path, packages_dir: Path) -> None:
    """Writes the disc; ServiceUnavailable when that cannot be done here."""
    with tempfile.TemporaryDirectory(prefix=".vmtools-", dir=target.parent) as staging:
        content = Path(staging) / "content"
        with as_file(files("coordinator.data") / "vmtools") as own:
            shutil.copytree(own, content)
        for program in ("install.sh", "nodewright-monitor"):
            (content / program).chmod(0o755)
        for package in _list_packages(packages_dir):
            (content / "packages").mkdir(exist_ok=True)
            shutil.copyfile(package, content / "packages" / package.name)
        for path in (content, *content.rglob("*")):
            os.utime(path, (_EPOCH, _EPOCH))
        _run(content, target)


def _list_packages(directory: Path) -> list[Path]:
    """None when there is no such directory."""
    return sorted(path for pattern in _PACKAGES for path in directory.glob(pattern))


def _run(content: Path, target: Path) -> None:
    options = ("-as", "mkisofs", "-quiet", "-volid", VOLUME_LABEL, "-joliet", "-rational-rock", "-output")
    try:
        done = subprocess.run(
            (_PROGRAM, *options, target, content),
            env={**os.environ, "SOURCE_DATE_EPOCH": str(_EPOCH)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise ServiceUnavailable(
            f"{_PROGRAM} is not installed on the coordinator's machine", f"控制节点未安装{_PROGRAM}"
        ) from None
    except subprocess.TimeoutExpired:
        raise ServiceUnavailable(f"{_PROGRAM} did not end in time", f"{_PROGRAM}执行超时") from None
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip()[-500:]
        raise ServiceUnavailable(f"{_PROGRAM} failed: {reason}", f"{_PROGRAM}执行失败：{reason}")
