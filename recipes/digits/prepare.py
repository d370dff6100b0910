"""The 1,797 handwritten digits of scikit-learn, 64 numbers each, with the words for one right and four wrong digits."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def main(folder: Path) -> None:
    """Write `rows.parquet` and `items.parquet`; digits are split, so those of the test are new."""
    folder.mkdir(parents=True, exist_ok=True)
    digits, random = load_digits(), np.random.default_rng(0)
    count = len(digits.target)
    split = np.empty(count, dtype=object)
    order = random.permutation(count)
    split[order[:1200]], split[order[1200:1400]], split[order[1400:]] = "train", "valid", "test"
    rows = []
    for item, right in enumerate(digits.target):
        wrong = random.choice([one for one in range(10) if one != right], 4, replace=False)
        rows += [
            {"query": f"the digit {NAMES[one]}", "item": f"d{item}", "label": int(one == right), "split": split[item]}
            for one in (right, *wrong)
        ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    pixels = pa.array([one.astype(np.float32).tolist() for one in digits.data])
    pq.write_table(pa.table({"id": [f"d{one}" for one in range(count)], "pixels": pixels}), folder / "items.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
