"""Every recipe that comes with the project can be run: its options exist and its students can be made."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from pairstill.cli.app import app
from pairstill.cli.run import check_command, run

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(one for one in FOLDER.rglob("*.yaml") if "\ngrid:" in one.read_text(encoding="utf-8"))
SCRIPTS = sorted(FOLDER.glob("*/run.sh"))
RECORD = """#!/bin/sh
{ for one in "$@"; do printf '%s\\0' "$one"; done; printf '\\n'; } >> "$COMMANDS"
"""
PREPARE = """#!/bin/sh
for last in "$@"; do :; done
mkdir -p "$last"
"""


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: f"{one.parent.name}-{one.stem}")
def test_its_cells_are_valid(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(recipe, tmp_path / "grid", dry_run=True)
    assert capsys.readouterr().out.startswith("pairstill distill --tuples ")


def test_margins_are_chosen_and_compared_by_a_ranking_metric() -> None:
    for recipe in RECIPES:
        body = yaml.safe_load(recipe.read_text(encoding="utf-8"))
        if "margin-mse" in str(body["grid"].get("loss")):
            assert (body["distill"]["metric"], body["evaluate"]["metric"]) == ("nDCG@10", ["nDCG@10"]), recipe


def commands_of(script: Path, work: Path) -> list[list[str]]:
    """What a script gives `pairstill` when nothing is there yet; neither that nor Python is run."""
    programs = work / "programs"
    programs.mkdir()
    for name, text in (("pairstill", RECORD), ("python", PREPARE)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (work / "data").mkdir()
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COMMANDS": str(work / "commands")}
    done = subprocess.run(
        ["bash", str(script), "data", "work"], cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = (work / "commands").read_text(encoding="utf-8").splitlines()
    return [line.split("\0")[:-1] for line in lines]


@pytest.mark.skipif(sys.platform == "win32", reason="the scripts are for bash")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda one: one.parent.name)
def test_its_commands_are_valid(script: Path, tmp_path: Path) -> None:
    commands = commands_of(script, tmp_path)
    assert commands
    group = typer.main.get_command(app)
    for command in commands:
        verb = group.commands[command[0]]  # type: ignore[attr-defined]
        if hasattr(verb, "commands"):  # such as `scores combine`
            verb.commands[command[1]].make_context(command[1], command[2:])
            continue
        check_command(command, " ".join(command), script)
        named = [command[place + 1] for place, one in enumerate(command) if one in ("--teacher", "--student")]
        assert len(set(named)) == len(named), command


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("It isn't what you'd think, Mr. Smith.", "It is n't what you 'd think , Mr. Smith ."),
        (
            "I can't -- won't! -- pay $5 (or $10,000) at 7:30...",
            "I ca n't -- wo n't ! -- pay $ 5 ( or $ 10,000 ) at 7:30 ...",
        ),
        ("\"The dogs' 'best' film,\" he said.", "`` The dogs ' ` best ' film , '' he said ."),
        ("it cannot miss; it\u2019s fun\u2014really", "it can not miss ; it 's fun -- really"),
        ("`` rollerball '' is n't , um , good .", "`` rollerball '' is n't , um , good ."),
    ],
)
def test_sentences_of_reviews_have_the_words_of_sst2(sentence: str, expected: str) -> None:
    as_treebank = runpy.run_path(str(FOLDER / "sentiment" / "prepare.py"))["as_treebank"]
    assert as_treebank(sentence) == expected
