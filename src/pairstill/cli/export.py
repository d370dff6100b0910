"""`pairstill export`: students in the formats of other libraries, and back."""

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
        Literal["sentence-transformers", "pairstill"],
        typer.Option(help="sentence-transformers: a folder for that library. pairstill: a student from such a folder."),
    ] = "sentence-transformers",
) -> None:
    """Write a student as a sentence-transformers folder with the same scores, or make a student of such a folder."""
    from pairstill.errors import InputError

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("the output exists", file=out, expected="a new or empty folder")

    from pairstill.students import CrossEncoder, load_student

    if format == "sentence-transformers":
        from pairstill.export import export_sentence_transformers

        score = export_sentence_transformers(load_student(student), out)
        print(f"folder: {out}   for sentence_transformers.{score.kind}\nscores: {score.said()}")
        return

    from pairstill.export import import_sentence_transformers

    model = import_sentence_transformers(student)
    model.save_pretrained(out)
    found = model.similarity()
    said = "the logit is the classifier's" if isinstance(model, CrossEncoder) else ""
    if found is not None:
        said = f"the logit is {found.scale:.9g} * {found.metric} {found.bias:+.9g}"
    print(f"student: {out}   {model.name}\nscores: {said}")
