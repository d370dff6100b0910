"""Items that change: edits, snapshots, what a killed process leaves, several stores, several writers."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pairstill.errors import ArtefactError, InputError
from pairstill.files import locked_folder
from pairstill.serving import merging
from pairstill.serving.items import ItemStore
from pairstill.serving.merging import MOST_COMMITS, commits_to_merge
from pairstill.serving.texts import TextChange
from pairstill.store import RepresentationStore, StoreEditor, content_hashes
from serving_samples import HashStudent, check_whole, contents, item_store, texts_of, vector_of

BASE = {f"i{number}": f"text {number}" for number in range(120)}


def opened(tmp_path: Path, **options: object) -> ItemStore:
    if not (tmp_path / "store").exists():
        item_store(tmp_path / "store", BASE)
    return ItemStore.open(tmp_path / "store", HashStudent(), 1, texts=texts_of(tmp_path), **options)  # type: ignore[arg-type]


def test_put_replace_and_delete_are_seen_at_once_and_after_a_restart(tmp_path: Path) -> None:
    items = opened(tmp_path)
    before = items.snapshot()
    assert items.put([("new", "a new text"), ("i3", "another text")]) == 2
    assert items.delete(["i5"]) == 1
    expected = {**BASE, "new": "a new text", "i3": "another text"}
    del expected["i5"]
    found = contents(items)
    assert set(found) == set(expected)
    assert found["new"] == (pytest.approx(vector_of("a new text")), "a new text")
    assert found["i3"] == (pytest.approx(vector_of("another text")), "another text")
    # Items of the file of texts would have theirs; here none was given.
    assert found["i7"][1] is None
    # The old snapshot is as it was.
    assert (len(before), before.generation) == (120, 1)
    np.testing.assert_allclose(before.gather(before.find(["i3"])).vectors[0, 0], vector_of("text 3"), rtol=1e-6)
    assert before.find(["i5"]).tolist() == [5]
    assert before.texts(before.find(["i3"])) == [None]
    assert items.snapshot().generation == 3
    with pytest.raises(InputError, match="there is no item 'i5'"):
        items.snapshot().find(["i3", "i5"])
    assert items.snapshot().lookup(["i5"]).tolist() == [-1]
    items.close()
    assert set(contents(opened(tmp_path))) == set(expected)


def test_an_old_snapshot_keeps_its_texts_while_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "MOST_COMMITS", 4)
    items = opened(tmp_path)
    items.put([("a", "first")])
    before = items.snapshot()
    for number in range(12):
        items.put([("a", f"text {number}")])
    assert before.texts(before.find(["a"])) == ["first"]
    assert contents(items)["a"][1] == "text 11"
    items.close()


def test_bad_edits_change_nothing(tmp_path: Path) -> None:
    items = opened(tmp_path)
    for bad, said in (
        ([("a", "x"), ("a", "y")], "the id 'a' comes twice"),
        ([("", "x")], "an id is empty"),
        ([("a", "\ud800")], "the text of item 'a' is no Unicode"),
        ([("a", "# nan")], "the student makes of item 'a' what is no finite number"),
    ):
        with pytest.raises(InputError, match=said):
            items.put(bad)
    with pytest.raises(InputError, match=r"there is no item 'b' \(2 of 3 ids are unknown\)"):
        items.delete(["i1", "b", "c"])
    assert items.put([]) == 0
    assert items.delete([]) == 0
    assert items.snapshot().generation == 1
    assert "i1" in contents(items)
    items.close()


def test_numbers_that_a_store_cannot_hold_are_refused_before_they_are_announced(tmp_path: Path) -> None:
    item_store(tmp_path / "store", BASE, dtype="float16")
    items = opened(tmp_path)
    with pytest.raises(InputError, match="beyond float16"):
        items.put([("a", "# 100000")])
    items.put([("b", "fine")])
    assert "a" not in contents(items)
    items.close()
    assert "b" in contents(opened(tmp_path))


def test_integer_ids(tmp_path: Path) -> None:
    item_store(tmp_path / "store", {str(number): f"text {number}" for number in range(9)}, ids=pa.array(range(9)))
    items = opened(tmp_path)
    items.put([("-12", "minus twelve"), ("3", "three")])
    items.delete(["8"])
    assert items.snapshot().ids_at(np.arange(9)) == ["0", "1", "2", "4", "5", "6", "7", "-12", "3"]
    assert items.snapshot().lookup(["3", "x", "07", "8", "9" * 30]).tolist() == [8, -1, -1, -1, -1]
    assert contents(items)["3"][1] == "three"
    with pytest.raises(InputError, match="the id '07' is no whole number"):
        items.put([("07", "x")])
    items.close()


@pytest.mark.parametrize(("dtype", "ragged"), [("float32", True), ("bfloat16", False), ("int8", True)])
def test_stores_of_several_vectors(dtype: str, ragged: bool, tmp_path: Path) -> None:
    student = HashStudent(tokens=4)
    item_store(tmp_path / "store", BASE, student, dtype=dtype, ragged=ragged)
    items = ItemStore.open(tmp_path / "store", student, 1, texts=texts_of(tmp_path))
    items.put([("a", "odd"), ("b", "even")])
    found = items.snapshot().gather(items.snapshot().find(["b", "a"]))
    expected = student.encode(1, ["even", "odd"])
    assert found.lengths.tolist() == expected.lengths.tolist()
    width = expected.vectors.shape[1]
    np.testing.assert_allclose(found.vectors[:, :width], expected.vectors, rtol=0.02, atol=0.03)
    assert found.vectors.dtype == np.float32
    assert items.snapshot().recall is None
    with pytest.raises(InputError, match="cannot be searched"):
        items.snapshot().search(np.ones((1, 12), np.float32), 3)
    items.close()


def test_edits_of_many_threads_are_all_there_and_written_together(tmp_path: Path) -> None:
    items = opened(tmp_path)
    failures: list[str] = []
    start = threading.Barrier(12)

    def work(number: int) -> None:
        start.wait()
        for step in range(5):
            items.put([(f"t{number}", f"step {step}"), (f"t{number}-{step}", f"own {number} {step}")])
            if contents(items)[f"t{number}"][1] != f"step {step}":
                failures.append(f"{number} {step}")
        items.delete([f"t{number}-0"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not failures
    expected = {f"t{number}": "step 4" for number in range(12)}
    expected |= {f"t{number}-{step}": f"own {number} {step}" for number in range(12) for step in range(1, 5)}
    found = contents(items)
    assert {name: found[name][1] for name in set(found) - set(BASE)} == expected
    items.close()
    assert RepresentationStore.open(tmp_path / "store").generation < 1 + 12 * 6 + 12


def test_edits_that_wait_are_one_commit_in_their_order(tmp_path: Path) -> None:
    items = opened(tmp_path)
    items.put([("x", "0")])
    before = items.snapshot().generation
    errors: list[InputError] = []

    def delete(name: str) -> None:
        try:
            items.delete([name])
        except InputError as error:
            errors.append(error)

    waiting = [
        threading.Thread(target=items.put, args=([("x", "1"), ("y", "1")],)),
        threading.Thread(target=delete, args=("y",)),
        threading.Thread(target=delete, args=("nobody",)),
        threading.Thread(target=items.put, args=([("z", "1")],)),
        threading.Thread(target=delete, args=("i1",)),
    ]
    with items.editing:
        for number, one in enumerate(waiting, 1):
            one.start()
            while len(items._queue) < number:
                pass
    for one in waiting:
        one.join()
    assert items.snapshot().generation == before + 1
    assert [str(one) for one in errors] == ["there is no item 'nobody'. Expected: ids of items that are stored."]
    found = contents(items)
    assert found["x"][1] == "1"
    assert found["z"][1] == "1"
    assert "y" not in found
    assert "i1" not in found
    items.close()


def test_many_small_edits_leave_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "MOST_COMMITS", 4)
    items = opened(tmp_path)
    expected = {}
    for number in range(30):
        name = f"n{number % 20}"
        items.put([(name, f"text of {number}")])
        expected[name] = f"text of {number}"
    items.close()
    store = RepresentationStore.open(tmp_path / "store", checksums=True)
    assert len(store.manifest.id_files) <= 8
    assert len(list((tmp_path / "store").iterdir())) < 30
    items = opened(tmp_path)
    found = contents(items)
    assert {name: found[name][1] for name in set(found) - set(BASE)} == expected
    for name, text in expected.items():
        np.testing.assert_allclose(found[name][0], vector_of(text), rtol=1e-6)


def test_which_commits_are_merged() -> None:
    assert commits_to_merge([1000] + [1] * (MOST_COMMITS - 1), 0) == 0
    assert commits_to_merge([1000] + [1] * MOST_COMMITS, 0) == MOST_COMMITS
    assert commits_to_merge([1000, 31] + [1] * (MOST_COMMITS - 1), 0) == MOST_COMMITS - 1
    assert commits_to_merge([1000, 30] + [1] * (MOST_COMMITS - 1), 0) == MOST_COMMITS
    assert commits_to_merge([30] + [1] * MOST_COMMITS, 0) == MOST_COMMITS + 1
    assert commits_to_merge([5000, 5000], 5001) == 2
    assert commits_to_merge([500, 500], 999) == 0
    # However long it goes on, an item is rewritten a logarithmic number of times.
    sizes, rewritten = [10_000], 0
    for _ in range(4000):
        sizes.append(1)
        count = commits_to_merge(sizes, 0)
        if count:
            rewritten += sum(sizes[-count:])
            sizes[-count:] = [sum(sizes[-count:])]
        assert len(sizes) <= MOST_COMMITS + 1
    assert rewritten < 4000 * 14


def test_announced_changes_are_made_when_a_store_is_opened(tmp_path: Path) -> None:
    """As a process leaves it that was killed between the announcement and the commit."""
    items = opened(tmp_path)
    items.put([("a", "old"), ("b", "kept"), ("c", "gone")])
    texts = items._texts
    assert texts is not None
    items.close()
    version = content_hashes(["new"])[0].tobytes()
    texts.announce(
        str((tmp_path / "store").resolve()),
        [TextChange("a", version, "new"), TextChange("c", None, None), TextChange("i9", None, None)],
    )
    texts.close()
    # A reader that may not write shows the old state, whole.
    with locked_folder(tmp_path / "store"):
        reader = opened(tmp_path)
        assert contents(reader)["a"] == (pytest.approx(vector_of("old")), "old")
        assert contents(reader)["c"][1] == "gone"
    items = opened(tmp_path)
    found = contents(items)
    assert found["a"] == (pytest.approx(vector_of("new")), "new")
    assert found["b"][1] == "kept"
    assert not {"c", "i9"} & set(found)
    assert items._texts is not None
    assert items._texts.open_of(items.key) == []
    items.close()


def test_two_stores_of_the_same_items_agree_after_a_kill_between_them(tmp_path: Path) -> None:
    base = {"i1": "text 1"}
    rank_student = HashStudent(tokens=3)
    item_store(tmp_path / "search", base)
    item_store(tmp_path / "rank", base, rank_student)
    texts = texts_of(tmp_path)

    def both() -> tuple[ItemStore, ItemStore]:
        return (
            ItemStore.open(tmp_path / "rank", rank_student, 1, texts=texts),
            ItemStore.open(tmp_path / "search", HashStudent(), 1, texts=texts),
        )

    rank, search = both()
    for one in (rank, search):
        one.put([("a", "old a"), ("b", "old b")])
    rank.put([("a", "new a")])
    rank.delete(["b"])
    # Killed before the other was told.
    for one in (rank, search):
        one.close()
    rank, search = both()
    for one in (rank, search):
        snapshot = one.snapshot()
        assert snapshot.ids_at(np.arange(len(snapshot))) == ["i1", "a"]
        assert snapshot.texts(snapshot.find(["a"])) == ["new a"]
    check = search.snapshot().gather(search.snapshot().find(["a"])).vectors[0, 0]
    np.testing.assert_allclose(check, vector_of("new a"), rtol=1e-6)
    assert texts.open_of(search.key) == [] == texts.open_of(rank.key)
    for one in (rank, search):
        one.close()


def test_the_first_edit_of_a_store_may_be_a_deletion_that_another_announced(tmp_path: Path) -> None:
    item_store(tmp_path / "search", BASE)
    item_store(tmp_path / "rank", BASE, HashStudent(tokens=3))
    texts = texts_of(tmp_path)
    rank = ItemStore.open(tmp_path / "rank", HashStudent(tokens=3), 1, texts=texts)
    search = ItemStore.open(tmp_path / "search", HashStudent(), 1, texts=texts)
    for name, edit in (("i1", search), ("i2", rank)):
        other = rank if edit is search else search
        edit.delete([name])
        assert other.snapshot().lookup([name])[0] >= 0
        assert other.delete([name]) == 1
        assert other.snapshot().lookup([name])[0] == -1
    for one in (rank, search):
        one.close()
    texts.close()


def test_a_deletion_that_failed_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = opened(tmp_path)

    def full(*_: object) -> None:
        raise InputError("the file cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pairstill.store.edit.write_arrays", full)
        with pytest.raises(InputError, match="No space left"):
            items.delete(["i1", "i2"])
    assert items.delete(["i1", "i2"]) == 2
    with pytest.raises(InputError, match="there is no item 'i1'"):
        items.delete(["i1"])
    items.close()


def test_of_two_writers_the_second_is_refused_and_may_read(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    first.put([("a", "x")])
    with pytest.raises(ArtefactError, match="another process works in this folder"):
        second.put([("b", "y")])
    assert second.snapshot().generation == 1
    assert second.refresh().generation == 2
    assert contents(second)["a"][1] == "x"
    first.close()
    first.close()
    with pytest.raises(InputError, match="the store is closed"):
        first.put([("c", "z")])
    second.put([("b", "y")])
    assert set(contents(second)) == {*BASE, "a", "b"}
    second.close()


def test_a_store_that_was_edited_meanwhile_is_taken_up_at_the_first_edit(tmp_path: Path) -> None:
    items = opened(tmp_path)
    with StoreEditor(tmp_path / "store") as editor:
        editor.delete(["i0"])
        editor.commit()
    items.put([("a", "x")])
    assert set(contents(items)) == {*BASE, "a"} - {"i0"}
    items.close()


def test_a_full_disk_refuses_an_edit_and_the_next_one_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = opened(tmp_path)

    def full(*_: object) -> None:
        raise InputError("the file cannot be written: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pairstill.store.edit.write_arrays", full)
        with pytest.raises(InputError, match="No space left"):
            items.put([("a", "x")])
        assert "a" not in contents(items)
    items.put([("b", "y")])
    assert {"b"} <= set(contents(items))
    items.close()


def test_stores_that_cannot_be_served(tmp_path: Path) -> None:
    item_store(tmp_path / "store", BASE)
    other = HashStudent()
    other.encoder_fingerprints = ("0" * 64, "0" * 64)
    with pytest.raises(ArtefactError, match="made by another encoder"):
        ItemStore.open(tmp_path / "store", other, 1)
    with pytest.raises(InputError, match="compares no single vectors"):
        ItemStore.open(tmp_path / "store", HashStudent(tokens=2), 1, index=tmp_path / "index")


def test_without_texts(tmp_path: Path) -> None:
    item_store(tmp_path / "store", BASE)
    items = ItemStore.open(tmp_path / "store", HashStudent(), 1)
    items.put([("a", "x")])
    assert contents(items)["a"] == (pytest.approx(vector_of("x")), None)
    items.close()


def test_serving_items_needs_neither_torch_nor_numba() -> None:
    code = (
        "import sys, pairstill.serving.items\n"
        "print([one for one in ('torch', 'numba', 'transformers', 'scipy', 'sklearn') if one in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_check_whole(tmp_path: Path) -> None:
    item_store(tmp_path / "store", {"a": "x"})
    items = opened(tmp_path)
    items.put([("a", "y"), ("b", "z")])
    check_whole(items, {"a": "y", "b": "z"})
    items.close()
