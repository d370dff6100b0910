"""Fields of numbers and images: what is read, kept and refused."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.errors import ArtefactError, InputError
from pairstill.tuples import Collection, SourceSpec, TupleSet, read_tuple_set, stored_tables
from pairstill.tuples.content_source import ContentSource
from pairstill.tuples.contents import read_contents
from pairstill.tuples.images import encode_image
from pairstill.tuples.overlaps import find_overlaps
from pairstill.tuples.source_table import Part, SourceTable
from pairstill.tuples.statistics import describe_tuple_set
from tiny import noisy_image

NUMBERS = "q,price,weight,label\nred,1,2.5,1\nred,-3e2,0,0\nblue,1,2.5,0\n"


def spec(folder: Path, **more: Any) -> SourceSpec:
    fields = {"query": "q", "item": {"numeric": ["price", "weight"]}}
    return SourceSpec.parse(
        {"tuples": str(folder / "in.csv"), "fields": fields, "label": "label", "splits": {"all": "train"}, **more}
    )


def read_numbers(folder: Path, content: str, **more: Any) -> TupleSet:
    (folder / "in.csv").write_text(content)
    return read_tuple_set(spec(folder, **more))


def test_numbers_are_kept_as_float32_in_the_order_of_their_columns(tmp_path: Path) -> None:
    made = read_numbers(tmp_path, NUMBERS)
    assert [one.kind for one in made.fields] == ["text", "numeric"]
    assert made.fields[1].columns == ("price", "weight")
    items = made.collections["item"]
    assert items.contents.type == pa.list_(pa.float32(), 2)
    np.testing.assert_array_equal(made.values(1), np.float32([[1, 2.5], [-300, 0]]))
    assert made.index[:, 1].tolist() == [0, 1, 0]
    assert items.ids[0].as_py().startswith("n")
    assert made.values(0) == made.texts(0) == ["red", "blue"]
    with pytest.raises(InputError, match=r"the field 'item' is of kind numeric. Expected: text"):
        made.texts(1)
    with pytest.raises(InputError, match="content of kind numeric"):
        _ = items.texts


def test_a_set_with_numbers_is_saved_and_read(tmp_path: Path) -> None:
    made = read_numbers(tmp_path, NUMBERS)
    made.save(tmp_path / "set")
    again = TupleSet.load(tmp_path / "set")
    assert again.fingerprint == made.fingerprint
    np.testing.assert_array_equal(again.values(1), made.values(1))
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert manifest["version"] == 2
    assert pq.read_schema(tmp_path / "set" / "collection-item.parquet").names == ["id", "content"]
    manifest["fields"][1]["kind"] = "text"
    (tmp_path / "set" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactError, match=r"'item' is of kind text\. Expected: numeric, as its collection is"):
        TupleSet.load(tmp_path / "set")


def test_sets_of_texts_keep_the_version_that_older_readers_know(tuple_set: TupleSet, tmp_path: Path) -> None:
    tuple_set.save(tmp_path)
    assert json.loads((tmp_path / "manifest.json").read_text())["version"] == 1
    assert pq.read_schema(tmp_path / "collection-query.parquet").names == ["id", "text"]


def test_the_fingerprint_knows_numbers_and_their_shape(tmp_path: Path) -> None:
    made = read_numbers(tmp_path, NUMBERS)
    other = read_numbers(tmp_path, NUMBERS.replace("2.5", "2.25"))
    assert len({made.fingerprint, other.fingerprint}) == 2
    flat = np.arange(12, dtype=np.float32)
    shapes = [
        TupleSet(
            made.fields, made.labels,
            {"query": made.collections["query"], "item": Collection(pa.array(["a", "b"]), pa.FixedSizeListArray.from_arrays(pa.array(flat[: 2 * width]), width))},
            made.tuples,
        ).fingerprint
        for width in (2, 3, 6)
    ]  # fmt: skip
    assert len(set(shapes)) == 3


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3), min_size=1, max_size=12
    )
)  # fmt: skip
def test_lists_and_columns_give_the_same_numbers(rows: list[list[float]]) -> None:
    columns = {name: pa.array([row[place] for row in rows]) for place, name in enumerate("abc")}
    kinds = (pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 3))
    found = [read_contents(table(columns), ContentSource(numeric=["a", "b", "c"]))]
    found += [read_contents(table({"v": pa.array(rows, kind)}), ContentSource(numeric="v")) for kind in kinds]
    for one in found[1:]:
        assert one.keys.equals(found[0].keys)
        assert one.values == found[0].values
        assert one.features == 3
    held = np.stack([np.frombuffer(found[0].values[key], np.float32) for key in found[0].keys.to_pylist()])
    np.testing.assert_array_equal(held, np.float32(rows))


def table(columns: dict[str, pa.Array]) -> SourceTable:
    return SourceTable([Part("in.parquet", pa.table(columns), lambda row: row + 1)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (NUMBERS.replace("-3e2", ""), "in.csv, row 3, column 'price': the number is missing. Expected: a number in every row"),
        (NUMBERS.replace("-3e2", "cheap"), "in.csv, row 3, column 'price': the number 'cheap' is no number"),
        (NUMBERS.replace("-3e2", "nan"), "in.csv, row 3, column 'price': the number is nan. Expected: a finite number"),
        (NUMBERS.replace("-3e2", "inf"), "in.csv, row 3, column 'price': the number is inf"),
        (NUMBERS.replace("-3e2", "1e39"), "in.csv, row 3, column 'price': the number is 1e+39. Expected: a number that float32 holds"),
    ],
)  # fmt: skip
def test_numbers_that_are_none_are_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_numbers(tmp_path, content)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (pa.array([[1.0, 2.0], [3.0]]), "row 2, column 'v': the list has 1 numbers. Expected: 2, as in the first row"),
        (pa.array([[1.0, 2.0], None]), "row 2, column 'v': the list is missing"),
        (pa.array([[1.0, 2.0], [3.0, None]]), "row 2, column 'v': number 2 of the list is missing"),
        (pa.array([[1.0, float("nan")]]), "row 1, column 'v': number 2 of the list is nan"),
        (pa.array([[]], pa.list_(pa.float32())), "row 1, column 'v': the list has 0 numbers. Expected: at least one"),
        (pa.array([["a"]]), "column 'v': the column holds list<item: string>. Expected: lists of numbers"),
        (pa.array([datetime.date(2020, 1, 1)]), "column 'v': the column holds date32[day]. Expected: numbers"),
    ],
)
def test_lists_that_are_none_are_refused(lists: pa.Array, message: str) -> None:
    with pytest.raises(InputError) as error:
        read_contents(table({"v": lists}), ContentSource(numeric="v"))
    assert message in str(error.value)


def test_an_id_has_the_same_numbers_everywhere(tmp_path: Path) -> None:
    fields = {"query": "q", "item": {"numeric": ["price", "weight"], "id": "id"}}
    content = "id," + NUMBERS.replace("\nred,1", "\na,red,1").replace("\nred,-", "\nb,red,-").replace(
        "\nblue", "\nb,blue"
    )
    with pytest.raises(InputError, match=r"row 4, column 'id': the id 'b' has another numbers than in .*row 3"):
        read_numbers(tmp_path, content, fields=fields)


def test_numbers_by_id(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("id,price,weight\na,1,2\nb,3,4\na,1,2\n")
    collections = {"item": {"files": str(tmp_path / "items.csv"), "id": "id", "numeric": ["price", "weight"]}}
    fields = {"query": "q", "item": {"id": "item", "collection": "item"}}
    made = read_numbers(tmp_path, "q,item,label\nred,b,1\nred,a,0\n", fields=fields, collections=collections)
    assert made.fields[1].kind == "numeric"
    assert made.values(1)[made.index[:, 1]].tolist() == [[3, 4], [1, 2]]
    assert any("repeat an id with the same numbers" in one for one in made.provenance["notes"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"item": {"numeric": "price", "text": "q"}}, "'text' and 'numeric' exclude each other"),
        ({"item": {"numerik": "price"}}, "unknown key 'fields.item.numerik'"),
        ({"a": {"numeric": "price", "collection": "c"}, "b": {"text": "q", "collection": "c"}}, "field 'b' is of kind text and shares a collection of kind numeric"),
        ({"a": {"numeric": "price", "collection": "c"}, "b": {"numeric": ["price", "weight"], "collection": "c"}}, "share the collection 'c' have 1 and 2 numbers"),
    ],
)  # fmt: skip
def test_fields_that_contradict_themselves_are_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        read_numbers(tmp_path, NUMBERS, fields=fields)
    assert message in str(error.value)


def test_statistics_and_overlaps_of_numbers(tmp_path: Path) -> None:
    content = NUMBERS.replace("label", "label,split").replace(",1\n", ",1,train\n").replace(",0\n", ",0,test\n")
    made = read_numbers(tmp_path, content, splits={"column": "split"})
    described = describe_tuple_set(made)
    found = described.splits["test"].fields["item"]
    assert found.words is None
    assert found.items == 2
    price = found.features["price"]
    assert (price.minimum, price.mean, price.maximum) == (-300, -149.5, 1)
    json.dumps(described.as_json())
    assert [(one.what, one.shared) for one in find_overlaps(made)] == [("group", 1), ("query", 1), ("item", 1)]


RED, BLUE = noisy_image((250, 0, 0), 1), noisy_image((0, 0, 250), 2, (9, 30))


def image_set(folder: Path, **files: bytes) -> TupleSet:
    """Pairs whose second field is a path below the folder of the table."""
    (folder / "pictures").mkdir(exist_ok=True)
    RED.save(folder / "pictures" / "red.png")
    BLUE.save(folder / "pictures" / "blue.jpg", quality=95)
    for name, content in files.items():
        (folder / "pictures" / f"{name}.png").write_bytes(content)
    names = ["pictures/red.png", "pictures/blue.jpg", "pictures/red.png", *(f"pictures/{name}.png" for name in files)]
    (folder / "in.csv").write_text("q,photo,label\n" + "".join(f"red,{name},{k % 2}\n" for k, name in enumerate(names)))
    return read_tuple_set(spec(folder, fields={"query": "q", "photo": {"image": "photo"}}))


@pytest.mark.parametrize("in_memory_bytes", [1 << 26, 0])
def test_images_are_kept_as_their_files_hold_them(
    in_memory_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_tables, "IN_MEMORY_BYTES", in_memory_bytes)
    made = image_set(tmp_path)
    assert made.fields[1].kind == "image"
    assert made.values(1) == [(tmp_path / "pictures" / name).read_bytes() for name in ("red.png", "blue.jpg")]
    assert made.index[:, 1].tolist() == [0, 1, 0]
    assert made.collections["photo"].ids[0].as_py().startswith("i")
    made.save(tmp_path / "set")
    again = TupleSet.load(tmp_path / "set")
    assert again.fingerprint == made.fingerprint
    assert again.values(1) == made.values(1)
    found = describe_tuple_set(again).splits["train"].fields["photo"]
    assert found.items == 2
    assert (found.images["width"].minimum, found.images["width"].maximum) == (9, 20)
    assert (found.images["height"].minimum, found.images["height"].maximum) == (14, 30)
    assert found.images["bytes"].maximum == max(map(len, made.values(1)))


@pytest.mark.parametrize("kind", ["binary", "datasets", "paths"])
def test_images_of_parquet_files(tmp_path: Path, kind: str) -> None:
    expected = image_set(tmp_path).values(1)
    paths = ["pictures/red.png", "pictures/blue.jpg"]
    column = {
        "binary": pa.array(expected),
        "datasets": pa.array([{"bytes": expected[0], "path": "x.png"}, {"bytes": None, "path": paths[1]}]),
        "paths": pa.array(paths),
    }[kind]
    pq.write_table(pa.table({"id": [1, 2], "photo": column}), tmp_path / "items.parquet")
    (tmp_path / "in.csv").write_text("q,photo,label\nred,2,1\nblue,1,0\n")
    collections = {"photos": {"files": str(tmp_path / "items.parquet"), "id": "id", "image": "photo"}}
    made = read_tuple_set(
        spec(tmp_path, fields={"query": "q", "photo": {"id": "photo", "collection": "photos"}}, collections=collections)
    )
    assert made.values(1) == expected
    assert made.index[:, 1].tolist() == [1, 0]


PNG = encode_image(RED)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no image", "in.csv, row 5, column 'photo': the image 'pictures/bad.png' does not decode: its format is none that Pillow knows. Replace the image"),
        (PNG[: len(PNG) // 2], "in.csv, row 5, column 'photo': the image 'pictures/bad.png' does not decode"),
        (PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:], "does not decode"),
        (b"", "does not decode"),
    ],
    ids=["text", "cut off", "damaged", "empty"],
)  # fmt: skip
def test_images_that_do_not_decode_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError) as error:
        image_set(tmp_path, bad=content)
    assert message in str(error.value)


def test_images_that_are_not_there_are_refused(tmp_path: Path) -> None:
    image_set(tmp_path)
    given = spec(tmp_path, fields={"query": "q", "photo": {"image": "photo"}})
    (tmp_path / "in.csv").write_text("q,photo,label\nred,pictures/red.png,1\nred,red.png,0\n")
    with pytest.raises(
        InputError,
        match=r"in.csv, row 3, column 'photo': the image '.*red.png' cannot be read: No such file.*the folder of the table",
    ):
        read_tuple_set(given)
    (tmp_path / "in.csv").write_text("q,photo,label\nred,pictures/red.png,1\nred,,0\n")
    with pytest.raises(InputError, match=r"row 3, column 'photo': the image is missing"):
        read_tuple_set(given)
    with pytest.raises(InputError, match=r"row 1, column 'v': the column holds int64. Expected: paths of image files"):
        read_contents(table({"v": pa.array([1])}), ContentSource(image="v"))
    with pytest.raises(InputError, match=r"row 2, column 'v': the image does not decode"):
        read_contents(table({"v": pa.array([PNG, PNG[:20]])}), ContentSource(image="v"))
