"""An exported student: from start to first answer, memory, and one query beside many stored items.

    python benchmarks/runtime.py --exported runs/exported --threads 2

Items are random texts, encoded beforehand; what is timed is what a service pays per request.
"""

from __future__ import annotations

import time

BEGAN = time.perf_counter()

import argparse  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402

import numpy as np  # noqa: E402

from pairstill.machine import keep_freed_memory, memory_use  # noqa: E402
from pairstill.runtime import RuntimeStudent  # noqa: E402


def milliseconds(function: Callable[[], object], seconds: float) -> dict[str, float]:
    function()
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < 5:
        began = time.perf_counter()
        function()
        taken.append(1e3 * (time.perf_counter() - began))
    return {name: round(float(np.percentile(taken, part)), 3) for name, part in (("p50", 50), ("p95", 95), ("p99", 99))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exported", required=True)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--items", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--words", type=int, default=30, help="of an item")
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    arguments = parser.parse_args()
    keep_freed_memory()
    student = RuntimeStudent.open(arguments.exported, threads=arguments.threads)
    opened = time.perf_counter() - BEGAN
    query, text = "how long does a red running shoe last", "red running shoe with a white sole, size ten, for men"
    student.score_texts([(query, text)])
    first = time.perf_counter() - BEGAN
    found = {
        "student": student.name, "precision": student.precision, "opened_s": round(opened, 3), "first_answer_s": round(first, 3),
        "resident_mib": {name: round(size / 2**20, 1) for name, size in memory_use().items()},
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1),
        "one_pair_of_texts_ms": milliseconds(lambda: student.score_texts([(query, text)]), arguments.seconds),
        "encode_query_ms": milliseconds(lambda: student.encode(0, [query]), arguments.seconds),
    }  # fmt: skip
    words = [
        "red",
        "blue",
        "shoe",
        "hat",
        "long",
        "short",
        "men",
        "women",
        "size",
        "ten",
        "nine",
        "white",
        "black",
        "sole",
        "cotton",
        "wool",
        "for",
        "with",
        "and",
        "of",
        "the",
    ]
    generator = np.random.default_rng(0)
    asked = student.prepare(0, student.encode(0, [query]))
    for count in arguments.items:
        texts = [" ".join(generator.choice(words, arguments.words)) for _ in range(count)]
        stored = student.encode(1, texts)
        index = np.stack([np.zeros(count, np.int64), np.arange(count)], axis=1)
        prepared = student.prepare(1, stored)
        found[f"1 x {count}"] = {
            "prepare_ms": milliseconds(partial(student.prepare, 1, stored), arguments.seconds),
            "score_ms": milliseconds(partial(student.score, [asked, prepared], index), arguments.seconds),
        }  # fmt: skip
    found["resident_mib_after"] = {name: round(size / 2**20, 1) for name, size in memory_use().items()}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
