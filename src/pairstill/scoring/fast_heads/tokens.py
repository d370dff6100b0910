"""Heads that compare the token vectors of two texts: MaxSim, kernel pooling, poly-encoder attention."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairstill.scoring import token_kernels
from pairstill.scoring.fast_heads.linear import as_array
from pairstill.students.heads.base import Head
from pairstill.students.heads.calibration import Calibration
from pairstill.students.heads.kernel_pooling import WIDTH, KernelHead
from pairstill.students.heads.max_sim import MaxSimHead
from pairstill.students.heads.poly import PolyHead


@dataclass(frozen=True)
class PreparedTokens:
    """Token vectors `(items, tokens, dim)`, and how many of each item count, `(items,)` int64."""

    vectors: np.ndarray
    lengths: np.ndarray


class FastTokenHead(ABC):
    """What these heads share: vectors are prepared by the head itself, a kernel scores pair by pair.

    Args:
        head: The trained head.
        dtype: float32 or bfloat16, of the prepared vectors.
    """

    prepared_type = PreparedTokens
    slots = (0, 0)

    def __init__(self, head: Any, dtype: torch.dtype) -> None:
        self.head: Any = head
        self.dtype, self.outputs = dtype, 1
        calibration: Calibration | None = getattr(head, "calibration", None)
        self.scale, self.bias = (1.0, 0.0) if calibration is None else calibration.numbers()

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> PreparedTokens:
        """As the head prepares them; one vector an item is a text of one token."""
        found = self.head.prepare(field, vectors, lengths)
        if "vector" in found:
            found = {"vectors": found["vector"][:, None], "lengths": torch.ones_like(lengths)}
        return PreparedTokens(
            as_array(found["vectors"].to(self.dtype).contiguous()), found["lengths"].numpy().astype(np.int64)
        )

    def score(self, prepared: Sequence[PreparedTokens], index: np.ndarray) -> np.ndarray:
        """Logits `(pairs, 1)`, by one thread."""
        out = np.empty(len(index), np.float32)
        first, second = np.ascontiguousarray(index[:, 0]), np.ascontiguousarray(index[:, 1])
        self.run(prepared[0], prepared[1], first, second, out)
        logits: np.ndarray = (np.float32(self.scale) * out + np.float32(self.bias))[:, None]
        return logits

    @abstractmethod
    def run(
        self, left: PreparedTokens, right: PreparedTokens, first: np.ndarray, second: np.ndarray, out: np.ndarray
    ) -> None:
        """Put the score of every pair into `out`; without gradients, safe in several threads."""


class FastMaxSimHead(FastTokenHead):
    """The same logits as `MaxSimHead`."""

    def run(
        self, left: PreparedTokens, right: PreparedTokens, first: np.ndarray, second: np.ndarray, out: np.ndarray
    ) -> None:
        """Sums of maxima."""
        token_kernels.sum_of_maxima(left.vectors, left.lengths, right.vectors, right.lengths, first, second, out)


class FastKernelHead(FastTokenHead):
    """The same logits as `KernelHead`."""

    def __init__(self, head: KernelHead, dtype: torch.dtype) -> None:
        super().__init__(head, dtype)
        zeros = torch.zeros_like(head.log_weights)
        means = zeros if head.mean_weights is None else head.mean_weights
        self.numbers = tuple(
            one.detach().float().numpy().copy() for one in (head.centres, head.alpha, head.log_weights, means)
        )

    def run(
        self, left: PreparedTokens, right: PreparedTokens, first: np.ndarray, second: np.ndarray, out: np.ndarray
    ) -> None:
        """Kernels of the cosines."""
        token_kernels.pool_kernels(
            left.vectors, left.lengths, right.vectors, right.lengths, first, second, *self.numbers, WIDTH, out
        )


class FastPolyHead(FastTokenHead):
    """The same logits as `PolyHead`."""

    def run(
        self, left: PreparedTokens, right: PreparedTokens, first: np.ndarray, second: np.ndarray, out: np.ndarray
    ) -> None:
        """Attention over the contexts."""
        temperature = self.head.temperature
        token_kernels.attend_contexts(left.vectors, left.lengths, right.vectors, first, second, temperature, out)


def fast_token_head(head: Head, dtype: torch.dtype) -> FastTokenHead:
    """The fast form of a head of this module."""
    if isinstance(head, KernelHead):
        return FastKernelHead(head, dtype)
    return FastMaxSimHead(head, dtype) if isinstance(head, MaxSimHead) else FastPolyHead(head, dtype)


TOKEN_HEADS = (KernelHead, MaxSimHead, PolyHead)
"""Heads that `fast_token_head` takes."""
