"""Search in items that change: index and exact parts together give what exact search over everything gives."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.errors import ArtefactError, InputError
from pairstill.files import MANIFEST, locked_folder
from pairstill.retrieval import ApproximateIndex, IndexSettings, StoredVectors, build_index
from pairstill.serving.index_upkeep import IndexUpkeep
from pairstill.serving.items import ItemStore
from pairstill.serving.search import Coverage
from pairstill.store import RepresentationStore, compact
from serving_samples import HashStudent, item_store, vector_of

pytest.importorskip("faiss")
BASE = {f"i{number:03d}": f"text {number}" for number in range(300)}
QUERIES = np.stack([vector_of(f"query {number}") for number in range(5)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store of 300 items, and an index that finds all of them."""
    store = item_store(tmp_path / "store", BASE)
    build_index(StoredVectors(store, "cosine"), tmp_path / "index", IndexSettings(recall=1.0, sample=200))
    return tmp_path


def opened(folder: Path, student: HashStudent | None = None, *, index: bool = True) -> ItemStore:
    return ItemStore.open(
        folder / "store", student or HashStudent(), 1, index=folder / "index" if index else None
    )  # fmt: skip


def plain(items: dict[str, str], depth: int, *, scale: float = 1.0) -> list[list[str]]:
    """By loops: the ids of each query's best, equal ones by id."""
    out = []
    for query in QUERIES:
        cosine = {
            name: np.float32(np.sign(scale)) * (query @ vector_of(text)) / np.linalg.norm(vector_of(text))
            for name, text in items.items()
        }
        out.append(sorted(items, key=lambda name: (-round(float(cosine[name]), 5), name))[:depth])
    return out


def names(items: ItemStore, depth: int, **options: bool) -> list[list[str]]:
    snapshot = items.snapshot()
    found = snapshot.search(QUERIES, depth, **options)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    return [snapshot.ids_at(rows[rows >= 0]) for rows in found.rows]


def test_with_and_without_an_index_and_exactly(folder: Path) -> None:
    for index in (True, False):
        items = opened(folder, index=index)
        assert names(items, 10) == plain(BASE, 10) == names(items, 10, exact=True)
        assert (items.snapshot().recall is None) != index
        found = items.snapshot().search(QUERIES[:1], 3)
        best = items.snapshot().gather(found.rows[0]).vectors[:, 0]
        cosine = best @ QUERIES[0] / np.linalg.norm(best, axis=1) / np.linalg.norm(QUERIES[0])
        np.testing.assert_allclose(found.scores[0], cosine, rtol=1e-5)
        items.close()


def test_new_items_are_found_and_deleted_ones_are_not(folder: Path) -> None:
    items, expected = opened(folder), dict(BASE)
    chance = np.random.default_rng(0)
    for step in range(12):
        new = {f"n{step}-{number}": f"new {step} {number}" for number in range(4)}
        new |= {name: f"other {step} {name}" for name in chance.choice(sorted(expected), 3, replace=False).tolist()}
        items.put(list(new.items()))
        expected |= new
        gone = chance.choice(sorted(expected), 5, replace=False).tolist()
        items.delete(gone)
        expected = {name: text for name, text in expected.items() if name not in gone}
        assert names(items, 10) == plain(expected, 10) == names(items, 10, exact=True)
    assert items.snapshot().uncovered > 50
    items.close()
    # The index on the disk is of the first state: it still serves for what it has.
    again = opened(folder)
    assert again.snapshot().recall is not None
    assert names(again, 10) == plain(expected, 10)
    assert again.snapshot().uncovered == items.snapshot().uncovered
    again.put([("last", "query 0")])
    assert names(again, 1)[0] == ["last"]
    again.close()
    compact(folder / "store")
    compacted = opened(folder)
    assert compacted.snapshot().recall is not None
    assert names(compacted, 10) == plain({**expected, "last": "query 0"}, 10)
    compacted.close()


def test_equal_items_come_in_the_order_of_their_ids_wherever_they_are(folder: Path) -> None:
    items = opened(folder)
    items.put([("z", "query 0"), ("b", "query 0")])
    items.put([("a", "query 0"), ("i150", "query 0")])
    assert names(items, 4)[0] == ["a", "b", "i150", "z"] == names(items, 4, exact=True)[0]
    # More ties than places: ids decide which are found.
    assert names(items, 2, exact=True)[0] == ["a", "b"] == names(items, 2)[0]
    items.close()


def test_everything_that_an_index_would_find_is_deleted(folder: Path) -> None:
    items = opened(folder)
    expected = dict(BASE)
    gone = plain(BASE, 280)[0]
    items.delete(gone)
    expected = {name: text for name, text in BASE.items() if name not in gone}
    assert names(items, 5) == plain(expected, 5)
    assert len(names(items, 1000)[0]) == 20
    items.delete(list(expected))
    assert names(items, 5) == [[]] * 5
    items.put([("a", "x")])
    assert names(items, 5) == [["a"]] * 5
    items.close()


def test_a_negative_scale_finds_the_least_similar(folder: Path) -> None:
    items = opened(folder, HashStudent(scale=-2.0))
    items.put([("far", "# " + " ".join(str(-float(one)) for one in QUERIES[0]))])
    assert names(items, 1)[0] == ["far"]
    assert items.snapshot().search(QUERIES[:1], 1).scores[0, 0] == pytest.approx(-1, abs=1e-5)
    items.close()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_coverage_follows_any_edits(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    coverage = Coverage(count, np.empty(0, np.int64))
    model = list(range(count))  # index rows, in the order of the store's rows; -1 for items that came later
    for _ in range(data.draw(st.integers(0, 5))):
        rows = data.draw(st.sets(st.integers(0, len(model) - 1))) if model else set()
        coverage = coverage.without(np.array(sorted(rows), np.int64))
        model = [one for row, one in enumerate(model) if row not in rows]
        model += [-1] * data.draw(st.integers(0, 3))
    expected = [model.index(one) if one in model else -1 for one in range(count)]
    assert coverage.rows(np.array([*range(count), -1])).tolist() == [*expected, -1]
    assert coverage.covered == sum(one >= 0 for one in model)


def wait_for(condition: object, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_index_that_is_far_behind_is_built_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IndexUpkeep.__init__, "__kwdefaults__", {"least_behind": 10, "share_behind": 0.01})
    items = opened(folder)
    expected = dict(BASE)
    for step in range(6):
        new = {f"n{step}-{number}": f"new {step} {number}" for number in range(4)}
        items.put(list(new.items()))
        items.delete([f"i{step:03d}"])
        expected |= new
        del expected[f"i{step:03d}"]
        assert names(items, 10) == plain(expected, 10)
    wait_for(lambda: items.snapshot().uncovered <= 10)
    assert names(items, 10) == plain(expected, 10)
    items.close()
    manifest = ApproximateIndex.open_behind(folder / "index", items.snapshot().store)
    assert manifest is not None
    assert manifest[0].manifest.items > 300
    again = opened(folder)
    assert names(again, 10) == plain(expected, 10)
    again.close()


def test_an_index_that_another_builds_is_built_afterwards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a swap, when the stores that were served before are closed while they build theirs."""
    monkeypatch.setattr(IndexUpkeep.__init__, "__kwdefaults__", {"least_behind": 2, "share_behind": 0.0})
    monkeypatch.setattr("pairstill.serving.index_upkeep.LOCKED_S", 0.02)
    tried = 0

    def build(*values: object, **options: object) -> ApproximateIndex:
        nonlocal tried
        tried += 1
        return build_index(*values, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("pairstill.serving.index_upkeep.build_index", build)
    items = opened(folder)
    with locked_folder(folder / "index"):
        items.put([(f"a{number}", f"first {number}") for number in range(4)])
        wait_for(lambda: tried > 2)
        assert items.snapshot().uncovered == 4
    wait_for(lambda: items.snapshot().uncovered == 0)
    with locked_folder(folder / "index"):
        items.put([(f"b{number}", f"second {number}") for number in range(4)])
        before = tried
        wait_for(lambda: tried > before)
        items.close()  # gives up at once
        assert items._index is not None
        assert items._index._thread is not None
        assert not items._index._thread.is_alive()


def test_edits_while_an_index_is_built_are_not_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from pairstill.serving import index_upkeep

    begun, go_on = threading.Event(), threading.Event()

    def slow(*values: object, **options: object) -> ApproximateIndex:
        begun.set()
        assert go_on.wait(20)
        return build_index(*values, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(index_upkeep, "build_index", slow)
    with monkeypatch.context() as patch:
        patch.setattr(IndexUpkeep.__init__, "__kwdefaults__", {"least_behind": 5, "share_behind": 0.0})
        items = opened(folder)
    items.put([(f"a{number}", f"first {number}") for number in range(6)])
    assert begun.wait(20)
    assert items._index is not None
    items._index._least = 100
    items.delete(["i000", "a1"])
    items.put([("i001", "other"), ("a2", "other a2"), ("b", "b")])
    expected = {
        **BASE,
        **{f"a{number}": f"first {number}" for number in range(6)},
        "i001": "other",
        "a2": "other a2",
        "b": "b",
    }
    del expected["i000"], expected["a1"]
    assert names(items, 10) == plain(expected, 10)
    go_on.set()
    wait_for(lambda: items.snapshot().item_search.covered.index.manifest.items == 306)  # type: ignore[union-attr]
    assert items.snapshot().uncovered == 7
    assert names(items, 305) == names(items, 305, exact=True)
    assert names(items, 30) == plain(expected, 30)
    items.close()
    again = opened(folder)
    assert again.snapshot().uncovered == 7
    assert names(again, 30) == plain(expected, 30)
    again.close()


def test_a_stale_or_unfinished_index_is_replaced_while_search_is_exact(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "index" / MANIFEST).unlink()
    with caplog.at_level(logging.WARNING):
        items = opened(folder)
    assert "is unfinished; it is built anew" in caplog.text
    assert names(items, 10) == plain(BASE, 10)
    wait_for(lambda: items.snapshot().recall is not None)
    assert names(items, 10) == plain(BASE, 10)
    items.close()
    assert ApproximateIndex.open(folder / "index", RepresentationStore.open(folder / "store")).manifest.items == 300


def test_without_content_hashes_a_changed_store_makes_an_index_stale(tmp_path: Path) -> None:
    store = item_store(tmp_path / "store", BASE, hashes=False)
    build_index(StoredVectors(store, "cosine"), tmp_path / "index", IndexSettings(recall=1.0, sample=50))
    items = opened(tmp_path)
    items.put([("i004", "other"), ("a", "x")])
    expected = {**BASE, "i004": "other", "a": "x"}
    # While the process runs it knows; afterwards nobody could tell whether i003 is the same.
    assert items.snapshot().recall is not None
    assert names(items, 10) == plain(expected, 10)
    items.close()
    assert ApproximateIndex.open_behind(tmp_path / "index", RepresentationStore.open(tmp_path / "store")) is None


def test_indexes_that_do_not_belong(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="the index compares by cosine"):
        opened(folder, HashStudent(metric="dot"))
    with pytest.raises(ArtefactError, match="does not exist"):
        ItemStore.open(folder / "store", HashStudent(), 1, index=folder / "none")
    items = opened(folder)
    with pytest.raises(InputError, match="no finite number"):
        items.snapshot().search(np.full((1, 12), np.nan, np.float32), 3)
    items.close()
