"""Exports through real ONNX graphs; `tests/runtime/test_runtime_student.py` has every student without the tracing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from pairstill.export import export_onnx
from pairstill.export.onnx_quantise import Samples
from pairstill.runtime import RuntimeStudent
from runtime_contract import check
from student_cases import CASES, build
from tiny import tiny_tuple_set


def test_a_student_as_graphs(base: Path, tmp_path: Path) -> None:
    student = build(base, "dipair-tsf")
    done = export_onnx(student, tmp_path / "out")
    assert done.bytes == sum(one.stat().st_size for one in (tmp_path / "out").iterdir())
    check(student, tmp_path / "out", tmp_path / "stores")
    body = json.loads((tmp_path / "out" / "export.json").read_text())
    assert set(body["files"]) | {"export.json"} == {one.name for one in (tmp_path / "out").iterdir()}
    assert body["verified"]["logits"] == done.differences.logits <= 1e-5
    for name, described in body["graphs"].items():
        graph = onnx.load(tmp_path / "out" / name).graph
        assert {one.name for one in graph.input} == {one["name"] for one in described["inputs"]}
        assert [one.name for one in graph.output] == described["outputs"]
        assert not any(one.metadata_props for one in graph.node)
    weights = sum(np.prod(one.dims) for one in onnx.load(tmp_path / "out" / "encoder-0.onnx").graph.initializer)
    assert weights < 1.1 * sum(one.numel() for one in student.encoder(0).parameters())


def test_encoders_in_eight_bits(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pairstill.export.onnx_quantise.LEAST_WEIGHTS", 256)
    student = build(base, "dipair-tsf")
    samples = Samples.of(tiny_tuple_set())
    done = export_onnx(student, tmp_path / "out", samples, encoder_precision="int8")
    assert done.agreement is not None
    assert done.agreement.kendall_tau > 0.99
    body = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (body["precision"], body["encoder_precision"], body["calibration"]) == ("float32", "int8", None)
    nodes = onnx.load(tmp_path / "out" / "encoder-0.onnx").graph.node
    assert sum(one.op_type == "MatMulNBits" for one in nodes) >= 4
    # A vector does not depend on the other texts of a batch, and is near to that of PyTorch.
    narrow = RuntimeStudent.open(tmp_path / "out")
    texts = [row[1] for row in samples.held_out[:40]]
    together = narrow.encode(1, texts)
    for place in range(5):
        alone = narrow.encode(1, [texts[place]])
        kept = int(alone.lengths[0])
        np.testing.assert_allclose(together.vectors[place, :kept], alone.vectors[0, :kept], rtol=1e-4, atol=1e-4)
    exact = student.encode(1, texts)
    assert 0 < np.abs(together.vectors - exact.vectors).max() < 0.1 * np.abs(exact.vectors).max()


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES)
def test_every_student_as_graphs(base: Path, case: str, tmp_path: Path) -> None:
    student = build(base, case)
    export_onnx(student, tmp_path / "out")
    check(student, tmp_path / "out", tmp_path / "stores")
