"""Students as sentence-transformers folders that give the same scores there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from pairstill import __version__
from pairstill.errors import InputError
from pairstill.export import late_interaction
from pairstill.export.modules import (
    IDENTITY,
    TANH,
    Module,
    dense,
    pooling,
    save_modules,
    save_routes,
    transformer_folder,
)
from pairstill.files import read_json, write_json, write_text
from pairstill.students import CrossEncoder, Student
from pairstill.students.dual_encoder import DualEncoder
from pairstill.students.encoders.pretrained import quiet_loading
from pairstill.students.twinbert import TwinBERT

NOTE_FILE, FORMAT, FORMAT_VERSION = "pairstill.json", "pairstill/exported-student", 1
BI_ENCODERS = ("de-cos", "twinbert-cos", "bert-dot")
LATE_INTERACTION = "colbert"
SIGMOID = "torch.nn.modules.activation.Sigmoid"


@dataclass(frozen=True)
class ExportedScore:
    """How the student's logit follows from what the exported folder gives.

    Attributes:
        kind: Class of sentence-transformers that loads the folder.
        gives: What that class gives: `cosine`, `dot` or `maxsim` (`model.similarity`), or `logit` (`model.predict` without activation).
        scale: logit = scale * what is given + bias.
        bias: See `scale`.
    """

    kind: str
    gives: str
    scale: float = 1.0
    bias: float = 0.0

    def said(self) -> str:
        """One sentence for people."""
        if self.gives == "logit":
            return "the student's logit is what the folder's classifier gives, before `predict` applies its activation"
        return f"the student's logit is {self.scale:.9g} * {self.gives} {self.bias:+.9g}; `{self.kind}.similarity` gives the {self.gives}"


def export_sentence_transformers(student: Student, folder: str | Path) -> ExportedScore:
    """Write a folder that sentence-transformers loads as it is; the library itself is not needed.

    What the library has no place for, the scale and bias of a similarity, stands in `pairstill.json` and the model card.

    Args:
        student: A cross-encoder of two texts, a student that compares two vectors by cosine or dot product, or a ColBERT.
        folder: Made if it is not there; must be empty.

    Returns:
        How the student's logit follows from the folder's score.

    Raises:
        InputError: The library has no such architecture, or the folder is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("the output exists", file=folder, expected="a new or empty folder")
    score = _cross_encoder(student, folder) if isinstance(student, CrossEncoder) else _text_encoder(student, folder)
    write_text(folder / "README.md", _card(student, score))
    head = student.head if isinstance(student, DualEncoder) else nn.Module()
    write_json(
        folder / NOTE_FILE,
        {
            "format": FORMAT, "version": FORMAT_VERSION, "created_by": f"pairstill {__version__}", "architecture": student.name,
            "config": asdict(student.config), "encoder_model": student.encoder_model_config(), "score": asdict(score),
            "head": {name: float(one) for name, one in head.state_dict().items()},
        },
    )  # fmt: skip
    return score


def _cross_encoder(student: CrossEncoder, folder: Path) -> ExportedScore:
    if student.field_count != 2:
        raise InputError(
            f"the cross-encoder joins {student.field_count} texts", expected="two, as sentence-transformers does"
        )
    if student.config.classifier == "linear":
        raise InputError(
            "the cross-encoder has one linear layer on the first token's vector, and sentence-transformers builds the classifier of "
            "the base's family around a folder's weights",
            fix="Train one with classifier=base, or export this one with --format onnx",
        )
    _save_transformer(student.model, student.tokenizer, folder, {"max_seq_length": student.max_length})
    _describe(folder, "CrossEncoder", {"activation_fn": SIGMOID if student.outputs == 1 else IDENTITY})
    return ExportedScore("CrossEncoder", "logit")


def _text_encoder(student: Student, folder: Path) -> ExportedScore:
    student.check_exportable()
    found = student.similarity()
    if not isinstance(student, DualEncoder) or student.name not in (*BI_ENCODERS, LATE_INTERACTION):
        raise InputError(
            f"sentence-transformers has no architecture like a {student.name}",
            expected=f"cross-encoder, {', '.join(BI_ENCODERS)} or {LATE_INTERACTION}",
        )
    if isinstance(student, TwinBERT):
        _check_tower(student)
    late = found is None
    first = late_interaction.modules_of(student) if late else _modules(student, 0)
    expansion = late_interaction.expansion_of(student) if late else {}
    if len(student.encoders) > 1 or late_interaction.has_fixed_masks(student):
        for field, length in enumerate(student.max_lengths):
            tokenizer = late_interaction.tokenizer_of(student, field) if late else student.tokenizer
            place = transformer_folder(folder, field)
            settings = {**_lengths([length]), **({} if field else expansion)}
            _save_transformer(student.encoder(field).model, tokenizer, place, settings)
        save_routes(folder, [first, _modules(student, 1) if len(student.projections) > 1 else first])
    else:
        tokenizer = late_interaction.tokenizer_of(student, 0) if late else student.tokenizer
        settings = {**_lengths(student.max_lengths), **expansion}
        _save_transformer(student.encoder(0).model, tokenizer, folder, settings)
        save_modules(folder, first)
    if found is None:
        _describe(
            folder, "MultiVectorEncoder",
            {"similarity_fn_name": "maxsim", "prompts": late_interaction.prompts_of(student)},
        )  # fmt: skip
        return ExportedScore("MultiVectorEncoder", "maxsim", *late_interaction.scale_of(student))
    _describe(folder, "SentenceTransformer", {"similarity_fn_name": found.metric})
    return ExportedScore("SentenceTransformer", found.metric, found.scale, found.bias)


def _modules(student: DualEncoder, field: int) -> list[Module]:
    """What follows the transformer of a field where one vector is made of a text."""
    found = [pooling(student.encoder(field).hidden_size, "mean" if student.keeps[field].take == "mean" else "cls")]
    if len(student.projections):
        layer = student.projections[min(field, len(student.projections) - 1)]
        assert isinstance(layer, nn.Linear)
        found.append(dense(layer, "sentence_embedding", TANH if isinstance(student, TwinBERT) else IDENTITY))
    similarity = student.similarity()
    cosine = similarity is not None and similarity.metric == "cosine"
    return [*found, Module("Normalize")] if cosine else found


def _lengths(lengths: Sequence[int]) -> dict[str, Any]:
    """Settings of a transformer module that reads so many tokens of a query and a document."""
    settings: dict[str, Any] = {"max_seq_length": max(lengths), "do_lower_case": False}
    return (
        settings if len(set(lengths)) == 1 else {**settings, "query_length": lengths[0], "document_length": lengths[1]}
    )


def _check_tower(student: TwinBERT) -> None:
    config = student.config
    for name, found, known in (
        ("encoder.tokens", config.encoder.tokens, ("wordpiece",)),
        ("pooling", config.pooling, ("mean", "cls")),
        ("eight_bit", config.eight_bit, ("none",)),
    ):
        if found not in known:
            raise InputError(
                f"the student was trained with {name}={found}, which sentence-transformers has no module for",
                expected=f"{name}={' or '.join(known)}",
            )


def _save_transformer(model: nn.Module, tokenizer: Any, folder: Path, settings: Mapping[str, Any]) -> None:
    with quiet_loading(str(folder)):
        model.save_pretrained(str(folder))  # type: ignore[operator]
        tokenizer.save_pretrained(str(folder))
    path = folder / "tokenizer_config.json"
    write_json(path, {**read_json(path), "model_max_length": settings["max_seq_length"]})
    write_json(folder / "sentence_bert_config.json", dict(settings))


def _describe(folder: Path, kind: str, settings: Mapping[str, Any]) -> None:
    write_json(
        folder / "config_sentence_transformers.json",
        {"__version__": {}, "model_type": kind, "prompts": {}, "default_prompt_name": None, **settings},
    )


def _card(student: Student, score: ExportedScore) -> str:
    use = (
        'model = CrossEncoder("FOLDER")\nmodel.predict([("a query", "a text")])' if score.kind == "CrossEncoder"
        else f'model = {score.kind}("FOLDER")\nmodel.similarity(model.encode_query(["a query"]), model.encode_document(["a text"]))'
    )  # fmt: skip
    return (
        f"---\nlibrary_name: sentence-transformers\n---\n# {student.name}\n\nA Pairstill {__version__} student as a "
        f"sentence-transformers `{score.kind}`: {score.said()}.\n\n```python\nfrom sentence_transformers import {score.kind}\n\n{use}\n```\n"
    )
