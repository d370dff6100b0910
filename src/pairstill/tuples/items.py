"""From rows of ids and contents to a collection of distinct items."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.errors import InputError
from pairstill.tuples.collection import Collection
from pairstill.tuples.source_table import SourceTable

PIECE_ROWS = 100_000
LIMIT_BYTES = 2**31 - 1


@dataclass(frozen=True)
class ItemRows:
    """Ids and contents, row by row, of one source; the same item may come many times.

    Attributes:
        source: The table.
        column: What messages call the column of the ids.
        ids: Of the items.
        texts: Texts, or keys of other content.
        noun: What messages call the content.
    """

    source: SourceTable
    column: str
    ids: pa.Array
    texts: pa.Array
    noun: str = "text"


def text_ids(texts: pa.Array) -> pa.Array:
    """An id for each text that depends on the text alone: `t` and 20 hexadecimal digits of its BLAKE2b hash.

    Equal texts have equal ids; among a hundred million texts the chance that any two others do is below 1 in 10^8.
    """
    encoded = pc.dictionary_encode(texts)
    pieces = [
        pa.array(
            ["t" + hashlib.blake2b(one.encode(), digest_size=10).hexdigest() for one in piece.to_pylist()],
            pa.large_string(),
        )
        for piece in (
            encoded.dictionary.slice(start, PIECE_ROWS) for start in range(0, len(encoded.dictionary), PIECE_ROWS)
        )
    ]
    return pa.concat_arrays(pieces).take(encoded.indices)


def collect(rows: Sequence[ItemRows]) -> tuple[Collection, int]:
    """The distinct items of some rows, in order of first appearance, and how many rows repeated an item.

    Raises:
        InputError: An id comes with two different contents.
    """
    ids = rows[0].ids if len(rows) == 1 else pa.concat_arrays([one.ids for one in rows])
    texts = rows[0].texts if len(rows) == 1 else pa.concat_arrays([one.texts for one in rows])
    encoded = pc.dictionary_encode(ids)
    distinct = len(encoded.dictionary)
    if distinct == len(ids):
        return Collection(narrow(ids), narrow(texts)), 0
    codes = np.asarray(encoded.indices)
    _, firsts = np.unique(codes, return_index=True)
    _check_repeats(rows, texts, codes, firsts)
    return Collection(narrow(encoded.dictionary), narrow(texts.take(pa.array(firsts)))), len(ids) - distinct


def _check_repeats(rows: Sequence[ItemRows], texts: pa.Array, codes: np.ndarray, firsts: np.ndarray) -> None:
    repeats = np.flatnonzero(firsts[codes] != np.arange(len(codes)))
    for start in range(0, len(repeats), PIECE_ROWS):
        piece = repeats[start : start + PIECE_ROWS]
        earlier = firsts[codes[piece]]
        differs = np.flatnonzero(np.asarray(pc.not_equal(texts.take(pa.array(piece)), texts.take(pa.array(earlier)))))
        if len(differs):
            row, first = int(piece[differs[0]]), int(earlier[differs[0]])
            found, position = _origin(rows, row)
            other, other_position = _origin(rows, first)
            raise found.source.error(
                position, found.column,
                f"the id '{found.ids[position].as_py()}' has another {found.noun} than in {other.source.describe_place(other_position)}",
                expected=f"one {found.noun} an id" if found.noun != "numbers" else "the same numbers an id",
                fix=f"Correct the id or the {found.noun}",
            )  # fmt: skip


def _origin(rows: Sequence[ItemRows], row: int) -> tuple[ItemRows, int]:
    for one in rows:
        if row < len(one.ids):
            return one, row
        row -= len(one.ids)
    raise IndexError(row)


def narrow(array: pa.Array) -> pa.Array:
    """As `string` where the bytes fit 32-bit offsets, else as it is."""
    if pa.types.is_large_string(array.type) and array.nbytes < LIMIT_BYTES:
        return array.cast(pa.string())
    return array


def check_known(source: SourceTable, column: str, ids: pa.Array, collection: Collection, name: str, file: str) -> None:
    """Refuse ids that have no text.

    Raises:
        InputError: With the first such row.
    """
    from pairstill.tuples.source_table import first_row

    row = first_row(pc.invert(pc.is_in(ids, value_set=collection.ids.cast(ids.type))))
    if row is not None:
        count = int(pc.sum(pc.invert(pc.is_in(ids, value_set=collection.ids.cast(ids.type)))).as_py())
        error: InputError = source.error(
            row, column, f"the id '{ids[row].as_py()}' has no text in collection '{name}' ({file})",
            expected=f"an id of that collection ({count} rows have none)",
            fix="Add the missing texts, or remove the rows",
        )  # fmt: skip
        raise error
