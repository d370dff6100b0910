"""Every student in small, in all its ways."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pairstill.students import Student, make_student
from pairstill.students.persistence import parse_config
from tiny import WORDS, noisy_image, tiny_image_base

PAIRS = [("w1 w2 w3", "w3"), ("w4", "w5 w6 w7 w8 w9 w10 w11"), ("w1 w2 w3", " ".join(WORDS)), ("", "w9")]
SMALL_HEAD = {"intermediate": 24}
WITHOUT_BASE = ("bert2dnn",)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert-dot": ("bert-dot", {}),
    "bert-dot on CLS, projected": ("bert-dot", {"pooling": "cls", "projection": 8, "scaled": False}),
    "colbert": ("colbert", {}),
    "colbert, short": ("colbert", {"projection": 8, "projection_bias": False, "normalise": True, "query_length": 12, "attend_to_masks": False}),
    "bert2dnn": ("bert2dnn", {"encoder": {"minimum_count": 1}}),
    "bert2dnn on one bag": ("bert2dnn", {"bag": "union", "combiner": "mean", "encoder": {"hash_buckets": 50, "shared": False}}),
    "bert2dnn of three for classes": ("bert2dnn", {"field_count": 3, "outputs": 3, "combiner": "sum", "encoder": {"minimum_count": 1}}),
    "cross-encoder": ("cross-encoder", {"encoder": {"max_lengths": [20]}}),
    "cross-encoder of three": ("cross-encoder", {"encoder": {"max_lengths": [24]}, "field_count": 3}),
    "cross-encoder for classes": ("cross-encoder", {"encoder": {"max_lengths": [20]}, "outputs": 3}),
    "cross-encoder of a small shape": ("cross-encoder", {"encoder": {"max_lengths": [20], "shape": "tiny"}}),
    "cross-encoder, one linear layer": ("cross-encoder", {"encoder": {"max_lengths": [20]}, "classifier": "linear", "outputs": 2}),
    "de-cos": ("de-cos", {}),
    "de-cos on CLS": ("de-cos", {"pooling": "cls"}),
    "de-ffnn": ("de-ffnn", {}),
    "de-ffnn of three for classes": ("de-ffnn", {"field_count": 3, "outputs": 4, "similarity_skip": False, "pooling": "cls"}),
    "dipair-ffnn": ("dipair-ffnn", {"keep": [2, 4], "projection": 8, "head": {"widths": [16, 12, 8], "activation": "gelu"}}),
    "dipair-tsf": ("dipair-tsf", {"keep": [2, 4], "projection": 8, "head": SMALL_HEAD}),
    "dipair-tsf as published": ("dipair-tsf", {"keep": [4, 12], "similarity_skip": False, "head": {"activation": "gelu"}}),
    "dipair-tsf of three": ("dipair-tsf", {"keep": [2, 3, 4], "projection": 8, "field_count": 3, "head": SMALL_HEAD}),
    "dipair-tsf, every other way": (
        "dipair-tsf",
        {
            "keep": [3], "keep_from": "last", "projection": None, "outputs": 2, "encoder": {"shared": False, "layers": 1},
            "head": {"layers": 1, "attention_heads": 2, "intermediate": 24, "activation": "gelu_tanh", "position_embeddings": False,
                     "segment_embeddings": False},
        },
    ),
    "dipair-tsf with a deep head": (
        "dipair-tsf", {"keep": [2, 3], "projection": 8, "shared_projection": True, "head": {"layers": 3, "attention_heads": 2, "intermediate": 24}},
    ),
    "poly-encoder": ("poly-encoder", {"contexts": 4}),
    "poly-encoder on first tokens": ("poly-encoder", {"contexts": 4, "context_from": "first", "pooling": "cls", "attention": "scaled", "scaled": False}),
    "prettr": ("prettr", {"split": 1}),
    "prettr, compressed, one layer joined": ("prettr", {"split": 2, "compression": 8}),
    "prettr of three for classes": ("prettr", {"split": 1, "compression": 8, "field_count": 3, "outputs": 3}),
    "tk": ("tk", {"intermediate": 24}),
    "tk without the second sum": ("tk", {"intermediate": 24, "layers": 1, "attention_heads": 2, "length_normalised": False}),
    "twinbert-cos": ("twinbert-cos", {"pooling": "weighted", "encoder": {"shared": False}}),
    "twinbert-cos in 8 bits": ("twinbert-cos", {"pooling": "cls", "downscale": 8, "eight_bit": "others"}),
    "twinbert-cos of tri-letters": ("twinbert-cos", {"pooling": "weighted", "encoder": {"tokens": "tri-letter", "shape": "tiny"}}),
    "twinbert-res": ("twinbert-res", {"head": {"width": 24}}),
    "twinbert-res of three for classes": (
        "twinbert-res",
        {"field_count": 3, "outputs": 3, "pooling": "weighted", "head": {"width": 24, "depth": 3, "combine": "concat", "batch_norm": True}},
    ),
    "twinbert-res of tri-letters": (
        "twinbert-res",
        {"similarity_skip": False, "downscale": 8, "encoder": {"tokens": "tri-letter", "shared": False},
         "head": {"depth": 1, "relu": False, "batch_norm": True}},
    ),
}  # fmt: skip
NUMBERS = [(0.5, 1.0, -2.0), (0.0, 3.5, 1.0), (0.5, 1.0, 100.0), (7.0, -1.0, 0.0)]
"""Of the numeric fields, in the order of PAIRS."""


IMAGES = [noisy_image(color, seed) for seed, color in enumerate([(250, 0, 0), (0, 250, 0), (0, 0, 250), (99, 99, 99)])]
ITEMS: dict[str, Sequence[Any]] = {"numeric": NUMBERS, "image": IMAGES}


def inputs(*kinds: str, **more: Any) -> dict[str, Any]:
    """Settings of a student whose fields are of these kinds; the base of images is filled in by `build`."""
    features = [3] * kinds.count("numeric")
    numeric = {"features": features, "widths": [8], "dim": 16}
    return {"inputs": {"kinds": list(kinds), "numeric": numeric, "image": {}}, "similarity_skip": False, **more}


FIELD_CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "de-cos of numbers and texts": ("de-cos", {key: one for key, one in inputs("numeric", "text").items() if key == "inputs"}),
    "de-cos of texts and images": ("de-cos", {"inputs": inputs("text", "image")["inputs"], "pooling": "cls"}),
    "de-cos of images": ("de-cos", {"inputs": inputs("image")["inputs"]}),
    "de-ffnn of images, with the skip": ("de-ffnn", inputs("image") | {"similarity_skip": True}),
    "de-ffnn of images and numbers": ("de-ffnn", inputs("image", "numeric")),
    "de-ffnn of texts and numbers": ("de-ffnn", inputs("text", "numeric")),
    "de-ffnn of numbers alone": ("de-ffnn", inputs("numeric", "numeric")),
    "dipair-ffnn of texts and numbers": ("dipair-ffnn", inputs("text", "numeric", keep=[3, 2], projection=8)),
    "dipair-ffnn of images apart": (
        "dipair-ffnn",
        {**inputs("image", "image", keep=[4, 17], keep_from="last", projection=None), "inputs": {"kinds": ["image"], "image": {"shared": False}}},
    ),
    "dipair-tsf of texts and images": ("dipair-tsf", inputs("text", "image", keep=[3, 9], projection=8, head=SMALL_HEAD)),
    "dipair-tsf of images, with the skip": (
        "dipair-tsf", inputs("image", keep=[3, 5], projection=8, shared_projection=True, head=SMALL_HEAD) | {"similarity_skip": True},
    ),
    "dipair-tsf of texts, numbers and texts": (
        "dipair-tsf",
        inputs("text", "numeric", "text", keep=[3, 2, 2], projection=8, field_count=3, head=SMALL_HEAD, encoder={"shared": False}, outputs=3),
    ),
}  # fmt: skip
"""Students with fields of numbers and images."""


def image_base_beside(base: Path) -> Path:
    folder = base.parent / "image-base"
    return folder if folder.exists() else tiny_image_base(folder)


def build(base: Path, case: str) -> Student:
    name, values = {**CASES, **FIELD_CASES}[case]
    start = {} if name in WITHOUT_BASE else {"base": str(base)}
    values = {**values, "encoder": {"max_lengths": [16], **values.get("encoder", {}), **start}}
    torch.manual_seed(1)
    read = values.get("inputs", {})
    if "image" in read.get("kinds", ()):
        values["inputs"] = {**read, "image": {**read["image"], "base": str(image_base_beside(base))}}
    kinds = read.get("kinds", ["text"])
    kinds = kinds * values.get("field_count", 2) if len(kinds) == 1 else kinds
    student = make_student(name, parse_config(name, values), [ITEMS.get(one, WORDS) for one in kinds])
    with torch.no_grad():
        for parameter in student.new_parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return student.eval()


def tuples_for(student: Student) -> list[tuple[Any, ...]]:
    texts = [(*pair, "w20 w21")[: student.field_count] for pair in PAIRS]
    return [
        tuple(text if kind == "text" else ITEMS[kind][place] for text, kind in zip(row, student.kinds, strict=True))
        for place, row in enumerate(texts)
    ]
