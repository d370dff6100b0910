"""Plain texts to learn language from: text files, columns of tables, the collections of a tuple set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pairstill.errors import InputError
from pairstill.files import MANIFEST
from pairstill.tuples.read_source import read_source
from pairstill.tuples.source_spec import TableSource
from pairstill.tuples.text_files import check_utf8
from pairstill.tuples.tuple_set import TupleSet

PLAIN_TEXT = (".txt", ".text")


@dataclass(frozen=True)
class PlainTexts:
    """Texts in the order of their sources.

    Attributes:
        texts: None is blank.
        blank: How many blank lines or cells were left out.
    """

    texts: list[str]
    blank: int


def read_texts(sources: Sequence[Path], columns: Sequence[str] = ()) -> PlainTexts:
    """Read texts from any mixture of sources.

    Args:
        sources: A text file (`.txt`: one text a line), a tuple set folder (every text of every collection), or a Parquet,
            CSV, TSV or JSON Lines file, a folder of such or a saved dataset (`columns`, each cell a text).
        columns: Columns of the tables; text files and tuple sets need none.

    Raises:
        InputError: A source is missing or damaged, a column is missing or holds no text, or nothing is left.
    """
    if not sources:
        raise InputError("no texts are given", expected="text files, tables or tuple set folders")
    texts: list[str] = []
    blank = 0
    for path in sources:
        found = [text.strip() for text in _read(path, columns)]
        kept = [text for text in found if text]
        blank += len(found) - len(kept)
        texts += kept
    if not texts:
        raise InputError("the sources hold no text", file=sources[0], expected="at least one line that is not blank")
    return PlainTexts(texts, blank)


def _read(path: Path, columns: Sequence[str]) -> list[str]:
    if (path / MANIFEST).exists():
        tuple_set = TupleSet.load(path)
        return [text for one in tuple_set.collections.values() if one.kind == "text" for text in one.text_list]
    if path.suffix.lower() in PLAIN_TEXT and path.is_file():
        check_utf8(path)
        # Lines end at line feeds alone: the other characters that Python takes for ends may stand inside a text.
        return path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    if path.exists() and not columns:
        raise InputError(
            "which column holds the texts is not said", file=path, expected="--column NAME",
            fix="A file of one text a line ends in .txt",
        )  # fmt: skip
    table = read_source(TableSource(files=[path]), columns)
    cells: list[str] = []
    for name in columns:
        column = table.column(name)
        if not (pa.types.is_large_string(column.type) or pa.types.is_null(column.type)):
            raise InputError(f"the column holds {column.type}", file=path, column=name, expected="texts")
        cells += [cell or "" for cell in column.to_pylist()]
    return cells
