"""sentence-transformers folders as students with the same scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pairstill.errors import ArtefactError, InputError
from pairstill.export.late_interaction import colbert_values
from pairstill.export.modules import (
    FIX,
    IDENTITY,
    ROUTER_FILE,
    TANH,
    list_modules,
    read_dense,
    read_object,
    read_routes,
)
from pairstill.export.sentence_transformers import FORMAT, FORMAT_VERSION, NOTE_FILE
from pairstill.students import CrossEncoder, Student, make_student
from pairstill.students.cross_encoder import default_max_length
from pairstill.students.dual_encoder import DualEncoder
from pairstill.students.encoders.pretrained import load_tokenizer, quiet_loading
from pairstill.students.persistence import architecture, parse_config
from pairstill.teachers.load import load_teacher

POOLINGS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}


def import_sentence_transformers(folder: str | Path) -> Student:
    """A student that gives the folder's scores.

    A folder that Pairstill exported becomes the student that it was, scale and bias included. A `CrossEncoder` becomes a
    cross-encoder, whose logits are those before the library's activation. A `SentenceTransformer` of transformer, mean or CLS
    pooling and normalisation becomes a `de-cos`, with a dense layer and tanh between them a `twinbert-cos`, one that compares
    by dot product a `bert-dot`, a `MultiVectorEncoder` a `colbert`: the logit is the similarity itself, scale 1 and bias 0.

    Args:
        folder: Local.

    Raises:
        InputError: It is no such folder, or what it computes has no counterpart here.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError("the folder does not exist", file=folder, expected="a sentence-transformers folder")
    if (folder / NOTE_FILE).exists():
        return _exported(folder)
    if (folder / ROUTER_FILE).exists():
        raise InputError(
            "the folder reads queries and documents with modules of their own", file=folder / ROUTER_FILE,
            expected="one transformer for both", fix="Distil a student from it instead: the folder of one transformer can be a --base",
        )  # fmt: skip
    if not (folder / "modules.json").exists() or len(list_modules(folder)) == 1:
        _refuse_prompts(folder)
        return load_teacher(folder)
    return _sentence_transformer(folder)


def _exported(folder: Path) -> Student:
    note = read_object(folder / NOTE_FILE)
    if note.get("format") != FORMAT or not isinstance(note.get("version"), int) or note["version"] > FORMAT_VERSION:
        raise ArtefactError(
            f"the file says format {note.get('format')!r}, version {note.get('version')!r}", file=folder / NOTE_FILE,
            expected=f"'{FORMAT}', at most {FORMAT_VERSION}", fix="Upgrade pairstill to read it",
        )  # fmt: skip
    try:
        name, head = note["architecture"], {key: torch.tensor(float(one)) for key, one in note["head"].items()}
        kind = architecture(name)
        config, cross = parse_config(name, note["config"]), issubclass(kind, CrossEncoder)
        places = [{"Transformer": folder}] if cross else read_routes(folder)
        student: Student = kind(config, kind.read_tokenizer(places[-1]["Transformer"]), note["encoder_model"])
        if isinstance(student, CrossEncoder):
            _load(student.model, folder / "model.safetensors")
            return student.eval()
        assert isinstance(student, DualEncoder)
        for encoder, place in zip(student.encoders, places, strict=False):
            _load(encoder.model, place["Transformer"] / "model.safetensors")  # type: ignore[arg-type]
        for layer, place in zip(student.projections, places, strict=False):
            _load(layer, place["Dense"] / "model.safetensors", "linear.")
        student.head.load_state_dict(head)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, StopIteration) as error:
        raise ArtefactError(
            f"the export is damaged: {error!r}", file=folder / NOTE_FILE, fix="Export it again"
        ) from None
    return student.eval()


def _sentence_transformer(folder: Path) -> Student:
    modules = list_modules(folder)
    kinds = [kind for kind, _ in modules]
    if "Pooling" not in kinds:
        return _late_interaction(folder, modules)
    body = [kind for kind in kinds if kind != "Normalize"]
    if body not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Dense"]) or "Normalize" in kinds[:-1]:
        raise InputError(
            f"the folder's modules are {', '.join(kinds)}", file=folder / "modules.json",
            expected="Transformer, Pooling, and possibly Dense and Normalize", fix=FIX,
        )  # fmt: skip
    settings = _refuse_prompts(folder)
    similarity = settings.get("similarity_fn_name") or "cosine"
    if similarity not in ("cosine", "dot"):
        raise InputError(
            f"the folder compares by '{similarity}'", file=folder / "config_sentence_transformers.json",
            expected="cosine or dot", fix=FIX,
        )  # fmt: skip
    cosine = similarity == "cosine" or kinds[-1] == "Normalize"
    base = modules[0][1]
    lengths, transformer = _max_lengths(base)
    if transformer.get("query_expansion"):
        raise InputError(
            "queries are expanded before they are pooled", file=base / "sentence_bert_config.json", fix=FIX
        )
    values: dict[str, Any] = {
        "encoder": {"base": str(base), "max_lengths": lengths}, "pooling": _pooling(modules[1][1]),
    }  # fmt: skip
    if "Dense" in kinds:
        place = modules[kinds.index("Dense")][1]
        config = read_dense(place, "sentence_embedding", TANH if cosine else IDENTITY)
        if not config.get("bias", True):
            raise InputError("the Dense module has no bias", file=place / "config.json", expected="one", fix=FIX)
        values["downscale" if cosine else "projection"] = int(config["out_features"])
    name = "bert-dot" if not cosine else "twinbert-cos" if "Dense" in kinds else "de-cos"
    if not cosine:
        values["scaled"] = False
    student = make_student(name, parse_config(name, values))
    assert isinstance(student, DualEncoder)
    if "Dense" in kinds:
        _load(student.projections[0], place / "model.safetensors", "linear.")
    if cosine:
        student.head.load_state_dict({"scale": torch.tensor(1.0), "bias": torch.tensor(0.0)})
    return student.eval()


def _late_interaction(folder: Path, modules: list[tuple[str, Path]]) -> Student:
    settings = read_object(folder / "config_sentence_transformers.json")
    base = modules[0][1]
    lengths, transformer = _max_lengths(base)
    values, place = colbert_values(
        folder, modules, settings, transformer, lengths, load_tokenizer(str(base)).get_vocab()
    )
    student = make_student(
        "colbert", parse_config("colbert", {**values, "encoder": {**values["encoder"], "base": str(base)}})
    )
    assert isinstance(student, DualEncoder)
    layer = student.projections[0]
    if place is None:
        layer.load_state_dict({"weight": torch.eye(student.dim), "bias": torch.zeros(student.dim)})
    else:
        _load(layer, place / "model.safetensors", "linear.")
    return student.eval()


def _pooling(folder: Path) -> str:
    config = read_object(folder / "config.json")
    mode = config.get("pooling_mode")
    chosen = [mode] if isinstance(mode, str) else list(mode or [])
    if mode is None:
        chosen = [
            name.removeprefix("pooling_mode_")
            for name, value in config.items()
            if name.startswith("pooling_mode_") and value
        ]
        known = {flag.removeprefix("pooling_mode_"): name for name, flag in POOLINGS.items()}
        chosen = [known.get(one, one) for one in chosen] or ["mean"]
    if len(chosen) != 1 or chosen[0] not in POOLINGS:
        raise InputError(
            f"the pooling is {', '.join(map(str, chosen))}",
            file=folder / "config.json",
            expected="mean or cls",
            fix=FIX,
        )
    return str(chosen[0])


def _max_lengths(base: Path) -> tuple[list[int], dict[str, Any]]:
    """Tokens that the library reads of a query and of a document; and all settings of the transformer module."""
    from transformers import AutoConfig

    path = base / "sentence_bert_config.json"
    settings = read_object(path) if path.exists() else {}
    for name in ("do_lower_case", "processing_kwargs"):
        if settings.get(name):
            raise InputError(f"the setting '{name}' is {settings[name]!r}", file=path, expected="none", fix=FIX)
    with quiet_loading(str(base)):
        config = AutoConfig.from_pretrained(str(base))
    longest = settings.get("max_seq_length") or default_max_length(load_tokenizer(str(base)), config)
    return [int(settings.get(name) or longest) for name in ("query_length", "document_length")], settings


def _refuse_prompts(folder: Path) -> dict[str, Any]:
    path = folder / "config_sentence_transformers.json"
    settings = read_object(path) if path.exists() else {}
    used = {name: text for name, text in (settings.get("prompts") or {}).items() if text}
    if used:
        raise InputError(
            f"the folder puts prompts before texts ({', '.join(f'{name}: {text!r}' for name, text in used.items())}), and "
            "students read texts as they are", file=path, fix="Put them into the texts, and remove them from this file",
        )  # fmt: skip
    return settings


def _load(module: torch.nn.Module, path: Path, prefix: str = "") -> None:
    """Weights of a file into a module; a pooler, which nothing here reads, is left out."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path)
        module.load_state_dict(
            {name.removeprefix(prefix): one for name, one in weights.items() if not name.startswith("pooler.")}
        )
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(
            f"the weights cannot be loaded: {str(error).strip().splitlines()[0]}", file=path,
            fix="Copy or export the folder again",
        ) from error  # fmt: skip
