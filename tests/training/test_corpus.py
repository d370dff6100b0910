"""What students learn a vocabulary from, and are trained on: items of a tuple set, read where they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pairstill.students.persistence import make_student, parse_config
from pairstill.training import data as data_module
from pairstill.training.data import corpus_of
from pairstill.training.sources import token_sources
from pairstill.tuples import Collection, TupleSet


@pytest.mark.parametrize("at_once", [7, 8192])
def test_the_corpus_is_the_items_that_tuples_name(
    tuple_set: TupleSet, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_module, "TEXTS_AT_ONCE", at_once)
    tuples = tuple_set.split("train")
    corpus = corpus_of(tuple_set, tuples)
    for _ in range(2):  # It can be gone through again.
        for field, items in enumerate(corpus):
            assert list(items) == [tuple_set.texts(field)[one] for one in np.unique(tuples.index[:, field])]


def test_the_corpus_of_numbers(tuple_set: TupleSet) -> None:
    ids = tuple_set.collection_of(0).ids
    numbers = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(80, dtype=np.float32)), 2)
    fields = (replace(tuple_set.fields[0], kind="numeric"), *tuple_set.fields[1:])
    mixed = replace(tuple_set, fields=fields, collections={**tuple_set.collections, "query": Collection(ids, numbers)})
    tuples = mixed.split("valid")
    first, second = corpus_of(mixed, tuples)
    rows = np.unique(tuples.index[:, 0])
    np.testing.assert_array_equal(np.stack(list(first)), np.arange(80).reshape(40, 2)[rows])
    assert all(isinstance(one, str) for one in second)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("bert2dnn", {"encoder": {"minimum_count": 1}}),
        ("bert2dnn", {"encoder": {"hash_buckets": 100}}),
        ("twinbert-cos", {"encoder": {"tokens": "tri-letter", "shape": "1x8x2", "tri_letter": {"minimum_count": 1}}}),
    ],
)
def test_no_list_of_all_texts_is_made(name: str, values: dict[str, Any], tuple_set: TupleSet) -> None:
    """Vocabulary and tokens are those of lists of texts, and the collections never make such a list."""
    fresh = replace(tuple_set, collections={key: replace(one) for key, one in tuple_set.collections.items()})
    train = fresh.split("train")
    config = parse_config(name, values)
    student = make_student(name, config, corpus_of(fresh, train))
    sources = token_sources(student, fresh)
    assert not any({"text_list", "values"} & vars(one).keys() for one in fresh.collections.values())
    lists = [
        [tuple_set.texts(field)[one] for one in np.unique(train.index[:, field])] for field in range(len(fresh.fields))
    ]
    assert student.tokenizer.get_vocab() == make_student(name, config, lists).tokenizer.get_vocab()
    for field, source in enumerate(sources):
        rows = np.arange(40)
        found, expected = source.tokens, student.tokenize(field, tuple_set.texts(field))
        for mine, theirs in zip(found.padded(rows), expected.padded(rows), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_hash_buckets_read_no_text(tuple_set: TupleSet) -> None:
    class Unread:
        def __iter__(self) -> Any:
            raise AssertionError

    student = make_student("bert2dnn", parse_config("bert2dnn", {"encoder": {"hash_buckets": 9}}), [Unread(), Unread()])
    assert len(student.tokenizer) == 9
