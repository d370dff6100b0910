"""The format of docs/formats.md. When one of these fails, stores that users have can no longer be read, or resumed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairstill.files import read_json
from pairstill.representation import Representation
from pairstill.store import RepresentationStore, StoreEditor, content_hashes
from store_samples import write

BLOCK = Representation(np.array([[[1.0, -2.5]], [[0.1, 0.0]]], np.float32), np.array([1, 0]))


def contents(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    assert (size + 8) % 16_384 == 0
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def test_bytes_of_a_shard_and_manifest(tmp_path: Path) -> None:
    write(tmp_path, BLOCK, dtype="bfloat16")
    header, data = contents(tmp_path / "shard-00000.safetensors")
    assert header == {
        "lengths": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]},
        "vectors": {"dtype": "BF16", "shape": [2, 1, 2], "data_offsets": [16, 24]},
    }
    assert data.hex() == "0100000000000000" + "0000000000000000" + "803f20c0cd3d0000"
    whole = (tmp_path / "shard-00000.safetensors").read_bytes()
    assert read_json(tmp_path / "manifest.json") == {
        "format": "pairstill/representation-store", "version": 2, "generation": 1, "encoder_fingerprint": "abc",
        "field": "query", "dtype": "bfloat16", "stride": "fixed", "shard_rows": 4, "provenance": {},
        "prepared_fingerprint": None, "rows": 2, "tokens": 1, "dim": 2,
        "arrays": {"lengths": {"dtype": "I64", "shape": []}, "vectors": {"dtype": "BF16", "shape": [1, 2]}},
        "shards": [
            {"file": "shard-00000.safetensors", "start": 0, "rows": 2, "bytes": len(whole),
             "sha256": hashlib.sha256(whole).hexdigest()}
        ],
        "ids": None, "deletions": None,
    }  # fmt: skip


def test_bytes_of_8_bit_ragged_vectors(tmp_path: Path) -> None:
    block = Representation(np.array([[[1.0, -2.54], [9, 9]], [[0, 0], [1.27, 0]]], np.float32), np.array([1, 2]))
    write(tmp_path, block, dtype="int8", stride="ragged")
    header, data = contents(tmp_path / "shard-00000.safetensors")
    assert header == {
        "lengths": {"dtype": "I64", "shape": [2], "data_offsets": [0, 16]},
        "offsets": {"dtype": "I64", "shape": [2], "data_offsets": [16, 32]},
        "scales": {"dtype": "F32", "shape": [3], "data_offsets": [32, 44]},
        "vectors": {"dtype": "I8", "shape": [3, 2], "data_offsets": [44, 50]},
    }
    assert np.frombuffer(data[:32], np.int64).tolist() == [1, 2, 0, 1]
    np.testing.assert_allclose(np.frombuffer(data[32:44], np.float32), [0.02, 0, 0.01])
    assert np.frombuffer(data[44:], np.int8).tolist() == [50, -127, 0, 0, 127, 0]


def test_bytes_of_ids_and_deletions(tmp_path: Path) -> None:
    write(tmp_path, BLOCK, ids=["ab", "c"], content_hash=content_hashes(["x", "y"]))
    header, data = contents(tmp_path / "ids-00000.safetensors")
    assert header == {
        "hashes": {"dtype": "U64", "shape": [2], "data_offsets": [0, 16]},
        "id_offsets": {"dtype": "I64", "shape": [3], "data_offsets": [16, 40]},
        "rows": {"dtype": "U32", "shape": [2], "data_offsets": [40, 48]},
        "content_hash": {"dtype": "U8", "shape": [2, 16], "data_offsets": [48, 80]},
        "id_bytes": {"dtype": "U8", "shape": [3], "data_offsets": [80, 83]},
    }
    assert np.frombuffer(data[16:40], np.int64).tolist() == [0, 2, 3]
    assert data[48:64] == hashlib.blake2b(b"x", digest_size=16).digest()
    assert data[80:] == b"abc"
    with StoreEditor(tmp_path) as editor:
        editor.delete(["c"])
        editor.commit()
    header, data = contents(tmp_path / "deleted-00002.safetensors")
    assert header == {"rows": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}
    assert data == bytes([1, 0, 0, 0, 0, 0, 0, 0])


CHECKSUMS = {
    "float32": "caf2ded44010384cad8f452b6d8c3586834827319e222919ebe7cb5e1ee2ceb2",
    "float16": "000ec9480a9890bb24a65866a6190f7d4b64b9bb2fc49d79988d85833c7fc666",
    "bfloat16": "68386263928c798496835b7b826fb8661deb8ceedba0fec592454bf3c9d48b01",
    "int8": "dde4a79ab1de3f3f407531b5a355ade7bafb9c91adf5ba074051d73a5f31fc8c",
}


@pytest.mark.parametrize("dtype", CHECKSUMS)
def test_checksums_of_every_precision(tmp_path: Path, dtype: str) -> None:
    ramp = np.arange(5 * 3 * 4, dtype=np.float32).reshape(5, 3, 4) / 7 - 3
    block = Representation(ramp, np.array([3, 0, 1, 2, 3]), similarity=ramp[:, 0], scalars=ramp[:, 1, :2].copy())
    write(tmp_path, block, dtype=dtype, ids=list("abcde"), prepared={"key": ramp[:, :, :2]})
    digest = hashlib.sha256()
    for path in sorted(tmp_path.glob("*.safetensors")):
        digest.update(path.read_bytes())
    assert digest.hexdigest() == CHECKSUMS[dtype]


def test_bytes_of_levels(tmp_path: Path) -> None:
    block = Representation(np.array([[[1.0, -1.0, 0.0]], [[0.5, 0.004, -0.25]]], np.float32), np.array([1, 1]))
    write(tmp_path, block, dtype="uint8")
    header, data = contents(tmp_path / "shard-00000.safetensors")
    assert header["vectors"] == {"dtype": "U8", "shape": [2, 1, 3], "data_offsets": [16, 22]}
    assert list(data[16:]) == [255, 0, 128, 191, 128, 96]


def test_version_1_is_read_and_edited(tmp_path: Path) -> None:
    """A store as pairstill 0.1 wrote it before there were ids by hash: 64-byte headers, vectors first, ids in Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "store"
    folder.mkdir()
    header = json.dumps(
        {
            "vectors": {"dtype": "BF16", "shape": [3, 1, 2], "data_offsets": [0, 12]},
            "lengths": {"dtype": "I64", "shape": [3], "data_offsets": [12, 36]},
        },
        separators=(",", ":"),
    ).encode()
    header += b" " * (-(len(header) + 8) % 64)
    data = bytes.fromhex("803f20c0cd3d0000803f803f") + np.array([1, 0, 1], "<i8").tobytes()
    whole = len(header).to_bytes(8, "little") + header + data
    (folder / "shard-00000.safetensors").write_bytes(whole)
    pq.write_table(pa.table({"id": ["x", "y", "z"]}), folder / "ids.parquet")
    manifest = {
        "format": "pairstill/representation-store", "version": 1, "encoder_fingerprint": "abc", "field": "query",
        "dtype": "bfloat16", "shard_rows": 4, "provenance": {}, "rows": 3, "tokens": 1, "dim": 2,
        "arrays": {"vectors": {"dtype": "BF16", "shape": [1, 2]}, "lengths": {"dtype": "I64", "shape": []}},
        "ids": "ids.parquet",
        "shards": [
            {"file": "shard-00000.safetensors", "rows": 3, "bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
        ],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    store = RepresentationStore.open(folder, "abc")
    read = store.gather(store.find(["z", "x"]), widen=True)
    np.testing.assert_array_equal(read.vectors, [[[1.0, 1.0]], [[1.0, -2.5]]])
    assert read.lengths.tolist() == [1, 1]
    with StoreEditor(folder, encoder_fingerprint="abc") as editor:
        editor.append(BLOCK, ["a", "b"])
        editor.delete(["y"])
        store = editor.commit()
    assert store.ids is not None
    assert store.ids.to_pylist() == ["x", "z", "a", "b"]
    np.testing.assert_array_equal(store.gather([1, 2], widen=True).vectors, [[[1.0, 1.0]], [[1.0, -2.5]]])
