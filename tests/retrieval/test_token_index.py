"""The index of tokens: candidates against a plain transcription, recall, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pairstill.errors import ArtefactError, InputError, LockedError
from pairstill.files import locked_folder
from pairstill.representation import Representation
from pairstill.retrieval import token_index
from pairstill.retrieval.pairs import PairScorer, rows_by_id, search_all
from pairstill.retrieval.token_index import TokenIndex, TokenIndexSettings, read_token_index_manifest
from pairstill.scoring.encode import encode_store
from pairstill.store import RepresentationStore, StoreEditor
from pairstill.students import Student
from retrieval_samples import tiny_student
from tiny import WORDS

pytest.importorskip("faiss")
COUNT = 150
TEXTS = [" ".join(np.random.default_rng(number).choice(WORDS, 1 + number % 9)) for number in range(COUNT)]
QUERIES = ["w1 w2 w3", "w9", "w14 w15 w3 w2", "w20 w7"]


@pytest.fixture(scope="module")
def student(base: Path) -> Student:
    return tiny_student(base, "colbert", query_masks=2, projection=8, normalise=True)


@pytest.fixture
def store(student: Student, tmp_path: Path) -> RepresentationStore:
    return encode_store(student, 1, [f"i{row}" for row in range(COUNT)], TEXTS, tmp_path / "store", "item").store


@pytest.fixture
def queries(student: Student) -> Representation[np.ndarray]:
    return student.encode(0, QUERIES)


def tokens_of(kept: Representation[np.ndarray], row: int) -> np.ndarray:
    found = kept.vectors[row, : kept.lengths[row]].astype(np.float64)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def test_candidates_are_those_of_the_formula(
    student: Student, store: RepresentationStore, queries: Representation[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In loops: lists of the nearest centroids, MaxSim over centroids, the first so many of them."""
    monkeypatch.setattr(token_index, "SCORED", 3)
    index = TokenIndex.build(student, store, TokenIndexSettings(centroids=20))
    arrays = index._arrays
    kept = store.gather(np.arange(COUNT), widen=True)
    distance = lambda one: ((arrays.centroids - one) ** 2).sum(axis=1)  # noqa: E731
    codes = [[int(distance(one).argmin()) for one in tokens_of(kept, row)] for row in range(COUNT)]
    assert np.concatenate(codes).tolist() == arrays.codes.tolist()
    for effort in (1, 2, 4):
        index.effort = effort
        for row in range(len(QUERIES)):
            tokens = tokens_of(queries, row)
            products = tokens @ arrays.centroids.T
            near = {int(one) for best in products for one in np.argsort(-best)[:effort]}
            rough = {
                item: sum(max(best[code] for code in own) for best in products)
                for item, own in enumerate(codes)
                if near & set(own)
            }
            expected = sorted(rough, key=lambda item: -rough[item])[: max(5, 3 * effort)]
            found = index.candidates(tokens.astype(np.float32), 5)
            assert (np.diff(found) > 0).all()
            # Items whose tokens have the same centroids may stand for one another at the end of the list.
            np.testing.assert_allclose(
                sorted(rough[one] for one in found), sorted(rough[one] for one in expected), atol=1e-5
            )


def test_an_index_reaches_the_recall_asked_for_and_comes_back_from_disk(
    student: Student, store: RepresentationStore, queries: Representation[np.ndarray], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(token_index, "SCORED", 10)
    scorer, by_id, seen = PairScorer(student, 0), rows_by_id(store), []
    built = TokenIndex.build(
        student, store, TokenIndexSettings(centroids=100, recall=0.7, depth=5), lambda *one: seen.append(one)
    )
    assert seen[-1] == (COUNT, COUNT)
    recall = built.tune(scorer, queries, store, by_id)
    assert recall.value >= 0.7
    assert (recall.queries, recall.asked, recall.depth) == (4, "queries", 5)
    assert 1 < built.effort < 100
    built.save(tmp_path / "index", recall)
    opened = TokenIndex.open(tmp_path / "index", student, store)
    assert opened.manifest == built.manifest
    assert opened.effort == built.effort
    truth = search_all(scorer, queries, store, by_id, 5)
    found = opened.search(scorer, queries, store, by_id, 5)
    shared = [len(set(a) & set(b)) / 5 for a, b in zip(found.rows.tolist(), truth.rows.tolist(), strict=True)]
    assert np.mean(shared) == pytest.approx(recall.value)
    # Everything is looked at: what is found is what exact search finds, with the same scores.
    opened.effort = 100
    whole = opened.search(scorer, queries, store, by_id, 5)
    np.testing.assert_array_equal(whole.rows, truth.rows)
    np.testing.assert_allclose(whole.scores, truth.scores, atol=1e-6)


def test_the_same_settings_build_the_same_index(student: Student, store: RepresentationStore, tmp_path: Path) -> None:
    for name in ("a", "b"):
        index = TokenIndex.build(student, store, TokenIndexSettings(seed=3))
        index.save(tmp_path / name, token_index.Recall(1, 1.0, 1, "queries", 1.0, 1.0))
    one, two = (read_token_index_manifest(tmp_path / name) for name in ("a", "b"))
    assert one.sha256 == two.sha256
    assert one.centroids == 8 * int(np.sqrt(one.tokens))


def saved(student: Student, store: RepresentationStore, folder: Path) -> Path:
    index = TokenIndex.build(student, store, TokenIndexSettings(centroids=9))
    index.save(folder, token_index.Recall(1, 1.0, 1, "queries", 1.0, 1.0))
    return folder


def test_stale_foreign_and_damaged_indexes_are_refused(
    student: Student, store: RepresentationStore, base: Path, tmp_path: Path
) -> None:
    folder = saved(student, store, tmp_path / "index")
    plain = tiny_student(base, "colbert", query_masks=2, projection=8)
    with pytest.raises(ArtefactError, match="the student normalises token vectors and those of the index are not"):
        TokenIndex.open(folder, plain, store)
    with StoreEditor(store.folder) as editor:
        editor.delete(["i7"])
        editor.commit()
    with pytest.raises(ArtefactError, match=r"the index is stale: .* 150 items; the store has generation 2, 149 items"):
        TokenIndex.open(folder, student, RepresentationStore.open(store.folder))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "effort": "much"}))
    with pytest.raises(
        ArtefactError, match=r"column 'effort': the manifest is damaged: Input should be a valid integer"
    ):
        read_token_index_manifest(folder)
    with locked_folder(folder), pytest.raises(LockedError):
        saved(student, store, folder)


def test_a_damaged_file_is_refused(student: Student, store: RepresentationStore, tmp_path: Path) -> None:
    folder = saved(student, store, tmp_path / "index")
    with (folder / "tokens.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ArtefactError, match=r"tokens\.safetensors: the file is missing or does not have the checksum"):
        TokenIndex.open(folder, student, store)


def test_settings_and_students_that_fit_no_index_are_refused(
    base: Path, store: RepresentationStore, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="'centroids' of the index is 0"):
        TokenIndexSettings(centroids=0)
    with pytest.raises(InputError, match=r"the recall asked for is 1\.5"):
        TokenIndexSettings(recall=1.5)
    with pytest.raises(InputError, match=r"a de-ffnn is neither a similarity of two vectors nor a MaxSim"):
        TokenIndex.build(tiny_student(base, "de-ffnn"), store)
    with pytest.raises(InputError, match="a cross-encoder is neither"):
        TokenIndex.build(tiny_student(base, "cross-encoder"), store)


def test_an_index_of_vectors_is_no_index_of_tokens(
    student: Student, store: RepresentationStore, tmp_path: Path
) -> None:
    folder = saved(student, store, tmp_path / "index")
    text = (folder / "manifest.json").read_text().replace("pairstill/token-index", "pairstill/index")
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ArtefactError, match="token-index"):
        TokenIndex.open(folder, student, store)
    with pytest.raises(InputError, match="index"):
        TokenIndex.build(student, store, replace(TokenIndexSettings(), centroids=5)).save(
            folder, token_index.Recall(1, 1.0, 1, "queries", 1.0, 1.0)
        )


def test_as_many_items_as_asked_for_come_back(
    student: Student, store: RepresentationStore, queries: Representation[np.ndarray]
) -> None:
    index = TokenIndex.build(student, store, TokenIndexSettings(centroids=100))
    scorer, by_id = PairScorer(student, 0), rows_by_id(store)
    assert len(index.candidates(tokens_of(queries, 1).astype(np.float32), 1)) < 140
    found = index.search(scorer, queries, store, by_id, 140)
    assert found.rows.shape == (4, 140)
    assert (found.rows >= 0).all()
    assert index.search(scorer, queries, store, by_id, 999).rows.shape == (4, COUNT)


def test_a_scale_below_zero_and_vectors_that_are_not_finite_are_refused(
    base: Path, student: Student, store: RepresentationStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = tiny_student(base, "colbert", query_masks=2, projection=8)
    turned.head.calibration.scale.data.fill_(-1.0)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="the student's learned scale is not above 0"):
        TokenIndex.build(turned, store)
    plain = RepresentationStore.gather

    def damaged(self: RepresentationStore, rows: np.ndarray, *, widen: bool = False) -> Representation[np.ndarray]:
        found = plain(self, rows, widen=widen)
        found.vectors[list(rows).index(7), 0] = np.nan
        return found

    monkeypatch.setattr(RepresentationStore, "gather", damaged)
    with pytest.raises(ArtefactError, match="the item in row 7 has a token vector that is not finite"):
        TokenIndex.build(student, store)
