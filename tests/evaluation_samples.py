"""A small tuple set, tiny students and synthetic systems for the tests of evaluation and report."""

import string

import numpy as np
import pyarrow as pa

from pairstill.evaluation.system import System
from pairstill.tuples import Collection, Field, Labels, TupleSet

WORDS = ["nail", "screw", "lamp", "paint", "brush", "door", "window", "garden", "hose", "pump", "tile", "grout"]


def tuple_set(kind="graded", queries=30, per_query=6, fields=2, seed=0):
    """Queries of two words and products of four; the label grows with shared words. One label in the test split is missing."""
    rng = np.random.default_rng(seed)
    query_texts = [" ".join(rng.choice(WORDS, 2, replace=False)) for _ in range(queries)]
    product_texts = [" ".join(rng.choice(WORDS, 4, replace=False)) for _ in range(60)]
    columns = {name: [] for name in ("query", "product", "brand", "label", "group", "split", "length")}
    for query in range(queries):
        split = ("train", "test", "valid")[query % 3]
        for product in rng.choice(60, per_query, replace=False):
            shared = len(set(query_texts[query].split()) & set(product_texts[product].split()))
            noise = rng.random() < 0.15
            value = {
                "graded": (shared + noise) / 3,
                "binary": float((shared > 0) != noise),
                "classes": float(min(shared + noise, 2)),
                "none": None,
            }[kind]
            columns["query"].append(f"q {query}")
            columns["product"].append(f"p{product}")
            columns["brand"].append(f"p{(product + 1) % 60}")
            columns["label"].append(value)
            columns["group"].append(f"q {query}")
            columns["split"].append(split)
            columns["length"].append("long" if query % 2 else "short")
    missing = columns["split"].index("test")
    columns["label"][missing] = None
    names = ("query", "product", "brand")[:fields]
    table = {name: pa.array(columns[name], pa.string()) for name in (*names, "group", "split", "length")}
    table["label"] = pa.array(columns["label"], pa.float64())
    table["weight"] = pa.nulls(len(columns["label"]), pa.float64())
    labels = {
        "graded": Labels("graded", 1.0, 4.0), "binary": Labels("binary"), "none": Labels(),
        "classes": Labels("classes", classes=("no", "some", "much")),
    }[kind]  # fmt: skip
    collections = {
        "query": Collection(pa.array([f"q {k}" for k in range(queries)]), pa.array(query_texts)),
        "product": Collection(pa.array([f"p{k}" for k in range(60)]), pa.array(product_texts)),
    }
    return TupleSet(
        tuple(Field(name, "query" if name == "query" else "product") for name in names),
        labels, collections, pa.table(table), ("length",),
    )  # fmt: skip


def synthetic(tuples, name, role, noise, outputs=1, seeds=1, seed=0, **more):
    """A system whose logits are the labels and noise."""
    logits = {}
    for split, rows in tuples.items():
        rng = np.random.default_rng(seed)
        labels = np.nan_to_num(rows.labels, nan=0.3)
        target = labels[:, None] * 4 - 2 if outputs == 1 else 3.0 * (labels[:, None] == np.arange(outputs))
        logits[split] = np.stack([target + rng.normal(0, noise, target.shape) for _ in range(seeds)]).astype("float32")
    return System(name, role, logits, **more)


def tiny_base(folder):
    """A two-layer BERT of 32 dimensions with a vocabulary of the words and letters."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *string.ascii_lowercase]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(pieces))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(str(folder))
    import torch

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(str(folder))
    return folder


def tiny_student(name, base, **settings):
    """A student of an architecture from `tiny_base`."""
    import torch

    from pairstill.students.persistence import make_student, parse_config

    torch.manual_seed(1)
    length = settings.pop("max_lengths", (16,))
    return make_student(name, parse_config(name, {"encoder": {"base": str(base), "max_lengths": length}, **settings}))
