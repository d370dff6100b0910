from collections import Counter

import bm25s
import ir_measures
import numpy as np
import pytest

from evaluation_samples import synthetic, tiny_base, tuple_set
from pairstill.errors import InputError
from pairstill.evaluation.comparison import compare
from pairstill.evaluation.floors import (
    Bm25,
    bm25_scores,
    constant_logits,
    cosine_scores,
    floor_systems,
    overlap_scores,
)
from pairstill.evaluation.trec import document_names, group_names, write_all_qrels, write_run
from pairstill.metrics.base import Relevance
from pairstill.tokens.words import words


def test_bm25_agrees_with_bm25s():
    one = tuple_set()
    texts = one.texts(1)
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index([words(text) for text in texts], show_progress=False)
    scorer = Bm25.of(texts)
    for query in one.texts(0)[:5]:
        mine = [scorer.score(words(query), Counter(words(text))) for text in texts]
        assert mine == pytest.approx(index.get_scores(words(query)), rel=1e-5)
    rows = one.split("test")
    query, product = rows.index[7]
    expected = scorer.score(words(one.texts(0)[query]), Counter(words(texts[product])))
    assert bm25_scores(one, rows)[7] == pytest.approx(expected)


def test_word_overlap_folds_plurals():
    one = tuple_set()
    rows = one.split("test")
    for found, (query, product) in zip(overlap_scores(one, rows), rows.index, strict=True):
        wanted = set(one.texts(0)[query].split())
        assert found == len(wanted & set(one.texts(1)[product].split())) / 2


def test_constant_is_the_prior_of_training():
    one = tuple_set("binary")
    logits, text = constant_logits(one, 3)
    assert 1 / (1 + np.exp(-logits[0, 0])) == pytest.approx(np.nanmean(one.split("train").labels))
    assert "mean label" in text
    classes, _ = constant_logits(tuple_set("classes"), 2)
    assert np.exp(classes[0]).sum() == pytest.approx(1)
    no_train = one.with_tuples(one.tuples.take(one.split("test").rows), {})
    assert (constant_logits(no_train, 2)[0] == 0).all()


def test_cosine_of_the_untrained_base(tmp_path):
    one = tuple_set()
    rows = one.split("test")
    base = str(tiny_base(tmp_path / "base"))
    from pairstill.students.encoders.pretrained import MeanPooledEncoder

    encoder = MeanPooledEncoder(base, 16)
    query, product = rows.index[3]
    left, right = encoder.encode([one.texts(0)[query]]), encoder.encode([one.texts(1)[product]])
    assert cosine_scores(one, rows, base, 16)[3] == pytest.approx(float((left * right).sum()), abs=1e-5)
    systems, warnings = floor_systems(one, {"test": rows}, base, max_length=16)
    assert [system.name for system in systems] == ["BM25", "word overlap", "untrained cosine", "constant"]
    assert warnings == []
    systems, warnings = floor_systems(one, {"test": rows}, str(tmp_path / "nothing"))
    assert [system.name for system in systems] == ["BM25", "word overlap", "constant"]
    assert "'untrained cosine' is missing" in warnings[0]


def test_trec_files_give_the_same_metrics_elsewhere(tmp_path):
    one = tuple_set()
    rows = {"test": one.split("test")}
    system = synthetic(rows, "big", "teacher", 2.0)
    rounded = np.round(system.logits["test"], 0)
    system = type(system)("big", "teacher", {"test": rounded})
    found = compare(one, rows, [system], resamples=20).main.systems[0].metrics
    topics, documents = group_names(one, rows["test"]), document_names(one, rows["test"])
    write_run(tmp_path / "run", topics, documents, rounded[0, :, 0], "my system")
    gains, relevant = write_all_qrels(tmp_path, one, rows["test"], Relevance.of(one.labels), "test")
    run = list(ir_measures.read_trec_run(str(tmp_path / "run")))
    assert {item.query_id for item in run} == {f"q_{k}" for k in range(1, 30, 3)}
    kept = {item.query_id for item in ir_measures.read_trec_qrels(str(relevant)) if item.relevance}
    for path, name, measure in (
        (gains, "nDCG@10", ir_measures.nDCG @ 10), (relevant, "MRR@10", ir_measures.RR @ 10),
        (relevant, "MAP", ir_measures.AP),
    ):  # fmt: skip
        judged = [item for item in ir_measures.read_trec_qrels(str(path)) if name == "nDCG@10" or item.query_id in kept]
        values = [item.value for item in ir_measures.iter_calc([measure], judged, run)]
        judged_topics = {item.query_id for item in judged if item.relevance}
        assert sum(values) / len(judged_topics) == pytest.approx(found[name].value), name


def test_document_names_are_distinct_within_a_group():
    one = tuple_set()
    doubled = one.with_tuples(one.tuples.take(np.array([1, 1, 2])), {})
    every = document_names(doubled, doubled.split())
    assert len(set(every)) == 3
    assert all(" " not in name for name in every)


def test_a_base_that_is_no_folder_is_an_error_for_cosine(tmp_path):
    one = tuple_set()
    with pytest.raises(InputError, match="does not exist"):
        cosine_scores(one, one.split("test"), str(tmp_path / "nothing"))
