"""Exports through real ONNX graphs; `tests/runtime/test_runtime_student.py` has every student without the tracing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from pairstill.export import export_onnx
from runtime_contract import check
from student_cases import CASES, build


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


@pytest.mark.soak
@pytest.mark.parametrize("case", CASES)
def test_every_student_as_graphs(base: Path, case: str, tmp_path: Path) -> None:
    student = build(base, case)
    export_onnx(student, tmp_path / "out")
    check(student, tmp_path / "out", tmp_path / "stores")
