"""Training speed of BERT2DNN with its table updated row by row, against dense gradients of the whole table, same run.

Same made texts (4 and 12 words on average), batch size, precision, vocabulary and network (1024-512-128-64); the two forms in turn.

    python benchmarks/bert2dnn_training.py --batch-size 1024 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from ngram_extraction import made_texts

from pairstill.losses import DistillationLoss
from pairstill.machine import best_precision, describe, set_threads, use_huge_pages
from pairstill.students import BERT2DNN
from pairstill.students.persistence import make_student, parse_config
from pairstill.training.data import TrainingData, corpus_of
from pairstill.training.loop import fit
from pairstill.training.settings import TrainingSettings
from pairstill.training.sources import TokenSource, token_sources
from pairstill.tuples import Collection, Field, Labels, TupleSet


def made_tuples(items: int, rows: int) -> TupleSet:
    random = np.random.default_rng(0)
    names = [f"{number}" for number in range(items)]
    texts = {"query": made_texts(items, 4, 1), "product": made_texts(items, 12, 2)}
    columns = {name: pa.array([names[one] for one in random.integers(0, items, rows)]) for name in texts}
    more = {"label": random.integers(0, 2, rows).astype(float), "weight": np.ones(rows), "split": ["train"] * rows}
    return TupleSet(
        fields=tuple(Field(name, name) for name in texts),
        labels=Labels("binary"),
        collections={name: Collection(pa.array(names), pa.array(held)) for name, held in texts.items()},
        tuples=pa.table({**columns, **more, "group": columns["query"]}),
    )


def rate(
    student: BERT2DNN, tuple_set: TupleSet, sources: list[TokenSource], settings: TrainingSettings, by_row: bool
) -> float:
    """Rows a second of the training loop; reading tokens before it and writing weights after it are outside."""
    for encoder in student.encoders:
        encoder.table.sparse = by_row  # type: ignore[union-attr]
    data = TrainingData(tuple_set.split("train"))
    with tempfile.TemporaryDirectory() as folder:
        found = fit(student, sources, data, DistillationLoss(hard_weight=1.0), settings, Path(folder))
        return found.pairs / found.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--dense-steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=60_000)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--average-decay", type=float, default=0.995)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    arguments = parser.parse_args()
    threads = set_threads(arguments.threads)
    use_huge_pages()  # as `distill` does
    tuple_set = made_tuples(arguments.items, 4 * arguments.items)
    torch.manual_seed(0)
    student = make_student(
        "bert2dnn",
        parse_config("bert2dnn", {"encoder": {"minimum_count": 1}}),
        corpus_of(tuple_set, tuple_set.split("train")),
    )
    assert isinstance(student, BERT2DNN)
    sources = token_sources(student, tuple_set)
    results = {}
    for precision in arguments.precisions:
        if precision == "bfloat16" and best_precision() != "bfloat16":
            continue
        settings = {
            by_row: TrainingSettings(
                pairs=steps * arguments.batch_size, batch_size=arguments.batch_size, learning_rate=1e-4, precision=precision,
                average_decay=arguments.average_decay or None, checkpoint_every_s=1e9,
            )
            for by_row, steps in ((True, arguments.steps), (False, arguments.dense_steps))
        }  # fmt: skip
        found: dict[bool, list[float]] = {True: [], False: []}
        for number in range(arguments.rounds + 1):
            for by_row, rates in found.items():
                one = rate(student, tuple_set, sources, settings[by_row], by_row)
                rates.extend([one] if number else [])
        results[precision] = {
            "by_row_rows_per_s": round(statistics.median(found[True])),
            "by_row_slowest": round(min(found[True])),
            "dense_rows_per_s": round(statistics.median(found[False])),
            "ratio": round(statistics.median(a / b for a, b in zip(found[True], found[False], strict=True)), 1),
        }
    ngrams = [float(one.tokens.lengths.mean()) for one in sources]
    print(
        json.dumps(
            {
                "machine": describe(),
                "used_threads": threads,
                "entries": len(student.tokenizer),
                "ngrams_per_text": ngrams,
                **vars(arguments),
                **results,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
