"""Tiny tuple sets, encoders and sources for the tests of mining."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pairstill.tuples import Collection, Field, Labels, TupleSet

WORDS = [f"w{number}" for number in range(12)]


class WordCounts:
    """An encoder whose vectors are normalised counts of a few words: no weights, and known similarities; `minus` takes one of each."""

    def encode(self, texts: Sequence[str], *, precision: str = "float32", progress: object = None) -> np.ndarray:
        counts = np.array(
            [[text.split().count(word) - text.split().count("minus") for word in WORDS] for text in texts],
            dtype=np.float32,
        )
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-6)


def positives(queries: int = 20, extra_passages: int = 30, seed: int = 0, **columns: list[str]) -> TupleSet:
    """One answer a query; passages without pairs; splits by turns: three train, one valid, one test."""
    generator = np.random.default_rng(seed)

    def texts(name: str, count: int, size: int) -> list[str]:
        return [" ".join([f"{name}{number}", *generator.choice(WORDS, size)]) for number in range(count)]

    query_ids = [f"q{number}" for number in range(queries)]
    passage_ids = [f"p{number}" for number in range(queries + extra_passages)]
    split = [["train", "train", "train", "valid", "test"][number % 5] for number in range(queries)]
    table = {
        "query": query_ids, "passage": passage_ids[:queries], "label": pa.array([1.0] * queries, pa.float64()),
        "weight": pa.nulls(queries, pa.float64()), "group": query_ids, "split": split, **columns,
    }  # fmt: skip
    return TupleSet(
        (Field("query", "query"), Field("passage", "passage")), Labels("binary"),
        {
            "query": Collection(pa.array(query_ids), pa.array(texts("ask", queries, 3))),
            "passage": Collection(pa.array(passage_ids), pa.array(texts("tell", len(passage_ids), 6))),
        },
        pa.table(table), tuple(columns),
    )  # fmt: skip


def write_sources(folder: Path, functions: int = 12) -> Path:
    """A package of documented functions, with things beside it that must not be read."""
    package = folder / "shop"
    for place in (package, folder / "tests", folder / "_private", folder / "venv" / "lib"):
        place.mkdir(parents=True)
    (folder / "venv" / "pyvenv.cfg").write_text("home = /usr\n")
    lines = [
        '"""Prices and stock of a little shop.\n\nEverything is kept in memory, and nothing is ever written to a disk; so tests are fast.\n"""\n'
    ]
    for number in range(functions):
        word = WORDS[number % len(WORDS)]
        lines.append(
            f'def helper_{number}(basket, price):\n    """Compute the {word} discount of basket variant {number}.\n\n'
            f"    The discount depends on the customer's history, the season and rule {number}.\n"
            f'    """\n    total = sum(item.price for item in basket)\n    return total * price * {number}\n\n'
        )
    (package / "__init__.py").write_text("\n".join(lines))
    unwanted = 'def never(a):\n    """This function must never be read by anyone.\n\n    Because of where it stands in the tree of folders, or because of its name, surely.\n    """\n    return a\n'
    for place in ("tests/helpers.py", "_private/module.py", "venv/lib/module.py", "shop/_hidden.py", "shop/test_it.py"):
        (folder / place).write_text(unwanted)
    (package / "broken.py").write_text('"""Broken."""\ndef oops(:\n')
    (package / "latin.py").write_bytes(b"# \xe9\n")
    return folder
