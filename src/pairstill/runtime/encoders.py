"""Token ids to representations, as an exported student's `encode` says."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pairstill.errors import ArtefactError
from pairstill.representation import Representation
from pairstill.runtime.graph import Graph
from pairstill.runtime.manifest import ExportedField, ExportManifest
from pairstill.tokens.ragged import RaggedTokens

Encode = Callable[[RaggedTokens, np.ndarray], Representation[np.ndarray]]
"""Called with the tokens of many texts and the rows that are wanted."""


class GraphEncoder:
    """A transformer, then what is kept of its vectors.

    Args:
        encoder: From `ids` and `lengths` to `hidden`; fields may share it.
        project: From `hidden`, `ids` and `lengths` to the arrays of a representation, whose lengths are `kept`.
        spec: `constants` (other inputs of `encoder`, of this field), `attended_until` (None, or the token id after whose
            last occurrence nothing is attended to).
        padding: Id of the padding token.
    """

    def __init__(self, encoder: Graph, project: Graph, spec: Any, padding: int) -> None:
        self.encoder, self.project, self.padding = encoder, project, padding
        self.constants = {str(name): np.array(value, np.int64) for name, value in spec["constants"].items()}
        self.attended_until = spec["attended_until"]

    def __call__(self, tokens: RaggedTokens, rows: np.ndarray) -> Representation[np.ndarray]:
        """Representations of the texts at `rows`."""
        ids, lengths = tokens.padded(rows, self.padding)
        attended = lengths
        if self.attended_until is not None:
            ends = (ids == self.attended_until) * np.arange(1, ids.shape[1] + 1)
            attended = ends.max(axis=1)
        hidden = self.encoder.run({**self.constants, "ids": ids, "lengths": attended})["hidden"]
        arrays = self.project.run({"hidden": hidden, "ids": ids, "lengths": lengths})
        return Representation(lengths=arrays.pop("kept"), **arrays)


class BagEncoder:
    """Sums of the embeddings of n-grams, and their numbers.

    Args:
        table: `(n-grams, dim)` float32.
    """

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def __call__(self, tokens: RaggedTokens, rows: np.ndarray) -> Representation[np.ndarray]:
        """Representations of the texts at `rows`."""
        starts, stops = tokens.offsets[:-1][rows], tokens.offsets[1:][rows]
        sums = np.zeros((len(rows), 1, self.table.shape[1]), np.float32)
        for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
            sums[row, 0] = self.table[tokens.ids[start:stop]].sum(axis=0)
        counts = (stops - starts).astype(np.float32)[:, None]
        return Representation(sums, np.ones(len(rows), np.int64), scalars=counts)


def keep_tokens(tokens: RaggedTokens, rows: np.ndarray) -> Representation[np.ndarray]:
    """The token ids themselves: a cross-encoder reads them with those of the other texts."""
    return Representation(*tokens.padded(rows))


def encoders(manifest: ExportManifest) -> list[Encode]:
    """The encoder of each field; graphs and tables that fields share are loaded once.

    Raises:
        ArtefactError: A file is damaged.
    """
    graph = cache(Graph)
    table = cache(_table)

    def encoder(field: ExportedField) -> Encode:
        spec = field.encode
        if spec["kind"] == "graph":
            parts = graph(manifest.file(spec["encoder"])), graph(manifest.file(spec["project"]))
            return GraphEncoder(*parts, spec, manifest.padding)
        if spec["kind"] == "bag":
            return BagEncoder(table(manifest.file(spec["table"])))
        if spec["kind"] == "tokens":
            return keep_tokens
        raise ValueError(f"encode of the kind {spec['kind']!r}")

    return [encoder(field) for field in manifest.fields]


def _table(path: Path) -> np.ndarray:
    return load_arrays(path)["table"]


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file.

    Raises:
        ArtefactError: It is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ArtefactError(f"the file cannot be read: {error}", file=path) from None
