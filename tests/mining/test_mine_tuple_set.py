from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mining_samples import WORDS, WordCounts, positives
from pairstill.errors import ArtefactError, InputError
from pairstill.mining import MiningSettings, mine_tuple_set
from pairstill.mining.embeddings import write_embeddings
from pairstill.tuples import Collection, Field, Labels, TupleSet

SETTINGS = MiningSettings(neighbours=8, transfer=5)


def mine(tuple_set: TupleSet, settings: MiningSettings = SETTINGS) -> TupleSet:
    return mine_tuple_set(tuple_set, settings, encoder=WordCounts())


def pairs_of(tuple_set: TupleSet, *splits: str, label: float | None = None) -> list[tuple[str, str]]:
    rows = tuple_set.tuples.to_pylist()
    return [
        (row["query"], row["passage"]) for row in rows
        if row["split"] in splits and (label is None or row["label"] == label)
    ]  # fmt: skip


def with_table(tuple_set: TupleSet, name: str, values: pa.Array) -> TupleSet:
    table = tuple_set.tuples
    return replace(tuple_set, tuples=table.set_column(table.column_names.index(name), name, values))


def with_passages(tuple_set: TupleSet, texts: dict[int, str]) -> TupleSet:
    old = tuple_set.collections["passage"]
    new = [texts.get(number, text) for number, text in enumerate(old.text_list)]
    return replace(tuple_set, collections={**tuple_set.collections, "passage": Collection(old.ids, pa.array(new))})


def test_as_many_negatives_as_positives_and_never_a_known_pair() -> None:
    given = positives()
    mined = mine(given)
    known = set(pairs_of(given, "train", "valid", "test"))
    for split, count in (("train", 12), ("valid", 4), ("test", 4)):
        negatives = pairs_of(mined, split, label=0.0)
        assert len(negatives) == count
        assert not set(negatives) & known
        assert {query for query, _ in negatives} == {query for query, _ in pairs_of(given, split)}
    assert mined.labels == Labels("binary")
    assert mined.tuples.slice(0, len(given)).drop_columns(["similarity"]).equals(given.tuples)


def test_negatives_are_among_the_nearest_and_below_the_ceiling() -> None:
    given = positives()
    mined = mine(given, replace(SETTINGS, ceiling=0.6))
    encoder = WordCounts()
    similarities = encoder.encode(given.texts(0)) @ encoder.encode(given.texts(1)).T
    rows = mined.split("train", "valid", "test")
    for (query, passage), label in zip(rows.index, rows.labels, strict=True):
        if label == 0:
            assert similarities[query, passage] < 0.6
            assert (similarities[query] > similarities[query, passage] + 1e-3).sum() < SETTINGS.neighbours
    kept = mined.tuples.column("similarity").to_numpy()[: len(given)]
    np.testing.assert_allclose(kept, similarities[given.index[:, 0], given.index[:, 1]], atol=2e-3)
    assert mined.provenance["mining"]["counts"]["negatives"] > 0


def test_a_quantile_ceiling_comes_from_the_training_queries() -> None:
    given = positives(queries=50)
    half = mine(given, replace(SETTINGS, ceiling_quantile=0.5, negatives_per_positive=8.0, transfer=0))
    ceiling = half.provenance["mining"]["ceiling_used"]
    everything = mine(given, replace(SETTINGS, negatives_per_positive=8.0, transfer=0))
    training = everything.split("train")
    similarity = everything.tuples.column("similarity").to_numpy()[training.rows][training.labels == 0]
    assert ceiling == pytest.approx(np.quantile(similarity, 0.5))


def test_queries_without_a_negative_are_counted() -> None:
    counts = mine(positives(), replace(SETTINGS, ceiling=0.55)).provenance["mining"]["counts"]
    assert counts["queries without a negative"] > 0
    assert counts["negatives"] == counts["queries with positives"] - counts["queries without a negative"]


def test_texts_count_not_ids() -> None:
    given = positives(queries=10, extra_passages=5)
    answer = given.texts(1)[0]
    twin = with_passages(given, {12: answer.upper().replace(" ", "  "), 13: given.texts(0)[1]})
    settings = MiningSettings(neighbours=14, transfer=0, negatives_per_positive=20)
    mined = mine(twin, settings)
    assert ("q0", "p12") not in pairs_of(mined, "train")
    assert ("q1", "p13") not in pairs_of(mined, "train")
    others = [passage for query, passage in pairs_of(mined, "train") if query == "q2"]
    assert len({"p0", "p12"} & set(others)) == 1


def test_equal_questions_share_their_answers() -> None:
    given = positives(queries=10, extra_passages=5)
    texts = given.texts(0).copy()
    texts[1] = f" {texts[0].upper()}"
    queries = Collection(given.collections["query"].ids, pa.array(texts))
    given = replace(given, collections={**given.collections, "query": queries})
    mined = mine(given, MiningSettings(neighbours=14, transfer=0, negatives_per_positive=20))
    found = pairs_of(mined, "train", label=0.0)
    assert ("q0", "p1") not in found
    assert ("q1", "p0") not in found


def test_transfer_is_new_unlabelled_and_of_training_queries() -> None:
    mined = mine(positives())
    transfer = pairs_of(mined, "transfer")
    labelled = set(pairs_of(mined, "train", "valid", "test"))
    assert transfer
    assert not set(transfer) & labelled
    assert len(set(transfer)) == len(transfer)
    assert {query for query, _ in transfer} <= {query for query, _ in pairs_of(mined, "train")}
    assert np.isnan(mined.split("transfer").labels).all()


def test_a_training_query_with_the_text_of_a_test_query_gets_no_transfer_pair() -> None:
    given = positives(queries=10)
    texts = given.texts(0).copy()
    texts[0] = texts[4].upper()
    queries = Collection(given.collections["query"].ids, pa.array(texts))
    mined = mine(replace(given, collections={**given.collections, "query": queries}))
    assert "q0" not in {query for query, _ in pairs_of(mined, "transfer")}


def test_the_cap_keeps_a_subset_in_order() -> None:
    whole, some = (pairs_of(mine(positives(), replace(SETTINGS, transfer_pairs=cap)), "transfer") for cap in (None, 10))
    assert len(some) == 10
    assert some == [pair for pair in whole if pair in set(some)]


def test_what_is_drawn_does_not_depend_on_the_order_of_rows_or_passages() -> None:
    # One passage is the last of every query, and all others are neighbours, so that ties at the edge play no part.
    given = with_passages(positives(), {49: "minus"})
    order = np.random.default_rng(1).permutation(len(given))
    passages = given.collections["passage"]
    shuffle = pa.array(np.random.default_rng(2).permutation(len(passages)))
    moved = Collection(passages.ids.take(shuffle), passages.texts.take(shuffle))
    other = replace(
        given, tuples=given.tuples.take(pa.array(order)), collections={**given.collections, "passage": moved}
    )
    settings = MiningSettings(neighbours=49, transfer=50, transfer_pairs=100)
    first, second = mine(given, settings), mine(other, settings)
    for split in ("train", "valid", "test", "transfer"):
        assert sorted(pairs_of(first, split)) == sorted(pairs_of(second, split))
    assert mine(given, settings).fingerprint == first.fingerprint
    assert mine(given, replace(settings, seed=1)).fingerprint != first.fingerprint


def test_slices_and_groups_go_down_to_mined_rows() -> None:
    mined = mine(positives(topic=[f"topic{number % 3}" for number in range(20)]))
    by_query = {row["query"]: row for row in mined.tuples.slice(0, 20).to_pylist()}
    for row in mined.tuples.to_pylist():
        assert row["topic"] == by_query[row["query"]]["topic"]
        assert row["group"] == row["query"]


def test_rows_without_labels_are_positives() -> None:
    given = with_table(replace(positives(), labels=Labels()), "label", pa.nulls(20, pa.float64()))
    mined = mine(given)
    assert mined.labels == Labels("binary")
    assert mined.tuples.column("label").to_pylist()[:20] == [1.0] * 20


def test_given_negatives_stay_and_are_not_mined_again() -> None:
    given = positives()
    extra = given.tuples.slice(0, 1).set_column(1, "passage", pa.array(["p30"]))
    extra = extra.set_column(2, "label", pa.array([0.0]))
    given = replace(given, tuples=pa.concat_tables([given.tuples, extra]))
    mined = mine(given, MiningSettings(neighbours=49, transfer=0, negatives_per_positive=49))
    assert pairs_of(mined, "train", label=0.0).count(("q0", "p30")) == 1


def test_graded_labels_get_a_transfer_set_alone() -> None:
    given = replace(positives(), labels=Labels("graded", 1.0, 3.0))
    mined = mine(given, replace(SETTINGS, negatives_per_positive=0))
    assert mined.labels.kind == "graded"
    assert not set(pairs_of(mined, "transfer")) & set(pairs_of(mined, "train", "valid", "test"))
    with pytest.raises(InputError, match="graded labels, and a mined negative has none"):
        mine(given)


def test_bm25_and_a_shared_collection() -> None:
    given = positives()
    mined = mine_tuple_set(given, replace(SETTINGS, by="bm25"))
    assert pairs_of(mined, "test", label=0.0)
    texts = Collection(
        pa.array([f"t{n}" for n in range(40)]),
        pa.array([" ".join([*WORDS[n % 7 : n % 7 + 4], f"x{n}"]) for n in range(40)]),
    )
    table = pa.table({
        "left": [f"t{n}" for n in range(10)], "right": [f"t{n + 20}" for n in range(10)], "label": [1.0] * 10,
        "weight": pa.nulls(10, pa.float64()), "group": [f"t{n}" for n in range(10)], "split": ["train"] * 10,
    })  # fmt: skip
    shared = TupleSet((Field("left", "text"), Field("right", "text")), Labels("binary"), {"text": texts}, table)
    mined = mine(shared, MiningSettings(neighbours=20, negatives_per_positive=20, transfer=0))
    assert all(row["left"] != row["right"] for row in mined.tuples.to_pylist())


def test_fields_can_be_named_the_other_way_round() -> None:
    mined = mine(positives(), replace(SETTINGS, query_field="passage", neighbours=6))
    assert {row["passage"] for row in mined.tuples.to_pylist()} == {f"p{number}" for number in range(20)}


def test_a_mined_set_is_saved_and_mined_again(tmp_path: Path) -> None:
    mined = mine(positives())
    mined.save(tmp_path)
    loaded = TupleSet.load(tmp_path)
    assert loaded.fingerprint == mined.fingerprint
    again = mine(loaded, replace(SETTINGS, negatives_per_positive=2.0))
    assert len(pairs_of(again, "train", label=0.0)) > len(pairs_of(mined, "train", label=0.0))


def test_vectors_are_taken_up_again(tmp_path: Path) -> None:
    class Counting(WordCounts):
        calls = 0

        def encode(self, texts, *, precision="float32", progress=None):  # type: ignore[no-untyped-def]
            Counting.calls += 1
            return super().encode(texts, precision=precision)

    first = mine_tuple_set(positives(), SETTINGS, work=tmp_path, encoder=Counting())
    calls = Counting.calls
    second = mine_tuple_set(positives(), replace(SETTINGS, seed=0), work=tmp_path, encoder=Counting())
    assert Counting.calls == calls
    assert first.fingerprint == second.fingerprint
    mine_tuple_set(positives(seed=1), SETTINGS, work=tmp_path, encoder=Counting())
    assert Counting.calls > calls


def test_damaged_vectors_are_refused(tmp_path: Path) -> None:
    write_embeddings(tmp_path, ["sort a list"], WordCounts(), {})
    path = next(tmp_path.glob("*/*.npy"))
    path.write_bytes(path.read_bytes()[:-8] + b"\x11" * 8)
    with pytest.raises(ArtefactError):
        write_embeddings(tmp_path, ["sort a list"], WordCounts(), {})


THREE = replace(positives(), fields=(Field("query", "query"), Field("passage", "passage"), Field("also", "passage")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"by": "magic"}, "mining by 'magic' is unknown"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"neighbours": 50}, "there are 50 passages and 50 neighbours are asked for"),
        ({"transfer": -1}, "transfer is -1"),
        ({"transfer_pairs": 0}, "transfer_pairs is 0"),
        ({"max_length": 2}, "max_length is 2"),
        ({"negatives_per_positive": -1.0}, "negatives_per_positive is -1"),
        ({"negatives_per_positive": float("nan")}, "negatives_per_positive is nan"),
        ({"ceiling": 0.5, "ceiling_quantile": 0.5}, "both a ceiling and a ceiling quantile"),
        ({"ceiling": float("nan")}, "the ceiling is not a number"),
        ({"ceiling": -0.5}, "no candidate has a similarity below the ceiling -0.5"),
        ({"ceiling_quantile": 0.0}, "the ceiling quantile is 0"),
        ({"negatives_per_positive": 0.0, "transfer": 0}, "neither negatives nor transfer pairs"),
        ({"transfer_splits": ("dev",)}, "transfer pairs are asked for queries of dev"),
        ({"query_field": "qeury"}, "no field 'qeury'. Expected: one of query, passage. Did you mean 'query'"),
        ({"query_field": "query", "passage_field": "query"}, "both query and passage field"),
    ],
)
def test_bad_settings(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mine(positives(), replace(SETTINGS, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tuple_set", "message"),
    [
        (with_table(positives(), "label", pa.array([0.0] * 20)), "no positive pairs"),
        (THREE, "has 3 fields"),
        (with_table(positives(), "split", pa.array(["test"] * 20)), "queries of train, which have no rows"),
    ],
)
def test_bad_sets(tuple_set: TupleSet, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mine(tuple_set)


def test_every_neighbour_known() -> None:
    given = positives(queries=5, extra_passages=0)
    rows = [(f"q{q}", f"p{p}", "train") for q in range(5) for p in range(5)]
    table = pa.table({
        "query": [row[0] for row in rows], "passage": [row[1] for row in rows], "label": [1.0] * 25,
        "weight": pa.nulls(25, pa.float64()), "group": [row[0] for row in rows], "split": ["train"] * 25,
    })  # fmt: skip
    with pytest.raises(InputError, match="every neighbour is a known answer"):
        mine(replace(given, tuples=table), MiningSettings(neighbours=4))
