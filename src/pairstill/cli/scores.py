"""`pairstill scores`: combine stored teacher scores, and write them as others read them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pairstill.cli.flags import writable
from pairstill.errors import InputError

scores = typer.Typer(help="Combine or export stored teacher scores; no teacher runs.", no_args_is_help=True)


@scores.command("combine")
def combine(
    tuples: Annotated[Path, typer.Option(help="Tuple set folder.")],
    scores: Annotated[
        list[Path], typer.Option(help="Teacher scores; two or more teachers. Folders of one teacher are joined.")
    ],
    out: Annotated[Path, typer.Option(callback=writable, help="Folder of the new scores.")],
    how: Annotated[
        str, typer.Option(help="mean (of logits), mean-probability, or stack (logistic regression on labels).")
    ] = "mean",
    fit_split: Annotated[
        list[str] | None, typer.Option(help="Splits whose labelled rows a stack is fitted on; valid if left out.")
    ] = None,
    fit_slice: Annotated[
        list[str] | None,
        typer.Option(
            help="SLICE=VALUE: of these only rows of this slice, such as source=dl21; again with the same slice for more values."
        ),
    ] = None,
) -> None:
    """Make one teacher of several, from the scores that they left."""
    from pairstill.cli.flags import refuse_flags, slices_of
    from pairstill.cli.progress import progress_bar
    from pairstill.files import refuse_other_artefact
    from pairstill.teachers.combine import combine_scores
    from pairstill.teachers.scores import TeacherScores
    from pairstill.tuples import TupleSet

    if how != "stack":
        refuse_flags({"--fit-split": fit_split, "--fit-slice": fit_slice}, "only --how stack is fitted")
    refuse_other_artefact(out, "teacher-scores")
    if out.resolve() in [one.resolve() for one in scores]:
        raise InputError("--out is one of the --scores", file=out, expected="another folder")
    tuple_set = TupleSet.load(tuples)
    parts = [TeacherScores.load(one) for one in scores]
    wanted: Any = how
    slices = slices_of(fit_slice, "--fit-slice")
    with progress_bar("Combining", "rows") as progress:
        made = combine_scores(
            parts,
            tuple_set,
            out,
            how=wanted,
            fit_splits=tuple(fit_split or ("valid",)),
            fit_slices=slices,
            progress=progress,
        )
    print(
        f"teacher scores: {out}   {len(made):,} rows, kind {made.kind}, {how} of {len(made.manifest.teachers)} teachers: "
        + ", ".join(one.name for one in made.manifest.teachers)
    )
    stack = made.manifest.provenance.get("stack")
    if stack is not None:
        fitted = stack["fitted_on"]
        print(
            f"stack: fitted on {fitted['rows']:,} labelled rows of {', '.join([*fitted['splits'], *(fit_slice or ())])}"
        )
        for row, intercept in zip(stack["coefficients"], stack["intercepts"], strict=True):
            print("  " + "  ".join(f"{one:+.4f}" for one in row) + f"   intercept {intercept:+.4f}")


@scores.command("export")
def export(
    tuples: Annotated[Path, typer.Option(help="Tuple set folder.")],
    scores: Annotated[list[Path], typer.Option(help="Teacher scores; several folders of one teacher are joined.")],
    to: Annotated[Path, typer.Option(help="FILE.tsv to write.")],
    split: Annotated[list[str] | None, typer.Option(help="Splits to write; all if left out.")] = None,
    texts: Annotated[bool, typer.Option("--texts", help="Write texts rather than ids.")] = False,
) -> None:
    """Write Margin-MSE's five columns: score of the positive, score of the negative, query, positive, negative."""
    from pairstill.cli.progress import progress_bar
    from pairstill.teachers.scores import TeacherScores
    from pairstill.teachers.triple_scores import write_triple_scores
    from pairstill.tuples import TupleSet

    if to.is_dir():
        raise InputError("--to is a folder", file=to, expected="a file to write, such as scores.tsv")
    tuple_set = TupleSet.load(tuples)
    whole = TeacherScores.load_joined(scores, tuple_set)
    with progress_bar("Writing", "rows") as progress:
        lines = write_triple_scores(to, tuple_set, whole, splits=tuple(split or ()), texts=texts, progress=progress)
    print(f"written: {to} ({lines:,} triples)")
