"""The sentences of film and shop reviews, and pairs of neighbours in one review to learn a search from."""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
WORDS = (3, 60)
FILES = ("imdb_unlabelled", "imdb", "amazon_mds")
STRANGERS = 9
PAIRS = {"train": 200_000, "valid": 2_000, "test": 2_000}


def sentences(text: str) -> list[str]:
    """Pieces between sentence ends and line breaks, of 3 to 60 words."""
    pieces = (" ".join(piece.split()) for piece in END.split(text))
    return [piece for piece in pieces if WORDS[0] <= len(piece.split()) <= WORDS[1]]


def main(data: Path, out: Path) -> None:
    """Write `sentences.parquet` (id, text), equal ones once, and `pairs.parquet` (query, item, label, split): a sentence and the one
    that follows it; outside the training split also nine sentences that do not."""
    out.mkdir(parents=True, exist_ok=True)
    ids: dict[str, str] = {}
    texts: list[str] = []
    neighbours: list[tuple[str, str]] = []
    for file in FILES:
        for review in pq.read_table(data / f"{file}.parquet", columns=["review_id", "text"]).to_pylist():
            before = None
            for number, sentence in enumerate(sentences(review["text"])):
                key = sentence.lower()
                if key not in ids:
                    ids[key] = f"{file}-{review['review_id']}-{number}"
                    texts.append(sentence)
                if before is not None and before != ids[key]:
                    neighbours.append((before, ids[key]))
                before = ids[key]
    pq.write_table(pa.table({"id": list(ids.values()), "text": texts}), out / "sentences.parquet")
    # Queries are asked once, so that no two splits share one.
    chance, known = random.Random(0), list(ids.values())
    chance.shuffle(neighbours)
    asked: set[str] = set()
    rows: list[tuple[str, str, float, str]] = []
    splits = iter([split for split, count in PAIRS.items() for _ in range(count)])
    for query, item in neighbours:
        if query in asked:
            continue
        if (split := next(splits, None)) is None:
            break
        asked.add(query)
        rows.append((query, item, 1.0, split))
        if split != "train":
            others = (known[chance.randrange(len(known))] for _ in range(STRANGERS))
            rows += [(query, other, 0.0, split) for other in dict.fromkeys(others) if other not in (query, item)]
    names = ["query", "item", "label", "split"]
    pq.write_table(pa.table([pa.array(one) for one in zip(*rows, strict=True)], names=names), out / "pairs.parquet")
    print(f"{len(texts):,} sentences, {len(neighbours):,} neighbours")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
