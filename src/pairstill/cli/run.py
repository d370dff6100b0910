"""`pairstill run`: train and evaluate every cell of a recipe, into one table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pairstill.cli.flags import writable
from pairstill.errors import InputError

USAGE_ERROR: Any = typer.BadParameter.__base__
"""What a parser raises: click's class, or that of the copy inside newer versions of typer."""


def run(
    recipe: Annotated[Path, typer.Argument(help="YAML file: title, distill, grid, evaluate, seeds.")],
    out: Annotated[Path, typer.Option(callback=writable, help="Folder of the grid; given again, it goes on.")],
    distill: Annotated[
        list[str] | None,
        typer.Option(
            help="An option for all cells in place of the recipe's, such as pairs=60000 or set.projection=64; a cell's own win."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time, each on its share of the cores.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the recipe, not the data that it names, and print its commands.")
    ] = False,
) -> None:
    """Train and evaluate a grid of students, resumably, into one table; paths in the recipe start from here."""
    from pairstill.cli.evaluation_inputs import check_evaluation
    from pairstill.cli.flags import pairs_of
    from pairstill.experiments.grid import evaluate, evaluation_command, runs_of, train
    from pairstill.experiments.recipe import Recipe
    from pairstill.files import refuse_other_artefact

    refuse_other_artefact(out, "grid")
    loaded = Recipe.load(recipe).changed(pairs_of(distill or [], "--distill"))
    runs = runs_of(loaded, out)
    for one in runs:
        check_command(one.command, f"the cell '{one.cell.name}'", recipe)
    evaluation = check_command(evaluation_command(loaded, runs[:1], out), "'evaluate'", recipe)
    if dry_run:
        for one in runs:
            print(_shell(one.command))
        return
    try:
        check_evaluation(evaluation)
    except InputError as error:
        raise InputError(f"'evaluate' cannot be run: {error}", file=recipe) from None
    failed = train(runs, lambda line: print(line, file=sys.stderr, flush=True), jobs)
    finished = [one for one in runs if one not in failed]
    if not finished:
        raise InputError("no cell could be trained", file=recipe, fix="The messages above say why")
    folder = evaluate(loaded, finished, out)

    from pairstill.evaluation.results import Comparison
    from pairstill.experiments.grid_table import grid_rows, write_grid

    comparison = Comparison.load(folder / "results.json")
    paths = write_grid(out, loaded, grid_rows(finished, comparison), comparison)
    print(f"table: {paths[-1]}   report: {folder / 'report.html'}")
    if failed:
        names = ", ".join(f"'{one.cell.name}' (seed {one.seed})" for one in failed)
        raise InputError(
            f"{len(failed)} of {len(runs)} trainings failed: {names}", file=recipe,
            fix="The messages above say why; the table has the others. Run the same command again to try them again",
        )  # fmt: skip


def check_command(command: list[str], what: str, file: Path) -> dict[str, Any]:
    """Let a verb's own parser, and the student's and the loss's, read a command before it is run.

    Args:
        command: Of `pairstill`, the verb first.
        what: It is, as the message calls it.
        file: Where it is from.

    Returns:
        Its options' values.

    Raises:
        InputError: It could not be run.
    """
    from pairstill.cli.app import app

    verb = command[0]
    group: Any = typer.main.get_command(app)
    try:
        with group.commands[verb].make_context(verb, command[1:]) as context:
            values: dict[str, Any] = context.params
    except USAGE_ERROR as error:
        raise InputError(
            f"{what} cannot be run: {error.format_message()}", file=file, expected=f"options of `pairstill {verb}`"
        ) from None
    from pairstill.cli.training import AGREEMENT, checked_loss, student_settings
    from pairstill.metrics.catalogue import find_metric
    from pairstill.students.persistence import parse_config

    try:
        if verb == "distill":
            checked_loss(values)
            parse_config(values["student"], student_settings(values["config"], values["setting"] or []))
        metrics = values.get("metric") or ()
        for metric in [metrics] if isinstance(metrics, str) else metrics:
            also = (AGREEMENT,) if verb == "distill" else ()
            if metric not in also:
                find_metric(metric, also)
    except InputError as error:
        raise InputError(f"{what} cannot be run: {error}", file=file) from None
    return values


def _shell(command: list[str]) -> str:
    import shlex

    return shlex.join(["pairstill", *command])
