"""Plain texts from every kind of source, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairstill.errors import InputError
from pairstill.tuples import TupleSet
from pairstill.tuples.read_texts import read_texts


def test_lines_cells_and_collections_in_their_order(tuple_set: TupleSet, tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_bytes("\ufeffone\r\n\n two\u2028three \nfour".encode())
    (tmp_path / "table.csv").write_text("title,body\na,b\nc,\n")
    pq.write_table(pa.table({"title": ["x", None], "body": ["", "y"]}), tmp_path / "table.parquet")
    tuple_set.save(tmp_path / "tuples")
    sources = [tmp_path / one for one in ("lines.txt", "table.csv", "table.parquet", "tuples")]
    found = read_texts(sources, ["title", "body"])
    assert found.texts[:8] == ["one", "two\u2028three", "four", "a", "c", "b", "x", "y"]
    assert found.blank == 4
    assert found.texts[8:] == [text for one in tuple_set.collections.values() for text in one.texts.to_pylist()]


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("title\na\n")
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    pq.write_table(pa.table({"price": [1, 2]}), tmp_path / "table.parquet")
    with pytest.raises(InputError, match="no texts are given"):
        read_texts([])
    with pytest.raises(InputError, match=r"which column holds the texts is not said.*--column NAME"):
        read_texts([tmp_path / "table.csv"])
    with pytest.raises(InputError, match=r"no column 'titel'.*Did you mean 'title'"):
        read_texts([tmp_path / "table.csv"], ["titel"])
    with pytest.raises(InputError, match=r"column 'price': the column holds int64\. Expected: texts"):
        read_texts([tmp_path / "table.parquet"], ["price"])
    with pytest.raises(InputError, match="hold no text"):
        read_texts([tmp_path / "blank.txt"])
    with pytest.raises(InputError, match=r"latin\.txt, row 1: byte 4 \(0xe9\) is not UTF-8"):
        read_texts([tmp_path / "latin.txt"])
    with pytest.raises(InputError, match="does not exist"):
        read_texts([tmp_path / "missing.txt"])
