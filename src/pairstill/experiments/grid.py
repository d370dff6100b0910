"""Train every cell of a recipe, compare them in one evaluation, and lay the result out by axis."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pairstill.errors import ArtefactError, InputError
from pairstill.experiments.recipe import Cell, Option, Recipe, Scalar, command_line
from pairstill.files import read_json, write_json

COMMAND_FILE = "command.json"
INTERRUPTED = 130

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One training: a cell with a seed.

    Attributes:
        cell: What is trained.
        seed: Of weights and order.
        folder: The student's.
    """

    cell: Cell
    seed: int
    folder: Path

    @property
    def command(self) -> list[str]:
        """Arguments of `pairstill` that train it."""
        options = {**self.cell.options, "seed": self.seed, "out": str(self.folder)}
        return ["distill", *command_line(options)]

    @property
    def finished(self) -> bool:
        """Whether the student is there; one that another command made counts as not."""
        known = self.folder / COMMAND_FILE
        return (self.folder / "config.json").exists() and known.exists() and read_json(known) == self.command


def runs_of(recipe: Recipe, out: Path) -> list[Run]:
    """Every cell with every seed, seed by seed, so that a whole grid with one seed is there first."""
    cells = recipe.cells()
    return [Run(cell, seed, out / "cells" / f"{cell.folder}-seed{seed}") for seed in recipe.seeds for cell in cells]


def train(runs: Sequence[Run], announce: Announce) -> list[Run]:
    """Train what is not trained yet, each in a process of its own; returns the runs that failed.

    A run that fails says why on the standard error; the others go on.

    Raises:
        KeyboardInterrupt: A training was interrupted.
    """
    failed = []
    for number, run in enumerate(runs, start=1):
        where = f"[{number}/{len(runs)}] {run.cell.name}, seed {run.seed}"
        if run.finished:
            announce(f"{where}: reused")
            continue
        announce(where)
        if _pairstill(run.command) == 0:
            write_json(run.folder / COMMAND_FILE, run.command)
        else:
            failed.append(run)
    return failed


def evaluation_command(recipe: Recipe, runs: Sequence[Run], folder: Path) -> list[str]:
    """Arguments of `pairstill` that compare the students of runs."""
    students: list[Scalar] = [f"{run.cell.name}={run.folder}" for run in runs]
    options: dict[str, Option] = {
        "tuples": recipe.distill.get("tuples"), "title": recipe.title, **recipe.evaluate, "student": students, "out": str(folder),
    }  # fmt: skip
    return ["evaluate", *command_line(options)]


def evaluate(recipe: Recipe, runs: Sequence[Run], out: Path) -> Path:
    """Compare the students of finished runs; the evaluation of the same students by the same command is reused.

    Returns:
        The folder of the evaluation.

    Raises:
        InputError: The evaluation failed; it has said why.
    """
    folder = out / "evaluation"
    command = evaluation_command(recipe, runs, folder)
    weights = [read_json(run.folder / "config.json")["sha256"] for run in runs]
    mark = {"command": command, "students": weights}
    known = folder / COMMAND_FILE
    if not (known.exists() and read_json(known) == mark):
        if _pairstill(command) != 0:
            raise InputError(
                "the students could not be compared", fix="See the message above; trained students are kept"
            )
        write_json(known, mark)
    return folder


def trained_on(folder: Path) -> tuple[int, float]:
    """Pairs presented and seconds of training, both stages together.

    Raises:
        ArtefactError: The folder does not say.
    """
    path = folder / "training" / "distillation.json"
    stages = [one for one in read_json(path).values() if one is not None]
    try:
        return sum(one["pairs"] for one in stages), sum(one["seconds"] for one in stages)
    except (TypeError, KeyError) as error:
        raise ArtefactError("the file does not say what was trained", file=path) from error


def _pairstill(command: Sequence[str]) -> int:
    code = subprocess.run([sys.executable, "-m", "pairstill", *command], check=False).returncode
    if code == INTERRUPTED or code < 0:
        raise KeyboardInterrupt
    return code
