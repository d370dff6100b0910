"""What the command itself says, whatever the verb."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pairstill.cli.app import EXTRAS

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def without(package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.modules[{package!r}] = None; from pairstill.cli.app import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("torch", "train", ["export", "--format", "onnx", "--student", "a", "--out", "b"]),
        ("uvicorn", "serve", ["serve", "--student", "a"]),
    ],
)
def test_a_missing_package_is_named_with_its_extra(package: str, extra: str, arguments: list[str]) -> None:
    done = without(package, *arguments)
    assert done.returncode == 2
    assert done.stderr == (
        f"error: This needs the package '{package}', which is not installed. Run: pip install 'pairstill[{extra}]'\n"
    )


def test_the_extras_that_are_named_bring_these_packages() -> None:
    declared = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    distributions = {"PIL": "pillow", "faiss": "faiss-cpu", "ir_measures": "ir-measures", "sklearn": "scikit-learn"}
    distributions["prometheus_client"] = "prometheus-client"
    for extra, packages in EXTRAS.items():
        names = {one.split(">")[0].split("=")[0] for one in declared[extra]}
        assert {distributions.get(one, one) for one in packages} <= names, extra
