from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.errors import ArtefactError, InputError
from pairstill.representation import Representation
from pairstill.store import RepresentationStore, write_store
from pairstill.store import ids as ids_module
from pairstill.store.ids import IdSegment, as_ids, find_rows, hash_ids, segment_arrays
from pairstill.store.shard_file import write_arrays

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
STRING_HASHES = [
    16294208416658607535,
    16710388476702910551,
    2056031146272021113,
    18328129839326537967,
    8831414482586646385,
]
INTEGER_HASHES = [16294208416658607535, 10451216379200822465, 16490336266968443936]
IDS = st.one_of(st.lists(TEXT, max_size=30, unique=True), st.lists(st.integers(-(2**63), 2**63 - 1), unique=True))


def numbered(start: int, stop: int) -> Representation[np.ndarray]:
    return Representation(np.arange(start, stop, dtype=np.int32)[:, None], np.ones(stop - start, np.int64))


def store_of(folder: Path, ids: Any, **more: Any) -> RepresentationStore:
    return write_store(folder, numbered, len(ids), encoder_fingerprint="abc", field="query", ids=ids, **more)


@settings(max_examples=60, deadline=None)
@given(groups=st.lists(IDS, max_size=3), asked=IDS, weak=st.booleans(), data=st.data())
def test_every_id_is_found_in_its_row(
    groups: list[list[Any]], asked: list[Any], weak: bool, data: st.DataObject
) -> None:
    """Also where many ids share a hash."""
    kind = next((type(one) for group in [*groups, asked] for one in group), str)
    segments, rows, start = [], {}, 0
    with pytest.MonkeyPatch.context() as patch:
        if weak:
            patch.setattr(ids_module, "hash_ids", lambda ids, strong=hash_ids: strong(ids) & np.uint64(3))
        for group in groups:
            one = [item for item in group if type(item) is kind and item not in rows]
            segments.append(IdSegment.of(start, as_ids(one, "string" if kind is str else "integer"), Path("ids")))
            rows |= {item: start + row for row, item in enumerate(one)}
            start += len(one)
        gone = np.array(sorted(data.draw(st.sets(st.sampled_from(range(start))))) if start else [], np.int64)
        queries = [item for item in asked if type(item) is kind]
        queries += data.draw(st.lists(st.sampled_from(list(rows)), max_size=60)) if rows else []
        found = find_rows(segments, as_ids(queries, "string" if kind is str else "integer"), gone)
    expected = [-1 if rows.get(item, -1) in gone else rows.get(item, -1) for item in queries]
    assert found.tolist() == expected
    for segment in segments:
        assert segment.array().to_pylist() == [
            one for one, row in rows.items() if 0 <= row - segment.start < len(segment)
        ]


@given(st.lists(TEXT, min_size=1, max_size=20))
def test_the_hash_depends_on_the_id_alone(ids: list[str]) -> None:
    together = hash_ids(as_ids(ids))
    assert [int(hash_ids(as_ids([one]))[0]) for one in ids] == together.tolist()
    sliced = as_ids(pa.array(["before", *ids, "after"])).slice(1, len(ids))
    assert hash_ids(sliced).tolist() == together.tolist()


def test_the_hash_never_changes() -> None:
    """It is part of the format."""
    assert hash_ids(as_ids(["", "a", "12345678", "123456789", "ünïcödé"])).tolist() == STRING_HASHES
    assert hash_ids(as_ids([0, 1, -1])).tolist() == INTEGER_HASHES


@given(st.lists(TEXT, max_size=20), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_the_hash_is_the_one_that_is_specified(texts: list[str], numbers: list[int]) -> None:
    """docs/formats.md, in plain Python."""
    whole, step = 2**64, 0xBF58476D1CE4E5B9
    golden = 0x9E3779B97F4A7C15

    def mix(x: int) -> int:
        x = (x ^ x >> 30) * step % whole
        x = (x ^ x >> 27) * 0x94D049BB133111EB % whole
        return x ^ x >> 31

    def of_text(data: bytes) -> int:
        state = mix((len(data) * step + golden) % whole)
        for start in range(0, len(data), 8):
            state = mix(((state ^ int.from_bytes(data[start : start + 8], "little")) + golden) % whole)
        return state

    assert hash_ids(as_ids(texts, "string")).tolist() == [of_text(one.encode()) for one in texts]
    assert hash_ids(as_ids(numbers, "integer")).tolist() == [mix((one + golden) % whole) for one in numbers]


def test_hashes_rarely_agree() -> None:
    assert len(np.unique(hash_ids(as_ids([f"product-{number}" for number in range(200_000)])))) == 200_000
    assert len(np.unique(hash_ids(as_ids(np.arange(200_000))))) == 200_000


def test_find_in_a_store(tmp_path: Path) -> None:
    store = store_of(tmp_path / "a", [f"q{number}" for number in range(10)], shard_rows=4)
    assert store.find(["q7", "q0", "q7"]).tolist() == [7, 0, 7]
    assert store.find(pa.array(["q7"]).dictionary_encode()).dtype == np.int64
    assert store.find([]).tolist() == []
    assert store.lookup(["q9", "other"]).tolist() == [9, -1]
    assert store.ids_at([3, 1, 3]).to_pylist() == ["q3", "q1", "q3"]
    assert store.ids is not None
    assert store.ids.to_pylist() == [f"q{number}" for number in range(10)]
    with pytest.raises(InputError, match=r"no item 'x' \(position 1; 2 of 3 ids are unknown\)"):
        store.find(["q1", "x", "y"])
    with pytest.raises(InputError, match=r"the ids are integers\. Expected: strings, as in the store"):
        store.find([1])
    whole = store_of(tmp_path / "b", np.array([5, -3, 2**40]))
    assert whole.find([2**40, -3]).tolist() == [2, 1]
    assert whole.ids is not None
    assert whole.ids.to_pylist() == [5, -3, 2**40]
    with pytest.raises(InputError, match="Expected: integers, as in the store"):
        whole.find(["5"])
    none = write_store(tmp_path / "c", numbered, 2, encoder_fingerprint="abc", field="query")
    assert none.ids is None
    with pytest.raises(InputError, match="the store has no ids"):
        none.find(["a"])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", "b", "a"], r"the id 'a' occurs twice, at the positions 0 and 2 \(counted from 0\)"),
        ([3, 4, 4], "the id 4 occurs twice, at the positions 1 and 2"),
        (["a", None, "b"], "the id at position 1 is missing"),
        (["a", 1, "b"], "the ids cannot be used"),
        ([1.5, 2.0, 3.0], "the ids have the type double"),
        ([True, False, True], "the ids have the type bool"),
        ([1, 2, 2**64 - 1], "the ids cannot be used"),
        (["a", "\ud800", "b"], "the ids cannot be used"),
        (["a", "b"], "2 ids are given for 3 rows"),
    ],
)
def test_ids_that_cannot_be_used_are_refused_before_anything_is_encoded(
    tmp_path: Path, ids: list[Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_store(
            tmp_path, lambda start, stop: pytest.fail("encoded"), 3, encoder_fingerprint="a", field="q", ids=ids
        )


def test_the_index_costs_12_bytes_an_item(tmp_path: Path) -> None:
    ids = np.arange(10_000)
    write_arrays(tmp_path / "ids", segment_arrays(as_ids(ids)))
    assert (tmp_path / "ids").stat().st_size == 16_384 + 10_000 * (8 + 12)


def test_damaged_ids_never_read_outside_of_their_file(tmp_path: Path) -> None:
    arrays = {name: blocks[0].copy() for name, (_, blocks) in segment_arrays(as_ids(["a", "b", "c"])).items()}
    arrays["id_offsets"][2] = 10**12
    segment = IdSegment(0, arrays, tmp_path / "ids-00000.safetensors")
    with pytest.raises(ArtefactError, match=r"ids-00000\.safetensors: the ids are damaged"):
        segment.array()
    with pytest.raises(ArtefactError, match="the ids are damaged"):
        find_rows([segment], as_ids(["a", "b", "c"]), np.empty(0, np.int64))
    arrays = {name: blocks[0].copy() for name, (_, blocks) in segment_arrays(as_ids(["a", "b", "c"])).items()}
    arrays["rows"][:] = 3
    with pytest.raises(ArtefactError, match="the ids are damaged"):
        find_rows([IdSegment(0, arrays, tmp_path / "ids")], as_ids(["b"]), np.empty(0, np.int64))
