"""Precisions, strides, the prepared part, export."""

from __future__ import annotations

import itertools
import mmap
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.store import RepresentationStore, StoreEditor, StoreWriter, write_store
from pairstill.store.quantise import from_int8, from_levels, to_int8, to_levels, to_precision, widened_arrays
from store_samples import make, write

DTYPES = ["float32", "float16", "bfloat16", "int8"]


def rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    """What a store of this precision makes of floats."""
    return widened_arrays(to_precision("x", array, dtype))["x"]


@settings(max_examples=30, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    stride=st.sampled_from(["fixed", "ragged"]),
    cuts=st.sets(st.integers(1, 10), max_size=4),
)
def test_bytes_do_not_depend_on_the_blocks_that_are_written(dtype: str, stride: str, cuts: set[int]) -> None:
    """Scales of 8-bit vectors among them: they are a vector's own, never a batch's."""
    block, prepared = make(11, extra=True), make(11, seed=1).vectors
    found = []
    with tempfile.TemporaryDirectory() as name:
        for folder, edges in ((Path(name) / "a", [0, 11]), (Path(name) / "b", [0, *sorted(cuts), 11])):
            with StoreWriter(
                folder, encoder_fingerprint="abc", field="query", dtype=dtype, stride=stride, shard_rows=4
            ) as writer:
                for start, stop in itertools.pairwise(edges):
                    part = {"key": prepared[start:stop]} if stride == "fixed" else None
                    writer.append(block.take(slice(start, stop)), prepared=part)
                writer.finish()
            found.append({path.name: path.read_bytes() for path in folder.glob("*.safetensors")})
    assert found[0] == found[1]


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=3, max_side=6),
        elements=st.floats(-(2.0**99), 2.0**99, width=32),
    )
)
def test_8_bits_are_at_most_half_a_level_off(array: np.ndarray) -> None:
    levels, scales = to_int8(array)
    assert levels.dtype == np.int8
    assert scales.shape == array.shape[:-1]
    largest = np.abs(array).max(axis=-1)
    error = np.abs(from_int8(levels, scales).astype(np.float64) - array)
    assert (error <= largest[..., None] / 254 * (1 + 1e-5) + 1e-35).all()
    # Rounding again changes nothing: the largest level is 127.
    again, _ = to_int8(from_int8(levels, scales))
    np.testing.assert_array_equal(again, levels)


def test_8_bits_keep_the_direction_of_vectors() -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 128)).astype(np.float32)
    wide = from_int8(*to_int8(vectors))
    cosine = (vectors * wide).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(wide, axis=1)
    assert cosine.min() > 0.9999


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=3, max_side=6), elements=st.floats(-1, 1, width=32))
)
def test_levels_are_the_formula_and_stay_as_they_are(array: np.ndarray) -> None:
    levels = to_levels(array)
    assert levels.dtype == np.uint8
    for value, level in zip(array.ravel().tolist(), levels.ravel().tolist(), strict=True):
        assert abs((value + 1) / (2 / 255) - level) <= 0.5 + 1e-4
        assert from_levels(np.array([level], np.uint8))[0] == pytest.approx(level * (2 / 255) - 1, abs=1e-6)
    np.testing.assert_array_equal(to_levels(from_levels(levels)), levels)


def test_a_store_of_levels(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    vectors = from_levels(np.random.default_rng(0).integers(0, 256, (9, 1, 4)).astype(np.uint8))
    similarity = make(9, extra=True).similarity
    block = Representation(vectors, np.ones(9, np.int64), similarity=similarity)
    store = write(tmp_path / "levels", block, dtype="uint8")
    rows = np.array([8, 0, 3, 3])
    read = store.gather(rows, widen=True)
    np.testing.assert_array_equal(read.vectors, vectors[rows])
    assert read.similarity is not None
    np.testing.assert_array_equal(read.similarity, similarity[rows])
    assert store.gather(rows).vectors.dtype == np.uint8
    assert torch.equal(store.gather_tensors(rows).vectors, torch.from_numpy(vectors[rows]))
    assert torch.equal(store.gather_tensors(rows, torch.bfloat16).vectors, torch.from_numpy(vectors[rows]).bfloat16())
    plain = write(tmp_path / "plain", Representation(vectors, np.ones(9, np.int64)), dtype="uint8")
    assert plain.bytes_per_item() == 4
    assert vectors.reshape(9, 4)[2].tolist() == plain.gather([2], widen=True).vectors[0, 0].tolist()


def test_what_levels_cannot_hold_is_refused(tmp_path: Path) -> None:
    one = Representation(np.full((2, 1, 3), 1.5, np.float32), np.ones(2, np.int64))
    with pytest.raises(InputError, match=r"a value is 1\.5, beyond the levels of a uint8 store\. Expected: -1 to 1"):
        write(tmp_path / "a", one, dtype="uint8")
    with pytest.raises(InputError, match="a value is nan"):
        write(tmp_path / "b", one.map(lambda array: array * np.nan if array.ndim > 1 else array), dtype="uint8")
    with pytest.raises(InputError, match=r"items keep up to 3 vectors, and levels of uint8 have no zero to pad with"):
        write(tmp_path / "c", make(4), dtype="uint8")
    whole = Representation(np.zeros((2, 1, 3), np.uint8), np.ones(2, np.int64))
    with pytest.raises(InputError, match="the array 'vectors' has the type uint8"):
        write(tmp_path / "e", whole)
    with pytest.raises(InputError, match="a ragged store has no uint8 levels"):
        write(tmp_path / "d", one, dtype="uint8", stride="ragged")


def test_values_that_a_precision_cannot_hold_are_refused(tmp_path: Path) -> None:
    def block(value: float) -> Representation[np.ndarray]:
        return Representation(np.full((1, 1, 2), value, np.float32), np.array([1]))

    with pytest.raises(InputError, match="not finite"):
        write(tmp_path / "a", block(np.nan), dtype="int8")
    with pytest.raises(InputError, match=r"a value is 70000, beyond float16\. Expected: at most 65504"):
        write(tmp_path / "b", block(70_000), dtype="float16")
    with pytest.raises(InputError, match="the stride 'loose' is unknown"):
        write(tmp_path / "c", block(1), stride="loose")


@settings(max_examples=30, deadline=None)
@given(
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    dtype=st.sampled_from(DTYPES),
    token_ids=st.booleans(),
    shard_rows=st.integers(1, 9),
    extra=st.booleans(),
    data=st.data(),
)
def test_ragged_items_come_back(
    widths: list[int], dtype: str, token_ids: bool, shard_rows: int, extra: bool, data: st.DataObject
) -> None:
    blocks = [make(4, width, seed=seed, extra=extra, ids=token_ids) for seed, width in enumerate(widths)]
    rows = 4 * len(widths)
    wanted = np.array(data.draw(st.lists(st.integers(0, rows - 1), max_size=20)), np.int64)
    with tempfile.TemporaryDirectory() as name:
        with StoreWriter(
            name, encoder_fingerprint="abc", field="query", dtype=dtype, stride="ragged", shard_rows=shard_rows
        ) as writer:
            for block in blocks:
                writer.append(block)
            writer.finish()
        store = RepresentationStore.open(name)
        read, raw = store.gather(wanted, widen=True), store.gather(wanted)
        assert store.bytes_per_item() > 0 or not any(block.lengths.any() for block in blocks)
    lengths = np.concatenate([block.lengths for block in blocks])
    assert len(store) == rows
    assert store.tokens == lengths.max()
    assert store.dim == (None if token_ids else 4)
    np.testing.assert_array_equal(read.lengths, lengths[wanted])
    width = max(1, int(lengths[wanted].max(initial=0)))
    assert read.vectors.shape[:2] == (len(wanted), width)
    for position, row in enumerate(wanted):
        block, length = blocks[row // 4], lengths[row]
        expected = block.vectors[row % 4][:length]
        if not token_ids:
            expected = rounded(expected, dtype)
        np.testing.assert_array_equal(read.vectors[position, :length], expected)
        assert not read.vectors[position, length:].any()
        if extra and block.similarity is not None and block.scalars is not None:
            assert read.similarity is not None
            assert read.scalars is not None
            np.testing.assert_array_equal(read.similarity[position], rounded(block.similarity, dtype)[row % 4])
            np.testing.assert_array_equal(read.scalars[position], block.scalars[row % 4])
    if raw.scales is not None:
        np.testing.assert_array_equal(from_int8(raw.vectors, raw.scales), read.vectors)


def test_a_ragged_writer_resumes(tmp_path: Path) -> None:
    block = make(10, 5)

    def run(folder: Path, stop_at: int) -> RepresentationStore:
        def encode(start: int, stop: int) -> Representation[np.ndarray]:
            if start >= stop_at:
                raise KeyboardInterrupt
            part = block.take(slice(start, stop))
            longest = max(1, int(part.lengths.max()))
            return Representation(part.vectors[:, :longest], part.lengths)

        return write_store(folder, encode, 10, encoder_fingerprint="a", field="q", stride="ragged", shard_rows=3)

    run(tmp_path / "whole", 99)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", 6)
    store = run(tmp_path / "broken", 99)
    for path in (tmp_path / "whole").glob("*.*s*"):
        if path.name != "summary.json":
            assert path.read_bytes() == (tmp_path / "broken" / path.name).read_bytes()
    assert store.tokens == block.lengths.max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stride", ["fixed", "ragged"])
def test_tensors_in_any_precision(tmp_path: Path, dtype: str, stride: str) -> None:
    torch = pytest.importorskip("torch")
    block = make(9, extra=True)
    store = write(tmp_path, block, dtype=dtype, stride=stride)
    rows = np.array([8, 0, 3, 3])
    wide = store.gather(rows, widen=True)
    assert (wide.vectors.dtype, wide.scales) == (np.float32, None)
    for wanted in (torch.float32, torch.bfloat16):
        read = store.gather_tensors(rows, dtype=wanted)
        assert read.scales is None
        assert read.vectors.dtype == read.similarity.dtype == wanted
        assert torch.equal(read.vectors, torch.from_numpy(wide.vectors).to(wanted))
        assert torch.equal(read.similarity, torch.from_numpy(wide.similarity).to(wanted))
        assert read.scalars.dtype == torch.float32
        assert read.lengths.dtype == torch.int64
    stored = store.gather_tensors(rows)
    assert stored.vectors.dtype == getattr(torch, dtype)
    if dtype == "int8":
        assert torch.equal(stored.vectors * stored.scales[..., None], torch.from_numpy(wide.vectors))
        assert torch.equal(stored.similarity, torch.from_numpy(wide.similarity))
        np.testing.assert_array_equal(store.gather(rows).similarity, wide.similarity)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_prepared_part(tmp_path: Path, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    block = make(7)
    prepared = {
        "key": make(7, seed=1).vectors,
        "value": make(7, 2, 5, seed=2).vectors,
        "norm": make(7, seed=3).vectors[:, 0],
    }
    store = write_store(
        tmp_path, lambda start, stop: block.take(slice(start, stop)), 7, encoder_fingerprint="abc", field="query",
        dtype=dtype, shard_rows=3, block_rows=2, prepared_fingerprint="head",
        prepare=lambda part: {
            name: array[[int(np.flatnonzero((block.vectors == one).all(axis=(1, 2)))[0]) for one in part.vectors]]
            for name, array in prepared.items()
        },
    )  # fmt: skip
    store = RepresentationStore.open(tmp_path, "abc", prepared_fingerprint="head")
    assert store.prepared_names == ["key", "norm", "value"]
    rows = np.array([6, 2, 2])
    read, tensors = store.gather_prepared(rows), store.gather_prepared_tensors(rows, torch.bfloat16)
    for name, array in prepared.items():
        np.testing.assert_array_equal(read[name], rounded(array, dtype)[rows])
        assert torch.equal(tensors[name], torch.from_numpy(read[name]).bfloat16())
    assert list(store.gather(rows).arrays()) == ["vectors", "lengths", *(["scales"] if dtype == "int8" else [])]
    assert write(tmp_path / "none", block).gather_prepared(rows) == {}
    with pytest.raises(InputError, match="a ragged store keeps no prepared part"):
        write(tmp_path / "ragged", block, stride="ragged", prepared=prepared)
    with pytest.raises(InputError, match=r"7 lengths and 3 rows of 'prepared\.key'"):
        write(tmp_path / "short", block, prepared={"key": prepared["key"][:3]})
    with pytest.raises(InputError, match=r"'prepared\.key' has the type int64\. Expected: floats"):
        write(tmp_path / "whole", block, prepared={"key": np.zeros((7, 2), np.int64)})


def test_shards_lie_side_by_side_in_memory(tmp_path: Path) -> None:
    """One run, and so one np.take, where whole shards fill pages; and the same values where they do not."""
    rows = mmap.PAGESIZE // 8
    for count, shard_rows, runs in (
        (3 * rows, rows, 1),
        (3 * rows + 5, rows, 2),
        (3 * rows + 5, rows - 1, 4),
        (2 * rows - 1, rows, 2),
    ):
        block = make(count, 2, 4)
        store = write(tmp_path / f"{count}-{shard_rows}", block, shard_rows=shard_rows)
        assert len(store._files._columns["vectors"].runs) == runs
        for wanted in (np.random.default_rng(0).integers(0, count, 300), np.arange(count)[::-1], np.array([count - 1])):
            np.testing.assert_array_equal(store.gather(wanted).vectors, block.vectors[wanted])
            np.testing.assert_array_equal(store.gather(wanted).lengths, block.lengths[wanted])


def test_memory_of_the_caller_may_be_used_again(tmp_path: Path) -> None:
    memory = make(4)
    expected = memory.vectors.copy()
    with StoreWriter(tmp_path, encoder_fingerprint="abc", field="query") as writer:
        writer.append(memory)
        memory.vectors[:] = 0
        memory.lengths[:] = 0
        store = writer.finish()
    np.testing.assert_array_equal(store.gather(range(4)).vectors, expected)


@pytest.mark.parametrize("stride", ["fixed", "ragged"])
@pytest.mark.parametrize("ids", [None, "text", "number"])
@pytest.mark.parametrize("empty", [False, True])
def test_export(tmp_path: Path, stride: str, ids: str | None, empty: bool) -> None:
    block = make(9, extra=True)
    names: Any = {None: None, "text": [f"é{row}" for row in range(9)], "number": list(range(9))}[ids]
    prepared = {"key": make(9, seed=5).vectors} if stride == "fixed" else None
    store = write(tmp_path / "store", block, dtype="bfloat16", stride=stride, ids=names, prepared=prepared)
    kept = np.arange(9)
    if names is not None:
        gone = names if empty else names[3:5]
        with StoreEditor(tmp_path / "store") as editor:
            editor.delete(gone)
            store = editor.commit()
        kept = np.setdiff1d(kept, np.arange(9) if empty else [3, 4])
    wide = store.gather(np.arange(len(store)), widen=True)
    store.export_parquet(tmp_path / "out.parquet")
    store.export_numpy(tmp_path / "numpy")
    table = pq.read_table(tmp_path / "out.parquet")
    loaded = {path.stem: np.load(path) for path in (tmp_path / "numpy").iterdir()}
    if names is not None:
        assert table.column("id").to_pylist() == [names[row] for row in kept] == loaded["ids"].tolist()
    assert table.column("length").to_pylist() == wide.lengths.tolist() == loaded["lengths"].tolist()
    np.testing.assert_array_equal(loaded["similarity"], wide.similarity)
    np.testing.assert_array_equal(loaded["scalars"], wide.scalars)
    rows = table.column("vectors").to_pylist()
    if stride == "fixed":
        np.testing.assert_array_equal(loaded["vectors"], wide.vectors)
        assert rows == wide.vectors.tolist()
        np.testing.assert_array_equal(loaded["prepared.key"], store.gather_prepared(range(len(store)))["key"])
    else:
        for row, (start, stop) in enumerate(itertools.pairwise(loaded["offsets"])):
            np.testing.assert_array_equal(loaded["vectors"][start:stop], wide.vectors[row, : wide.lengths[row]])
            assert rows[row] == wide.vectors[row, : wide.lengths[row]].tolist()
    with pytest.raises(InputError, match="the folder exists"):
        store.export_numpy(tmp_path / "numpy")


def test_an_id_that_numpy_would_change_is_not_exported(tmp_path: Path) -> None:
    store = write(tmp_path / "store", make(2), ids=["a", "b\0"])
    with pytest.raises(InputError, match="ends with a NUL character"):
        store.export_numpy(tmp_path / "numpy")
    store.export_parquet(tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").column("id").to_pylist() == ["a", "b\0"]


def test_the_store_does_not_import_torch() -> None:
    code = "import sys, pairstill.store; assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


MOST_MEMORY = """
import sys
from pathlib import Path
import numpy as np
from pairstill.representation import Representation
from pairstill.store import RepresentationStore, StoreWriter

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024

def write_and_read(folder, rows, block=256):
    most, random = [], np.random.default_rng(0)
    with StoreWriter(folder, encoder_fingerprint="abc", field="item", shard_rows=1024) as writer:
        for start in range(0, rows, block):
            vectors = np.repeat(np.arange(start, start + block, dtype=np.float32), 2048).reshape(block, 16, 128)
            writer.append(Representation(vectors, np.full(block, 16)))
            most.append(anonymous())
        writer.finish(np.arange(rows))
    store = RepresentationStore.open(folder)
    for _ in range(rows // block):
        wanted = random.integers(0, rows, block)
        assert (store.gather(store.find(wanted)).vectors == wanted[:, None, None]).all()
        most.append(anonymous())
    return sum(one.bytes for one in store.manifest.files), max(most)

small, before = write_and_read(sys.argv[1] + "/small", 2048)
large, after = write_and_read(sys.argv[1] + "/large", 16_384)
print(small, large, after - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_store(tmp_path: Path) -> None:
    """Eight times the items are written, opened and gathered from in the same memory, give or take a shard of 8 MB."""
    done = subprocess.run(
        [sys.executable, "-c", MOST_MEMORY, str(tmp_path)], check=True, capture_output=True, text=True, timeout=120
    )
    small, large, more = map(int, done.stdout.split())
    assert large > 134_000_000 > 7 * small
    assert more < 9_000_000
