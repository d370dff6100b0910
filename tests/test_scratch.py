"""Arrays on disk are arrays: the same numbers whether they lie in memory or in files, whole or in pieces."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pairstill import scratch
from pairstill.errors import InputError
from pairstill.teachers.scores import TeacherScores
from pairstill.teachers.triple_scores import write_triple_scores
from pairstill.tuples import TupleSet, stored_tables
from tiny import tiny_tuple_set


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything lies on disk and is worked on 64 rows at a time."""
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(scratch, "PIECE_ROWS", 64)
    monkeypatch.setattr(stored_tables, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(stored_tables, "PIECE_ROWS", 64)


def same(one: Any, two: Any) -> None:
    for name in ("index", "rows", "labels", "weights", "groups", "lists"):
        mine, theirs = getattr(one, name), getattr(two, name)
        if mine is None:
            assert theirs is None
        else:
            assert mine.dtype == theirs.dtype, name
            np.testing.assert_array_equal(mine, theirs, err_msg=name)


def changed(tuple_set: TupleSet, **columns: Any) -> TupleSet:
    table = tuple_set.tuples
    for name, values in columns.items():
        place = table.column_names.index(name) if name in table.column_names else -1
        table = table.append_column(name, values) if place < 0 else table.set_column(place, name, values)
    return tuple_set.with_tuples(table, {})


def variants() -> list[TupleSet]:
    """Groups that are items, groups of their own, weights, missing labels, lists."""
    plain, generator = tiny_tuple_set(), np.random.default_rng(0)
    own = pa.array([f"g{number}" for number in generator.integers(0, 30, 400)])
    gaps = pa.array([None if number % 3 else float(number % 2) for number in range(400)])
    lists = pa.array([None if number > 350 else number // 2 for number in range(400)], pa.int64())
    return [
        plain,
        changed(plain, group=own, weight=pa.array(generator.random(400)), label=gaps),
        changed(plain, list=lists),
    ]


def test_a_tuple_set_in_pieces_is_the_same(tmp_path: Path, small_pieces: None) -> None:
    with pytest.MonkeyPatch.context() as whole:
        whole.setattr(scratch, "IN_MEMORY_BYTES", 1 << 26)
        whole.setattr(scratch, "PIECE_ROWS", 1 << 20)
        expected = []
        for number, one in enumerate(variants()):
            one.save(tmp_path / str(number))
            expected.append((one.fingerprint, one.split(), one.split("train", "test"), one.split("valid")))
    for number, (fingerprint, everything, some, few) in enumerate(expected):
        read = TupleSet.load(tmp_path / str(number))
        assert read.fingerprint == fingerprint
        assert read.tuples.column("query").num_chunks >= 1
        assert [len(one) for one in read.collections.values()] == [
            len(one) for one in variants()[number].collections.values()
        ]
        same(read.split(), everything)
        same(read.split("train", "test"), some)
        same(read.split("valid"), few)
        rows = np.random.default_rng(1).permutation(len(some))[:150]
        same(read.split("train", "test").take(rows), some.take(rows))


@pytest.mark.parametrize("most", [scratch.NARROW_BYTES, 4])
def test_strings_in_files_are_strings(most: int, small_pieces: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "NARROW_BYTES", most)
    for kind, values in ((str, ["", "één", "a b", "日本", "", "x"]), (bytes, [b"\xff\x00", b"", b"PNG"])):
        chunks = pa.chunked_array([pa.array(values), pa.array(values).slice(1), pa.array(values).slice(0, 0)])
        found = scratch.scratch_strings(lambda chunks=chunks: iter(chunks.chunks), kind)
        found.validate(full=True)
        assert found.to_pylist() == chunks.to_pylist()
        assert str(found.type) == ("large_" if most == 4 else "") + {str: "string", bytes: "binary"}[kind]


def test_one_item_a_row_and_wide_ids_are_found(
    tmp_path: Path, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "NARROW_BYTES", 10)
    plain = tiny_tuple_set()
    plain.save(tmp_path)
    read = TupleSet.load(tmp_path)
    assert all(str(one.ids.type) == "large_string" for one in read.collections.values())
    np.testing.assert_array_equal(read.index, plain.index)
    assert read.texts(1, np.array([3, 0])) == plain.texts(1, np.array([3, 0]))
    for position, one in enumerate(plain.fields):
        ids = plain.collections[one.collection].ids
        mixed = ids.take(pa.array([*range(100), *range(99, -1, -1)])) if len(ids) >= 100 else ids
        rows = plain.tuples.slice(0, len(mixed)).set_column(plain.tuples.column_names.index(one.name), one.name, mixed)
        expected = [ids.index(value).as_py() for value in mixed]
        assert plain.with_tuples(rows, {}).index[:, position].tolist() == expected


def test_an_item_without_text_has_its_row(tmp_path: Path, small_pieces: None) -> None:
    broken = tiny_tuple_set()
    ids = broken.tuples["item"].to_pylist()
    ids[333] = "nothing"
    with pytest.raises(InputError, match=r"tuples.parquet, row 334, column 'item': the id 'nothing' has no text"):
        changed(broken, item=pa.array(ids)).index  # noqa: B018


def test_positions_and_take(small_pieces: None) -> None:
    generator = np.random.default_rng(0)
    mask, values = generator.random(1000) < 0.3, generator.random((1000, 2))
    rows = scratch.positions(1000, lambda piece: mask[piece])
    np.testing.assert_array_equal(rows, np.flatnonzero(mask))
    np.testing.assert_array_equal(scratch.take(values, rows), values[rows])
    assert scratch.scratch_array((0, 2), np.float32).shape == (0, 2)
    assert len(scratch.positions(0, lambda piece: mask[piece])) == 0


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch, small_pieces: None) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match=r"a temporary file of 80 bytes cannot be written: No space.*TMPDIR"):
        scratch.scratch_array((10,), np.int64)
    table = pa.table({"x": [1]})
    monkeypatch.setattr(pa.ipc, "new_file", full)
    with pytest.raises(InputError, match="a temporary file cannot be written: No space"):
        scratch.scratch_table(iter(table.to_batches()), table.schema)


def test_scores_in_pieces(tmp_path: Path, small_pieces: None) -> None:
    from pairstill.teachers.import_scores import import_scores

    tuple_set = tiny_tuple_set()
    values = np.random.default_rng(0).normal(size=400).astype(np.float32)
    order = np.random.default_rng(1).permutation(400)[:300]
    (tmp_path / "scores.tsv").write_text("row\tscore\n" + "".join(f"{row}\t{values[row]:.9g}\n" for row in order))
    scores = import_scores(tmp_path / "scores.tsv", tuple_set, tmp_path / "scores", kind="logit", shard_rows=70)
    np.testing.assert_array_equal(scores.rows, np.sort(order))
    wanted = np.random.default_rng(2).permutation(400)
    expected = np.where(np.isin(wanted, order), values[wanted], np.nan)
    np.testing.assert_array_equal(scores.for_rows(wanted)[:, 0], expected)
    half = [
        TeacherScores(scores.manifest, scores.rows[part], scores.logits[part]) for part in (slice(130), slice(130, 300))
    ]
    whole = TeacherScores.concatenate(half[::-1])
    np.testing.assert_array_equal(whole.for_rows(wanted), scores.for_rows(wanted))
    with pytest.raises(InputError, match="score the same row"):
        TeacherScores.concatenate([half[0], half[0]])
    with pytest.raises(InputError, match=r"row \d+ of the tuple set has no score \(100 labelled rows have none\)"):
        write_triple_scores(tmp_path / "out.tsv", tuple_set, scores)


def on_disk(array: np.ndarray) -> bool:
    """Whether an array is a view of a mapped file."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base.obj if isinstance(base, memoryview) else base, mmap.mmap)


def test_what_training_holds_of_its_rows_is_on_disk(tmp_path: Path, small_pieces: None) -> None:
    from pairstill.cli.training import training_data
    from pairstill.losses import DistillationLoss, MarginMSE
    from pairstill.teachers.import_scores import import_scores

    variants()[2].save(tmp_path / "tuples")
    tuple_set = TupleSet.load(tmp_path / "tuples")
    (tmp_path / "scores.tsv").write_text(
        "row\tscore\n" + "".join(f"{row}\t{row}\n" for row in range(400) if row % 6 < 2)
    )
    import_scores(tmp_path / "scores.tsv", tuple_set, tmp_path / "scores", kind="logit")
    for loss in (DistillationLoss(), MarginMSE()):
        data, scores = training_data(tuple_set, [tmp_path / "scores"], ["train"], loss, 0.0)
        assert scores is not None
        arrays = {"scores": scores.logits, "their rows": scores.rows, "logits": data.teacher_logits}
        arrays |= {name: getattr(data.tuples, name) for name in ("index", "rows", "labels", "groups", "lists")}
        assert len(data.tuples) > 20
        assert {name for name, array in arrays.items() if not on_disk(array)} == set()
    assert not on_disk(np.empty(3))
