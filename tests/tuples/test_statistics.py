import numpy as np
import pyarrow as pa
import pytest

from pairstill.errors import InputError
from pairstill.tuples import Collection, Field, Labels, TupleSet
from pairstill.tuples.lengths import load_tokenizer, token_counts, word_counts
from pairstill.tuples.overlaps import find_overlaps
from pairstill.tuples.statistics import describe_tuple_set


def make(rows, labels=None, splits=None, texts=("a", "a b", "a b c", "a"), kind=None):
    """Two fields of one collection; rows are pairs of ids."""
    columns = {
        "left": [one for one, _ in rows], "right": [one for _, one in rows],
        "label": pa.array(labels or [None] * len(rows), pa.float64()), "weight": pa.nulls(len(rows), pa.float64()),
        "group": [one for one, _ in rows], "split": splits or ["train"] * len(rows),
    }  # fmt: skip
    collection = Collection(pa.array([str(one) for one in range(len(texts))]), pa.array(list(texts)))
    fields = (Field("left", "s"), Field("right", "s"))
    return TupleSet(fields, kind or Labels(), {"s": collection}, pa.table(columns))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers

    made = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "b": 2, "##b": 3}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.enable_truncation(2)
    made.enable_padding(length=9)
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save(str(folder / "tokenizer.json"))
    return load_tokenizer(str(folder))


def test_words_and_tokens_are_counted_whole(tokenizer):
    texts = pa.array(["a", " a\tb\n\nab ", "ü"])
    assert word_counts(texts).tolist() == [1, 3, 1]
    seen = []
    assert token_counts(tokenizer, texts, lambda done, total: seen.append((done, total))).tolist() == [1, 4, 1]
    assert seen == [(3, 3)]
    assert word_counts(pa.array([], pa.string())).tolist() == []


def test_tokenizers_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_tokenizer(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer.json: the tokenizer cannot be loaded"):
        load_tokenizer(str(tmp_path))


def test_statistics_count_rows(tokenizer):
    rows = [("0", "1"), ("0", "2"), ("1", "2"), ("2", "0")]
    made = make(rows, [1.0, 0.0, None, 1.0], ["train", "train", "train", "test"], kind=Labels("binary"))
    found = describe_tuple_set(made, tokenizer)
    train = found.splits["train"]
    assert list(found.splits) == ["train", "test"]
    assert (train.rows, train.labelled, train.label_mean) == (3, 2, 0.5)
    assert train.label_counts == {"0": 1, "1": 1}
    assert (train.groups, train.rows_per_group) == (2, (1, 1.5, 2))
    left, right = train.fields["left"], train.fields["right"]
    assert (left.items, left.words, left.tokens) == (2, pytest.approx(4 / 3), pytest.approx(4 / 3))
    assert right.percentiles == (3, 3, 3, 3)
    assert found.items == {"s": 4}
    assert found.unused == {"s": 1}
    assert describe_tuple_set(made).splits["train"].fields["left"].tokens is None
    sampled = describe_tuple_set(made, tokenizer, sample_items=2).splits["train"].fields
    assert sampled["left"].sampled
    assert sampled["left"].tokens == 1.0
    assert sampled["right"].tokens is None


def test_grades_are_counted_in_the_declared_range():
    few = make([("0", "1")] * 3, [0.0, 0.5, 1.0], kind=Labels("graded", 1, 3))
    assert describe_tuple_set(few).splits["train"].label_counts == {"1": 1, "2": 1, "3": 1}
    many = make([("0", "1")] * 21, list(np.linspace(0, 1, 21)), kind=Labels("graded", 0, 4))
    counts = describe_tuple_set(many).splits["train"].label_counts
    assert counts == {"[0, 1)": 5, "[1, 2)": 5, "[2, 3)": 5, "[3, 4]": 6}
    classes = make([("0", "1")] * 2, [2.0, 2.0], kind=Labels("classes", classes=("x", "y", "z")))
    assert describe_tuple_set(classes).splits["train"].label_counts == {"x": 0, "y": 0, "z": 2}


def test_overlaps_see_equal_texts_and_swapped_pairs():
    # items 0 and 3 have the same text
    made = make([("0", "1"), ("2", "2"), ("1", "3"), ("0", "2")], splits=["train", "train", "test", "valid"])
    found = {(one.first, one.second, one.what): (one.shared, one.rows, one.share) for one in find_overlaps(made)}
    assert found == {
        ("train", "valid", "group"): (1, 1, 1.0),
        ("train", "valid", "s"): (2, 1, 1.0),
        ("train", "test", "tuple"): (1, 1, 1.0),
        ("train", "test", "s"): (2, 1, 1.0),
        ("valid", "test", "s"): (1, 1, 1.0),
    }
    assert find_overlaps(make([("0", "1"), ("2", "2")], splits=["train", "test"])) == []
