"""Splits: read from the source, or made by group so that adding rows moves no old one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.errors import InputError, did_you_mean
from pairstill.tuples.checks import keys
from pairstill.tuples.source_spec import SYNONYMS
from pairstill.tuples.source_table import SourceTable, first_row
from pairstill.tuples.tuple_set import SPLITS

DEFAULT_FRACTIONS = {"train": 0.8, "valid": 0.1, "test": 0.1}
RENAME = "Say what it means: --rename {}=train, or under 'splits' in YAML: rename: {{{}: train}}"


def make_splits(groups: pa.Array, fractions: Mapping[str, float], seed: int) -> pa.Array:
    """A split for each row, the same for all rows of a group.

    A group's split depends on the seed and the group alone: rows added later move no other row. Shares are therefore
    met only roughly in small sets.

    Args:
        groups: `(rows,)` strings.
        fractions: Share of each split; they add up to 1.
        seed: Another seed gives another division.

    Returns:
        `(rows,)` strings.
    """
    encoded = pc.dictionary_encode(groups)
    names = [name for name in SPLITS if name in fractions]
    bounds = np.cumsum([fractions[name] for name in names])
    where = np.fromiter(
        (_unit_hash(seed, group.as_py()) for group in encoded.dictionary),
        dtype=np.float64,
        count=len(encoded.dictionary),
    )
    chosen = np.minimum(np.searchsorted(bounds, where, side="right"), len(names) - 1)
    return pa.array(names, pa.string()).take(pa.array(chosen[np.asarray(encoded.indices)]))


def _unit_hash(seed: int, group: str) -> float:
    digest = hashlib.blake2b(f"{seed}\n{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def read_splits(source: SourceTable, column: str, rename: Mapping[str, str]) -> pa.Array:
    """The split of each row from a column, its values renamed.

    Raises:
        InputError: A value is null, or names no split.
    """
    encoded = pc.dictionary_encode(keys(source, column, "split"))
    values = encoded.dictionary.to_pylist()
    meant = [_meaning(value, rename) for value in values]
    indices = np.asarray(encoded.indices)
    if None in meant:
        unknown = meant.index(None)
        raise source.error(
            first_row(indices == unknown) or 0, column, f"unknown split {values[unknown]!r}",
            expected=f"one of {', '.join(SPLITS)}", fix=_rename_hint(values[unknown]),
        )  # fmt: skip
    return pa.array(meant, pa.string()).take(encoded.indices)


def splits_of_parts(source: SourceTable, rename: Mapping[str, str]) -> pa.Array:
    """The split of each row where each part (a file, or a dataset's own split) is one.

    Raises:
        InputError: The name of a part's split is unknown.
    """
    pieces = []
    for part in source.parts:
        meant = _meaning(part.split or "", rename)
        if meant is None:
            raise InputError(
                f"unknown split '{part.split}'", file=part.name, expected=f"one of {', '.join(SPLITS)}",
                fix=_rename_hint(part.split or ""),
            )  # fmt: skip
        pieces.append(pa.repeat(meant, part.table.num_rows))
    return pa.concat_arrays(pieces)


def _meaning(value: str, rename: Mapping[str, str]) -> str | None:
    value = rename.get(value, value)
    value = SYNONYMS.get(value, value)
    return value if value in SPLITS else None


def _rename_hint(value: str) -> str:
    return did_you_mean(value, SPLITS) or RENAME.format(value, value)


def first_crossing(groups: pa.Array, splits: pa.Array) -> tuple[int, int, int] | None:
    """Whether a group is in two splits; training rows and unlabelled transfer rows count as one side.

    Returns:
        The first row whose group was in another split before, that group's first row, and how many groups cross;
        None where no group does.
    """
    codes = np.asarray(pc.dictionary_encode(groups).indices)
    sides = np.asarray(pc.index_in(splits, value_set=pa.array(["train", "valid", "test"], pa.string())).fill_null(0))
    _, firsts = np.unique(codes, return_index=True)
    crossing = sides != sides[firsts][codes]
    row = first_row(crossing)
    if row is None:
        return None
    return row, int(firsts[codes[row]]), len(np.unique(codes[crossing]))
