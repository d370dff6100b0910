from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.errors import ArtefactError, InputError
from pairstill.files import read_json, write_json
from pairstill.representation import Representation
from pairstill.store import RepresentationStore, StoreWriter, write_store
from pairstill.store.quantise import from_bfloat16, to_bfloat16


def make(rows: int, tokens: int = 3, dim: int = 4, seed: int = 0, extra: bool = False) -> Representation[np.ndarray]:
    random = np.random.default_rng(seed)
    return Representation(
        vectors=random.normal(size=(rows, tokens, dim)).astype(np.float32),
        lengths=random.integers(0, tokens + 1, rows),
        similarity=random.normal(size=(rows, dim)).astype(np.float32) if extra else None,
        scalars=random.normal(size=(rows, 2)).astype(np.float32) if extra else None,
    )


def write(
    folder: Path, block: Representation[np.ndarray], *, shard_rows: int = 4, dtype: str = "float32"
) -> RepresentationStore:
    with StoreWriter(folder, encoder_fingerprint="abc", field="query", dtype=dtype, shard_rows=shard_rows) as writer:
        writer.append(block)
        return writer.finish()


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


@settings(max_examples=40, deadline=None)
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


def test_golden_bytes(tmp_path: Path) -> None:
    """The format of docs/formats.md; when this fails, stores that users have can no longer be read."""
    block = Representation(np.array([[[1.0, -2.5]], [[0.1, 0.0]]], np.float32), np.array([1, 0]))
    write(tmp_path, block, dtype="bfloat16")
    data = (tmp_path / "shard-00000.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    assert (size + 8) % 16_384 == 0
    assert json.loads(data[8 : 8 + size]) == {
        "lengths": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]},
        "vectors": {"dtype": "BF16", "shape": [2, 1, 2], "data_offsets": [16, 24]},
    }
    assert data[8 + size :].hex() == "0100000000000000" + "0000000000000000" + "803f20c0cd3d0000"
    assert hashlib.sha256(data).hexdigest() == "95de0dd247d9426566daa0e9846f7ef958c7e2d1440915d8f46857069fecc526"
    manifest = read_json(tmp_path / "manifest.json")
    assert manifest == {
        "format": "pairstill/representation-store", "version": 2, "generation": 1, "encoder_fingerprint": "abc",
        "field": "query", "dtype": "bfloat16", "stride": "fixed", "shard_rows": 4, "provenance": {},
        "prepared_fingerprint": None, "rows": 2, "tokens": 1, "dim": 2,
        "arrays": {"vectors": {"dtype": "BF16", "shape": [1, 2]}, "lengths": {"dtype": "I64", "shape": []}},
        "shards": [
            {"file": "shard-00000.safetensors", "start": 0, "rows": 2, "bytes": len(data),
             "sha256": hashlib.sha256(data).hexdigest()}
        ],
        "ids": None, "deletions": None,
    }  # fmt: skip


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


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("store")
    write(folder, make(6))
    return folder


SHARD = "shard-00000.safetensors"


def truncate(folder: Path) -> None:
    data = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(data[:-5])


def flip(folder: Path) -> None:
    data = bytearray((folder / SHARD).read_bytes())
    data[-1] ^= 1
    (folder / SHARD).write_bytes(data)


def empty(folder: Path) -> None:
    (folder / SHARD).write_bytes(b"")


def remove(folder: Path) -> None:
    (folder / SHARD).unlink()


def unfinished(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def newer(folder: Path) -> None:
    write_json(folder / "manifest.json", {**read_json(folder / "manifest.json"), "version": 3})


def other_format(folder: Path) -> None:
    write_json(folder / "manifest.json", {**read_json(folder / "manifest.json"), "format": "pairstill/tuple-set"})


def other_shape(folder: Path) -> None:
    body = read_json(folder / "manifest.json")
    body["arrays"]["vectors"]["shape"] = [3, 5]
    write_json(folder / "manifest.json", body)


@pytest.mark.parametrize("checksums", [True, False])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "bytes|ends at byte"),
        (empty, "0 bytes|empty"),
        (remove, "missing"),
        (unfinished, r"no manifest\.json"),
        (newer, "Upgrade pairstill"),
        (other_format, "'pairstill/tuple-set'"),
        (other_shape, "the shard holds"),
    ],
)
def test_a_bad_store_is_refused(good: Path, tmp_path: Path, damage: object, message: str, checksums: bool) -> None:
    folder = tmp_path / "store"
    shutil.copytree(good, folder)
    damage(folder)  # type: ignore[operator]
    with pytest.raises(ArtefactError, match=message) as caught:
        RepresentationStore.open(folder, checksums=checksums)
    assert str(folder) in str(caught.value)


def test_a_flipped_bit_is_found_by_the_checksum(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    shutil.copytree(good, folder)
    flip(folder)
    with pytest.raises(ArtefactError, match="damaged"):
        RepresentationStore.open(folder)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"not json", "cannot be read"),
        (b'{"vectors": 5}', "cannot be read"),
        (b'{"vectors": {"dtype": "Q8", "shape": [1], "data_offsets": [0, 1]}}', "'Q8' of 'vectors' is unknown"),
        (b'{"vectors": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1]}}', "do not fit its shape"),
        (b"{}", "more than its header says"),
    ],
)
def test_a_header_that_lies_is_refused(good: Path, tmp_path: Path, header: bytes, message: str) -> None:
    folder = tmp_path / "store"
    shutil.copytree(good, folder)
    data = (folder / SHARD).read_bytes()
    size = int.from_bytes(data[:8], "little")
    (folder / SHARD).write_bytes(data[:8] + header.ljust(size) + data[8 + size :])
    with pytest.raises(ArtefactError, match=message):
        RepresentationStore.open(folder, checksums=False)


@pytest.mark.parametrize("row", [-1, 6])
def test_rows_out_of_range_are_refused(good: Path, row: int) -> None:
    with pytest.raises(InputError, match=f"the row {row} is asked for. Expected: 0 to 5"):
        RepresentationStore.open(good).gather(np.array([0, row]))


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
