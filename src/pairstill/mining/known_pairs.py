"""Pairs of texts that a tuple set already speaks of, whatever ids they have."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.tuples import TupleSet


class TextCodes:
    """A number for each distinct text of the two collections, ignoring case and runs of blanks.

    Attributes:
        query: `(query items,)` int64.
        passage: `(passage items,)` int64.
    """

    def __init__(self, tuple_set: TupleSet, query_field: int, passage_field: int) -> None:
        pieces = [_normal(tuple_set.collection_of(position).texts) for position in (query_field, passage_field)]
        encoded = pc.dictionary_encode(pa.chunked_array(pieces, pa.large_string()).combine_chunks())
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        codes = np.asarray(encoded.indices, dtype=np.int64)
        self._count = len(encoded.dictionary)
        self.query, self.passage = codes[: len(pieces[0])], codes[len(pieces[0]) :]

    def keys(self, queries: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """One int64 for each pair of items, equal for pairs of equal texts; the arguments broadcast."""
        return np.asarray(self.query[queries] * self._count + self.passage[passages])


def _normal(texts: pa.Array) -> pa.Array:
    lowered = pc.utf8_lower(texts.cast(pa.large_string()))
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(lowered, r"\s+", " "))
