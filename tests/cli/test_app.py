"""What the command itself says, whatever the verb."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

from pairstill.cli.app import EXTRAS, app, main
from pairstill.cli.flags import writable
from pairstill.errors import InputError

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


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=f"nothing can be written there: '{tmp_path}/file' is a file. Choose another"):
        writable(tmp_path / "file" / "out")
    assert writable(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert writable(tmp_path / "file") == tmp_path / "file"
    assert [one.name for one in tmp_path.iterdir()] == ["file"], "nothing is left of the trial"

    def refuse(**asked: object) -> str:
        assert asked["dir"] == tmp_path
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(InputError, match=rf"'{tmp_path}' is a folder that takes none \(Read-only file system\)"):
        writable(tmp_path / "a" / "b")
    with pytest.raises(InputError, match="nothing can be written there"):
        app(["evaluate", "--tuples", "x", "--student", "y", "--out", str(tmp_path / "out")])


def test_what_the_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "scores/part.parquet")

    monkeypatch.setattr("pairstill.cli.app.app", full)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: scores/part.parquet: the system refuses: No space left on device. Make room or choose another place; what was "
        "finished is kept, and the same command goes on from there\n"
    )

    def mistaken() -> None:
        raise FileNotFoundError(errno.ENOENT, "a mistake of ours")

    monkeypatch.setattr("pairstill.cli.app.app", mistaken)
    with pytest.raises(FileNotFoundError):
        main()
