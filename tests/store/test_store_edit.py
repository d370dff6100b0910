from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.errors import ArtefactError, InputError
from pairstill.representation import Representation
from pairstill.store import RepresentationStore, StoreEditor, StoreWriter, compact, content_hashes, update_store
from pairstill.store.manifest import StoreManifest
from store_samples import make, write

TOKENS = 3


def items(values: list[int], stride: str) -> Representation[np.ndarray]:
    """An item whose vectors hold its value, and whose length follows from it."""
    vectors = np.repeat(np.array(values, np.float32), TOKENS * 2).reshape(len(values), TOKENS, 2)
    lengths = np.array(values, np.int64) % (TOKENS + 1) if stride == "ragged" else np.full(len(values), TOKENS)
    return Representation(vectors, lengths)


def check(store: RepresentationStore, model: dict[Any, int]) -> None:
    """The store holds exactly the model, in its order."""
    assert len(store) == len(model)
    assert store.ids is not None
    assert store.ids.to_pylist() == list(model)
    assert store.find(list(model)).tolist() == list(range(len(model)))
    assert store.ids_at(np.arange(len(model))[::-1]).to_pylist() == list(model)[::-1]
    expected = items(list(model.values()), store.stride)
    read = store.gather(np.arange(len(store)), widen=True)
    np.testing.assert_array_equal(read.lengths, expected.lengths)
    for vectors, value, length in zip(read.vectors, model.values(), read.lengths, strict=True):
        np.testing.assert_array_equal(vectors[:length], np.float32(value))


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "replace", "put", "delete", "commit", "compact", "abandon"]),
        st.sets(st.integers(0, 12), min_size=1, max_size=6),
    ),
    max_size=10,
)


@settings(max_examples=40, deadline=None)
@given(
    first=st.sets(st.integers(0, 12), min_size=1),
    operations=OPERATIONS,
    stride=st.sampled_from(["fixed", "ragged"]),
    as_text=st.booleans(),
    shard_rows=st.integers(1, 5),
)
def test_any_sequence_of_edits(
    first: set[int], operations: list[tuple[str, set[int]]], stride: str, as_text: bool, shard_rows: int
) -> None:
    def name(number: int) -> Any:
        return f"item {number}" if as_text else number * 10**12 - 5

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "store"
        model = {name(one): value for value, one in enumerate(first)}
        opened = [
            (
                write(
                    folder, items(list(model.values()), stride), shard_rows=shard_rows, stride=stride, ids=list(model)
                ),
                dict(model),
            )
        ]
        value = 100
        editor = StoreEditor(folder, encoder_fingerprint="abc").__enter__()
        committed, touched = dict(model), set[Any]()
        for operation, numbers in operations:
            # An editor knows what was committed; items of the same commit cannot be changed again before it.
            chosen = [one for one in map(name, sorted(numbers)) if one not in touched]
            if operation in ("append", "replace", "delete"):
                chosen = [one for one in chosen if (one in model) == (operation != "append")]
            if operation in ("append", "replace", "put") and chosen:
                values = list(range(value, value + len(chosen)))
                value += len(chosen)
                getattr(editor, operation)(items(values, stride), chosen)
                for one, new in zip(chosen, values, strict=True):
                    model.pop(one, None)
                    model[one] = new
                touched |= set(chosen)
            elif operation == "delete" and chosen:
                editor.delete(chosen)
                for one in chosen:
                    del model[one]
            elif operation == "commit":
                opened.append((editor.commit(), dict(model)))
                committed, touched = dict(model), set()
            elif operation in ("compact", "abandon"):
                editor.__exit__(None, None, None)
                if operation == "compact":
                    opened.append((compact(folder, block_rows=2), dict(committed)))
                    assert opened[-1][0].deleted == 0
                model, touched = dict(committed), set()
                editor = StoreEditor(folder, encoder_fingerprint="abc").__enter__()
            check(RepresentationStore.open(folder, "abc"), committed)
        editor.commit()
        editor.__exit__(None, None, None)
        check(RepresentationStore.open(folder, "abc"), model)
        # What was opened before stays as it was.
        for store, content in opened:
            check(store, content)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("stride", ["fixed", "ragged"])
def test_a_compacted_store_is_one_that_was_written_at_once(tmp_path: Path, dtype: str, stride: str) -> None:
    block = make(20, extra=True)
    prepared = {"key": make(20, seed=1).vectors} if stride == "fixed" else None
    names, hashes = [f"i{row}" for row in range(20)], content_hashes([f"t{row}" for row in range(20)])

    def part(rows: np.ndarray) -> dict[str, np.ndarray] | None:
        return None if prepared is None else {name: array[rows] for name, array in prepared.items()}

    first, kept = np.arange(12), np.array([0, 1, 3, 4, 5, 7, 8, 9, 10, 11, *range(12, 20)])
    write(
        tmp_path / "a", block.take(first), dtype=dtype, stride=stride, ids=names[:12], content_hash=hashes[:12],
        prepared=part(first),
    )  # fmt: skip
    with StoreEditor(tmp_path / "a", encoder_fingerprint="abc") as editor:
        rest = np.arange(12, 20)
        editor.append(block.take(rest), names[12:], content_hash=hashes[12:], prepared=part(rest))
        editor.delete([names[2], names[6]])
        edited = editor.commit()
    assert (edited.generation, edited.deleted, len(edited)) == (2, 2, 18)
    done: list[tuple[int, int]] = []
    compact(tmp_path / "a", block_rows=7, progress=lambda *seen: done.append(seen))
    assert done == [(0, 18), (7, 18), (14, 18), (18, 18)]
    write(
        tmp_path / "b", block.take(kept), dtype=dtype, stride=stride, ids=[names[row] for row in kept],
        content_hash=hashes[kept], prepared=part(kept),
    )  # fmt: skip
    left, right = (sorted(path.read_bytes() for path in (tmp_path / name).glob("*.safetensors")) for name in ("a", "b"))
    assert left == right
    RepresentationStore.open(tmp_path / "a")


def test_everything_can_be_deleted(tmp_path: Path) -> None:
    for stride in ("fixed", "ragged"):
        folder = tmp_path / stride
        write(folder, items([1, 2, 3], stride), stride=stride, ids=["a", "b", "c"])
        with StoreEditor(folder) as editor:
            editor.delete(["b", "a", "c"])
            check(editor.commit(), {})
        check(compact(folder), {})
        with StoreEditor(folder) as editor:
            editor.append(items([7, 8], stride), ["c", "d"])
            check(editor.commit(), {"c": 7, "d": 8})
        check(compact(folder, shard_rows=100), {"c": 7, "d": 8})


def test_a_store_without_ids_grows(tmp_path: Path) -> None:
    write(tmp_path, items([1, 2], "fixed"))
    with StoreEditor(tmp_path) as editor:
        editor.append(items([3], "fixed"))
        store = editor.commit()
        assert editor.commit() is store  # nothing changed
        with pytest.raises(InputError, match=r"the items have ids\. Expected: no ids, as the store has"):
            editor.append(items([3], "fixed"), ["a"])
        with pytest.raises(InputError, match="content hashes are given without ids"):
            editor.append(items([3], "fixed"), content_hash=np.zeros((1, 16), np.uint8))
        with pytest.raises(InputError, match="the store has no ids"):
            editor.delete(["a"])
    assert store.gather([2]).vectors[0, 0, 0] == 3
    assert len(compact(tmp_path)) == 3


def test_edits_that_cannot_be_are_refused(tmp_path: Path) -> None:
    write(tmp_path, items([1, 2, 3], "fixed"), ids=["a", "b", "c"])
    before = sorted(path.name for path in tmp_path.iterdir())
    with StoreEditor(tmp_path) as editor:
        with pytest.raises(
            InputError, match=r"the store has already the item 'b' \(position 1; so it is with 2 of 3 ids\)"
        ):
            editor.append(items([1, 2, 3], "fixed"), ["x", "b", "c"])
        with pytest.raises(InputError, match=r"the store has no item 'x' \(position 0; so it is with 1 of 2 ids\)"):
            editor.replace(items([1, 2], "fixed"), ["x", "b"])
        with pytest.raises(InputError, match="the store has no item 'x'"):
            editor.delete(["x"])
        with pytest.raises(InputError, match="the id 'a' occurs twice"):
            editor.delete(["a", "a"])
        with pytest.raises(InputError, match="the id 'a' occurs twice"):
            editor.put(items([1, 2], "fixed"), ["a", "a"])
        with pytest.raises(InputError, match="1 ids are given for 2 items"):
            editor.append(items([1, 2], "fixed"), ["x"])
        with pytest.raises(InputError, match=r"the items have no ids\. Expected: ids, as the store has"):
            editor.append(items([1], "fixed"))
        with pytest.raises(InputError, match="as the blocks before it"):
            editor.append(make(1, dim=9), ["x"])
        with pytest.raises(InputError, match="the content hashes are float64"):
            editor.append(items([1], "fixed"), ["x"], content_hash=np.zeros((1, 16)))
        editor.delete(["a"])
        with pytest.raises(InputError, match="the store has no item 'a'"):
            editor.delete(["a"])
        editor.append(items([9], "fixed"), ["a"])  # it was deleted
        editor.append(items([8], "fixed"), ["y"])
        editor.append(items([7], "fixed"), ["y"])
        with pytest.raises(InputError, match="the id 'y' occurs twice, at the positions 1 and 2"):
            editor.commit()
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    with StoreEditor(tmp_path) as editor:
        editor.append(items([9], "fixed"), ["x"], content_hash=content_hashes(["x"]))
        editor.append(items([8], "fixed"), ["y"])
        with pytest.raises(InputError, match="content hashes are given for some of the items"):
            editor.commit()
    check(RepresentationStore.open(tmp_path), {"a": 1, "b": 2, "c": 3})
    with pytest.raises(ArtefactError, match=r"another encoder \(abc\)"), StoreEditor(tmp_path, encoder_fingerprint="d"):
        pass


def hold(folder: Path, ready: Any, done: Any) -> None:
    with StoreEditor(folder):
        ready.set()
        done.wait(60)


def test_of_two_writers_the_second_is_refused(tmp_path: Path) -> None:
    write(tmp_path, items([1], "fixed"), ids=["a"])
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, done))
    process.start()
    assert ready.wait(60)
    for second in (
        lambda: StoreEditor(tmp_path).__enter__(),
        lambda: compact(tmp_path),
        lambda: StoreWriter(tmp_path, encoder_fingerprint="abc", field="query", shard_rows=4).__enter__(),
    ):
        with pytest.raises(ArtefactError, match="another process works in this folder"):
            second()
    check(RepresentationStore.open(tmp_path), {"a": 1})  # readers are not kept out
    done.set()
    process.join()
    with StoreEditor(tmp_path):
        pass


def test_an_edited_store_is_not_written_anew(tmp_path: Path) -> None:
    write(tmp_path, items([1, 2], "fixed"), ids=["a", "b"])
    with StoreEditor(tmp_path) as editor:
        editor.delete(["a"])
        editor.commit()
    for _ in range(2):
        with (
            pytest.raises(ArtefactError, match="edited after it was written"),
            StoreWriter(tmp_path, encoder_fingerprint="abc", field="query", shard_rows=4),
        ):
            pass


def test_what_a_killed_editor_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, items([1, 2], "fixed"), ids=["a", "b"])
    left = ["shard-00002-00000.safetensors", "ids-00002.safetensors", "deleted-00002.safetensors",
            ".shard-00002-00001.safetensors.abc.tmp", ".manifest.json.xyz.tmp"]  # fmt: skip
    mine = ["notes.txt", "shard-mine.safetensors", ".other.tmp"]
    for name in [*left, *mine]:
        (tmp_path / name).write_bytes(b"x")
    check(RepresentationStore.open(tmp_path), {"a": 1, "b": 2})
    with StoreEditor(tmp_path):
        assert [name for name in left if (tmp_path / name).exists()] == []
        assert [name for name in mine if not (tmp_path / name).exists()] == []
    check(RepresentationStore.open(tmp_path), {"a": 1, "b": 2})


@pytest.mark.parametrize("failing", ["pairstill.store.edit.RepresentationStore.open", "pairstill.files.sync_folder"])
@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), KeyboardInterrupt()])
def test_a_commit_that_fails_once_the_manifest_is_replaced_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, error: BaseException
) -> None:
    before = {1: 1, 2: 2}
    write(tmp_path / "store", items(list(before.values()), "fixed"), ids=list(before))
    editor = StoreEditor(tmp_path / "store").__enter__()
    editor.put(items([5, 6], "fixed"), [2, 3])
    written = StoreManifest.write
    replaced = False

    def write_manifest(manifest: StoreManifest, folder: Path) -> None:
        nonlocal replaced
        replaced = True
        written(manifest, folder)

    def fail(*_: Any, **__: Any) -> None:
        if replaced:
            raise error

    with monkeypatch.context() as patch:
        patch.setattr(StoreManifest, "write", write_manifest)
        patch.setattr(failing, fail)
        with pytest.raises(type(error)):
            editor.commit()
    editor.__exit__(None, None, None)
    check(RepresentationStore.open(tmp_path / "store", checksums=True), {1: 1, 2: 5, 3: 6})
    # One that fails before drops what it wrote.
    files = set((tmp_path / "store").iterdir())
    with StoreEditor(tmp_path / "store") as editor:
        editor.put(items([7], "fixed"), [9])
        editor._buffer.flush()
        assert set((tmp_path / "store").iterdir()) > files
    assert set((tmp_path / "store").iterdir()) == files


def test_a_reader_that_meets_a_compaction_opens_the_new_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pairstill.store.files import StoreFiles

    write(tmp_path, items([1, 2], "fixed"), ids=["a", "b"])
    original, times = StoreFiles.open.__func__, []  # type: ignore[attr-defined]

    def meanwhile(cls: Any, folder: Path, manifest: Any, **more: Any) -> Any:
        times.append(manifest.generation)
        if len(times) == 1:
            monkeypatch.setattr(StoreFiles, "open", classmethod(original))
            compact(folder)
            monkeypatch.setattr(StoreFiles, "open", classmethod(meanwhile))
        return original(cls, folder, manifest, **more)

    monkeypatch.setattr(StoreFiles, "open", classmethod(meanwhile))
    check(RepresentationStore.open(tmp_path), {"a": 1, "b": 2})
    assert times == [1, 2]


def test_only_what_changed_is_encoded_again(tmp_path: Path) -> None:
    texts = {f"q{row}": f"text {row}" for row in range(10)}
    asked: list[str] = []

    def update(**more: Any) -> Any:
        names = list(texts)
        asked.clear()

        def encode(positions: np.ndarray) -> Representation[np.ndarray]:
            asked.extend(names[position] for position in positions)
            return items([int(texts[names[position]].split()[1]) for position in positions], "fixed")

        hashes = content_hashes(texts.values())
        return update_store(tmp_path, names, hashes, encode, encoder_fingerprint="abc", block_rows=2, **more)

    write(tmp_path, items(list(range(10)), "fixed"), ids=list(texts), content_hash=content_hashes(texts.values()))
    changes = update()
    assert (asked, changes.unchanged, changes.added + changes.replaced + changes.deleted) == ([], 10, 0)
    texts |= {"q3": "text 33", "q7": "text 77", "q8": "text 88", "new": "text 100"}
    del texts["q1"]
    done: list[tuple[int, int]] = []
    changes = update(progress=lambda *seen: done.append(seen), commit_rows=2)
    assert asked == ["q3", "q7", "q8", "new"]
    assert done == [(0, 4), (2, 4), (4, 4)]
    assert (changes.added, changes.replaced, changes.unchanged, changes.deleted) == (1, 3, 6, 0)
    assert len(RepresentationStore.open(tmp_path)) == 11
    changes = update(delete_missing=True)
    assert (asked, changes.deleted) == ([], 1)
    store = RepresentationStore.open(tmp_path)
    rows = store.find(list(texts))
    assert store.gather(rows).vectors[:, 0, 0].tolist() == [int(text.split()[1]) for text in texts.values()]
    assert not store.changed(list(texts), content_hashes(texts.values())).any()
    assert store.changed(["q3", "x"], content_hashes(["text 3", "text 3"])).tolist() == [True, True]
    assert not compact(tmp_path).changed(list(texts), content_hashes(texts.values())).any()


def test_a_store_without_content_hashes_is_encoded_again_once(tmp_path: Path) -> None:
    write(tmp_path, items([1, 2], "fixed"), ids=[5, 6])
    hashes = content_hashes(["a", "b"])
    assert RepresentationStore.open(tmp_path).changed([5, 6], hashes).tolist() == [True, True]
    with StoreEditor(tmp_path) as editor:
        editor.put(items([3], "fixed"), [6], content_hash=hashes[1:])
        assert editor.commit().changed([5, 6], hashes).tolist() == [True, False]
    assert compact(tmp_path).changed([5, 6], hashes).tolist() == [True, False]


def test_a_mapped_store_outlives_its_files(tmp_path: Path) -> None:
    block = make(50)
    store = write(tmp_path / "store", block, ids=list(range(50)))
    open_files = Path("/proc/self/fd")
    before = len(list(open_files.iterdir())) if open_files.exists() else 0
    again = RepresentationStore.open(tmp_path / "store")
    if before:
        assert len(list(open_files.iterdir())) == before
    shutil.rmtree(tmp_path / "store")
    for one in (store, again):
        np.testing.assert_array_equal(one.gather(one.find(range(50))).vectors, block.vectors)
