"""An exported student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from pairstill.errors import ArtefactError, InputError
from pairstill.machine import usable_cores
from pairstill.representation import Representation, Similarity, concatenate
from pairstill.runtime.encoders import GraphEncoder, encoders
from pairstill.runtime.graph import Graph
from pairstill.runtime.heads import GraphHead, check_representation, head_of
from pairstill.runtime.joined import JoinedHead
from pairstill.runtime.manifest import FILE, ExportManifest
from pairstill.runtime.texts import check_texts, text_readers
from pairstill.runtime.workers import Workers
from pairstill.tokens.ragged import RaggedTokens, length_batches

TOKENS_PER_BLOCK, TEXTS_PER_BLOCK = 1024, 64


class RuntimeStudent:
    """An exported student, executed by ONNX Runtime or NumPy without PyTorch.

    The three steps are those of `Student`: `encode` once per item, `prepare` once per item of a request, `score` per tuple.
    All methods may be called from several threads. A score does not depend on the other tuples of a call, but for rounding
    in the last digits of a float32.

    Attributes:
        folder: That it was opened from.
        name: Its architecture, such as `dipair-tsf`.
        field_count: How many texts a tuple has.
        outputs: How many logits a tuple gets.
        max_lengths: Per field, at most so many tokens are read.
        fingerprint: Of the student that was exported.
        encoder_fingerprints: Per field, what `RepresentationStore.open(encoder_fingerprint=...)` wants.
        kept_vectors: Per field, how many vectors every item keeps; None where it is as many as the text has tokens.
        single_vector: Whether one vector is kept per item, so that nearest-neighbour search applies.
        similarity: How the logit follows from two single vectors; None where it does not.
        precision: Of the head: float32 or int8.

    Example:
        >>> student = RuntimeStudent.open("runs/exported")                                   # doctest: +SKIP
        >>> student.score_texts([("red shoe", "running shoe, red"), ("red shoe", "hat")])    # doctest: +SKIP
        array([[ 3.1], [-4.7]], dtype=float32)
    """

    def __init__(self, manifest: ExportManifest, threads: int | None = None) -> None:
        self.folder: Path = manifest.folder
        self.name, self.outputs = manifest.architecture, manifest.outputs
        self.field_count = len(manifest.fields)
        self.max_lengths = tuple(one.max_length for one in manifest.fields)
        self.fingerprint = manifest.fingerprint
        self.encoder_fingerprints = tuple(one.encoder_fingerprint for one in manifest.fields)
        self.kept_vectors = tuple(one.kept_vectors for one in manifest.fields)
        self.single_vector = manifest.single_vector
        self.similarity: Similarity | None = manifest.similarity
        self.precision = manifest.precision
        self._workers = Workers(threads or usable_cores())
        self._readers, self._encoders = text_readers(manifest), encoders(manifest)
        self._head = head_of(manifest, self._workers)

    @classmethod
    def open(cls, folder: str | Path, *, threads: int | None = None) -> Self:
        """Read an exported student; checksums of all files are compared.

        Args:
            folder: Written by `pairstill export --format onnx`.
            threads: Blocks that are worked on at once, over all callers; None takes every core that is ours.

        Raises:
            ArtefactError: The folder holds no export, a newer one, or a damaged one; a student that runs in PyTorch is refused
                with the command that exports it.
            InputError: The number of threads is below 1.
        """
        if threads is not None and threads < 1:
            raise InputError(f"the number of threads is {threads}", expected="at least 1")
        manifest = ExportManifest.load(folder)
        try:
            return cls(manifest, threads)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtefactError(
                f"the file is damaged: {error!r}", file=manifest.folder / FILE, fix="Export the student again"
            ) from None

    def tokenize(self, field: int, texts: Sequence[str]) -> RaggedTokens:
        """Token ids of texts of one field, special tokens included, cut at the field's maximum length.

        Raises:
            InputError: What is given is no text.
        """
        check_texts(texts)
        return self._readers[self._position(field)](texts)

    def encode(self, field: int, texts: Sequence[str] | RaggedTokens) -> Representation[np.ndarray]:
        """Representations of texts, in the order given, float32; depends on one field alone, so store it.

        Args:
            field: Position of the field.
            texts: Texts, or their tokens from `tokenize`.

        Raises:
            InputError: There is no text, or something is no text.
        """
        tokens = texts if isinstance(texts, RaggedTokens) else self.tokenize(field, texts)
        encoder = self._encoders[self._position(field)]
        if not len(tokens):
            raise InputError("there is nothing to encode", expected="at least one text")
        batches = length_batches(tokens.lengths, TOKENS_PER_BLOCK, TEXTS_PER_BLOCK)
        blocks = self._workers.map(lambda rows: encoder(tokens, rows), batches)
        order = np.argsort(np.concatenate(batches), kind="stable")
        return concatenate(blocks).take(order)

    def prepare(self, field: int, representation: Representation[np.ndarray]) -> Mapping[str, np.ndarray]:
        """The part of the head that depends on one item alone, of a block of items.

        Args:
            field: Position of the field.
            representation: From `encode`, or a store's `gather(rows)`.

        Raises:
            InputError: An item keeps no token, or vectors are stored levels that were not widened.
        """
        kept = self.kept_vectors[self._position(field)]
        return self._head.prepare(field, check_representation(field, representation, kept))

    def score(self, prepared: Sequence[Mapping[str, np.ndarray]], index: np.ndarray) -> np.ndarray:
        """Raw logits of tuples.

        Args:
            prepared: One entry a field.
            index: `(tuples, fields)` int64, rows into `prepared`.

        Returns:
            `(tuples, outputs)` float32.
        """
        index = np.ascontiguousarray(index, dtype=np.int64)
        if index.ndim != 2 or index.shape[1] != self.field_count or len(prepared) != self.field_count:
            raise InputError(
                f"the index has the shape {index.shape}, for {len(prepared)} prepared fields",
                expected=f"(tuples, {self.field_count})",
            )
        out = np.empty((len(index), self.outputs), np.float32)
        blocks = self._head.blocks(prepared, index) if len(index) else []
        for rows, logits in zip(
            blocks, self._workers.map(lambda rows: self._head.score(prepared, index[rows]), blocks), strict=True
        ):
            out[rows] = logits
        return out

    def score_texts(self, rows: Sequence[Sequence[str]]) -> np.ndarray:
        """Raw logits of tuples of texts; each distinct text of a field is encoded once.

        Returns:
            `(tuples, outputs)` float32.

        Raises:
            InputError: A tuple has another number of texts than the student has fields, or holds something else.
        """
        for number, row in enumerate(rows, start=1):
            if isinstance(row, str) or len(row) != self.field_count:
                raise InputError(
                    f"the tuple is {row!r:.200}",
                    row=number,
                    expected=f"{self.field_count} texts, as this student has fields",
                )
        if not rows:
            return np.zeros((0, self.outputs), np.float32)
        index = np.empty((len(rows), self.field_count), np.int64)
        prepared = []
        for field in range(self.field_count):
            places: dict[str, int] = {}
            for number, row in enumerate(rows):
                index[number, field] = places.setdefault(row[field], len(places))
            prepared.append(self.prepare(field, self.encode(field, list(places))))
        return self.score(prepared, index)

    def graphs(self) -> list[Graph]:
        """The graphs of the encoders and of the head, each once; those of small parts left out."""
        found = [one.encoder for one in self._encoders if isinstance(one, GraphEncoder)]
        found += [self._head.graph] if isinstance(self._head, (GraphHead, JoinedHead)) else []
        return list(dict.fromkeys(found))

    def _position(self, field: int) -> int:
        if not 0 <= field < self.field_count:
            raise InputError(f"the field at position {field} is asked for", expected=f"0 to {self.field_count - 1}")
        return field
