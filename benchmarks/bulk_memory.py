"""Score random pairs from a store several times larger than the memory that the job's control group allows.

The store's items are those of a real one, repeated. Anonymous and mapped memory of the whole group are sampled from
`memory.stat` (control groups v1 or v2, which needs root), beside the bound that the job states.

    python benchmarks/bulk_memory.py --student STUDENT --query STORE --product STORE --folder /tmp/bulk-memory --limit-mib 1400 --out memory.json
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pairstill import __version__
from pairstill.files import read_json, write_json
from pairstill.machine import describe
from pairstill.store import RepresentationStore, write_store


def repeated_store(source: Path, folder: Path, items: int) -> RepresentationStore:
    store = RepresentationStore.open(source, checksums=False)
    block = store.gather(np.arange(min(len(store), 16_384)), widen=True)
    return write_store(
        folder, lambda start, stop: block.take(np.arange(start, stop) % len(block)), items,
        encoder_fingerprint=store.encoder_fingerprint, field=store.field, dtype=store.dtype, stride=store.manifest.stride,
        ids=pa.array([f"item-{number:08d}" for number in range(items)]),
    )  # fmt: skip


def drop_from_page_cache(folder: Path) -> None:
    """Pages that are cached already would count for whoever wrote them."""
    os.sync()
    for path in folder.iterdir():
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


class MemoryGroup:
    """A control group with a memory limit."""

    def __init__(self, limit_bytes: int) -> None:
        self.second = (Path("/sys/fs/cgroup") / "cgroup.controllers").exists()
        base = Path("/sys/fs/cgroup") if self.second else Path("/sys/fs/cgroup/memory")
        self.folder = base / f"pairstill-{os.getpid()}"
        self.folder.mkdir()
        (self.folder / ("memory.max" if self.second else "memory.limit_in_bytes")).write_text(str(limit_bytes))

    def read(self) -> dict[str, int]:
        values = dict(line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
        names = ("anon", "file_mapped", "file") if self.second else ("total_rss", "total_mapped_file", "total_cache")
        return dict(zip(("anonymous", "mapped", "page_cache"), (int(values[name]) for name in names), strict=True))

    def killed(self) -> int:
        file = "memory.events" if self.second else "memory.oom_control"
        return int(re.findall(r"oom_kill (\d+)", (self.folder / file).read_text())[0])

    def remove(self) -> None:
        """Once the last process, such as one that tracks shared memory, has left it."""
        for _ in range(100):
            if not (self.folder / "cgroup.procs").read_text().strip():
                break
            time.sleep(0.1)
        self.folder.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("student", "query", "product", "folder", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--items", type=int, default=1_200_000)
    parser.add_argument("--pairs", type=int, default=2_000_000)
    parser.add_argument("--limit-mib", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    large = repeated_store(options.product, options.folder / "product", options.items)
    store_bytes = sum(file.stat().st_size for file in large.folder.iterdir())
    queries = RepresentationStore.open(options.query, checksums=False).ids
    if queries is None or large.ids is None:
        raise SystemExit("the stores must have ids")
    drawn = pa.table({
        "query": queries.take(pa.array(random.integers(0, len(queries), options.pairs))),
        "product": large.ids.take(pa.array(random.integers(0, options.items, options.pairs))),
    })  # fmt: skip
    pq.write_table(drawn, options.folder / "pairs.parquet")
    del drawn, large
    drop_from_page_cache(options.folder / "product")
    group = MemoryGroup(options.limit_mib << 20)
    command = [
        sys.executable, "-m", "pairstill", "score", "--student", options.student, "--store", f"query={options.query}",
        "--store", f"product={options.folder / 'product'}", "--pairs", options.folder / "pairs.parquet", "--workers",
        options.workers, "--precision", "bfloat16", "--out", options.folder / "job",
    ]  # fmt: skip
    most = {"anonymous": 0, "mapped": 0, "page_cache": 0}
    began = time.perf_counter()
    inside = ["sh", "-c", f'echo $$ > {group.folder}/cgroup.procs; exec "$@"', "sh", *map(str, command)]
    with tempfile.TemporaryFile("w+") as log, subprocess.Popen(inside, stderr=log) as job:
        while job.poll() is None:
            most = {name: max(value, most[name]) for name, value in group.read().items()}
            time.sleep(0.1)
        log.seek(0)
        said = log.read()
    seconds, killed = time.perf_counter() - began, group.killed()
    group.remove()
    summary = read_json(options.folder / "job" / "summary.json") if job.returncode == 0 else {}
    write_json(
        options.out,
        {
            "benchmark": "bulk memory", "pairstill": __version__, "machine": describe(), "returncode": job.returncode,
            "killed_for_memory": killed, "limit_bytes": options.limit_mib << 20, "store_bytes": store_bytes,
            "most_bytes": most, "stated": [line for line in said.splitlines() if line.startswith("memory:")],
            "workers": options.workers, "pairs": options.pairs, "pairs_per_s": summary.get("pairs_per_s"),
            "bytes_read_of_stores": summary.get("bytes_read_of_stores"), "seconds": seconds,
        },
    )  # fmt: skip
    shutil.rmtree(options.folder)
    print(options.out.read_text())
    if job.returncode:
        sys.exit(said[-2000:])


if __name__ == "__main__":
    main()
