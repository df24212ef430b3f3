"""The generated gRPC modules belong to the .proto files beside them, and every field is documented."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROTO_FILES = sorted((ROOT / "protos").rglob("*.proto"))


def test_generating_again_changes_nothing(tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHON": sys.executable,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    subprocess.run([ROOT / "packaging/generate-protos", tmp_path], check=True, env=environment, timeout=120)
    generated = {path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2*")}
    committed = {path.relative_to(ROOT) for path in (ROOT / "protos").rglob("*_pb2*") if path.suffix in {".py", ".pyi"}}
    assert generated == committed
    changed = [path for path in generated if (tmp_path / path).read_text() != (ROOT / path).read_text()]
    assert changed == []


@pytest.mark.parametrize("path", PROTO_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_quantities_name_their_unit(path: Path) -> None:
    quantity = re.compile(r"^\s+(?:repeated )?u?int(?:32|64) (\w+) =", re.MULTILINE)
    sized = [name for name in quantity.findall(path.read_text()) if re.search(r"memory|size|storage|speed|mtu", name)]
    assert [name for name in sized if not re.search(r"_(bytes|mbps|mhz|seconds)$", name)] == []
