"""`export.json`: what an exported student consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pairstill.errors import ArtefactError
from pairstill.files import fingerprint_file, read_json, refuse_newer
from pairstill.representation import Similarity

FILE, FORMAT, FORMAT_VERSION = "export.json", "pairstill-onnx", 1
PRECISIONS = ("float32", "int8")


@dataclass(frozen=True)
class ExportedField:
    """How the texts of one field are handled; the three mappings are described in docs/formats.md.

    Attributes:
        encoder_fingerprint: Which stores hold representations of this encoder.
        max_length: Tokens read of a text.
        kept_vectors: Vectors that every item keeps; None where it is as many as the text has tokens.
        tokens: From texts to token ids.
        encode: From token ids to representations.
        prepare: From representations to what the head reads.
    """

    encoder_fingerprint: str
    max_length: int
    kept_vectors: int | None
    tokens: Mapping[str, Any]
    encode: Mapping[str, Any]
    prepare: Mapping[str, Any]


@dataclass(frozen=True)
class ExportManifest:
    """The content of `export.json` that a runtime reads.

    Attributes:
        folder: That it lies in.
        architecture: Name of the student's architecture.
        outputs: Logits of a tuple.
        single_vector: Whether an item keeps one vector.
        similarity: How the logit follows from two vectors; None where it does not.
        fingerprint: Of the student.
        precision: Of the head: float32 or int8.
        encoder_precision: Of the encoders.
        padding: Id of the padding token.
        fields: In the order of a tuple's texts.
        head: From what was prepared to logits.
        files: Size and checksum of every file.
    """

    folder: Path
    architecture: str
    outputs: int
    single_vector: bool
    similarity: Similarity | None
    fingerprint: str
    precision: str
    encoder_precision: str
    padding: int
    fields: tuple[ExportedField, ...]
    head: Mapping[str, Any]
    files: Mapping[str, Mapping[str, Any]]

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read `export.json` and compare the checksum of every file.

        Raises:
            ArtefactError: The folder holds no export, a newer one, or a damaged one.
        """
        folder = Path(folder)
        path = folder / FILE
        body = _read(folder)
        try:
            found = cls._parse(folder, body)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtefactError(f"the file is damaged: {error!r}", file=path, fix="Export the student again") from None
        for name, entry in found.files.items():
            file = folder / name
            if not file.is_file() or file.stat().st_size != entry["bytes"] or fingerprint_file(file) != entry["sha256"]:
                raise ArtefactError(
                    f"the file is missing or does not have the checksum of {FILE}", file=file,
                    fix="Export the student again, or copy the folder again",
                )  # fmt: skip
        return found

    @classmethod
    def _parse(cls, folder: Path, body: Mapping[str, Any]) -> Self:
        similarity = body["similarity"]
        fields = tuple(
            ExportedField(
                str(one["encoder_fingerprint"]), int(one["max_length"]),
                None if one["kept_vectors"] is None else int(one["kept_vectors"]),
                dict(one["tokens"]), dict(one["encode"]), dict(one["prepare"]),
            )
            for one in body["fields"]
        )  # fmt: skip
        files = {
            str(name): {"bytes": int(one["bytes"]), "sha256": str(one["sha256"])} for name, one in body["files"].items()
        }
        for name in files:
            if Path(name).name != name:
                raise ValueError(f"{name!r} is no file of this folder")
        for name in ("precision", "encoder_precision"):
            if body[name] not in PRECISIONS:
                raise ValueError(f"the {name} is {body[name]!r}")
        if not fields:
            raise ValueError("there are no fields")
        return cls(
            folder, str(body["architecture"]), int(body["outputs"]), bool(body["single_vector"]),
            None if similarity is None else Similarity(str(similarity["metric"]), float(similarity["scale"]), float(similarity["bias"])),  # type: ignore[arg-type]
            str(body["fingerprint"]), str(body["precision"]), str(body["encoder_precision"]), int(body["padding"]), fields,
            dict(body["head"]), files,
        )  # fmt: skip

    def file(self, name: Any) -> Path:
        """Where a file of the export lies; raises `ArtefactError` for one that has no checksum."""
        if name not in self.files:
            raise ArtefactError(
                f"{name!r} is not among the files", file=self.folder / FILE, fix="Export the student again"
            )
        return self.folder / str(name)


def _read(folder: Path) -> Mapping[str, Any]:
    path = folder / FILE
    if not folder.is_dir():
        raise ArtefactError(
            "the folder does not exist", file=folder, expected="an exported student", fix=_how("FOLDER")
        )
    if not path.exists():
        found = read_json(folder / "config.json") if (folder / "config.json").is_file() else None
        if isinstance(found, dict) and found.get("format") == "pairstill/student":
            raise ArtefactError(
                "this student runs in PyTorch", file=folder, expected="an exported student",
                fix=f"Export it first: {_how(str(folder))}",
            )  # fmt: skip
        raise ArtefactError(
            f"the folder has no {FILE}", file=folder, expected="an exported student", fix=_how("STUDENT")
        )
    body = read_json(path)
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise ArtefactError("the file is no exported student's", file=path, expected=f'"format": "{FORMAT}"')
    refuse_newer(path, body, FORMAT_VERSION)
    return body


def _how(student: str) -> str:
    return f"`pairstill export --format onnx --student {student} --out EXPORTED`"
