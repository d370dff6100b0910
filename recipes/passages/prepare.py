"""Questions and passages of three sets in one: fitted on WikiQA, MedQuAD and DL21, tested on DL19 and DL20.

Labels become grades from 0 to 1. Students are chosen on WikiQA's validation questions and every fourth query of DL21; MedQuAD's are
left out, because its negatives are too easy to choose by. The transfer set has no labels: of every training question of WikiQA and MedQuAD the top 20
of MS MARCO's passages by BM25, and the candidates of DL21 and DL22. Test are the first 100 passages by BM25 of DL19 and DL20;
the judgements are written apart, complete, in TREC's form, because many judged passages have no text here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import bm25s
import pyarrow as pa
import pyarrow.parquet as pq

DEPTH = 20
HELD_OUT = 4
TEST_DEPTH = 100


def main(data: Path, mined: Path, out: Path) -> None:
    """Write collections, tuples and judgements; `mined` is MedQuAD's tuple set with its negatives."""
    out.mkdir(parents=True, exist_ok=True)
    queries: dict[str, str] = {}
    passages: dict[str, str] = {}
    tuples: list[tuple[str, str, float | None, str, str]] = []

    def read(path: Path) -> list[dict[str, Any]]:
        return list(pq.read_table(path).to_pylist())

    wikiqa, trec = data / "wikiqa", data / "msmarco_trecdl"
    questions = {f"w-{row['query_id']}": row for row in read(wikiqa / "queries.parquet")}
    queries.update({key: row["query"] for key, row in questions.items()})
    passages.update({f"w-{row['passage_id']}": row["text"] for row in read(wikiqa / "passages.parquet")})
    for row in read(wikiqa / "labels.parquet"):
        if row["split"] != "test":
            tuples.append(
                (f"w-{row['query_id']}", f"w-{row['passage_id']}", float(row["label"]), row["split"], "wikiqa")
            )

    asked = [(key, row["query"]) for key, row in questions.items() if row["split"] == "train"]
    queries.update({f"m-{row['id']}": row["text"] for row in read(mined / "collection-query.parquet")})
    passages.update({f"m-{row['id']}": row["text"] for row in read(mined / "collection-passage.parquet")})
    seen = set()
    for row in read(mined / "tuples.parquet"):
        if row["split"] != "train":
            continue
        tuples.append((f"m-{row['query']}", f"m-{row['passage']}", float(row["label"]), "train", "medquad"))
        if row["query"] not in seen:
            seen.add(row["query"])
            asked.append((f"m-{row['query']}", queries[f"m-{row['query']}"]))

    trec_passages = read(trec / "passages.parquet")
    passages.update({f"d-{row['passage_id']}": row["text"] for row in trec_passages})
    queries.update({f"d-{row['query_id']}": row["query"] for row in read(trec / "queries.parquet")})
    candidates = read(trec / "candidates.parquet")
    held_out = set(sorted({row["query_id"] for row in candidates if row["track"] == "dl21"})[::HELD_OUT])
    for row in candidates:
        pair, grade = (f"d-{row['query_id']}", f"d-{row['passage_id']}"), row["relevance"]
        if row["track"] == "dl21" and grade is not None:
            tuples.append((*pair, grade / 3, "valid" if row["query_id"] in held_out else "train", "dl21"))
        elif row["track"] in ("dl21", "dl22"):
            if row["query_id"] not in held_out:
                tuples.append((*pair, None, "transfer", row["track"]))
        elif row["bm25_rank"] is not None and row["bm25_rank"] <= TEST_DEPTH:
            tuples.append((*pair, (grade or 0) / 3, "test", row["track"]))

    # MedQuAD asks of one disease in the same words; of equal questions one retrieves.
    asked = list({text.lower(): (key, text) for key, text in reversed(asked)}.values())[::-1]
    index = bm25s.BM25()
    index.index(bm25s.tokenize([row["text"] for row in trec_passages], show_progress=False), show_progress=False)
    found, _ = index.retrieve(
        bm25s.tokenize([text for _, text in asked], show_progress=False), k=DEPTH, show_progress=False
    )
    for (key, _), rows in zip(asked, found, strict=True):
        tuples += [(key, f"d-{trec_passages[row]['passage_id']}", None, "transfer", "bm25") for row in rows]

    names = ("query", "passage", "grade", "split", "source")
    columns = [pa.array(column) for column in zip(*tuples, strict=True)]
    pq.write_table(pa.table(columns, names=list(names)), out / "tuples.parquet")
    for name, texts in (("queries", queries), ("passages", passages)):
        pq.write_table(pa.table({"id": list(texts), "text": list(texts.values())}), out / f"{name}.parquet")
    for track in ("dl19", "dl20"):
        judged = [row for row in read(trec / "qrels.parquet") if row["track"] == track]
        lines = [f"d-{row['query_id']} 0 d-{row['passage_id']} {row['relevance']}\n" for row in judged]
        (out / f"qrels.{track}.txt").write_text("".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
