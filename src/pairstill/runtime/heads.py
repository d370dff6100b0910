"""Representations to logits, as an exported student's `prepare` and `head` say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from pairstill.errors import InputError
from pairstill.representation import Representation, Similarity
from pairstill.runtime.encoders import load_arrays
from pairstill.runtime.feed_forward import BagHead
from pairstill.runtime.graph import Graph
from pairstill.runtime.joined import JoinedHead
from pairstill.runtime.manifest import ExportManifest
from pairstill.runtime.vectors import normalised
from pairstill.runtime.workers import Workers
from pairstill.tokens.ragged import length_batches

Prepared = Mapping[str, np.ndarray]

TOKENS_PER_BLOCK = 1024
"""Joined tokens that go through a transformer head together: what the layers give stays in a core's cache."""
PAIRS_PER_BLOCK = 1024
ITEMS_PER_BLOCK = 128


class Head(Protocol):
    """What is paid per item of a request (`prepare`) and per tuple (`score`)."""

    def prepare(self, field: int, representation: Representation[np.ndarray]) -> dict[str, np.ndarray]:
        """What `score` reads of each item, by name."""

    def blocks(self, prepared: Sequence[Prepared], index: np.ndarray) -> list[np.ndarray]:
        """Rows of `index` that are scored together; every row is in one block."""

    def score(self, prepared: Sequence[Prepared], index: np.ndarray) -> np.ndarray:
        """Logits `(tuples, outputs)` of one block."""


class SimilarityHead:
    """Scale times cosine or dot product, plus bias.

    Args:
        similarity: The metric, and the two numbers.
    """

    def __init__(self, similarity: Similarity) -> None:
        self.similarity = similarity

    def prepare(self, field: int, representation: Representation[np.ndarray]) -> dict[str, np.ndarray]:
        """The vectors, of length 1 for a cosine."""
        del field
        vectors = representation.vectors[:, 0]
        return {"vector": normalised(vectors) if self.similarity.metric == "cosine" else vectors}

    def blocks(self, prepared: Sequence[Prepared], index: np.ndarray) -> list[np.ndarray]:
        """Pieces of equal size."""
        del prepared
        return pieces(len(index), PAIRS_PER_BLOCK)

    def score(self, prepared: Sequence[Prepared], index: np.ndarray) -> np.ndarray:
        """Products of the gathered vectors."""
        left, right = (one["vector"][index[:, field]] for field, one in enumerate(prepared))
        dots = np.einsum("ij,ij->i", left, right)[:, None]
        return np.asarray(dots * np.float32(self.similarity.scale) + np.float32(self.similarity.bias), np.float32)


class GraphHead:
    """A head as ONNX graphs; see docs/formats.md for their inputs.

    Args:
        graph: From what was prepared, `index` and `columns` to `logits`.
        prepares: Per field, how its items are prepared, and the graph that does it (None where none does).
        tokens: Whether the cost of a tuple depends on the tokens of its texts.
        workers: That items are prepared by.
    """

    def __init__(
        self, graph: Graph, prepares: Sequence[tuple[Mapping[str, Any], Graph | None]], tokens: bool, workers: Workers
    ) -> None:  # fmt: skip
        self.graph, self.prepares, self.tokens, self.workers = graph, prepares, tokens, workers

    def prepare(self, field: int, representation: Representation[np.ndarray]) -> dict[str, np.ndarray]:
        """The head's part per item, and the skip's normalised vector."""
        spec, graph = self.prepares[field]
        vectors, lengths = representation.vectors, representation.lengths
        if graph is not None:
            found = graph.run_items({"vectors": vectors, "lengths": lengths}, ITEMS_PER_BLOCK, self.workers)
        else:
            scaled = vectors * np.float32(spec["factor"])
            scaled = normalised(scaled) if spec["normalise"] else scaled
            found = {"vectors": scaled} if spec["all"] else {"vector": scaled[:, 0]}
        found["lengths"] = lengths
        if spec["similarity"]:
            skip = representation.similarity
            found["similarity"] = normalised(vectors[:, 0] if skip is None else skip)
        return found

    def blocks(self, prepared: Sequence[Prepared], index: np.ndarray) -> list[np.ndarray]:
        """Pieces of equal size, or tuples of similar length."""
        if not self.tokens:
            return pieces(len(index), PAIRS_PER_BLOCK)
        lengths = sum(one["lengths"][index[:, field]] for field, one in enumerate(prepared))
        return length_batches(np.asarray(lengths), TOKENS_PER_BLOCK, PAIRS_PER_BLOCK)

    def score(self, prepared: Sequence[Prepared], index: np.ndarray) -> np.ndarray:
        """Run the graph; of slots that no item of the block fills nothing is computed."""
        arrays: dict[str, np.ndarray] = {"index": index}
        for field, one in enumerate(prepared):
            arrays |= {f"{name}_{field}": array for name, array in one.items()}
            arrays[f"columns_{field}"] = np.arange(max(int(one["lengths"][index[:, field]].max()), 1))
        return self.graph.run(arrays)["logits"]


def pieces(count: int, size: int) -> list[np.ndarray]:
    """The numbers from 0 in runs of `size`."""
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def check_representation(
    field: int, representation: Representation[np.ndarray], kept: int | None
) -> Representation[np.ndarray]:
    """Wide enough for the head.

    Raises:
        InputError: An item keeps no token, or vectors are in a precision that must be widened first.
    """
    vectors, lengths = representation.vectors, representation.lengths
    if vectors.dtype.kind == "f" and vectors.dtype != np.float32:
        representation = representation.map(lambda one: one.astype(np.float32) if one.dtype.kind == "f" else one)
    elif vectors.dtype.kind != "f" and vectors.ndim == 3:
        raise InputError(
            f"the vectors of field {field + 1} are stored as {vectors.dtype}", expected="float32",
            fix="Gather them from the store with widen=True",
        )  # fmt: skip
    if len(lengths) and int(lengths.min()) < 1 and vectors.ndim == 3:
        raise InputError(f"the item {int(lengths.argmin())} of field {field + 1} keeps no token")
    wide = representation.padded(kept or 0)
    return replace(wide, lengths=np.minimum(lengths, wide.vectors.shape[1]).astype(np.int64, copy=False))


def head_of(manifest: ExportManifest, workers: Workers) -> Head:
    """The head of an export.

    Raises:
        ArtefactError: A file is damaged.
    """
    spec = manifest.head
    if spec["kind"] == "similarity" and manifest.similarity is not None:
        return SimilarityHead(manifest.similarity)
    if spec["kind"] == "bag":
        return BagHead(load_arrays(manifest.file(spec["file"])), spec)
    graph = Graph(manifest.file(spec["file"]))
    if spec["kind"] == "joined":
        return JoinedHead(graph, spec, manifest.padding)
    if spec["kind"] == "graph":
        prepares = [
            (one.prepare, Graph(manifest.file(one.prepare["file"])) if one.prepare["kind"] == "graph" else None)
            for one in manifest.fields
        ]
        return GraphHead(graph, prepares, bool(spec["tokens"]), workers)
    raise ValueError(f"a head of the kind {spec['kind']!r}")
