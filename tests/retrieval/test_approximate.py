"""The faiss index: recall, what is refused, what is stale."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from pairstill.errors import ArtefactError, InputError, MissingExtraError
from pairstill.retrieval import ApproximateIndex, IndexSettings, StoredVectors, build_index, exact_search
from pairstill.retrieval.approximate import read_index_manifest
from pairstill.store import RepresentationStore, StoreEditor
from retrieval_samples import store_of

pytest.importorskip("faiss")


@pytest.fixture
def items(tmp_path: Path) -> StoredVectors:
    """400 vectors of 12 numbers."""
    vectors = np.random.default_rng(0).standard_normal((400, 12)).astype(np.float32)
    return StoredVectors(store_of(tmp_path / "store", vectors, [f"i{number}" for number in range(400)]), "cosine")


@pytest.mark.parametrize("structure", ["hnsw", "ivf"])
def test_an_index_reaches_the_recall_asked_for_and_comes_back_from_disk(
    structure: str, items: StoredVectors, tmp_path: Path
) -> None:
    settings = IndexSettings(structure, recall=0.99, depth=5, sample=64)  # type: ignore[arg-type]
    built = build_index(items, tmp_path / "index", settings)
    assert built.manifest.recall.value >= 0.99
    assert (built.manifest.recall.queries, built.manifest.recall.asked, built.manifest.recall.depth) == (64, "items", 5)
    opened = ApproximateIndex.open(tmp_path / "index", items.store)
    assert opened.manifest == built.manifest
    queries = np.random.default_rng(1).standard_normal((40, 12)).astype(np.float32)
    truth = exact_search(queries, items, 5)
    measured = opened.tune(items, queries)
    found = opened.search(queries, 5)
    shared = [len(set(a) & set(b)) / 5 for a, b in zip(found.rows.tolist(), truth.rows.tolist(), strict=True)]
    assert measured.value == pytest.approx(np.mean(shared))
    assert measured.value >= 0.99
    assert (measured.asked, measured.queries) == ("queries", 40)
    assert opened.effort >= built.manifest.effort
    # Everything is looked at: what is found is what exact search finds.
    opened.effort = 400
    whole = opened.search(queries, 5)
    np.testing.assert_array_equal(whole.rows, truth.rows)
    np.testing.assert_allclose(whole.scores, truth.scores, atol=1e-6)


def test_the_same_settings_build_the_same_ivf(items: StoredVectors, tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_index(items, tmp_path / name, IndexSettings("ivf", sample=16))
    assert read_index_manifest(tmp_path / "a").sha256 == read_index_manifest(tmp_path / "b").sha256


def test_fewer_than_asked_for_are_marked(items: StoredVectors, tmp_path: Path) -> None:
    built = build_index(items, tmp_path / "index", IndexSettings("ivf", lists=50, recall=0.01))
    built.effort = 1
    found = built.search(np.ones((1, 12), np.float32), 300)
    assert (found.rows == -1).any()
    assert np.isneginf(found.scores[found.rows == -1]).all()
    assert (np.diff((found.rows[0] == -1).astype(int)) >= 0).all()


def test_stale_foreign_and_damaged_indexes_are_refused(items: StoredVectors, tmp_path: Path) -> None:
    folder = tmp_path / "index"
    build_index(items, folder, IndexSettings(sample=16))
    other = store_of(tmp_path / "other", np.ones((3, 12), np.float32), list("abc"))
    with pytest.raises(ArtefactError, match=r"the index is stale: .* 400 items; the store has generation 1, 3 items"):
        ApproximateIndex.open(folder, other)
    with StoreEditor(items.store.folder) as editor:
        editor.delete(["i7"])
        editor.commit()
    edited = RepresentationStore.open(items.store.folder)
    with pytest.raises(ArtefactError, match=r"the index is stale: .* the store has generation 2, 399 items"):
        ApproximateIndex.open(folder, edited)
    build_index(StoredVectors(edited, "cosine"), folder, IndexSettings(sample=16))
    content = (folder / "index.faiss").read_bytes()
    (folder / "index.faiss").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ArtefactError, match="missing or does not have the checksum"):
        ApproximateIndex.open(folder, edited)
    body = json.loads((folder / "manifest.json").read_text())
    for change, message in (
        ({"encoder_fingerprint": "f" * 64}, "a store of another encoder"),
        ({"version": 2}, "the format version is 2"),
        ({"effort": "much"}, "the manifest is damaged"),
        ({"format": "pairstill/run"}, "the manifest says format 'pairstill/run'"),
    ):
        (folder / "manifest.json").write_text(json.dumps({**body, **change}))
        with pytest.raises(ArtefactError, match=message):
            ApproximateIndex.open(folder, edited)
    (folder / "manifest.json").unlink()
    with pytest.raises(ArtefactError, match=r"the folder has no manifest\.json"):
        ApproximateIndex.open(folder, edited)


def test_what_cannot_be_built(items: StoredVectors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for settings, message in (
        ({"structure": "tree"}, "the index structure 'tree' is unknown"),
        ({"recall": 0.0}, "the recall asked for is 0"),
        ({"lists": 0}, "'lists' of the index is 0"),
    ):
        with pytest.raises(InputError, match=message):
            IndexSettings(**settings)  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"the folder holds a manifest\.json of format 'pairstill/representation-store'"
    ):
        build_index(items, items.store.folder)
    one = StoredVectors(store_of(tmp_path / "one", np.ones((1, 12), np.float32), ["a"]), "cosine")
    with pytest.raises(InputError, match="the store holds 1 items"):
        build_index(one, tmp_path / "index")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingExtraError, match=r"faiss-cpu.*pairstill\[retrieval\]"):
        build_index(items, tmp_path / "index")
