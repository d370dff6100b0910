"""Students as folders that run without PyTorch."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pairstill import __version__
from pairstill.errors import InputError
from pairstill.export.onnx_parts import FolderWriter
from pairstill.export.onnx_verification import Differences, verify
from pairstill.files import fingerprint_file, sync_folder, write_json
from pairstill.runtime import RuntimeStudent
from pairstill.runtime.manifest import FILE, FORMAT, FORMAT_VERSION
from pairstill.students import Student
from pairstill.students.fingerprints import representation_fingerprint, student_fingerprint


@dataclass(frozen=True)
class OnnxExport:
    """What was written.

    Attributes:
        folder: Of the export.
        differences: The largest ones from PyTorch that were found.
        bytes: Size of all files.
    """

    folder: Path
    differences: Differences
    bytes: int


def export_onnx(student: Student, folder: str | Path, texts: Sequence[Sequence[str]] | None = None) -> OnnxExport:
    """Write a folder that `RuntimeStudent` opens, and check it against the student.

    The folder appears whole or not at all.

    Args:
        student: Of any architecture.
        folder: New or empty.
        texts: Tuples of texts to compare on; None makes some up.

    Raises:
        InputError: The folder is not empty, or logits differ by more than 1e-5 relative to max(1, |logit|).
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("the output exists", file=folder, expected="a new or empty folder")
    student = student.eval()
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
    try:
        body = _write(student, made)
        differences = verify(student, RuntimeStudent.open(made), texts)
        write_json(made / FILE, {**body, "verified": asdict(differences)})
        made.chmod(0o755)
        made.replace(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    sync_folder(folder.parent)
    return OnnxExport(folder, differences, sum(one.stat().st_size for one in folder.iterdir()))


def _write(student: Student, folder: Path) -> dict[str, Any]:
    """All files; export.json comes last."""
    writer, similarity = FolderWriter(student, folder), student.similarity()
    parts = [writer.field(field) for field in range(student.field_count)]
    head, prepares = writer.head()
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
        "head": head, "graphs": writer.graphs, "calibration": None, "verified": None, "files": _checksums(folder),
    }  # fmt: skip
    write_json(folder / FILE, body)
    return body


def _checksums(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    files = sorted(one for one in folder.iterdir() if one.is_file() and one.name != FILE)
    return {one.name: {"bytes": one.stat().st_size, "sha256": fingerprint_file(one)} for one in files}
