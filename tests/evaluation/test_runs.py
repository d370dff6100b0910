"""Metrics of runs against a plain transcription of their definitions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from pairstill.errors import InputError
from pairstill.evaluation.runs import Judgements, measure_run
from pairstill.metrics.base import Relevance
from pairstill.metrics.ranking import RankingMetric, parse_ranking_metric
from pairstill.retrieval.run import read_run, trec_name
from pairstill.tuples import TupleSet


def plain(run: dict[str, float], gains: dict[str, int], relevant: dict[str, int]) -> dict[str, float]:
    """nDCG@10, MRR@10, MAP@1000, Recall@1000 of one query, by loops."""
    order = sorted(run, key=lambda item: (run[item], item), reverse=True)
    discounted = sum(gains.get(item, 0) / math.log2(rank + 1) for rank, item in enumerate(order[:10], 1))
    ideal = sum(gain / math.log2(rank + 1) for rank, gain in enumerate(sorted(gains.values(), reverse=True)[:10], 1))
    first = next((rank for rank, item in enumerate(order[:10], 1) if relevant.get(item)), None)
    hits, total = 0, 0.0
    for rank, item in enumerate(order[:1000], 1):
        if relevant.get(item):
            hits += 1
            total += hits / rank
    count = sum(relevant.values())
    return {
        "nDCG@10": discounted / ideal, "MRR@10": 0.0 if first is None else 1 / first, "MAP@1000": total / count,
        "Recall@1000": hits / count,
    }  # fmt: skip


def test_metrics_are_their_definitions() -> None:
    generator = np.random.default_rng(0)
    gains, run = {}, {}
    for number in range(12):
        items = [f"d{one}" for one in generator.permutation(1500)[:1200]]
        run[f"q{number}"] = {item: float(generator.integers(0, 400)) for item in items}
        judged = generator.permutation(1500)[:40]
        gains[f"q{number}"] = {f"d{one}": int(generator.integers(0, 4)) for one in judged}
    relevant = {query: {item: int(grade >= 2) for item, grade in items.items()} for query, items in gains.items()}
    found = measure_run(run, Judgements(gains, relevant))
    for name in found.values:
        expected = {query: plain(run[query], gains[query], relevant[query])[name] for query in run}
        assert found.by_query[name] == pytest.approx(expected, abs=1e-9)
        assert found.values[name] == pytest.approx(np.mean(list(expected.values())))
    assert found.missing == 0
    assert 0 <= found.judged < 0.2


def test_labels_of_a_tuple_set_judge(tuple_set: TupleSet) -> None:
    found = Judgements.of_tuples(tuple_set, ["test"], 0, Relevance(1, 0.5))
    rows = tuple_set.tuples.to_pylist()
    expected: dict[str, dict[str, int]] = {}
    for row in rows:
        if row["split"] == "test":
            of_query = expected.setdefault(row["query"], {})
            of_query[row["item"]] = max(of_query.get(row["item"], 0), int(row["label"]))
    assert found.gains == expected
    assert found.relevant == expected
    turned = Judgements.of_tuples(tuple_set, ["test"], 1)
    assert all(turned.gains[item][query] == grade for query, items in expected.items() for item, grade in items.items())


def test_what_cannot_be_measured() -> None:
    judgements = Judgements({"q": {"d": 1}}, {"q": {"d": 0}})
    with pytest.raises(InputError, match=r"no query of the run has judgements\. Expected: ids such as 'q'"):
        measure_run({"other": {"d": 1.0}}, judgements)
    with pytest.raises(InputError, match=r"no query has a relevant item\. Lower --relevant-from"):
        measure_run({"q": {"d": 1.0}}, judgements)


def test_names_of_metrics() -> None:
    assert parse_ranking_metric("map@1000") == RankingMetric("MAP", 1000)
    assert parse_ranking_metric("MAP") == RankingMetric("MAP")
    assert parse_ranking_metric("recall") is None


def test_names_in_trec_files(tmp_path: Path) -> None:
    assert [trec_name(one) for one in ("a b", "ä\u2028", "", "a%b")] == ["a%20b", "ä%E2%80%A8", "%", "a%b"]
    (tmp_path / "run.trec").write_text("q Q0 a 1 2.5 x\nq Q0 b 2 -1 x\n\n")
    assert read_run(tmp_path / "run.trec") == {"q": {"a": 2.5, "b": -1.0}}
