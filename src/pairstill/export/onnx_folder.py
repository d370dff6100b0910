"""Students as folders that run without PyTorch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pairstill import __version__
from pairstill.errors import InputError
from pairstill.export.onnx_parts import FolderWriter
from pairstill.export.onnx_quantise import Agreement, Samples, agreement, quantise, quantise_weights
from pairstill.export.onnx_verification import Differences, verify
from pairstill.files import fingerprint_file, sync_folder, write_json
from pairstill.runtime import RuntimeStudent
from pairstill.runtime.manifest import FILE, FORMAT, FORMAT_VERSION, PRECISIONS
from pairstill.students import BERT2DNN, CrossEncoder, Student
from pairstill.students.fingerprints import representation_fingerprint, student_fingerprint


@dataclass(frozen=True)
class OnnxExport:
    """What was written.

    Attributes:
        folder: Of the export.
        differences: The largest ones from PyTorch that were found, in float32.
        agreement: Of int8 with float32; None where everything is float32.
        bytes: Size of all files.
    """

    folder: Path
    differences: Differences
    agreement: Agreement | None
    bytes: int


def export_onnx(
    student: Student, folder: str | Path, samples: Samples | None = None, *, precision: str = "float32",
    encoder_precision: str = "float32",
) -> OnnxExport:  # fmt: skip
    """Write a folder that `RuntimeStudent` opens, and check it against the student.

    The folder appears whole or not at all.

    Args:
        student: Of any architecture.
        folder: New or empty.
        samples: Tuples of texts to compare on, and to calibrate int8 by; None makes some up, for float32 alone.
        precision: Of the head: `float32`, or `int8`, which is kept only where it ranks as float32 does.
        encoder_precision: Of the encoders, likewise.

    Raises:
        InputError: The folder is not empty, logits differ by more than 1e-5 relative to max(1, |logit|), or int8 cannot be had.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("the output exists", file=folder, expected="a new or empty folder")
    student.check_exportable()
    _check_precisions(student, precision, encoder_precision, samples)
    student = student.eval()
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
    try:
        body = _write(student, made)
        exact = RuntimeStudent.open(made)
        differences = verify(student, exact, None if samples is None else samples.held_out)
        body, found = {**body, "verified": asdict(differences)}, None
        if samples is not None and "int8" in (precision, encoder_precision):
            body = _quantised(body, made, samples, precision, encoder_precision)
            write_json(made / FILE, body)
            found = agreement(exact, RuntimeStudent.open(made), samples.held_out)
            found.check("the head and the encoders" if precision == encoder_precision else "the chosen parts")
            body = {**body, "agreement": asdict(found)}
        write_json(made / FILE, body)
        made.chmod(0o755)
        made.replace(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    sync_folder(folder.parent)
    return OnnxExport(folder, differences, found, sum(one.stat().st_size for one in folder.iterdir()))


def _check_precisions(student: Student, precision: str, encoder_precision: str, samples: Samples | None) -> None:
    for name in (precision, encoder_precision):
        if name not in PRECISIONS:
            raise InputError(f"the precision '{name}' is unknown", expected=" or ".join(PRECISIONS))
    if "int8" in (precision, encoder_precision) and samples is None:
        raise InputError(
            "int8 is asked for without tuples to calibrate by and to measure on",
            expected="a tuple set",
            fix="Give --tuples",
        )
    alone, bags = student.similarity() is not None, isinstance(student, BERT2DNN)
    if precision == "int8" and (alone or bags):
        raise InputError(
            f"the head of a {student.name} has no 8-bit form",
            fix="Choose --precision float32: it costs next to nothing",
        )
    if encoder_precision == "int8" and (bags or isinstance(student, CrossEncoder)):
        raise InputError(
            f"a {student.name} has no encoder of its own to run in 8 bits", fix="Choose --encoder-precision float32"
        )


def _quantised(
    body: Mapping[str, Any], folder: Path, samples: Samples, precision: str, encoder_precision: str
) -> dict[str, Any]:
    """The chosen graphs in int8; the body of `export.json` that goes with them."""
    calibration = None
    if precision == "int8":
        steps = quantise(folder, samples, [body["head"]["file"]])
        calibration = {"tuples": len(samples.calibration), "steps": steps}
    if encoder_precision == "int8":
        for name in sorted({one["encode"]["encoder"] for one in body["fields"]}):
            quantise_weights(folder / name)
    return {
        **body, "precision": precision, "encoder_precision": encoder_precision, "calibration": calibration,
        "files": _checksums(folder),
    }  # fmt: skip


def _write(student: Student, folder: Path) -> dict[str, Any]:
    """All files; export.json comes last."""
    writer, similarity = FolderWriter(student, folder), student.similarity()
    parts = [writer.field(field) for field in range(student.field_count)]
    head, prepares = writer.head()
    writer.finish()
    body = {
        "format": FORMAT, "version": FORMAT_VERSION, "created_by": f"pairstill {__version__}", "architecture": student.name,
        "field_count": student.field_count, "outputs": student.outputs, "single_vector": student.single_vector,
        "similarity": None if similarity is None else asdict(similarity), "fingerprint": student_fingerprint(student),
        "precision": "float32", "encoder_precision": "float32", "padding": student.padding,
        "fields": [
            {
                "encoder_fingerprint": representation_fingerprint(student, field), "max_length": student.max_lengths[field],
                "kept_vectors": student.kept_vectors(field), **parts[field], "prepare": prepares[field],
            }
            for field in range(student.field_count)
        ],
        "head": head, "graphs": writer.graphs, "calibration": None, "verified": None, "agreement": None,
        "files": _checksums(folder),
    }  # fmt: skip
    write_json(folder / FILE, body)
    return body


def _checksums(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    files = sorted(one for one in folder.iterdir() if one.is_file() and one.name != FILE)
    return {one.name: {"bytes": one.stat().st_size, "sha256": fingerprint_file(one)} for one in files}
