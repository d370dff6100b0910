"""The files of an exported student, part by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pairstill.errors import InputError
from pairstill.export.graphs.encoders import EncoderPlan, Hidden, plan_encoder
from pairstill.export.graphs.heads import HeadPlan, Prepare, Score, plan_head
from pairstill.export.graphs.save import GraphPart, Input, save_graphs
from pairstill.files import write_text
from pairstill.students import BERT2DNN, TK, ColBERT, CrossEncoder, PreTTR, Student
from pairstill.students.fingerprints import representation_fingerprint
from pairstill.students.persistence import write_weights
from pairstill.tokens.tri_letter import TriLetterTokenizer

TOKENIZER = "tokenizer.json"
ITEMS, TOKENS, LETTERS = 3, 7, 5
"""Sizes to trace with."""


class FolderWriter:
    """Writes tokenizer, graphs and weights of a student, and says what is where.

    Args:
        student: In evaluation mode.
        folder: There already.

    Attributes:
        graphs: Inputs and outputs of every graph.
    """

    def __init__(self, student: Student, folder: Path) -> None:
        self.student, self.folder = student, folder
        self.graphs: dict[str, Any] = {}
        self._parts: list[GraphPart] = []
        self._encoders: dict[int, str] = {}
        self._fields: dict[str, dict[str, Any]] = {}

    def field(self, field: int) -> dict[str, Any]:
        """`tokens` and `encode` of a field; what another field has too is written once."""
        return {"tokens": self._tokens(field), "encode": self._encode(field)}

    def head(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """`head`, and `prepare` of each field."""
        student, nothing = self.student, [{"kind": "none"}] * self.student.field_count
        if isinstance(student, BERT2DNN):
            return self._bag_head(student), nothing
        if isinstance(student, CrossEncoder):
            return self._joined_head(student), nothing
        if student.similarity() is not None:
            return {"kind": "similarity"}, nothing
        return self._graph_head(plan_head(student))

    def finish(self) -> None:
        """Write the graphs of all parts that were asked for."""
        if self._parts:
            save_graphs(self.folder, self._parts)

    def _tokens(self, field: int) -> dict[str, Any]:
        student, tokenizer = self.student, self.student.tokenizer
        if isinstance(student, BERT2DNN) or isinstance(tokenizer, TriLetterTokenizer):
            tokenizer.save_pretrained(str(self.folder))
            return {"kind": "ngrams" if isinstance(student, BERT2DNN) else "tri-letters"}
        if not (self.folder / TOKENIZER).exists():
            _write_tokenizer(tokenizer, self.folder / TOKENIZER)
        before, after = special_tokens(tokenizer)
        masks, room = None, student.max_lengths[field] - len(before) - len(after)
        if isinstance(student, ColBERT):
            masks = student.masks_of(field)
            before = before[:1] + student.marker_of(field) + before[1:]
            room = student.max_lengths[field] - len(before) - len(after) - int((masks or {}).get("count") or 0)
        elif isinstance(student, PreTTR) and field:
            before, room = before[1:], student.max_lengths[field] - len(before) - len(after) + 1
        elif isinstance(student, (TK, CrossEncoder)):
            before, after = [], []
            room = student.max_lengths[field] if isinstance(student, TK) else 0
        return {
            "kind": "wordpiece", "file": TOKENIZER, "before": before, "after": after, "room": room or None,
            "cut": str(getattr(tokenizer, "truncation_side", "right")), "masks": masks,
            "empty": int(tokenizer.unk_token_id) if isinstance(student, TK) else None,
        }  # fmt: skip

    def _encode(self, field: int) -> dict[str, Any]:
        student = self.student
        if isinstance(student, CrossEncoder):
            return {"kind": "tokens"}
        if isinstance(student, BERT2DNN):
            name = f"table-{field if len(student.encoders) > 1 else 0}.safetensors"
            if not (self.folder / name).exists():
                write_weights(self.folder / name, {"table": student.encoder(field).table.weight})
            return {"kind": "bag", "table": name}
        fingerprint = representation_fingerprint(student, field)
        if fingerprint not in self._fields:
            plan = plan_encoder(student, field)
            self._fields[fingerprint] = {
                "kind": "graph", "encoder": self._encoder(plan), "project": self._project(plan, field),
                "constants": dict(plan.constants), "attended_until": plan.attended_until,
            }  # fmt: skip
        return self._fields[fingerprint]

    def _encoder(self, plan: EncoderPlan) -> str:
        key = id(plan.encoder)
        if key not in self._encoders:
            name = f"encoder-{len(self._encoders)}.onnx"
            constants = [Input(one, torch.tensor(value), {}) for one, value in plan.constants.items()]
            self._save(name, Hidden(plan.encoder), [*_ids(plan), _lengths(), *constants], ["hidden"])
            self._encoders[key] = name
        return self._encoders[key]

    def _project(self, plan: EncoderPlan, field: int) -> str:
        hidden = Input("hidden", torch.zeros(ITEMS, TOKENS, plan.width), {0: "items", 1: "tokens"})
        name = f"project-{field}.onnx"
        self._save(name, plan.project, [hidden, *_ids(plan), _lengths()], plan.project.names(plan.width))
        return name

    def _graph_head(self, plan: HeadPlan) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        student = self.student
        prepares, inputs, names = [], [], []
        for field in range(student.field_count):
            vectors, lengths = self._vectors(field)
            if plan.prepare is not None:
                file, module = f"prepare-{field}.onnx", Prepare(plan, field)
                own = module.names(vectors.example, lengths.example)
                self._save(file, module, [vectors, lengths], own)
                prepares.append({"kind": "graph", "file": file, "similarity": plan.skip})
                with torch.no_grad():
                    examples = dict(zip(own, module(vectors.example, lengths.example), strict=True))
            else:
                spec = plan.plain[field]
                prepares.append({"kind": "plain", **spec, "similarity": False})
                examples = {"vectors": vectors.example} if spec["all"] else {"vector": vectors.example[:, 0]}
            if plan.tokens or (plan.prepare is None and plan.plain[field]["all"]):
                examples["lengths"] = lengths.example
            if plan.skip:
                examples["similarity"] = torch.zeros(ITEMS, self._skip_width(field))
            ragged = student.kept_vectors(field) is None
            for name, example in examples.items():
                varies = {0: f"items_{field}"}
                if ragged and example.ndim == 3 and example.shape[1] == vectors.example.shape[1]:
                    varies[1] = f"tokens_{field}"
                inputs.append(Input(f"{name}_{field}", example, varies))
            names.append(list(examples))
        index = torch.zeros(TOKENS, student.field_count, dtype=torch.int64)
        inputs.append(Input("index", index, {0: "tuples"}))
        if plan.tokens:
            widths = [student.kept_vectors(field) or TOKENS for field in range(student.field_count)]
            inputs += [
                Input(f"columns_{field}", torch.arange(max(2, width)), {0: f"columns_{field}"})
                for field, width in enumerate(widths)
            ]
        self._save("score.onnx", Score(plan, names), inputs, ["logits"])
        return {"kind": "graph", "file": "score.onnx", "tokens": plan.tokens}, prepares

    def _vectors(self, field: int) -> tuple[Input, Input]:
        """Example representations of a field."""
        encoded = self.student.encode(field, ["a", "b c d e f g h i j k l m n o p q r s t u v w x y z", "c d"])
        vectors, varying = torch.from_numpy(encoded.vectors), {0: "items"}
        if self.student.kept_vectors(field) is None:
            varying[1] = "tokens"
        return Input("vectors", vectors, varying), Input("lengths", torch.from_numpy(encoded.lengths), {0: "items"})

    def _skip_width(self, field: int) -> int:
        encoded = self.student.encode(field, ["a"])
        return int((encoded.vectors[:, 0] if encoded.similarity is None else encoded.similarity).shape[1])

    def _bag_head(self, student: BERT2DNN) -> dict[str, Any]:
        head, arrays = student.head, dict(student.head.state_dict())
        arrays["first.bias"] = arrays.pop("first.0.bias")
        numbers = [place for place, one in enumerate(head.hidden) if isinstance(one, torch.nn.Linear)]
        for number, place in enumerate(numbers):
            for kind in ("weight", "bias"):
                arrays[f"hidden.{number}.{kind}"] = arrays.pop(f"hidden.{place}.{kind}")
        if student.skip is not None:
            arrays |= {"skip.scale": student.skip.scale, "skip.bias": student.skip.bias}
        write_weights(self.folder / "head.safetensors", arrays)
        return {
            "kind": "bag", "file": "head.safetensors", "combiner": head.combiner, "union": head.union,
            "activation": head.config.activation,
        }  # fmt: skip

    def _joined_head(self, student: CrossEncoder) -> dict[str, Any]:
        template = student.template
        ids = Input("ids", torch.ones(ITEMS, TOKENS, dtype=torch.int64), {0: "tuples", 1: "tokens"})
        lengths = Input("lengths", torch.tensor([TOKENS, 4, 3]), {0: "tuples"})
        types = (
            [Input("types", torch.zeros(ITEMS, TOKENS, dtype=torch.int64), ids.varying)] if template.token_types else []
        )
        self._save("score.onnx", Classifier(student), [ids, lengths, *types], ["logits"])
        return {
            "kind": "joined", "file": "score.onnx", "before": template.before, "between": template.between, "after": template.after,
            "types": template.token_types, "max_length": student.max_length,
        }  # fmt: skip

    def _save(self, name: str, module: torch.nn.Module, inputs: Sequence[Input], outputs: Sequence[str]) -> None:
        self._parts.append(GraphPart(name, module, inputs, outputs))
        self.graphs[name] = {"inputs": [_described(one) for one in inputs], "outputs": list(outputs)}


class Classifier(torch.nn.Module):
    """A cross-encoder over joined tuples."""

    def __init__(self, student: CrossEncoder) -> None:
        super().__init__()
        self.student = student

    def forward(self, ids: Tensor, lengths: Tensor, *types: Tensor) -> Tensor:
        """Logits of joined ids `(tuples, tokens)`."""
        return self.student.classify(ids, types[0] if types else None, lengths)


def special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Ids that a tokenizer puts before and after a single text.

    Raises:
        InputError: It puts others into it.
    """
    plain = tokenizer("a b a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a b a")["input_ids"]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return list(map(int, whole[:start])), list(map(int, whole[start + len(plain) :]))
    raise InputError("the tokenizer puts special tokens into a text", expected="special tokens before and after it")


def _write_tokenizer(tokenizer: Any, path: Path) -> None:
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError(
            "the tokenizer is not one of the `tokenizers` package", expected="a base with a fast tokenizer"
        )
    own = Tokenizer.from_str(backend.to_str())
    own.no_truncation()
    own.no_padding()
    write_text(path, own.to_str())


def _ids(plan: EncoderPlan) -> list[Input]:
    shape = (ITEMS, TOKENS, LETTERS) if plan.letters else (ITEMS, TOKENS)
    varying = {0: "items", 1: "tokens"} | ({2: "letters"} if plan.letters else {})
    return [Input("ids", torch.ones(shape, dtype=torch.int64), varying)]


def _lengths() -> Input:
    return Input("lengths", torch.tensor([TOKENS, 4, 3]), {0: "items"})


def _described(one: Input) -> Mapping[str, Any]:
    shape = [one.varying.get(place, size) for place, size in enumerate(one.example.shape)]
    return {"name": one.name, "dtype": str(one.example.dtype).removeprefix("torch."), "shape": shape}
