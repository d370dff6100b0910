"""`pairstill export`: students for other libraries and for serving, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    student: Annotated[
        Path, typer.Option(help="Student folder; with --format pairstill a sentence-transformers folder.")
    ],
    out: Annotated[Path, typer.Option(help="New folder.")],
    format: Annotated[
        Literal["sentence-transformers", "onnx", "pairstill"],
        typer.Option(
            help="sentence-transformers: a folder for that library. onnx: a folder that runs without PyTorch. pairstill: a "
            "student from a sentence-transformers folder."
        ),
    ] = "sentence-transformers",
    tuples: Annotated[
        Path | None, typer.Option(help="With --format onnx: tuple set whose texts the export is checked on.")
    ] = None,
) -> None:
    """Write a student for another library, or for serving without PyTorch, with the same scores; or make a student of such a folder."""
    from pairstill.cli.flags import refuse_flags
    from pairstill.errors import InputError

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("the output exists", file=out, expected="a new or empty folder")
    if format != "onnx":
        refuse_flags({"--tuples": tuples}, "only --format onnx is checked on texts of yours")
    if format == "onnx":
        _onnx(student, out, tuples)
    elif format == "sentence-transformers":
        _sentence_transformers(student, out)
    else:
        _from_sentence_transformers(student, out)


def _onnx(folder: Path, out: Path, tuples: Path | None) -> None:
    from pairstill.export import export_onnx
    from pairstill.teachers.load import load_teacher

    model = load_teacher(folder)
    texts = None if tuples is None else _texts(tuples, model.field_count)
    done = export_onnx(model, out, texts)
    found = done.differences
    print(
        f"folder: {out}   {model.name}, {done.bytes / 2**20:,.1f} MiB\n"
        f"checked: {found.tuples} {found.source} tuples; logits differ from PyTorch by at most {found.logits:.1e} of max(1, |logit|)"
    )


def _texts(folder: Path, fields: int) -> list[tuple[str, ...]]:
    """Tuples of texts, spread over the whole set."""
    import numpy as np

    from pairstill.errors import InputError
    from pairstill.tuples import TupleSet

    tuple_set = TupleSet.load(folder)
    if len(tuple_set.fields) != fields:
        raise InputError(
            f"the tuple set has {len(tuple_set.fields)} fields", file=folder, expected=f"{fields}, as the student has"
        )
    rows = np.unique(np.linspace(0, len(tuple_set) - 1, 256).astype(int))
    texts = [tuple_set.texts(field) for field in range(fields)]
    return [tuple(texts[field][place] for field, place in enumerate(row)) for row in tuple_set.index[rows]]


def _sentence_transformers(folder: Path, out: Path) -> None:
    from pairstill.export import export_sentence_transformers
    from pairstill.students import load_student

    score = export_sentence_transformers(load_student(folder), out)
    print(f"folder: {out}   for sentence_transformers.{score.kind}\nscores: {score.said()}")


def _from_sentence_transformers(folder: Path, out: Path) -> None:
    from pairstill.export import import_sentence_transformers
    from pairstill.students import CrossEncoder

    model = import_sentence_transformers(folder)
    model.save_pretrained(out)
    found = model.similarity()
    said = "the logit is the classifier's" if isinstance(model, CrossEncoder) else ""
    if found is not None:
        said = f"the logit is {found.scale:.9g} * {found.metric} {found.bias:+.9g}"
    print(f"student: {out}   {model.name}\nscores: {said}")
