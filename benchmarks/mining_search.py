"""Exact search of 1,000 queries among a million random 384-wide vectors on disk: seconds and peak memory.

Run: python benchmarks/mining_search.py [PASSAGES] [QUERIES]
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from pairstill.mining.neighbours import Blocks, nearest_by_dot


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def anonymous_mib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon"))


def main(passages: int = 1_000_000, queries: int = 1_000) -> None:
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        parts = []
        for start in range(0, passages, 4096):
            rows = generator.standard_normal((min(4096, passages - start), 384), dtype=np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            path = Path(folder, f"{start}.npy")
            np.save(path, rows.astype(np.float16))
            parts.append(np.load(path, mmap_mode="r"))
        asked = generator.standard_normal((queries, 384), dtype=np.float32)
        nearest_by_dot(asked[:2], parts[0][:64], 3)  # loads what is loaded once
        print(f"before: peak {peak_mib()} MiB")
        worst = [0]
        began = time.perf_counter()
        nearest_by_dot(asked, Blocks(parts), 50, progress=lambda *_: worst.append(anonymous_mib()))
        print(
            f"{time.perf_counter() - began:.1f} s, peak {peak_mib()} MiB with mapped pages, {max(worst)} MiB of its own"
        )


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:]))
