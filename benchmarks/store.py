"""How fast a representation store opens, finds ids and gathers random rows, beside `np.take` on an array in memory.

Gathering and its rivals take turns on random rows, and the median of the repeats counts. The store's pages are in
the page cache and mapped (a pass over all rows comes first), as they are after the first seconds of a job. Opening is
measured warm, and cold, with the pages of its files dropped from the page cache.

    python benchmarks/store.py --folder /tmp/store-benchmark --out runs/benchmarks/store.json
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pairstill import __version__
from pairstill.files import write_json
from pairstill.machine import describe, set_threads
from pairstill.representation import Representation
from pairstill.store import RepresentationStore, StoreWriter


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = function()
    return time.perf_counter() - began, result


def drop_from_cache(folder: Path) -> None:
    for path in folder.glob("*.*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def write(
    folder: Path, rows: int, tokens: int, dim: int, dtype: str, shard_rows: int, ids: bool
) -> tuple[float, RepresentationStore]:
    pattern = np.random.default_rng(0).normal(size=(4096, tokens, dim)).astype(np.float32)

    def run() -> RepresentationStore:
        with StoreWriter(
            folder, encoder_fingerprint="benchmark", field="item", dtype=dtype, shard_rows=shard_rows
        ) as writer:
            while writer.rows < rows:
                part = pattern[: min(4096, rows - writer.rows)]
                writer.append(Representation(part, np.full(len(part), tokens)))
            names = [f"product-{number * 7919 % rows:08d}" for number in range(rows)] if ids else None
            return writer.finish(names)

    return timed(run)


def measure_opening(folder: Path, rows: int, finds: int) -> dict[str, Any]:
    """Many small items with ids: one 8-bit vector of 32 each."""
    seconds, _ = write(folder, rows, 1, 32, "int8", 65_536, ids=True)
    os.sync()
    cold = []
    for _ in range(5):
        drop_from_cache(folder)
        cold.append(timed(lambda: RepresentationStore.open(folder, "benchmark", checksums=False))[0])
    warm = [timed(lambda: RepresentationStore.open(folder, "benchmark", checksums=False))[0] for _ in range(5)]
    store = RepresentationStore.open(folder, "benchmark", checksums=False)
    asked = [f"product-{number:08d}" for number in np.random.default_rng(1).integers(0, rows, finds)]
    first, found = timed(lambda: store.find(asked))
    again = [timed(lambda: store.find(asked))[0] for _ in range(3)]
    if store.ids_at(found[:1000]).to_pylist() != asked[:1000]:
        raise SystemExit("find returned other items")
    index = (folder / "ids-00000.safetensors").stat().st_size
    id_bytes = rows * (16 + 8)  # 16 characters, and where each id ends
    return {
        "items": rows,
        "shards": len(store.manifest.shards),
        "write_s": round(seconds, 2),
        "open_cold_s": round(statistics.median(cold), 4),
        "open_warm_s": round(statistics.median(warm), 4),
        "index_bytes_per_item": round((index - id_bytes) / rows, 3),
        "id_bytes_per_item": id_bytes / rows,
        "item_bytes": store.bytes_per_item(),
        "finds": finds,
        "first_finds_per_s": round(finds / first),
        "finds_per_s": round(finds / statistics.median(again)),
    }


def measure_gathering(folder: Path, gigabytes: float, batch: int, repeats: int) -> list[dict[str, Any]]:
    """Items of DiPair's product side: 12 vectors of 128."""
    results = []
    for dtype, shard_rows in (("float32", 16_384), ("float32", 10_001), ("bfloat16", 16_384), ("int8", 16_384)):
        item = 12 * 128 * {"float32": 4, "bfloat16": 2, "int8": 1}[dtype]
        rows = int(gigabytes * 1e9 / item)
        seconds, store = write(folder, rows, 12, 128, dtype, shard_rows, ids=False)
        os.sync()
        stored = {"float32": np.float32, "bfloat16": np.uint16, "int8": np.int8}[dtype]
        memory = np.empty((rows, 12, 128), stored)
        for start in range(0, rows, batch):
            memory[start : start + batch] = store.gather(np.arange(start, min(start + batch, rows))).vectors
        random = np.random.default_rng(2)
        out = np.empty((batch, 12, 128), stored)
        ways: dict[str, Callable[[np.ndarray], Any]] = {
            "np_take": lambda wanted: np.take(memory, wanted, axis=0),  # noqa: B023
            "np_take_into_warm_memory": lambda wanted: np.take(memory, wanted, axis=0, out=out, mode="clip"),  # noqa: B023
            "gather": lambda wanted: store.gather(wanted),  # noqa: B023
            "gather_tensors": lambda wanted: store.gather_tensors(wanted),  # noqa: B023
            "gather_widened": lambda wanted: store.gather_tensors(wanted, dtype=torch.float32),  # noqa: B023
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                # Rows of their own: the processor's cache would serve whoever comes second.
                wanted = random.integers(0, rows, batch)
                times[name].append(timed(lambda: way(wanted))[0])  # noqa: B023
        medians = {name: statistics.median(found) for name, found in times.items()}
        results.append(
            {
                "dtype": dtype,
                "items": rows,
                "shard_rows": shard_rows,
                "shards": len(store.manifest.shards),
                "write_megabytes_per_s": round(rows * item / seconds / 1e6),
                "batch": batch,
                "rows_per_s": {name: round(batch / found) for name, found in medians.items()},
                "gigabytes_per_s": {name: round(batch * item / found / 1e9, 2) for name, found in medians.items()},
                "gather_of_np_take": round(medians["np_take"] / medians["gather"], 3),
            }
        )
        shutil.rmtree(folder)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the stores; must not exist, is removed")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--finds", type=int, default=1_000_000)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.folder.exists():
        raise SystemExit(f"{options.folder} exists")
    set_threads(options.threads)
    try:
        result = {
            "pairstill": __version__,
            "machine": describe(),
            "opening": measure_opening(options.folder / "small", options.items, options.finds),
            "gathering": measure_gathering(options.folder / "large", options.gigabytes, options.batch, options.repeats),
        }
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
