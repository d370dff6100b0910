"""Every recipe that comes with the project can be run: its options exist and its students can be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from pairstill.cli.run import run

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))


@pytest.mark.parametrize("recipe", [one for one in RECIPES if one.name != "source.yaml"], ids=lambda one: one.stem)
def test_its_cells_are_valid(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(recipe, tmp_path / "grid", dry_run=True)
    assert capsys.readouterr().out.startswith("pairstill distill --tuples ")
