"""JSON Lines: one object a line, read in pieces, so that every error has its line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from pairstill.errors import InputError
from pairstill.tuples.source_table import Part, check_columns, first_row
from pairstill.tuples.text_files import check_utf8

PIECE_ROWS = 50_000
TYPES = {str: pa.large_string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
MISSING = object()


def read_json_lines(path: Path, columns: Sequence[str]) -> Part:
    """Read columns of a file; a key that some lines lack is null there. Row numbers are lines; blank lines are none.

    Raises:
        InputError: The file is not UTF-8, a line is no JSON object, a column is missing from every line, or holds
            different types, lists or objects.
    """
    check_utf8(path)
    types: dict[str, type] = {}
    seen: dict[str, None] = {}
    pieces: list[list[pa.Array]] = []
    for lines, objects in _pieces(path):
        if not pieces or not set(columns) <= seen.keys():
            for one in objects:
                seen.update(dict.fromkeys(one))
        pieces.append([_column(path, name, lines, objects, types) for name in columns])
    if pieces:
        check_columns(columns, list(seen), str(path))
    schema = pa.schema([(name, TYPES[types[name]] if name in types else pa.null()) for name in columns])
    batches = [
        pa.record_batch([array.cast(kind) for array, kind in zip(piece, schema.types, strict=True)], schema=schema)
        for piece in pieces
    ]
    return Part(str(path), pa.Table.from_batches(batches, schema), lambda row: _line_of(path, row))


def first_keys(path: Path) -> list[str]:
    """Keys of the first line."""
    check_utf8(path)
    return next((list(objects[0]) for _, objects in _pieces(path, 1)), [])


def _pieces(path: Path, rows: int = PIECE_ROWS) -> Iterator[tuple[list[int], list[dict[str, object]]]]:
    lines: list[int] = []
    objects: list[dict[str, object]] = []
    with path.open("rb") as file:
        for line, data in enumerate(file, start=1):
            text = data.removeprefix(b"\xef\xbb\xbf") if line == 1 else data
            if not text.strip():
                continue
            try:
                one = json.loads(text)
            except json.JSONDecodeError as error:
                raise InputError(
                    f"the line is not JSON ({error.msg} at character {error.colno})", file=path, row=line,
                    expected="one JSON object a line",
                    fix="If the file is one JSON array, write each of its elements on a line of its own"
                    if text.strip() == b"[" else "Write the line again, or copy the file again if it was cut off",
                ) from None  # fmt: skip
            except ValueError as error:
                raise InputError(f"the line cannot be read: {error}", file=path, row=line) from None
            except RecursionError:
                raise InputError("the line nests too deeply", file=path, row=line) from None
            if not isinstance(one, dict):
                raise InputError(
                    f"the line holds {_kind(one)}", file=path, row=line, expected="an object such as "
                    '{"query": "...", "label": 1}',
                )  # fmt: skip
            lines.append(line)
            objects.append(one)
            if len(lines) == rows:
                yield lines, objects
                lines, objects = [], []
    if lines:
        yield lines, objects


def _column(
    path: Path, name: str, lines: list[int], objects: list[dict[str, object]], types: dict[str, type]
) -> pa.Array:
    values = [one.get(name) for one in objects]
    for kind in {type(value) for value in values} - {type(None)}:
        known = types.get(name)
        if kind in TYPES and (known is None or kind is known):
            types[name] = kind
        elif {kind, known} == {int, float}:
            types[name] = float
        else:
            position = next(at for at, value in enumerate(values) if type(value) is kind)
            earlier = f"{_kind(known())}, as in other lines" if known else "a text, a number, true, false or null"
            raise InputError(
                f"the value is {_kind(values[position])}", file=path, row=lines[position], column=name,
                expected=earlier,
            )  # fmt: skip
    if name not in types:
        return pa.nulls(len(values))
    try:
        return pa.array(values, TYPES[types[name]])
    except (UnicodeEncodeError, OverflowError, pa.ArrowInvalid):
        position = first_row(pa.array([_cannot(value) for value in values])) or 0
        found = "the text holds half of a surrogate pair" if types[name] is str else "the number has over 64 bits"
        raise InputError(found, file=path, row=lines[position], column=name) from None


def _cannot(value: object) -> bool:
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    return isinstance(value, int) and not -(2**53) <= value <= 2**53


def _kind(value: object) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a text",
        bool: "a truth value",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")


def _line_of(path: Path, row: int) -> int:
    with path.open("rb") as file:
        for line, data in enumerate(file, start=1):
            if data.removeprefix(b"\xef\xbb\xbf").strip():
                if row == 0:
                    return line
                row -= 1
    return row
