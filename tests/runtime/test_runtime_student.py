"""Every exported student gives the scores and representations that it gives in PyTorch."""

from __future__ import annotations

from pathlib import Path

import pytest

from eager_graphs import EagerGraphs, eager_graphs  # noqa: F401
from pairstill.export import export_onnx
from runtime_contract import check
from student_cases import CASES, build


@pytest.mark.parametrize("case", CASES)
def test_every_student(base: Path, case: str, tmp_path: Path, eager_graphs: EagerGraphs) -> None:  # noqa: F811
    student = build(base, case)
    done = export_onnx(student, tmp_path / "out")
    assert done.differences.logits < 1e-5
    check(student, tmp_path / "out", tmp_path / "stores")
