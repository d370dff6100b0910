"""`pairstill export`: students for other libraries and for serving, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pairstill.cli.flags import writable

if TYPE_CHECKING:
    from pairstill.export.onnx_quantise import Samples
    from pairstill.students import Student


def export(
    student: Annotated[
        Path, typer.Option(help="Student folder; with --format pairstill a sentence-transformers folder.")
    ],
    out: Annotated[Path, typer.Option(callback=writable, help="New folder.")],
    format: Annotated[
        Literal["sentence-transformers", "onnx", "pairstill"],
        typer.Option(
            help="sentence-transformers: a folder for that library. onnx: a folder that runs without PyTorch. pairstill: a "
            "student from a sentence-transformers folder."
        ),
    ] = "sentence-transformers",
    tuples: Annotated[
        Path | None,
        typer.Option(
            help="With --format onnx: tuple set whose texts the export is checked on, and calibrated by for int8."
        ),
    ] = None,
    precision: Annotated[
        Literal["float32", "int8"] | None,
        typer.Option(help="With --format onnx: of the head; int8 is kept only where it ranks as float32 does."),
    ] = None,
    encoder_precision: Annotated[
        Literal["float32", "int8"] | None, typer.Option(help="With --format onnx: of the encoders, likewise.")
    ] = None,
) -> None:
    """Write a student for another library, or for serving without PyTorch, with the same scores; or make a student of such a folder."""
    from pairstill.cli.flags import refuse_flags
    from pairstill.errors import InputError

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("the output exists", file=out, expected="a new or empty folder")
    if format != "onnx":
        flags = {"--tuples": tuples, "--precision": precision, "--encoder-precision": encoder_precision}
        refuse_flags(flags, "it belongs to --format onnx")
    if format == "onnx":
        _onnx(student, out, tuples, precision or "float32", encoder_precision or "float32")
    elif format == "sentence-transformers":
        _sentence_transformers(student, out)
    else:
        _from_sentence_transformers(student, out)


def _onnx(folder: Path, out: Path, tuples: Path | None, precision: str, encoder_precision: str) -> None:
    from pairstill.errors import InputError
    from pairstill.export import export_onnx
    from pairstill.teachers.load import load_teacher

    if tuples is None and "int8" in (precision, encoder_precision):
        raise InputError("int8 needs texts to calibrate by and to measure on", fix="Give --tuples")
    model = load_teacher(folder)
    samples = None if tuples is None else _samples(tuples, model)
    done = export_onnx(model, out, samples, precision=precision, encoder_precision=encoder_precision)
    found = done.differences
    print(
        f"folder: {out}   {model.name}, {done.bytes / 2**20:,.1f} MiB, head in {precision}, encoders in {encoder_precision}\n"
        f"checked: {found.tuples} {found.source} tuples; logits differ from PyTorch by at most {found.logits:.1e} of max(1, |logit|)"
    )
    if done.agreement is not None:
        print(f"int8 beside float32: {done.agreement.said()}")


def _samples(folder: Path, model: Student) -> Samples:
    from pairstill.export.onnx_quantise import Samples
    from pairstill.tuples import TupleSet

    tuple_set = TupleSet.load(folder)
    model.check_fields(tuple_set)
    return Samples.of(tuple_set)


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
