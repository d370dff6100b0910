"""What is no exported student is refused with what to do; so are texts and representations that do not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eager_graphs import EagerGraphs, eager_graphs  # noqa: F401
from pairstill.errors import ArtefactError, InputError
from pairstill.export import export_onnx
from pairstill.representation import Representation
from pairstill.runtime import RuntimeStudent
from pairstill.runtime.joined import kept_lengths
from pairstill.students.heads.pair_template import PairTemplate
from student_cases import build


@pytest.fixture
def exported(base: Path, tmp_path: Path, eager_graphs: EagerGraphs) -> Path:  # noqa: F811
    export_onnx(build(base, "dipair-tsf"), tmp_path / "out")
    return tmp_path / "out"


def test_folders_that_are_no_export(base: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="does not exist"):
        RuntimeStudent.open(tmp_path / "nowhere")
    with pytest.raises(ArtefactError, match=r"no export\.json.*--format onnx"):
        RuntimeStudent.open(base)
    build(base, "de-cos").save_pretrained(tmp_path / "student")
    with pytest.raises(ArtefactError, match=rf"Export it first: `pairstill export --format onnx --student {tmp_path}"):
        RuntimeStudent.open(tmp_path / "student")
    with pytest.raises(InputError, match="threads is 0"):
        RuntimeStudent.open(exported, threads=0)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("version", 2, "format version is 2.*Upgrade"),
        ("format", "other", '"format": "pairstill-onnx"'),
        ("fields", [], "damaged"),
        ("precision", "int3", "damaged"),
        ("head", {"kind": "unknown", "file": "score.onnx"}, "damaged"),
        ("head", {"kind": "graph", "file": "../score.onnx", "tokens": True}, "not among the files"),
    ],
)
def test_damaged_descriptions(exported: Path, key: str, value: object, message: str) -> None:
    path = exported / "export.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ArtefactError, match=message):
        RuntimeStudent.open(exported)


def test_damaged_files(exported: Path) -> None:
    body = (exported / "score.onnx").read_bytes()
    (exported / "score.onnx").write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(ArtefactError, match="checksum"):
        RuntimeStudent.open(exported)
    (exported / "score.onnx").unlink()
    with pytest.raises(ArtefactError, match="missing"):
        RuntimeStudent.open(exported)


def test_what_cannot_be_scored(exported: Path) -> None:
    student = RuntimeStudent.open(exported)
    with pytest.raises(InputError, match=r"row 2.*2 texts"):
        student.score_texts([("w1", "w2"), ("w1", "w2", "w3")])
    with pytest.raises(InputError, match=r"row 1.*2 texts"):
        student.score_texts(["w1"])
    with pytest.raises(InputError, match=r"row 1.*a string"):
        student.score_texts([("w1", 3)])  # type: ignore[list-item]
    with pytest.raises(InputError, match="surrogate"):
        student.encode(0, ["w1 \ud800"])
    with pytest.raises(InputError, match="nothing to encode"):
        student.encode(0, [])
    with pytest.raises(InputError, match="position 2"):
        student.encode(2, ["w1"])
    assert student.score_texts([]).shape == (0, 1)
    one = student.encode(0, ["w1"])
    with pytest.raises(InputError, match="widen"):
        student.prepare(0, Representation(one.vectors.astype(np.int8), one.lengths))
    with pytest.raises(InputError, match="keeps no token"):
        student.prepare(0, Representation(one.vectors, one.lengths * 0))
    with pytest.raises(InputError, match=r"shape \(1, 3\)"):
        student.score([student.prepare(0, one)] * 2, np.zeros((1, 3), np.int64))
    half = student.prepare(0, one.map(lambda array: array.astype(np.float16) if array.dtype == np.float32 else array))
    np.testing.assert_allclose(half["hidden"], student.prepare(0, one)["hidden"], atol=5e-3)


def test_outputs_that_exist_are_refused(base: Path, exported: Path) -> None:
    with pytest.raises(InputError, match="the output exists"):
        export_onnx(build(base, "de-cos"), exported)
    with pytest.raises(InputError, match="int8 is asked for without tuples"):
        export_onnx(build(base, "de-cos"), exported.parent / "other", precision="int8")
    with pytest.raises(InputError, match="'int4' is unknown"):
        export_onnx(build(base, "de-cos"), exported.parent / "other", precision="int4")
    assert not (exported.parent / "other").exists()


def test_an_export_that_gives_other_scores_is_not_written(
    base: Path, tmp_path: Path, eager_graphs: EagerGraphs, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    student = build(base, "de-cos")
    scores = student.score_texts
    monkeypatch.setattr(student, "score_texts", lambda rows: scores(rows) + 1e-3)
    with pytest.raises(InputError, match=r"differ by .* from those in PyTorch"):
        export_onnx(student, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fields", [1, 2, 3])
def test_the_longest_text_is_cut_first(fields: int) -> None:
    import torch

    template = PairTemplate((), (), (), fields, False)
    lengths = np.random.default_rng(0).integers(0, 14, (400, fields))
    for budget in (0, 5, 9, 20):
        expected = template.kept_lengths(torch.from_numpy(lengths), budget).numpy()
        np.testing.assert_array_equal(kept_lengths(lengths, budget), expected)


def test_the_runtime_imports_nothing_heavy() -> None:
    heavy = ("torch", "transformers", "numba", "scipy", "sklearn", "pandas", "pyarrow")
    code = f"import sys, pairstill.runtime; print([one for one in {heavy} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
