"""SST-2's labelled phrases, and the sentences of film and shop reviews as a transfer set without labels.

SST-2's words are the Penn Treebank's: `is n't`, `good ,`, `` `` `` and `''` for quotes. Sentences of reviews are split in the same
way, or most of their words next to a mark would be other n-grams than SST-2's.
"""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
WORDS = (3, 60)
TREEBANK = [
    (re.compile(pattern, re.IGNORECASE), spaced)
    for pattern, spaced in (
        (r"[\u2018\u2019]", "'"),
        (r"[\u201c\u201d]", '"'),
        (r"(?<![^\s(\[{-])\"", " `` "),
        (r"\"", " '' "),
        (r"\.{2,}|\u2026", " ... "),
        (r"-{2,}|[\u2013\u2014]", " -- "),
        (r"[,:](?!\d)|[;?!()\[\]{}&$%]", r" \g<0> "),
        (r"(?<=[^\s.])\.(?=[\s')]*$)", " ."),
        (r"(?<=\w)n't\b|(?<=\w)'(?:s|re|ve|ll|d|m)\b", r" \g<0>"),
        (r"\bcan(?=not\b)", "can "),
        (r"(?<=\w)'(?=\s|$)", " ' "),
        (r"(?<!\S)'(?=[a-z]{3})", " ` "),
    )
]


def as_treebank(text: str) -> str:
    """Words and marks as the Penn Treebank separates them, with single spaces between."""
    for pattern, spaced in TREEBANK:
        text = pattern.sub(spaced, text)
    return " ".join(text.split())


def sentences(text: str) -> list[str]:
    """Pieces between sentence ends and line breaks, of 3 to 60 words and marks."""
    pieces = map(as_treebank, END.split(text))
    return [piece for piece in pieces if WORDS[0] <= len(piece.split()) <= WORDS[1]]


def main(data: Path, out: Path) -> None:
    """Write `tuples.parquet` (id, text, label, split); equal sentences come once, and none that SST-2 has."""
    out.mkdir(parents=True, exist_ok=True)
    labelled = pq.read_table(data / "sst2.parquet", columns=["text_id", "text", "label", "split"]).to_pylist()
    transfer: list[tuple[str, str, float | None, str]] = []
    rows: list[tuple[str, str, float | None, str]] = [
        (f"s-{row['text_id']}", row["text"], float(row["label"]), row["split"]) for row in labelled
    ]
    seen = {row["text"].strip().lower() for row in labelled}
    for file in ("imdb_unlabelled", "imdb", "amazon_mds"):
        columns = ["review_id", "text", "split"]
        for review in pq.read_table(data / f"{file}.parquet", columns=columns).to_pylist():
            if review["split"] in ("valid", "test"):
                continue
            for number, sentence in enumerate(sentences(review["text"])):
                if (key := sentence.lower()) not in seen:
                    seen.add(key)
                    transfer.append((f"{file}-{review['review_id']}-{number}", sentence, None, "transfer"))
    # The first so many of them are a sample, whatever the number.
    random.Random(0).shuffle(transfer)
    rows += transfer
    names = ["id", "text", "label", "split"]
    pq.write_table(
        pa.table([pa.array(column) for column in zip(*rows, strict=True)], names=names), out / "tuples.parquet"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
