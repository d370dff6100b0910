"""Every recipe that comes with the project can be run: its options exist and its students can be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairstill.cli.run import run

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(one for one in FOLDER.rglob("*.yaml") if "\ngrid:" in one.read_text(encoding="utf-8"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: one.stem)
def test_its_cells_are_valid(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(recipe, tmp_path / "grid", dry_run=True)
    assert capsys.readouterr().out.startswith("pairstill distill --tuples ")
