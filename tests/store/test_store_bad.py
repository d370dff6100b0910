"""Known bad stores, and what each of them is told."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pairstill.errors import ArtefactError
from pairstill.files import read_json, write_json
from pairstill.store import RepresentationStore, StoreEditor, write_store
from pairstill.store.shard_file import write_arrays
from store_samples import make, write

SHARD, SECOND, IDS = "shard-00000.safetensors", "shard-00001.safetensors", "ids-00000.safetensors"
DELETED = "deleted-00002.safetensors"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six items in two shards, with ids, one of which is deleted."""
    folder = tmp_path_factory.mktemp("store")
    write(folder, make(6), ids=list("abcdef"))
    with StoreEditor(folder) as editor:
        editor.delete(["c"])
        editor.commit()
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "store"))


def edit_bytes(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes())) and None


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def edit_manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        body = read_json(folder / "manifest.json")
        change(body)
        write_json(folder / "manifest.json", body)

    return damage


def header(change: Callable[[dict[str, Any]], Any], name: str = SHARD) -> Callable[[Path], None]:
    def changed(data: bytes) -> bytes:
        size = int.from_bytes(data[:8], "little")
        content = json.loads(data[8 : 8 + size])
        found = change(content)
        text = json.dumps(content if found is None else found).encode()
        return data[:8] + text.ljust(size) + data[8 + size :]

    return edit_bytes(name, changed)


def deletions(rows: list[int]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        write_arrays(folder / DELETED, {"rows": ("I64", [np.array(rows)])})
        body = read_json(folder / "manifest.json")
        body["deletions"] |= {"rows": len(rows), "bytes": (folder / DELETED).stat().st_size}
        write_json(folder / "manifest.json", body)

    return damage


def put(where: Any, **values: Any) -> None:
    where.update(values)


HEADER_BYTES = 16_384 - 8
# name: (damage, message after the file's name, also found without checksums). The messages are whole.
BAD: dict[str, tuple[Callable[[Path], None], str, str, bool]] = {
    "truncated shard": (
        edit_bytes(SHARD, lambda data: data[:-5]), SHARD,
        "the (shard|file) (has 16603 bytes|cannot be read: the file ends at byte 16603, inside 'vectors')\\.", True,
    ),
    "truncated last shard": (edit_bytes(SECOND, lambda data: data[:9000]), SECOND, "the (shard has 9000 bytes|file cannot be read: its header should have 16376 bytes and the file has 9000)\\.", True),
    "empty shard": (edit_bytes(SHARD, lambda data: b""), SHARD, "the (shard has 0 bytes|file cannot be read: it has 0 bytes)\\.", True),
    "longer shard": (edit_bytes(SHARD, lambda data: data + b"more"), SHARD, "the (shard has 16612 bytes|file cannot be read: the file has 4 bytes more than its header says)\\.", True),
    "missing shard": (lambda folder: (folder / SHARD).unlink(), SHARD, "the (shard|file) is missing\\.", True),
    "missing ids": (lambda folder: (folder / IDS).unlink(), IDS, "the (shard|file) is missing\\.", True),
    "missing deletions": (lambda folder: (folder / DELETED).unlink(), DELETED, "the (shard|file) is missing\\.", True),
    "flipped bit": (edit_bytes(SHARD, flipped), SHARD, "the shard is damaged: its checksum is not the recorded one\\.", False),
    "flipped bit in ids": (edit_bytes(IDS, flipped), IDS, "the shard is damaged: its checksum is not the recorded one\\.", False),
    "wrong checksum in the manifest": (
        edit_manifest(lambda body: put(body["shards"][0], sha256="0" * 64)), SHARD,
        "the shard is damaged: its checksum is not the recorded one\\.", False,
    ),
    "wrong size in the manifest": (
        edit_manifest(lambda body: put(body["shards"][0], bytes=7)), SHARD,
        "the (shard|file) has 16608 bytes\\. Expected: 7 bytes\\.", True,
    ),
    "overlapping shards": (
        edit_manifest(lambda body: put(body["shards"][1], start=3)), "manifest.json",
        "the shards 'shard-00000.safetensors' and 'shard-00001.safetensors' overlap: the one ends at row 4, the other begins at row 3\\.", True,
    ),
    "gap between shards": (edit_manifest(lambda body: put(body["shards"][1], start=5)), "manifest.json", "no shards hold the rows 4 to 4\\.", True),
    "shard listed twice": (
        edit_manifest(lambda body: body["shards"].append({**body["shards"][1], "start": 6})), "manifest.json",
        "the manifest is damaged: a file is listed twice\\.", True,
    ),
    "ids of fewer rows": (
        edit_manifest(lambda body: put(body["ids"]["files"][0], rows=5)), "manifest.json",
        "the id files hold 5 rows\\. Expected: 6, the rows of the shards\\.", True,
    ),
    "shard outside of the folder": (
        edit_manifest(lambda body: put(body["shards"][0], file="../" + SHARD)), "manifest.json",
        "the manifest is damaged: the entry of '../shard-00000.safetensors' is no file of this folder\\.", True,
    ),
    "manifest without a field": (edit_manifest(lambda body: body.pop("stride")), "manifest.json", "the manifest is damaged: it lacks 'stride'\\.", True),
    "manifest of another type": (edit_manifest(lambda body: put(body, shards=5)), "manifest.json", "the manifest is damaged: 'int' object is not iterable\\.", True),
    "unknown precision": (edit_manifest(lambda body: put(body, dtype="float8")), "manifest.json", "the manifest is damaged: a fixed stride of float8 is unknown\\.", True),
    "cut manifest": (edit_bytes("manifest.json", lambda data: data[:50]), "manifest.json", "the file is not JSON: .*", True),
    "unfinished": (lambda folder: (folder / "manifest.json").unlink(), "", "the folder has no manifest\\.json\\. Expected: a finished representation-store folder\\.", True),
    "newer version": (
        edit_manifest(lambda body: put(body, version=3)), "manifest.json",
        "the format version is 3\\. Expected: at most 2\\. Upgrade pairstill to read it\\.", True,
    ),
    "other artefact": (
        edit_manifest(lambda body: put(body, format="pairstill/tuple-set")), "manifest.json",
        "the manifest says format 'pairstill/tuple-set'\\. Expected: 'pairstill/representation-store'\\.", True,
    ),
    "other encoder": (
        edit_manifest(lambda body: put(body, encoder_fingerprint="0123456789abcdef")), "",
        "the store was made by another encoder \\(0123456789ab\\)\\. Expected: the encoder abc\\. Encode the items again into another folder\\.", True,
    ),
    "other shape": (
        edit_manifest(lambda body: put(body["arrays"]["vectors"], shape=[3, 5])), SHARD,
        "the shard holds lengths I64 \\[4\\], vectors F32 \\[4, 3, 4\\]\\. Expected: lengths I64 \\[4\\], vectors F32 \\[4, 3, 5\\]\\.", True,
    ),
    "huge header": (
        edit_bytes(SHARD, lambda data: (2**62).to_bytes(8, "little") + data[8:]), SHARD,
        f"(the file cannot be read: its header should have {2**62} bytes and the file has 16608|the shard is damaged.*)\\.", True,
    ),
    "header that is no JSON": (edit_bytes(SHARD, lambda data: data[:8] + b"x" + data[9:]), SHARD, "(the file cannot be read: .*|the shard is damaged.*)\\.", True),
    "header of another type": (header(lambda content: {"vectors": 5}), SHARD, "(the file cannot be read: .*|the shard is damaged.*)\\.", True),
    "unknown type": (header(lambda content: put(content["vectors"], dtype="Q8")), SHARD, "(the file cannot be read: the type 'Q8' of 'vectors' is unknown|the shard is damaged.*)\\.", True),
    "shape beyond the bytes": (header(lambda content: put(content["vectors"], shape=[5, 3, 4])), SHARD, "(the file cannot be read: the bytes of 'vectors' do not fit its shape|the shard is damaged.*)\\.", True),
    "negative shape": (header(lambda content: put(content["vectors"], shape=[-4, -3, 4])), SHARD, "(the file cannot be read: the place of 'vectors' is no place|the shard is damaged.*)\\.", True),
    "overlapping arrays": (
        header(lambda content: put(content["vectors"], data_offsets=[24, 216])), SHARD,
        "(the file cannot be read: 'vectors' overlaps the array before it|the shard is damaged.*)\\.", True,
    ),
    "header without arrays": (header(lambda content: {}), SHARD, "(the file cannot be read: the file has 224 bytes more than its header says|the shard is damaged.*)\\.", True),
    "ids without an index": (header(lambda content: put(content, hashes=content.pop("id_offsets")), IDS), IDS, "(the file holds .*|the shard is damaged.*|the file cannot be read.*)\\.", True),
    "deletions out of range": (
        deletions([2, 6]), DELETED,
        "(the list of deleted rows is damaged: it is out of range or not ascending\\. Expected: rows from 0 to 5, each once|the shard is damaged.*)\\.", True,
    ),
    "negative deletions": (deletions([-1, 2]), DELETED, "(the list of deleted rows is damaged.*|the shard is damaged.*)\\.", True),
    "deletions twice": (deletions([2, 2]), DELETED, "(the list of deleted rows is damaged.*|the shard is damaged.*)\\.", True),
}  # fmt: skip


@pytest.mark.parametrize("checksums", [True, False])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_store_is_told_what_is_wrong(folder: Path, name: str, checksums: bool) -> None:
    damage, file, message, cheap = BAD[name]
    damage(folder)
    if not (checksums or cheap):
        RepresentationStore.open(folder, "abc", checksums=False)
        return
    with pytest.raises(ArtefactError) as caught:
        RepresentationStore.open(folder, "abc", checksums=checksums)
    place = re.escape(str(folder / file) if file else str(folder))
    assert re.match(f"{place}(, row \\d+)?: {message}", str(caught.value)), str(caught.value)


def test_a_store_of_another_head_is_refused(folder: Path) -> None:
    with pytest.raises(ArtefactError, match=r"made by another head's prepared part \(None\)"):
        RepresentationStore.open(folder, prepared_fingerprint="def")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="the folder does not exist"):
        RepresentationStore.open(tmp_path / "none")
    with pytest.raises(ArtefactError, match="the folder does not exist"), StoreEditor(tmp_path / "none"):
        pass


def test_damaged_places_of_ragged_items_are_found_when_they_are_read(tmp_path: Path) -> None:
    write(tmp_path, make(4), stride="ragged")
    path = tmp_path / SHARD
    data = bytearray(path.read_bytes())
    data[16_384 + 32 : 16_384 + 40] = (10**9).to_bytes(8, "little")
    path.write_bytes(data)
    store = RepresentationStore.open(tmp_path, checksums=False)
    with pytest.raises(ArtefactError, match=r"shard-00000\.safetensors: an item lies outside of the shard"):
        store.gather([0])


KNOWN = Path(__file__).parent / "known_stores"


@pytest.mark.parametrize("name", read_json(KNOWN / "errors.json"))
@pytest.mark.parametrize("checksums", ["with_checksums", "without"])
def test_the_folder_of_known_bad_stores(name: str, checksums: str) -> None:
    """Bytes as they were written once, and the whole message that each gets; null where only a checksum would tell."""
    said = read_json(KNOWN / "errors.json")[name][checksums]
    with contextlib.nullcontext() if said is None else pytest.raises(ArtefactError) as caught:
        RepresentationStore.open(KNOWN / name, "abc", checksums=checksums == "with_checksums")
    assert said is None or str(caught.value).replace(str(KNOWN / name), "STORE") == said


def test_the_good_store_among_the_known_ones_is_read() -> None:
    store = RepresentationStore.open(KNOWN / "good", "abc")
    assert store.ids is not None
    assert (store.ids.to_pylist(), store.generation, store.deleted) == (list("abdef"), 2, 1)
    block = make(6)
    np.testing.assert_array_equal(store.gather(store.find(["f", "a"])).vectors, block.vectors[[5, 0]])


def test_a_damaged_shard_is_made_again_only_where_that_is_possible(tmp_path: Path) -> None:
    """What the message advises is what helps."""

    def encode(start: int, stop: int) -> Any:
        return make(6).take(slice(start, stop))

    def run() -> RepresentationStore:
        return write_store(
            tmp_path, encode, 6, encoder_fingerprint="abc", field="query", shard_rows=4, ids=list("abcdef")
        )

    run()
    whole = (tmp_path / SHARD).read_bytes()
    for name in (SHARD, SECOND, IDS):
        (tmp_path / name).write_bytes(flipped((tmp_path / name).read_bytes()))
        with pytest.raises(ArtefactError, match="Remove it and run the command that wrote it again: it resumes"):
            RepresentationStore.open(tmp_path)
        (tmp_path / name).unlink()
        run()
        RepresentationStore.open(tmp_path)
    assert (tmp_path / SHARD).read_bytes() == whole
    with StoreEditor(tmp_path) as editor:
        editor.delete(["a"])
        editor.commit()
    (tmp_path / SHARD).write_bytes(flipped(whole))
    with pytest.raises(ArtefactError, match="was edited, so writing it cannot be resumed: write it again into another"):
        RepresentationStore.open(tmp_path)
