"""Student folders: config.json, model.safetensors, the tokenizer, a model card."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pairstill import __version__
from pairstill.errors import ArtefactError, InputError, did_you_mean
from pairstill.files import fingerprint_file, read_json, refuse_newer, write_atomic, write_json, write_text
from pairstill.students.base import Corpus, Student
from pairstill.students.bert2dnn import BERT2DNN
from pairstill.students.bert_dot import BERTDot
from pairstill.students.colbert import ColBERT
from pairstill.students.cross_encoder import CrossEncoder
from pairstill.students.de_cos import DECos
from pairstill.students.de_ffnn import DEFFNN
from pairstill.students.dipair_ffnn import DiPairFFNN
from pairstill.students.dipair_tsf import DiPairTSF
from pairstill.students.poly_encoder import PolyEncoder
from pairstill.students.prettr import PreTTR
from pairstill.students.tk import TK
from pairstill.students.twinbert_cos import TwinBERTCos
from pairstill.students.twinbert_res import TwinBERTRes

FORMAT, FORMAT_VERSION = "pairstill/student", 1
ARCHITECTURES: dict[str, type[Any]] = {
    one.name: one
    for one in (
        BERT2DNN,
        BERTDot,
        ColBERT,
        CrossEncoder,
        DECos,
        DEFFNN,
        DiPairFFNN,
        DiPairTSF,
        PolyEncoder,
        PreTTR,
        TK,
        TwinBERTCos,
        TwinBERTRes,
    )
}
"""Every architecture by the name that configurations and the command line use."""


def architecture(name: str) -> type[Any]:
    """The student class of that name; raises `InputError` that lists all names."""
    if name not in ARCHITECTURES:
        raise InputError(
            f"there is no student '{name}'", expected=f"one of {', '.join(sorted(ARCHITECTURES))}", fix=did_you_mean(name, ARCHITECTURES),
        )  # fmt: skip
    return ARCHITECTURES[name]


def parse_config(name: str, values: dict[str, Any]) -> Any:
    """A student's configuration from plain values; raises `InputError` that names the wrong field."""
    return parse_settings(architecture(name).config_type, values, name)


def parse_settings(kind: type, values: dict[str, Any], name: str) -> Any:
    """A frozen dataclass of settings from plain values, checked as those of a student are.

    Args:
        kind: The dataclass.
        values: By its fields' names.
        name: Of what has these settings, for messages.

    Raises:
        InputError: A setting is unknown, of another type or out of range.
    """
    from pydantic import TypeAdapter, ValidationError

    _refuse_unknown(kind, values, name)
    try:
        config: Any = TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"the setting '{place}' of '{name}' is {first['input']!r}: {first['msg']}", expected=f"see {kind.__name__}"
        ) from None
    _refuse_out_of_range(config, name)
    return config


def make_student(name: str, config: Any, corpus: Corpus | None = None) -> Student:
    """A new student that starts from its base.

    Args:
        name: Architecture.
        config: Its configuration, from `parse_config`.
        corpus: Items of each field, for students that learn a vocabulary or the scale of numbers; None where there are none.
    """
    kind = architecture(name)
    student: Student = kind(config, kind.new_tokenizer(config, corpus))
    student.learn_inputs(corpus)
    return student


def save_student(student: Student, folder: Path, card: str | None) -> None:
    """Write the folder; config.json comes last, so a folder without it is unfinished."""
    folder.mkdir(parents=True, exist_ok=True)
    student.tokenizer.save_pretrained(str(folder))
    write_weights(folder / "model.safetensors", student.state_dict())
    student.card = card or student.card or f"# {student.name}\n\nA student made with Pairstill {__version__}.\n"
    write_text(folder / "README.md", student.card)
    write_json(
        folder / "config.json",
        {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "created_by": f"pairstill {__version__}",
            "architecture": student.name,
            "config": asdict(student.config),
            "encoder_model": student.encoder_model_config(),
            "sha256": fingerprint_file(folder / "model.safetensors"),
        },
    )


def write_weights(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as safetensors, atomically."""
    from safetensors.torch import save

    with write_atomic(path) as file:
        file.write(save({name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}))


def load_student(folder: str | Path) -> Student:
    """Load a student folder, or a student from the hub by name.

    Raises:
        ArtefactError: The folder is missing, unfinished, newer, damaged, or holds no student.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder)
    if not path.is_dir():
        path = _download(str(folder))
    body = read_json(path / "config.json")
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise ArtefactError(
            "the folder holds no Pairstill student", file=path / "config.json", expected=f'"format": "{FORMAT}"',
            fix="A sentence-transformers or sequence-classification folder can be a teacher (`pairstill annotate --teacher`) or "
            "become a student (`pairstill export --format pairstill`)",
        )  # fmt: skip
    refuse_newer(path / "config.json", body, FORMAT_VERSION)
    weights = path / "model.safetensors"
    if not weights.exists() or fingerprint_file(weights) != body["sha256"]:
        raise ArtefactError("the file is missing or does not have the checksum of config.json", file=weights)
    config = parse_config(body["architecture"], body["config"])
    try:
        tokenizer = architecture(body["architecture"]).read_tokenizer(path)
    except (OSError, ValueError) as error:
        raise ArtefactError("the folder's tokenizer cannot be loaded", file=path / "tokenizer.json") from error
    student: Student = architecture(body["architecture"])(config, tokenizer, body["encoder_model"])
    try:
        student.load_state_dict(load_file(weights))
    except (SafetensorError, RuntimeError) as error:
        raise ArtefactError(
            f"the weights do not fit config.json: {str(error).splitlines()[0]}", file=weights
        ) from error
    if (path / "README.md").is_file():
        student.card = (path / "README.md").read_text(encoding="utf-8", errors="replace")
    return student.eval()


def push_student(student: Student, repository: str, *, private: bool, token: str | None, card: str | None) -> str:
    """Upload a student folder to the hub."""
    import tempfile

    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(repository, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        save_student(student, Path(folder), card)
        return str(
            api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload a Pairstill student")
        )


def state_fingerprint(tensors: dict[str, Tensor], config: Any) -> str:
    """SHA-256 over weights and configuration: equal encoders have equal fingerprints."""
    import hashlib

    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(name.encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes() if tensor.ndim else tensor.numpy().tobytes())
    return digest.hexdigest()


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    if name.startswith((".", "/", "~")):
        raise ArtefactError("the folder does not exist", file=name, expected="a student folder")
    try:
        return Path(snapshot_download(name))
    except Exception as error:
        detail = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ArtefactError(
            f"there is no folder '{name}', and the hub does not give it: {detail}",
            expected="a student folder or hub name",
        ) from error


def _refuse_unknown(kind: Any, values: dict[str, Any], name: str, place: str = "") -> None:
    """Pydantic ignores unknown keys of plain dataclasses; a typing mistake must not pass silently."""
    from dataclasses import fields, is_dataclass
    from difflib import get_close_matches
    from typing import get_type_hints

    hints, known = get_type_hints(kind), [one.name for one in fields(kind)]
    for key, value in values.items():
        if key not in known:
            close = get_close_matches(str(key), known, 1)
            raise InputError(
                f"'{name}' has no setting '{place}{key}'",
                expected=f"one of {', '.join(place + one for one in known)}",
                fix=f"Did you mean '{place}{close[0]}'?" if close else None,
            )
        parts = value if isinstance(value, (list, tuple)) else [value]
        if hints[key] is not bool and any(isinstance(part, bool) for part in parts):
            # Pydantic reads true as the number 1.
            raise InputError(f"the setting '{place}{key}' of '{name}' is {value!r}", expected="a number or a word")
        if isinstance(value, dict) and is_dataclass(hints[key]):
            _refuse_unknown(hints[key], value, name, f"{place}{key}.")


def _refuse_out_of_range(config: Any, name: str, place: str = "") -> None:
    """Every whole number among the settings counts something that must be there; shares are below 1.

    A field whose metadata has `checked` is checked by its own class.
    """
    from dataclasses import fields, is_dataclass

    for one in fields(config):
        value, expected = getattr(config, one.name), None
        if one.metadata.get("checked"):
            continue
        if is_dataclass(value):
            _refuse_out_of_range(value, name, f"{place}{one.name}.")
        elif isinstance(value, tuple) and (not value or min(value) < 1):
            expected = "one or more numbers of 1 or more"
        elif isinstance(value, int) and not isinstance(value, bool) and value < 1:
            expected = "1 or more"
        elif isinstance(value, float) and not 0 <= value < 1:
            expected = "0 or more, below 1"
        if expected is not None:
            raise InputError(f"the setting '{place}{one.name}' of '{name}' is {value!r}", expected=expected)
