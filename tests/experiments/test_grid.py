from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pairstill.errors import ArtefactError
from pairstill.experiments.grid import trained_on


def written(folder: Path, stages: Any, layers: Any = None) -> Path:
    (folder / "training" / "layers").mkdir(parents=True)
    (folder / "training" / "distillation.json").write_text(json.dumps(stages))
    if layers is not None:
        (folder / "training" / "layers" / "result.json").write_text(json.dumps(layers))
    return folder


STAGE = {"pairs": 100, "seconds": 2.0}


def test_all_stages_are_counted(tmp_path: Path) -> None:
    two = {"stage1": STAGE, "stage2": {"pairs": 30, "seconds": 1.5}}
    assert trained_on(written(tmp_path / "two", two)) == (130, 3.5)
    one = {"stage1": None, "stage2": STAGE}
    assert trained_on(written(tmp_path / "layers", one, {"sequences": 7, "seconds": 0.5})) == (107, 2.5)


@pytest.mark.parametrize(
    ("stages", "layers", "file"),
    [
        ([STAGE], None, "distillation.json"),
        ({"stage2": {"pairs": 5}}, None, "distillation.json"),
        ({"stage2": STAGE}, {"seconds": 1}, "result.json"),
    ],
)
def test_a_file_that_does_not_say_what_was_trained(stages: Any, layers: Any, file: str, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=rf"{file}: the file does not say what was trained\. Remove {tmp_path}"):
        trained_on(written(tmp_path, stages, layers))
