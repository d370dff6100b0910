"""`pairstill annotate`: teacher scores of a tuple set, computed or imported."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pairstill.cli.flags import writable

LEAST_AGREEMENT = 0.99
"""Kendall's tau of narrow scores with float32 ones, below which `auto` is float32."""


def annotate(
    tuples: Annotated[Path, typer.Option(help="Tuple set folder.")],
    out: Annotated[Path, typer.Option(callback=writable, help="Folder of the scores.")],
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Folder from `pairstill teach` or `distill`, a sentence-transformers CrossEncoder, or a classifier."
        ),
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Splits to score; all if left out.")] = None,
    limit: Annotated[int | None, typer.Option(help="So many rows, drawn with a fixed seed; all if left out.")] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Most tokens of a tuple; the teacher's own if left out.")
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    import_file: Annotated[
        Path | None, typer.Option("--import", help="Take scores from this file instead of a teacher.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Of imported scores: logit, probability or other.")] = None,
    score_column: Annotated[list[str] | None, typer.Option(help="Column of the score; one a class.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="FIELD=NAME of the imported file's column, where names differ.")
    ] = None,
    skip_unknown: Annotated[
        bool, typer.Option("--skip-unknown", help="Leave out imported rows that are not among the tuples.")
    ] = False,
    triples: Annotated[
        bool,
        typer.Option(
            "--triples",
            help="The file is Margin-MSE's: scores of the positive and the negative, query, positive, negative.",
        ),
    ] = False,
    repeated: Annotated[
        str, typer.Option(help="Imported scores of one tuple that differ: refuse, mean or last.")
    ] = "refuse",
    shard_rows: Annotated[
        int | None,
        typer.Option(
            help="Rows of a shard; an interruption loses the shard it was in. 16,384 if left out, more where texts are encoded apart."
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads; OMP_NUM_THREADS or all cores that are ours if left out.")
    ] = None,
) -> None:
    """Score tuples with a teacher, or import scores from elsewhere; interrupted, the same command resumes."""
    from pairstill.cli.flags import pairs_of, refuse_flags
    from pairstill.cli.progress import progress_bar
    from pairstill.errors import InputError
    from pairstill.files import refuse_other_artefact
    from pairstill.tuples import TupleSet

    if (teacher is None) == (import_file is None):
        raise InputError("give one of --teacher and --import", expected="a model that scores, or a file of scores")
    if import_file is not None and kind is None:
        raise InputError("--import is given without --kind", expected="logit, probability or other")
    if import_file is None:
        refuse_flags(
            {
                "--kind": kind,
                "--score-column": score_column,
                "--column": column,
                "--skip-unknown": skip_unknown,
                "--triples": triples,
                "--repeated": repeated != "refuse",
            },
            "it is about a file given with --import",
        )
    else:
        refuse_flags(
            {
                "--limit": limit is not None,
                "--max-length": max_length is not None,
                "--precision": precision != "auto",
                "--threads": threads is not None,
            },
            "imported scores are not computed",
        )
    if triples:
        refuse_flags({"--score-column": score_column, "--column": column}, "a file of triples has no named columns")
    columns = pairs_of(column or (), "--column")
    refuse_other_artefact(out, "teacher-scores")
    tuple_set = TupleSet.load(tuples)
    splits = tuple(split or ())
    if import_file is not None:
        from pairstill.teachers.import_scores import import_scores

        declared: Any = kind
        several: Any = repeated
        with progress_bar("Importing", "rows") as progress:
            scores = import_scores(
                import_file,
                tuple_set,
                out,
                kind=declared,
                score_columns=score_column or ["score"],
                columns=columns,
                splits=splits,
                skip_unknown=skip_unknown,
                triples=triples,
                repeated=several,
                progress=progress,
            )
        line = f"teacher scores: {out}   {len(scores):,} rows, kind {scores.kind}"
        skipped = int(scores.manifest.provenance["rows_of_the_file_skipped"])
        absent = int(scores.manifest.provenance["rows_without_score"])
        line += f", {skipped:,} rows of the file skipped" if skipped else ""
        differing = int(scores.manifest.provenance.get("tuples_with_several_scores", 0))
        line += f", {repeated} of differing scores of {differing:,} tuples" if differing else ""
        print(line + (f", {absent:,} rows of the tuple set without a score" if absent else ""))
        return

    from pairstill.machine import resolve_precision, set_threads
    from pairstill.teachers.annotate import agreement_with_float32, rows_to_score
    from pairstill.teachers.annotate import annotate as score_rows
    from pairstill.teachers.load import load_teacher

    wanted = rows_to_score(tuple_set, splits, limit).rows
    set_threads(threads)
    asked, precision = precision, resolve_precision(precision)
    model = load_teacher(str(teacher), max_length=max_length, field_count=len(tuple_set.fields))
    tau, note = None, ""
    if precision == "bfloat16":
        tau = agreement_with_float32(model, tuple_set, wanted)
        if tau < LEAST_AGREEMENT:
            note = f"note: Kendall's tau of bfloat16 with float32 is {tau:.4f} on a sample, below {LEAST_AGREEMENT}: scores are closer together than it resolves"
            precision = "float32" if asked == "auto" else precision
            note += ", so these are in float32" if asked == "auto" else "; annotate with --precision float32"
    with progress_bar("Annotating", "pairs") as progress:
        scores = score_rows(
            model,
            tuple_set,
            out,
            name=str(teacher),
            splits=splits,
            limit=limit,
            precision=precision,
            shard_rows=shard_rows,
            progress=progress,
        )
    line = f"teacher scores: {out}   {len(scores):,} rows, {precision}, {scores.manifest.truncated:,} cut at {' and '.join(map(str, scores.manifest.max_lengths))} {model.length_unit}"
    if precision == "bfloat16":
        line += f", Kendall's tau with float32 {tau:.4f} on a sample"
    print(line)
    if note:
        print(note)
