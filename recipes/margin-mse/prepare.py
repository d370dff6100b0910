"""WikiQA in the files that MS MARCO is published in: collection, queries, triples, judgements and a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as pq


def main(data: Path, out: Path) -> None:
    """Write the files; candidates of a question that has no answer make no triple and are left out of the test run."""
    out.mkdir(parents=True, exist_ok=True)
    for name, file, key, text in (
        ("queries", "queries", "query_id", "query"),
        ("collection", "passages", "passage_id", "text"),
    ):
        rows = pq.read_table(data / f"{file}.parquet", columns=[key, text]).to_pylist()
        (out / f"{name}.tsv").write_text("".join(f"{row[key]}\t{row[text]}\n" for row in rows))
    candidates: dict[str, dict[str, list[tuple[str, int, int]]]] = {"train": {}, "valid": {}, "test": {}}
    for row in pq.read_table(data / "labels.parquet").to_pylist():
        found = candidates[row["split"]].setdefault(row["query_id"], [])
        found.append((row["passage_id"], row["label"], row["sentence_no"]))
    for split in ("train", "valid"):
        lines = [
            f"{query}\t{positive}\t{negative}\n"
            for query, found in candidates[split].items()
            for positive, good, _ in found
            for negative, bad, _ in found
            if good and not bad
        ]
        (out / f"triples.{split}.tsv").write_text("".join(lines))
    answered = {query: found for query, found in candidates["test"].items() if any(label for _, label, _ in found)}
    (out / "qrels.test.txt").write_text(
        "".join(f"{query} 0 {one} {label}\n" for query, found in answered.items() for one, label, _ in found)
    )
    (out / "run.test.txt").write_text(
        "".join(
            f"{query} Q0 {one} {number + 1} {-number} page-order\n"
            for query, found in answered.items()
            for one, _, number in found
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
