import csv
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.errors import InputError
from pairstill.tuples import SourceSpec, TupleSet, read_tuple_set
from pairstill.tuples.items import text_ids

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).filter(
    lambda text: text.strip() and not text.isspace()
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"q": TEXT, "title": TEXT, "body": st.one_of(st.just(""), TEXT), "y": st.sampled_from([1.0, 1.5, 2.0, 3.0])}
    ),
    min_size=1,
    max_size=20,
)


def write(rows, folder, ending):
    path = folder / f"in.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=3)
    elif ending == "jsonl":
        path.write_text("".join(json.dumps(one) + "\n\n" for one in rows))
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(
                file, list(rows[0]), delimiter="," if ending == "csv" else "\t", quoting=csv.QUOTE_ALL
            )
            writer.writeheader()
            writer.writerows(rows)
    return path


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, ending=st.sampled_from(["csv", "tsv", "jsonl", "parquet"]))
def test_no_row_is_lost_changed_or_moved(rows, ending):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        spec = SourceSpec.parse(
            {
                "tuples": {"files": write(rows, folder, ending)},
                "fields": {"q": "q", "d": {"text": ["title", "body"], "join": " | "}},
                "label": {"column": "y", "range": [1, 3]},
                "group": "q",
            }
        )
        made = read_tuple_set(spec)
        made.save(folder / "set")
        again = TupleSet.load(folder / "set")
    assert again.fingerprint == made.fingerprint
    assert [again.texts(0)[at] for at in again.index[:, 0]] == [one["q"] for one in rows]
    joined = [" | ".join(one[name] for name in ("title", "body") if one[name].strip()) for one in rows]
    assert [again.texts(1)[at] for at in again.index[:, 1]] == joined
    assert again.tuples["label"].to_pylist() == [(one["y"] - 1) / 2 for one in rows]
    assert len(again.collections["q"]) == len({one["q"] for one in rows})
    split_of = {}
    for group, split in zip(again.tuples["group"].to_pylist(), again.tuples["split"].to_pylist(), strict=True):
        assert split_of.setdefault(group, split) == split


def test_ids_of_texts_depend_on_the_text_alone():
    ids = text_ids(pa.array(["b", "a", "b"], pa.large_string())).to_pylist()
    assert ids[0] == ids[2] != ids[1]
    assert text_ids(pa.array(["a"], pa.large_string())).to_pylist() == [ids[1]]
    assert all(len(one) == 21 and one.startswith("t") for one in ids)


def parse(**content):
    return SourceSpec.parse({"tuples": "t.csv", "fields": {"q": "q"}, **content})


def test_short_forms_mean_the_long_ones():
    short = parse(fields={"q": "q", "d": ["title", "body"]}, label="y", slices="q.kind", splits={"files": None})
    assert short.tuples.files == [Path("t.csv")]
    assert short.fields["d"].text == ["title", "body"]
    assert short.label.column == "y"
    assert short.slices == {"kind": "q.kind"}
    assert parse(label={"column": "y", "classes": [0, 1]}).label.classes == ["0", "1"]


def test_paths_start_at_the_yaml_file(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "spec.yaml").write_text("tuples: ../t.csv\nfields: {q: q}\nsplits: {all: train}\n")
    (tmp_path / "t.csv").write_text("q\nx\n")
    assert read_tuple_set(SourceSpec.load(tmp_path / "in" / "spec.yaml")).texts(0) == ["x"]
    with pytest.raises(InputError, match="cannot be read"):
        SourceSpec.load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_bytes(b"tuples: \xff")
    with pytest.raises(InputError, match="not UTF-8"):
        SourceSpec.load(tmp_path / "bad.yaml")


def test_fields_of_one_collection_share_items(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\nx,y\ny,z\n")
    spec = SourceSpec.parse(
        {
            "tuples": str(tmp_path / "t.csv"),
            "fields": {"a": {"text": "a", "collection": "s"}, "b": {"text": "b", "collection": "s"}},
        }
    )
    made = read_tuple_set(spec)
    assert made.texts(0) == made.texts(1) == ["x", "y", "z"]
    assert made.index.tolist() == [[0, 1], [1, 2]]


def test_an_id_with_two_texts_across_fields_is_found_at_its_row(tmp_path):
    (tmp_path / "t.csv").write_text("i,a,j,b\n1,x,2,y\n2,z,3,w\n")
    fields = {"a": {"text": "a", "id": "i", "collection": "s"}, "b": {"text": "b", "id": "j", "collection": "s"}}
    with pytest.raises(InputError, match=r"row 2, column 'j': the id '2' has another text than in .*row 3"):
        read_tuple_set(SourceSpec.parse({"tuples": str(tmp_path / "t.csv"), "fields": fields}))


def test_repeated_items_of_a_table_are_kept_once_and_noted(tmp_path):
    (tmp_path / "t.csv").write_text("i\n1\n2\n")
    (tmp_path / "k.csv").write_text("i,t\n1,x\n2,y\n1,x\n")
    made = read_tuple_set(
        SourceSpec.parse(
            {
                "tuples": str(tmp_path / "t.csv"), "fields": {"q": {"id": "i", "collection": "k"}},
                "collections": {"k": {"files": str(tmp_path / "k.csv"), "id": "i", "text": "t"}},
            }
        )
    )  # fmt: skip
    assert made.texts(0) == ["x", "y"]
    assert "1 rows repeat an id" in made.provenance["notes"][0]


def test_files_with_different_types_are_refused(tmp_path):
    pq.write_table(pa.table({"q": ["a"], "i": ["1"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"q": ["b"], "i": [2]}), tmp_path / "2.parquet")
    spec = {"tuples": str(tmp_path), "fields": {"q": {"text": "q", "id": "i"}}}
    with pytest.raises(InputError, match=r"2.parquet, column 'i': the column holds int64. Expected: large_string"):
        read_tuple_set(SourceSpec.parse(spec))
    pq.write_table(pa.table({"q": pa.array(["b"]).dictionary_encode(), "i": ["2"]}), tmp_path / "2.parquet")
    assert read_tuple_set(SourceSpec.parse(spec)).texts(0) == ["a", "b"]
