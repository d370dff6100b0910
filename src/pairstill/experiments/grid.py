"""Train every cell of a recipe, compare them in one evaluation, and lay the result out by axis."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pairstill.errors import ArtefactError, InputError
from pairstill.experiments.processes import RunningProcesses
from pairstill.experiments.recipe import Cell, Option, Recipe, Scalar, command_line
from pairstill.files import fingerprint_json, read_json, write_json
from pairstill.machine import usable_cores

COMMAND_FILE = "command.json"
ENCODER_OUTPUTS = "encoder-outputs"

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
    def mark(self) -> dict[str, Any]:
        """What a student is known by: the command that trains it, and the state of what that reads."""
        return {"command": self.command, "inputs": inputs_of(self.command)}

    @property
    def finished(self) -> bool:
        """Whether the student is there; one that another command made, or the same one of other inputs, counts as not."""
        known = self.folder / COMMAND_FILE
        return (self.folder / "config.json").exists() and known.exists() and read_json(known) == self.mark


def inputs_of(command: Sequence[str]) -> dict[str, str]:
    """The files and folders that a command of `pairstill` names, but for its `--out`, and a fingerprint of the state of each.

    The state is every file's name, size and time of change: cheap, and never the same after an edit. A copy counts as an edit;
    training then looks at the contents itself.
    """
    found = {}
    for before, argument in pairwise(command):
        # NAME=PATH, as teachers and students are given.
        for name in {argument, argument.partition("=")[2]} if before != "--out" else ():
            if os.path.exists(name):  # noqa: PTH110 - no error of a title that is too long for a file's name
                path = Path(name)
                files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
                states = [(str(one.relative_to(path)), one.stat()) for one in files]
                found[name] = fingerprint_json([[file, state.st_size, state.st_mtime_ns] for file, state in states])
    return found


def runs_of(recipe: Recipe, out: Path) -> list[Run]:
    """Every cell with every seed, seed by seed, so that a whole grid with one seed is there first."""
    cells = recipe.cells()
    return [Run(cell, seed, out / "cells" / f"{cell.folder}-seed{seed}") for seed in recipe.seeds for cell in cells]


def train(runs: Sequence[Run], announce: Announce, jobs: int = 1) -> list[Run]:
    """Train what is not trained yet, each in a process of its own; returns the runs that failed.

    A run that fails says why on the standard error; the others go on.

    Args:
        runs: What to train.
        announce: Told of every run.
        jobs: Trainings at a time. With several, each has its share of the cores, and what it says goes to `FOLDER.log`; two
            trainings of one thread each are a third faster than one of two, since small products scale badly.

    Raises:
        KeyboardInterrupt: A training was interrupted.
    """
    failed: list[Run] = []
    threads = max(1, usable_cores() // jobs)
    running = RunningProcesses()
    # Cells that differ in their heads encode the texts once. Interrupted, they stay for the cells that are left.
    shared = runs[0].folder.parent.parent / ENCODER_OUTPUTS

    def one(number: int, run: Run) -> None:
        where = f"[{number}/{len(runs)}] {run.cell.name}, seed {run.seed}"
        if run.finished:
            announce(f"{where}: reused")
            return
        announce(where)
        log = None if jobs == 1 else run.folder.with_name(f"{run.folder.name}.log")
        share = ["--encoder-outputs", str(shared)]
        share += [] if log is None or "threads" in run.cell.options else ["--threads", str(threads)]
        mark = run.mark
        if running.run([*run.command, *share], log) == 0:
            write_json(run.folder / COMMAND_FILE, mark)
        else:
            failed.append(run)
        if log is not None:
            said = log.read_text(encoding="utf-8", errors="replace").splitlines()
            announce(f"{where}: {said[-1] if said else 'nothing was said'}")

    if jobs == 1:
        for number, run in enumerate(runs, start=1):
            one(number, run)
    else:
        with ThreadPoolExecutor(jobs) as pool:
            waiting = [pool.submit(one, number, run) for number, run in enumerate(runs, start=1)]
            try:
                for ended in as_completed(waiting):
                    ended.result()
            except BaseException:
                for future in waiting:
                    future.cancel()
                running.stop()
                raise
    shutil.rmtree(shared, ignore_errors=True)
    return [run for run in runs if run in failed]


def evaluation_command(recipe: Recipe, runs: Sequence[Run], folder: Path) -> list[str]:
    """Arguments of `pairstill` that compare the students of runs."""
    students: list[Scalar] = [f"{run.cell.name}={run.folder}" for run in runs]
    options: dict[str, Option] = {
        "tuples": recipe.distill.get("tuples"), "title": recipe.title, **recipe.evaluate, "student": students, "out": str(folder),
    }  # fmt: skip
    return ["evaluate", *command_line(options)]


def evaluate(recipe: Recipe, runs: Sequence[Run], out: Path) -> Path:
    """Compare the students of finished runs; the evaluation by the same command of what has not changed is reused.

    Returns:
        The folder of the evaluation.

    Raises:
        InputError: The evaluation failed; it has said why.
    """
    folder = out / "evaluation"
    command = evaluation_command(recipe, runs, folder)
    mark = {"command": command, "inputs": inputs_of(command)}
    known = folder / COMMAND_FILE
    if not (known.exists() and read_json(known) == mark):
        if RunningProcesses().run(command) != 0:
            raise InputError(
                "the students could not be compared", fix="See the message above; trained students are kept"
            )
        write_json(known, mark)
    return folder


def trained_on(folder: Path) -> tuple[int, float]:
    """Pairs presented and seconds of training in all stages: a teacher's layers, new parameters, everything.

    Raises:
        ArtefactError: The folder does not say.
    """
    path = folder / "training" / "distillation.json"
    layers = folder / "training" / "layers" / "result.json"
    try:
        stages = [(one["pairs"], one["seconds"]) for one in read_json(path).values() if one is not None]
        if layers.exists():
            path = layers
            found = read_json(path)
            stages.append((found["sequences"], found["seconds"]))
        return sum(pairs for pairs, _ in stages), sum(seconds for _, seconds in stages)
    except (AttributeError, TypeError, KeyError) as error:
        raise ArtefactError(
            "the file does not say what was trained", file=path, fix=f"Remove {folder} and run the same command again"
        ) from error
