"""Exact search against loops, in blocks of any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.errors import ArtefactError, InputError
from pairstill.representation import Representation
from pairstill.retrieval import StoredVectors, exact_search
from pairstill.retrieval.exact import pair_dots
from pairstill.retrieval.vectors import logits_of, query_vectors
from pairstill.store import RepresentationStore, StoreEditor
from pairstill.students.heads.base import Similarity
from retrieval_samples import store_of


class Plain:
    """Vectors in memory, with ids."""

    def __init__(self, vectors: np.ndarray, ids: list[str]) -> None:
        self.vectors, self.ids = vectors, ids
        self.by_id = np.array(sorted(range(len(ids)), key=lambda row: ids[row].encode()), np.int64)

    def __len__(self) -> int:
        return len(self.vectors)

    def block(self, start: int, stop: int) -> np.ndarray:
        return self.vectors[start:stop]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_block_size_gives_what_loops_give(data: st.DataObject) -> None:
    items, queries, dim = (data.draw(st.integers(1, most)) for most in (40, 6, 4))
    depth, rows, block = (data.draw(st.integers(1, most)) for most in (45, 41, 7))
    generator = np.random.default_rng(data.draw(st.integers(0, 1 << 30)))
    # Small whole numbers: dot products are exact, and many of them are equal.
    vectors = generator.integers(-2, 3, (items, dim)).astype(np.float32)
    asked = generator.integers(-2, 3, (queries, dim)).astype(np.float32)
    ids = [f"{number}" for number in generator.permutation(items)]
    found = exact_search(asked, Plain(vectors, ids), depth, block_rows=rows, block_queries=block)
    for number, query in enumerate(asked):
        dots = [float(sum(a * b for a, b in zip(query, one, strict=True))) for one in vectors]
        order = sorted(range(items), key=lambda row: (-dots[row], ids[row].encode()))[:depth]
        assert found.rows[number].tolist() == order
        assert found.scores[number].tolist() == [dots[row] for row in order]


def test_numbers_do_not_depend_on_the_blocks_to_the_bit() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((700, 33)).astype(np.float32)
    vectors[300:400] = vectors[100:200]  # equal texts under other ids
    asked = generator.standard_normal((50, 33)).astype(np.float32)
    items = Plain(vectors, [f"{number:05d}" for number in generator.permutation(700)])
    first = exact_search(asked, items, 90)
    for rows, queries in ((1, 50), (13, 7), (256, 1), (699, 49)):
        again = exact_search(asked, items, 90, block_rows=rows, block_queries=queries)
        np.testing.assert_array_equal(again.rows, first.rows)
        np.testing.assert_array_equal(again.scores, first.scores)
    np.testing.assert_allclose(
        first.scores, -np.sort(-(asked.astype(np.float64) @ vectors.T))[:, :90], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("dim", [1, 3, 8, 33, 384])
def test_a_dot_product_does_not_depend_on_the_pairs_around_it(dim: int) -> None:
    generator = np.random.default_rng(2)
    left, right = (generator.standard_normal((count, dim)).astype(np.float32) for count in (7, 3000))
    query = np.sort(generator.integers(0, 7, 5000))
    row = generator.integers(0, 3000, 5000)
    together = pair_dots(left, right, query, row)
    mixed = generator.permutation(5000)
    np.testing.assert_array_equal(pair_dots(left, right, query[mixed], row[mixed]), together[mixed])
    alone = [
        pair_dots(left, right, query[place : place + 1], row[place : place + 1])[0] for place in range(0, 5000, 50)
    ]
    np.testing.assert_array_equal(alone, together[::50])
    np.testing.assert_allclose(
        together, (left[query].astype(np.float64) * right[row]).sum(axis=1), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int8"])
def test_stores_of_every_precision_are_searched_after_edits(dtype: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    vectors = generator.standard_normal((30, 8)).astype(np.float32)
    store_of(tmp_path, vectors, [f"i{number}" for number in range(30)], dtype)
    with StoreEditor(tmp_path) as editor:
        editor.delete(["i3", "i17"])
        editor.commit()
    store = RepresentationStore.open(tmp_path)
    items = StoredVectors(store, "cosine")
    kept = store.gather(np.arange(28), widen=True).vectors[:, 0].astype(np.float64)
    kept /= np.linalg.norm(kept, axis=1, keepdims=True)
    query = generator.standard_normal((3, 8)).astype(np.float32)
    found = exact_search(query, items, 28)
    np.testing.assert_allclose(found.scores, -np.sort(-(query @ kept.T)), rtol=1e-5, atol=1e-5)
    assert "i3" not in items.ids_at(found.rows[0]).to_pylist()


def test_a_negative_scale_turns_the_order_round() -> None:
    vectors = np.array([[[3.0, 4.0]], [[0.0, 0.0]]], np.float32)
    similarity = Similarity("cosine", -2.0, 1.0)
    asked = query_vectors(similarity, Representation(vectors, np.ones(2, np.int64)))
    np.testing.assert_allclose(asked, [[-0.6, -0.8], [0.0, 0.0]], rtol=1e-6)
    dots = (asked @ np.array([[0.6, 0.8]], np.float32).T)[:, 0]
    np.testing.assert_allclose(logits_of(similarity, dots), [-2.0 * 1.0 + 1.0, 1.0], rtol=1e-6)
    plain = query_vectors(Similarity("dot"), Representation(vectors, np.ones(2, np.int64)))
    np.testing.assert_array_equal(plain, vectors[:, 0])


def test_stores_that_cannot_be_searched(tmp_path: Path) -> None:
    vectors = np.ones((4, 3), np.float32)
    with pytest.raises(InputError, match="the store has no ids"):
        StoredVectors(store_of(tmp_path / "nameless", vectors, None), "dot")
    two = store_of(tmp_path / "two", np.ones((4, 2, 3), np.float32), list("abcd"))
    with pytest.raises(InputError, match="up to 2 vectors an item"):
        StoredVectors(two, "dot")
    vectors[2, 1] = np.nan
    with pytest.raises(ArtefactError, match="the vector of item 'c' holds what is no finite number"):
        exact_search(vectors[:1], StoredVectors(store_of(tmp_path / "nan", vectors, list("abcd")), "dot"), 2)


def test_ids_of_integers_are_ordered_by_value(tmp_path: Path) -> None:
    store = store_of(tmp_path, np.ones((4, 3), np.float32), pa.array([10, 9, -3, 100]))
    items = StoredVectors(store, "dot")
    found = exact_search(np.ones((1, 3), np.float32), items, 3)
    assert items.ids_at(found.rows[0]).to_pylist() == [-3, 9, 10]
