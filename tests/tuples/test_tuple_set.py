import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pairstill.errors import ArtefactError, InputError
from pairstill.tuples import Collection, Field, Labels, TupleSet


def small_set() -> TupleSet:
    return TupleSet(
        fields=(Field("query", "query", columns=("q",)), Field("passage", "passage", columns=("title", "body"))),
        labels=Labels("graded", 1.0, 3.0),
        collections={
            "query": Collection(pa.array(["q1", "q2"]), pa.array(["one", "two"])),
            "passage": Collection(pa.array(["p1", "p2", "p3"]), pa.array(["a", "b", "ü"])),
        },
        tuples=pa.table(
            {
                "query": ["q2", "q1", "q1"], "passage": ["p3", "p1", "p2"], "label": [1.0, None, 0.25],
                "weight": pa.nulls(3, pa.float64()), "group": ["q2", "q1", "q1"], "split": ["test", "train", "train"],
                "language": ["de", "en", None],
            }
        ),
        slices=("language",),
        provenance={"notes": []},
    )  # fmt: skip


def test_a_saved_set_loads_as_it_was(tmp_path):
    before = small_set()
    before.save(tmp_path)
    after = TupleSet.load(tmp_path)
    assert after.fingerprint == before.fingerprint
    assert (after.fields, after.labels, after.slices) == (before.fields, before.labels, before.slices)
    assert after.tuples.equals(before.tuples)
    assert after.index.tolist() == [[1, 2], [0, 0], [0, 1]]
    train = after.split("train")
    assert train.rows.tolist() == [1, 2]
    assert np.isnan(train.labels[0])
    assert train.weights is None
    assert train.groups[0] == train.groups[1] != after.split("test").groups[0]
    assert after.split("train", "test").take(np.array([0])).index.tolist() == [[1, 2]]
    assert len(after.split()) == 3


def test_saving_over_another_set_leaves_none_of_its_collections(tmp_path):
    before = small_set()
    replace(before, collections={**before.collections, "old": before.collections["query"]}).save(tmp_path)
    assert (tmp_path / "collection-old.parquet").exists()
    (tmp_path / "collection-strangers.parquet").write_bytes(b"x")
    before.save(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "collection-passage.parquet", "collection-query.parquet", "collection-strangers.parquet", "manifest.json", "tuples.parquet",
    ]  # fmt: skip


def test_an_absent_split_is_an_error():
    with pytest.raises(InputError, match=r"no split 'valid'.*one of test, train"):
        small_set().split("valid")


def test_fingerprints_ignore_chunks_and_offsets_but_not_content():
    one = small_set()
    chunked = pa.concat_tables([one.tuples.slice(0, 1), one.tuples.slice(1)])
    assert one.with_tuples(chunked, {"other": 1}).fingerprint == one.fingerprint
    large = {name: Collection(at.ids, at.texts.cast(pa.large_string())) for name, at in one.collections.items()}
    assert TupleSet(one.fields, one.labels, large, one.tuples, one.slices).fingerprint == one.fingerprint
    assert one.with_tuples(one.tuples.take([1, 0, 2]), {}).fingerprint != one.fingerprint
    label = pa.array([1.0, 0.0, 0.25])
    assert one.with_tuples(one.tuples.set_column(2, "label", label), {}).fingerprint != one.fingerprint


def test_an_id_without_text_is_an_error():
    one = small_set()
    with pytest.raises(ArtefactError, match=r"row 2, column 'query'.*'q9' has no text in collection 'query'"):
        _ = one.with_tuples(one.tuples.set_column(0, "query", pa.array(["q2", "q9", "q1"])), {}).index


def _edit_manifest(folder, **changes):
    body = json.loads((folder / "manifest.json").read_text())
    body.update(changes)
    (folder / "manifest.json").write_text(json.dumps({k: v for k, v in body.items() if v is not None}))


BREAKS = {
    "truncated": (lambda f: (f / "tuples.parquet").write_bytes((f / "tuples.parquet").read_bytes()[:-9]), "checksum"),
    "missing file": (lambda f: (f / "collection-query.parquet").unlink(), "missing or does not have the checksum"),
    "newer": (lambda f: _edit_manifest(f, version=99), "format version is 99.*Upgrade"),
    "other kind": (lambda f: _edit_manifest(f, format="pairstill/store"), "expected|Expected: 'pairstill/tuple-set'"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "no manifest.json"),
    "no such folder": (lambda f: [one.unlink() for one in f.iterdir()] and f.rmdir(), "the folder does not exist"),
    "no fields": (lambda f: _edit_manifest(f, fields=None), "column 'fields': the manifest is damaged: Field required"),
    "strange field": (
        lambda f: _edit_manifest(f, fields=[{"name": "q", "colour": 1, "columns": []}]),
        "'fields.0.(collection|colour)'",
    ),
    "rows": (
        lambda f: _edit_manifest(f, rows=300),
        "'rows': the manifest is damaged: it says 300. Expected: 3, as in tuples",
    ),
    "rows are a word": (
        lambda f: _edit_manifest(f, rows="many"),
        "'rows': the manifest is damaged: .*valid integer.*'many'",
    ),
    "label kind": (
        lambda f: _edit_manifest(f, labels={"kind": "banana"}),
        "'labels.kind': the manifest is damaged: .*'binary'",
    ),
    "label range": (
        lambda f: _edit_manifest(f, labels={"kind": "graded", "minimum": None, "maximum": 5.0, "classes": []}),
        "'labels': the manifest is damaged: graded labels range from None to 5.0. Expected: a minimum below a maximum",
    ),
    "no names of classes": (lambda f: _edit_manifest(f, labels={"kind": "classes"}), "labels of classes name no class"),
    "no field": (lambda f: _edit_manifest(f, fields=[]), "'fields': the manifest is damaged: there are none"),
    "slices": (lambda f: _edit_manifest(f, slices=[{"a": 1}]), "'slices.0': the manifest is damaged: .*valid string"),
    "strange slice": (
        lambda f: _edit_manifest(f, slices=["colour"]),
        "'slices': the manifest is damaged: no column 'colour'",
    ),
    "strange collection": (
        lambda f: _edit_manifest(f, fields=[{"name": "query", "collection": "asked"}]),
        "'query' points into the collection 'asked'. Expected: one of query, passage",
    ),
    "a field without a column": (
        lambda f: _edit_manifest(f, fields=[{"name": "asked", "collection": "query"}]),
        "'fields': the manifest is damaged: no column 'asked' is in tuples.parquet. Expected: one of query, passage",
    ),
    "items": (
        lambda f: _edit_manifest(f, collections={"query": 2, "passage": 7}),
        "'collections': the manifest is damaged: 'passage' has 7 items. Expected: 3, as in the file",
    ),
    "a collection without a file": (
        lambda f: _edit_manifest(f, collections={"query": 2, "passage": 3, "asked": 1}),
        "'sha256': the manifest is damaged: 'collection-asked.parquet' has no checksum",
    ),
    "provenance": (
        lambda f: _edit_manifest(f, provenance=7),
        "'provenance': the manifest is damaged: .*(mapping|dictionary)",
    ),
    "not JSON": (lambda f: (f / "manifest.json").write_text("{"), "not JSON"),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_damaged_folders_are_refused(tmp_path, kind):
    damage, message = BREAKS[kind]
    small_set().save(tmp_path / "set")
    damage(tmp_path / "set")
    with pytest.raises(ArtefactError, match=message):
        TupleSet.load(tmp_path / "set")


def test_a_truncated_file_whose_checksum_was_renewed_is_refused_too(tmp_path):
    from pairstill.files import fingerprint_file

    small_set().save(tmp_path)
    path = tmp_path / "tuples.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    sums = json.loads((tmp_path / "manifest.json").read_text())["sha256"]
    _edit_manifest(tmp_path, sha256={**sums, "tuples.parquet": fingerprint_file(path)})
    with pytest.raises(ArtefactError, match="Parquet file cannot be read"):
        TupleSet.load(tmp_path)
