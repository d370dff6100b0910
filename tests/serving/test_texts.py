"""The database of texts: versions, files, announcements."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairstill.errors import ArtefactError, InputError
from pairstill.serving.texts import TextChange, TextStore
from pairstill.store import content_hashes


def versions(*texts: str) -> np.ndarray:
    return content_hashes(texts)


def change(name: str, text: str | None) -> TextChange:
    return TextChange(name, None if text is None else versions(text)[0].tobytes(), text)


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "jsonl"])
def test_a_file_is_taken_once_and_again_when_it_changed(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"items.{ending}"

    def write(texts: list[str]) -> None:
        if ending == "parquet":
            pq.write_table(pa.table({"id": list("ab"), "text": texts}), path)
        elif ending == "jsonl":
            path.write_text("".join(f'{{"id": "{i}", "text": "{t}"}}\n' for i, t in zip("ab", texts, strict=True)))
        else:
            mark = "," if ending == "csv" else "\t"
            path.write_text(f"id{mark}text\n" + "".join(f"{i}{mark}{t}\n" for i, t in zip("ab", texts, strict=True)))

    write(["one", "two"])
    none = np.zeros((3, 16), np.uint8)
    texts = TextStore.open(path)
    assert texts.path == tmp_path / f"items.{ending}.sqlite"
    assert texts.texts(["b", "c", "a"], none) == ["two", None, "one"]
    assert texts.fill(path) == 0
    texts.close()
    write(["one", "three"])
    texts = TextStore.open(path)
    assert texts.texts(["b", "b", "a"], none) == ["three", "three", "one"]
    texts.close()


def test_integer_ids_and_other_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"sku": [7, 8], "title": ["x", "y"]}), tmp_path / "items.parquet")
    texts = TextStore.open(
        tmp_path / "items.parquet", id_column="sku", text_column="title", database=tmp_path / "t.sqlite"
    )
    assert texts.path == tmp_path / "t.sqlite"
    assert texts.texts(["8"], np.zeros((1, 16), np.uint8)) == ["y"]
    texts.close()


def test_a_snapshot_finds_the_text_of_its_vectors_until_nobody_uses_it(tmp_path: Path) -> None:
    texts, store = TextStore.open(tmp_path / "texts.sqlite"), str(tmp_path)
    texts.register(store, 1)

    def make(*changes: TextChange, settle: bool = True) -> None:
        texts.announce(store, changes)
        if settle:
            texts.settle(store, changes)

    make(change("a", "old"), settle=False)
    make(change("a", "new"))
    assert texts.texts(["a", "a", "a"], versions("new", "old", "never")) == ["new", "old", None]
    assert texts.open_of(store) == []
    snapshots = [frozenset({number}) for number in range(2)]
    for one in snapshots:
        texts.readers.add(one)
    make(change("b", "x"))
    assert texts.texts(["a", "a"], versions("new", "old")) == ["new", "old"]
    # The older snapshot is gone.
    del snapshots[0], one
    make(change("a", None), settle=False)
    assert texts.texts(["a", "a"], versions("new", "old")) == ["new", None]
    # A change that is settled in an older form stays open.
    texts.settle(store, [change("a", "new")])
    assert texts.open_of(store) == [TextChange("a", None, None)]
    texts.settle(store, [change("a", None)])
    make(change("b", "y"))
    assert texts.texts(["a"], versions("new")) == [None]
    texts.close()


def test_a_change_is_open_for_every_store_of_the_field(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("search", "rank", "queries")]
    for folder in folders:
        folder.mkdir()
    search, rank, queries = (str(one) for one in folders)
    texts = TextStore.open(tmp_path / "texts.sqlite")
    for folder, field in ((search, 1), (rank, 1), (queries, 0)):
        texts.register(folder, field)
    texts.announce(search, [change("a", "x")])
    texts.settle(search, [change("a", "x")])
    assert texts.open_of(search) == [] == texts.open_of(queries)
    assert texts.open_of(rank) == [change("a", "x")]
    # The same change of the other store opens nothing for the first.
    texts.announce(rank, [change("a", "x")])
    assert texts.open_of(search) == []
    texts.close()
    texts = TextStore.open(tmp_path / "texts.sqlite")
    assert texts.open_of(rank) == [change("a", "x")]
    # A store that is gone is waited for no longer.
    folders[1].rmdir()
    texts.register(search, 1)
    assert texts.open_of(rank) == []
    texts.close()


def test_many_ids_and_odd_texts(tmp_path: Path) -> None:
    texts = TextStore.open(tmp_path / "texts.sqlite")
    texts.register(str(tmp_path), 1)
    odd = {
        "": "",
        "nul\0id": "nul\0text",
        "'; DROP TABLE texts; --": "<script>",
        "日本": "😀 \u202e",
        **{str(n): f"t{n}" for n in range(1200)},
    }
    texts.announce(str(tmp_path), [change(name, text) for name, text in odd.items()])
    assert texts.texts(list(odd), versions(*odd.values())) == list(odd.values())
    with pytest.raises(InputError, match="no Unicode"):
        texts.announce(str(tmp_path), [TextChange("a", b"v", "\ud800")])
    texts.close()


def test_what_is_no_database_of_texts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the file of texts does not exist"):
        TextStore.open(tmp_path / "none.parquet")
    with pytest.raises(InputError, match="the folder of the texts does not exist"):
        TextStore.open(tmp_path / "none" / "texts.sqlite")
    (tmp_path / "bad.csv").write_text("id,title\na,b\n")
    with pytest.raises(InputError, match="there is no column 'text'"):
        TextStore.open(tmp_path / "bad.csv")
    (tmp_path / "twice.csv").write_text("id,text\na,b\na,c\n")
    with pytest.raises(InputError, match="has another text"):
        TextStore.open(tmp_path / "twice.csv")
    pq.write_table(pa.table({"id": ["a"], "text": [1.5]}), tmp_path / "numbers.parquet")
    with pytest.raises(InputError, match="the column holds double"):
        TextStore.open(tmp_path / "numbers.parquet")
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["x", None]}), tmp_path / "empty.parquet")
    with pytest.raises(InputError, match="1 cells are empty"):
        TextStore.open(tmp_path / "empty.parquet")
    (tmp_path / "noise.sqlite").write_bytes(b"noise" * 1000)
    with pytest.raises(ArtefactError, match="the texts are damaged"):
        TextStore.open(tmp_path / "noise.sqlite")
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE x (y)")
    other.close()
    with pytest.raises(ArtefactError, match="a database of something else"):
        TextStore.open(tmp_path / "other.sqlite")
    TextStore.open(tmp_path / "newer.sqlite").close()
    with sqlite3.connect(tmp_path / "newer.sqlite") as newer:
        newer.execute("PRAGMA user_version=99")
    newer.close()
    with pytest.raises(ArtefactError, match="the format version is 99"):
        TextStore.open(tmp_path / "newer.sqlite")
