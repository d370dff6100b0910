from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.errors import ArtefactError, InputError
from pairstill.files import read_json
from pairstill.representation import Representation
from pairstill.store import RepresentationStore, StoreWriter, write_store
from pairstill.store.quantise import from_bfloat16, to_bfloat16
from store_samples import make, write


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 30),
    shard_rows=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 30), max_size=4),
    dtype=st.sampled_from(["float32", "float16", "bfloat16"]),
    extra=st.booleans(),
    data=st.data(),
)
def test_what_is_written_is_read_in_any_order(
    rows: int, shard_rows: int, cuts: list[int], dtype: str, extra: bool, data: st.DataObject
) -> None:
    block = make(rows, extra=extra)
    edges = sorted({0, rows, *(cut for cut in cuts if cut < rows)})
    wanted = np.array(data.draw(st.lists(st.integers(0, rows - 1), max_size=50)), dtype=np.int64)
    with tempfile.TemporaryDirectory() as name:
        ids = [f"item {row}" for row in range(rows)]
        with StoreWriter(name, encoder_fingerprint="abc", field="query", dtype=dtype, shard_rows=shard_rows) as writer:
            for start, stop in itertools.pairwise(edges):
                writer.append(block.take(slice(start, stop)))
            writer.finish(ids)
        store = RepresentationStore.open(name, "abc")
        assert (len(store), store.tokens, store.dim, store.field, store.dtype) == (rows, 3, 4, "query", dtype)
        assert store.ids is not None
        assert store.ids.to_pylist() == ids
        read = store.gather(wanted, widen=True)
    expected = block.take(wanted)
    assert list(read.arrays()) == list(expected.arrays())
    for key, array in expected.arrays().items():
        if key in ("vectors", "similarity") and dtype == "float16":
            array = array.astype(np.float16).astype(np.float32)
        if key in ("vectors", "similarity") and dtype == "bfloat16":
            array = from_bfloat16(to_bfloat16(array))
        np.testing.assert_array_equal(getattr(read, key), array)
        assert getattr(read, key).dtype == array.dtype


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 30), shard_rows=st.integers(1, 9), stops=st.lists(st.integers(0, 12), max_size=3))
def test_interrupted_writing_resumes_to_the_same_bytes(rows: int, shard_rows: int, stops: list[int]) -> None:
    block = make(rows)
    asked: list[int] = []
    with tempfile.TemporaryDirectory() as name:
        whole = write_store(
            Path(name) / "whole", lambda start, stop: block.take(slice(start, stop)), rows,
            encoder_fingerprint="abc", field="query", shard_rows=shard_rows, block_rows=3,
        )  # fmt: skip
        folder = Path(name) / "broken"

        def run(calls: int) -> RepresentationStore:
            left = calls

            def encode(start: int, stop: int) -> Representation[np.ndarray]:
                nonlocal left
                if left == 0:
                    raise KeyboardInterrupt
                left -= 1
                asked.extend(range(start, stop))
                return block.take(slice(start, stop))

            return write_store(
                folder, encode, rows, encoder_fingerprint="abc", field="query", shard_rows=shard_rows, block_rows=3
            )

        for calls in stops:
            try:
                run(calls)
                break
            except KeyboardInterrupt:
                with pytest.raises(ArtefactError, match=r"no manifest\.json"):
                    RepresentationStore.open(folder)
        store = run(10_000)
        asked.clear()
        run(0)  # finished: nothing is encoded again
        assert asked == []
        assert read_json(folder / "manifest.json") == read_json(whole.folder / "manifest.json")
        for path in whole.folder.glob("*.safetensors"):
            assert (folder / path.name).read_bytes() == path.read_bytes()
        np.testing.assert_array_equal(store.gather(np.arange(rows)).vectors, block.vectors)


def test_finished_shards_are_not_encoded_again(tmp_path: Path) -> None:
    block = make(10)
    with StoreWriter(tmp_path, encoder_fingerprint="abc", field="query", shard_rows=4) as writer:
        writer.append(block.take(slice(0, 6)))
    with StoreWriter(tmp_path, encoder_fingerprint="abc", field="query", shard_rows=4) as writer:
        assert writer.rows == 4
        writer.append(block.take(slice(4, 10)))
        store = writer.finish()
    np.testing.assert_array_equal(store.gather(np.arange(10)).vectors, block.vectors)


def test_token_ids_keep_their_type(tmp_path: Path) -> None:
    ids = Representation(np.arange(12, dtype=np.int32).reshape(4, 3), np.array([3, 2, 1, 0]))
    store = write(tmp_path, ids, dtype="bfloat16")
    read = store.gather([3, 0])
    assert (store.dim, store.tokens, store.bytes_per_item()) == (None, 3, 12)
    assert read.vectors.dtype == np.int32
    assert read.vectors.tolist() == [[9, 10, 11], [0, 1, 2]]
    assert read.lengths.tolist() == [0, 3]


def test_shards_open_with_the_safetensors_library(tmp_path: Path) -> None:
    numpy_safetensors = pytest.importorskip("safetensors.numpy")
    block = make(3, extra=True)
    write(tmp_path, block)
    loaded = numpy_safetensors.load_file(tmp_path / "shard-00000.safetensors")
    for key, array in block.arrays().items():
        np.testing.assert_array_equal(loaded[key], array)


def test_tensors_come_in_the_stored_precision(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    block = make(9, extra=True)
    tensors = block.map(torch.from_numpy)
    half = Representation(tensors.vectors.bfloat16(), tensors.lengths, tensors.similarity.bfloat16(), tensors.scalars)
    with StoreWriter(
        tmp_path / "a", encoder_fingerprint="abc", field="query", dtype="bfloat16", shard_rows=4
    ) as writer:
        writer.append(half)
        store = writer.finish()
    rows = np.array([8, 0, 3, 3])
    read = store.gather_tensors(rows)
    assert read.vectors.dtype == torch.bfloat16
    assert torch.equal(read.vectors, half.vectors[rows])
    assert torch.equal(read.similarity, half.similarity[rows])
    assert read.scalars.dtype == torch.float32
    wide = write(tmp_path / "b", half, dtype="float32")
    assert torch.equal(wide.gather_tensors(rows).vectors, half.vectors[rows].float())


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_bfloat16_rounds_as_torch_does(values: list[float]) -> None:
    torch = pytest.importorskip("torch")
    array = np.array(values, np.float32)
    expected = torch.from_numpy(array.copy()).bfloat16().float().numpy()
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(from_bfloat16(to_bfloat16(array)), expected)


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    write(tmp_path, make(2))
    with pytest.raises(ArtefactError, match=r"made by another encoder \(abc\)"):
        RepresentationStore.open(tmp_path, "def")
    with (
        pytest.raises(ArtefactError, match="encoder_fingerprint was 'abc' and is 'def'"),
        StoreWriter(tmp_path, encoder_fingerprint="def", field="query", shard_rows=4),
    ):
        pass


@pytest.mark.parametrize("row", [-1, 6])
def test_rows_out_of_range_are_refused(tmp_path: Path, row: int) -> None:
    store = write(tmp_path, make(6))
    with pytest.raises(InputError, match=f"the row {row} is asked for. Expected: 0 to 5"):
        store.gather(np.array([0, row]))


def test_blocks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, encoder_fingerprint="abc", field="query") as writer:
        with pytest.raises(InputError, match="the store has no rows"):
            writer.finish()
        writer.append(make(2))
        with pytest.raises(InputError, match="as the blocks before it"):
            writer.append(make(2, dim=5))
        with pytest.raises(InputError, match="1 ids are given for 2 rows"):
            writer.finish(["a"])
        with pytest.raises(InputError, match="0 to 3, the tokens kept"):
            writer.append(Representation(np.zeros((1, 3, 4), np.float32), np.array([4])))
        with pytest.raises(InputError, match="1 lengths and 2 rows of 'vectors'"):
            writer.append(Representation(np.zeros((2, 3, 4), np.float32), np.array([1])))
        with pytest.raises(InputError, match="have 1 dimensions"):
            writer.append(Representation(np.zeros(1, np.float32), np.array([1])))
        with pytest.raises(InputError, match="has the type uint32"):
            writer.append(Representation(np.zeros((1, 3), np.uint32), np.array([1])))
    with pytest.raises(InputError, match="'float8' is unknown"):
        StoreWriter(tmp_path, encoder_fingerprint="abc", field="query", dtype="float8")
    with pytest.raises(InputError, match="rows per shard is 0"):
        StoreWriter(tmp_path, encoder_fingerprint="abc", field="query", shard_rows=0)
    with pytest.raises(InputError, match="the encoder returned 1 items"):
        write_store(tmp_path / "b", lambda start, stop: make(1), 2, encoder_fingerprint="abc", field="query")
