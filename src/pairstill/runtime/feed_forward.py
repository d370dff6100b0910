"""The head of BERT2DNN in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from pairstill.representation import Representation
from pairstill.runtime.vectors import normalised

PAIRS_PER_BLOCK = 1024


class BagHead:
    """Combined bags through a feed-forward network; the same logits as `students.heads.bag.BagHead`.

    Args:
        arrays: `first.F.weight` of each field (of one bag of all fields: of field 0), `first.bias`, `hidden.N.weight` and
            `hidden.N.bias`, `output.weight`, `output.bias`; with a skip `skip.scale` and `skip.bias`.
        spec: `combiner`, `union`, `activation`.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], spec: Mapping[str, Any]) -> None:
        self.arrays, self.union, self.combiner = arrays, bool(spec["union"]), str(spec["combiner"])
        self.activation = ACTIVATIONS[spec["activation"]]
        self.layers = sum(name.startswith("hidden.") and name.endswith(".weight") for name in arrays)

    def prepare(self, field: int, representation: Representation[np.ndarray]) -> dict[str, np.ndarray]:
        """The field's part of the first layer; of one bag of all fields without bias, and the counts."""
        if representation.scalars is None:
            raise ValueError("the representation has no counts")
        sums, counts = representation.vectors[:, 0], representation.scalars[:, 0]
        if self.union:
            found = {"first": sums @ self.arrays["first.0.weight"].T, "count": counts}
        else:
            part = (sums * self._scale(counts)[:, None]) @ self.arrays[f"first.{field}.weight"].T
            found = {"first": part + self.arrays["first.bias"] if field == 0 else part}
        return {**found, "similarity": normalised(sums)} if "skip.scale" in self.arrays else found

    def blocks(self, prepared: Sequence[Mapping[str, np.ndarray]], index: np.ndarray) -> list[np.ndarray]:
        """Pieces of equal size."""
        del prepared
        count = len(index)
        return [np.arange(start, min(start + PAIRS_PER_BLOCK, count)) for start in range(0, count, PAIRS_PER_BLOCK)]

    def score(self, prepared: Sequence[Mapping[str, np.ndarray]], index: np.ndarray) -> np.ndarray:
        """Sum the parts (scaled by the union's count), then the rest of the network, and the skip."""
        arrays = self.arrays
        values = sum(one["first"][index[:, field]] for field, one in enumerate(prepared))
        if self.union:
            counts = sum(one["count"][index[:, field]] for field, one in enumerate(prepared))
            values = values * self._scale(np.asarray(counts))[:, None] + arrays["first.bias"]
        values = self.activation(np.asarray(values))
        for number in range(self.layers):
            values = self.activation(values @ arrays[f"hidden.{number}.weight"].T + arrays[f"hidden.{number}.bias"])
        logits = values @ arrays["output.weight"].T + arrays["output.bias"]
        if "skip.scale" in arrays:
            gathered = [one["similarity"][index[:, field]] for field, one in enumerate(prepared)]
            cosines = [
                np.einsum("ij,ij->i", gathered[a], gathered[b]) for a, b in combinations(range(len(gathered)), 2)
            ]
            logits = logits + np.stack(cosines, axis=1) @ arrays["skip.scale"] + arrays["skip.bias"]
        return np.asarray(logits, np.float32)

    def _scale(self, count: np.ndarray) -> np.ndarray:
        """The factor on sums of `count` embeddings."""
        count = np.maximum(count, np.float32(1))
        if self.combiner == "mean":
            return np.asarray(1 / count)
        return np.asarray(1 / np.sqrt(count)) if self.combiner == "sqrtn" else np.ones_like(count)


def _gelu(values: np.ndarray) -> np.ndarray:
    errors = np.fromiter((math.erf(one) for one in (values / math.sqrt(2)).ravel().tolist()), np.float32, values.size)
    return np.asarray(0.5 * values * (1 + errors.reshape(values.shape)), np.float32)


def _gelu_tanh(values: np.ndarray) -> np.ndarray:
    inner = np.float32(math.sqrt(2 / math.pi)) * (values + np.float32(0.044715) * values**3)
    return np.asarray(0.5 * values * (1 + np.tanh(inner)), np.float32)


def _silu(values: np.ndarray) -> np.ndarray:
    # 1 / (1 + e^-x), written so that nothing overflows.
    return np.asarray(values * (0.5 * (1 + np.tanh(0.5 * values))), np.float32)


def _relu(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(values, np.float32(0)))


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": _relu, "gelu": _gelu, "gelu_tanh": _gelu_tanh, "tanh": np.tanh, "silu": _silu,
}  # fmt: skip
