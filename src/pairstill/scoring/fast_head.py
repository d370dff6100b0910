"""A student's head, executed fast: the same logits as the training graph, many times the pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import nn

from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.scoring import kernels
from pairstill.scoring.fast_heads.bag import FastBagHead
from pairstill.scoring.fast_heads.cosine import FastCosineHead, normalised
from pairstill.scoring.fast_heads.dot import FastDotHead
from pairstill.scoring.fast_heads.feed_forward import FastFeedForwardHead
from pairstill.scoring.fast_heads.residual import FastResidualHead
from pairstill.scoring.fast_heads.tokens import TOKEN_HEADS, fast_token_head
from pairstill.scoring.fast_heads.transformer import FastTransformerHead
from pairstill.students.base import Student
from pairstill.students.heads.bag import BagHead
from pairstill.students.heads.base import Head
from pairstill.students.heads.cosine import CosineHead
from pairstill.students.heads.dot import DotHead
from pairstill.students.heads.feed_forward import FeedForwardHead
from pairstill.students.heads.residual import ResidualHead
from pairstill.students.heads.similarity_skip import SimilaritySkip
from pairstill.students.heads.transformer import TransformerHead
from pairstill.students.inference import map_blocks

PRECISIONS = ("float32", "bfloat16", "int8")
PAIRS_PER_TASK = 8192
"""Of one thread's turn; a multiple of every head's block, so that where a list is cut changes nothing."""


@dataclass(frozen=True)
class FastPrepared:
    """Prepared items of one field.

    Attributes:
        head: What the head keeps of them.
        similarity: `(items, dim)` normalised vectors of the skip; None where the student has none.
    """

    head: Any
    similarity: np.ndarray | None


class FastHead:
    """Scores pairs by the head alone, on every core; see `FastTransformerHead` for how.

    Each thread works on pairs of its own with one-threaded products, so nothing waits at barriers. Logits of a pair do not
    depend on the other pairs of a call, nor on the number of threads, to the bit.

    Args:
        head: A trained head that has a fast form; see `has_fast_form`.
        skip: The student's similarity skip; None where there is none.
        precision: `float32`: within 1e-5 of the training graph. `bfloat16`, where the processor multiplies it. `int8`: the
            wide products of a transformer head in 8-bit integers, all else in bfloat16; `calibrate` comes first.
        threads: None means as many as PyTorch is set to.

    Raises:
        InputError: The head has no fast form, or the precision is unknown or not of this head.

    Example:
        >>> head = FastHead.of(student, "bfloat16")                                       # doctest: +SKIP
        >>> queries, products = head.prepare(0, stored_queries), head.prepare(1, stored_products)  # doctest: +SKIP
        >>> head.score([queries, products], index)                                        # doctest: +SKIP
    """

    def __init__(
        self, head: Head, skip: SimilaritySkip | None = None, precision: str = "float32", threads: int | None = None
    ) -> None:
        if not has_fast_form(head):
            raise InputError("this head has no fast form", fix="Score with the student itself")
        if precision not in PRECISIONS:
            raise InputError(f"the precision '{precision}' is unknown", expected=", ".join(PRECISIONS))
        if precision == "int8" and not isinstance(head, TransformerHead):
            raise InputError(
                "only a transformer head has an 8-bit form",
                fix="Choose bfloat16: of other heads the gathering of vectors takes the time, not the products",
            )
        self.precision, self.threads = precision, threads or torch.get_num_threads()
        self.dtype = torch.float32 if precision == "float32" else torch.bfloat16
        self.head: Any
        with torch.inference_mode():
            if isinstance(head, TransformerHead):
                self.head = FastTransformerHead(head, self.dtype, precision == "int8")
            elif isinstance(head, BagHead):
                self.head = FastBagHead(head, self.dtype)
            elif isinstance(head, FeedForwardHead):
                self.head = FastFeedForwardHead(head, self.dtype)
            elif isinstance(head, CosineHead):
                self.head = FastCosineHead(head, self.dtype)
            elif isinstance(head, DotHead):
                self.head = FastDotHead(head, self.dtype)
            elif isinstance(head, TOKEN_HEADS):
                self.head = fast_token_head(head, self.dtype)
            elif isinstance(head, ResidualHead):
                self.head = FastResidualHead(head, self.dtype)
        self.outputs: int = self.head.outputs
        self.pairs = () if skip is None else skip.pairs
        self.scales = None if skip is None else skip.scale.detach().float().numpy()
        self.bias = None if skip is None else skip.bias.detach().float().numpy()

    @classmethod
    def of(cls, student: Student, precision: str = "float32", threads: int | None = None) -> FastHead:
        """The head and the skip of a student.

        Raises:
            InputError: As the constructor; or the student has no head apart from its encoder.
        """
        parts = student.eval().scoring_head()
        if parts is None:
            raise InputError(
                f"a {student.name} has no head apart from its encoder", fix="Score with the student itself"
            )
        return cls(*parts, precision, threads)

    def prepare(self, field: int, representation: Representation[Any]) -> FastPrepared:
        """What depends on one item alone, of a block of items in any precision that can be stored.

        A block may be narrower than the head's slots, as those of a ragged store are.

        Raises:
            InputError: An item keeps no token.
        """
        representation = representation.map(_tensor).padded(self.head.slots[field])
        lengths = representation.lengths
        if len(lengths) and int(lengths.min()) < 1:
            raise InputError(f"the item {int(lengths.argmin())} of the block keeps no token")
        with torch.inference_mode():
            # Of a bag, which is one vector, the head reads how many n-grams are in it.
            counts = lengths if representation.scalars is None else representation.scalars[:, 0]
            prepared = self.head.prepare(field, representation.vectors, counts)
            if self.scales is None:
                return FastPrepared(prepared, None)
            vector = (
                representation.similarity if representation.similarity is not None else representation.vectors[:, 0]
            )
            return FastPrepared(prepared, normalised(vector, self.dtype))

    def score(self, prepared: Sequence[FastPrepared], index: np.ndarray) -> np.ndarray:
        """Logits `(pairs, outputs)` float32 of `index (pairs, fields)`, rows into `prepared`."""
        index = np.ascontiguousarray(index, dtype=np.int64)
        tasks = [index[start : start + PAIRS_PER_TASK] for start in range(0, len(index), PAIRS_PER_TASK)]
        if not tasks:
            return np.zeros((0, self.outputs), np.float32)
        return np.concatenate(
            list(map_blocks(lambda task: self._one_thread(prepared, task), tasks, threads=self.threads))
        )

    def calibrate(self, prepared: Sequence[FastPrepared], index: np.ndarray) -> None:
        """Choose the static scales of int8 from pairs like those to come; nothing to do for other precisions."""
        if self.precision == "int8":
            with torch.inference_mode():
                self.head.calibrate([one.head for one in prepared], np.ascontiguousarray(index, dtype=np.int64))

    @property
    def calibration(self) -> list[tuple[float, float, float]] | None:
        """The static scales of int8, plain numbers that JSON keeps to the bit; None for other precisions."""
        return list(self.head.scales) if self.precision == "int8" else None

    def calibrate_to(self, calibration: Sequence[Sequence[float]]) -> None:
        """Take the scales of another head's `calibration`, so that both give the same logits to the bit."""
        self.head.calibrate_to(calibration)

    def arrays(self, prepared: FastPrepared) -> dict[str, np.ndarray]:
        """Prepared items as arrays by name, for a store; those of bfloat16 are its bits in uint16."""
        names = [one.name for one in fields(prepared.head) if one.name != "lengths"]
        found = {name: getattr(prepared.head, name) for name in names}
        return found if prepared.similarity is None else {**found, "similarity": prepared.similarity}

    def from_arrays(self, arrays: Mapping[str, np.ndarray], lengths: np.ndarray) -> FastPrepared:
        """Prepared items from what `arrays` gave, without a copy.

        Args:
            arrays: By name, in this head's precision.
            lengths: `(items,)` int64 entries that each item keeps.
        """
        named: dict[str, Any] = {name: array for name, array in arrays.items() if name != "similarity"}
        kind = self.head.prepared_type
        if "lengths" in (one.name for one in fields(kind)):
            kept = named["packs"].shape[2] if "packs" in named else named["vectors"].shape[1]
            named["lengths"] = np.minimum(lengths, kept)
        return FastPrepared(kind(**named), arrays.get("similarity") if self.scales is not None else None)

    def _one_thread(self, prepared: Sequence[FastPrepared], index: np.ndarray) -> np.ndarray:
        logits: np.ndarray = self.head.score([one.head for one in prepared], index)
        if self.scales is None or self.bias is None:
            return logits
        logits += self.bias
        columns = [np.ascontiguousarray(column) for column in index.T]
        for scale, (left, right) in zip(self.scales, self.pairs, strict=False):
            kernels.add_dots(
                prepared[left].similarity, prepared[right].similarity, columns[left], columns[right], scale, logits
            )
        return logits


def runs_fast(student: Student) -> bool:
    """Whether a student has a head apart from its encoder, and that a fast form."""
    parts = student.scoring_head()
    return parts is not None and has_fast_form(parts[0])


def has_fast_form(head: nn.Module) -> bool:
    """All heads have one, but for transformers of other than 2 layers and 1 attention head."""
    if isinstance(head, TransformerHead):
        return FastTransformerHead.supports(head)
    return isinstance(head, (FeedForwardHead, CosineHead, DotHead, ResidualHead, *TOKEN_HEADS))


def _tensor(array: Any) -> torch.Tensor:
    return array if isinstance(array, torch.Tensor) else torch.from_numpy(array)
