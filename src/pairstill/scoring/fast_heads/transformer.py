"""The transformer head of DiPair-TSF, with what folds folded and only what is read computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairstill.scoring import kernels
from pairstill.scoring.fast_heads.linear import PackedLinear, QuantisedLinear, activate, as_array
from pairstill.students.heads.transformer import HeadLayer, TransformerHead

ROWS = 2048
"""Rows of every product of the first layer: their activations stay near the cores."""
PAIRS = 1024
"""Pairs whose last layer, which reads position 0 alone, is computed together."""
ITEMS = 256
"""Items that are prepared together."""


@dataclass(frozen=True)
class PreparedSlots:
    """Prepared items: `packs (items, 4, slots, dim)` (queries, keys, values times output, residuals) and `lengths`."""

    packs: np.ndarray
    lengths: np.ndarray


class FastTransformerHead:
    """The same logits as `TransformerHead`, for heads with one attention head.

    Exact identities: the softmax's weights sum to 1, so the output matrix moves into the values and its bias into the
    residual; a term that is equal for all keys leaves the softmax unchanged, so of the last layer's query-key product only
    query matrix times key matrix remains, and keys and values are never formed there. Slots without a token are not
    computed. Rows of a fixed number go through every product, so a pair's logits do not depend on the pairs beside it, to
    the bit.

    Args:
        head: The trained head.
        dtype: float32 or bfloat16.
        quantised: Run the two wide products of every layer in 8-bit integers; `calibrate` must be called before.
    """

    prepared_type = PreparedSlots

    def __init__(self, head: TransformerHead, dtype: torch.dtype, quantised: bool = False) -> None:
        self.head, self.dtype, self.quantised = head, dtype, quantised
        self.slots, self.dim, self.outputs = head.slots, head.dim, head.output.out_features
        # Twice the pairs that full slots would fill: many texts are shorter than their slots.
        self.pairs_per_product = max(1, 2 * ROWS // sum(self.slots))
        layers: list[HeadLayer] = list(head.layers)  # type: ignore[arg-type]
        first = layers[0]
        fold = _double(first.out.weight) @ _double(first.value.weight)
        self.input = PackedLinear(
            torch.cat([_double(first.query.weight) * self.dim**-0.5, _double(first.key.weight), fold]),
            torch.cat([_double(first.query.bias) * self.dim**-0.5, _double(first.key.bias), 0 * _double(first.out.bias)]),
            ITEMS * max(self.slots), dtype,
        )  # fmt: skip
        self.constant = (_double(first.out.bias) + _double(first.out.weight) @ _double(first.value.bias)).float()
        self.norms = [(_norm(one.attention_norm), _norm(one.output_norm)) for one in layers]
        last = layers[-1]
        scale = self.dim**-0.5
        self.folded_query = PackedLinear(
            (_double(last.query.weight).T @ _double(last.key.weight)).T * scale,
            _double(last.query.bias) @ _double(last.key.weight) * scale, self.pairs_per_product, dtype,
        )  # fmt: skip
        self.folded_value = PackedLinear(
            _double(last.out.weight) @ _double(last.value.weight),
            _double(last.out.bias) + _double(last.out.weight) @ _double(last.value.bias), PAIRS, dtype,
        )  # fmt: skip
        self.layers = layers
        self.wide = [
            (PackedLinear(one.up.weight, one.up.bias, rows, dtype, head.config.activation),
             PackedLinear(one.down.weight, one.down.bias, rows, dtype))
            for one, rows in zip(layers, [ROWS] * (len(layers) - 1) + [PAIRS], strict=True)
        ]  # fmt: skip
        self.output = head.output.weight.detach().float().numpy(), head.output.bias.detach().float().numpy()

    @staticmethod
    def supports(head: TransformerHead) -> bool:
        """Whether this head has the one attention head and two layers that are written here, and a pair fits into a product."""
        return head.config.attention_heads == 1 and head.config.layers == 2 and sum(head.slots) <= ROWS

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> PreparedSlots:
        """Embeddings, LayerNorm and the first layer's products of `(items, slots, dim)` vectors."""
        count, slots = len(vectors), self.slots[field]
        packs = torch.empty(count, 4, slots, self.dim, dtype=self.dtype)
        start = sum(self.slots[:field])
        shift = torch.zeros(slots, self.dim)
        if self.head.positions is not None:
            shift = shift + self.head.positions.detach()[start : start + slots]
        if self.head.segments is not None:
            shift = shift + self.head.segments.detach()[field]
        block = torch.zeros(ITEMS * max(self.slots), self.dim, dtype=self.dtype)
        for begin in range(0, count, ITEMS):
            part = vectors[begin : begin + ITEMS]
            hidden = torch.nn.functional.layer_norm(
                part.float() + shift, (self.dim,), self.head.norm.weight.float(), self.head.norm.bias.float(), self.head.norm.eps
            )  # fmt: skip
            block[: len(part) * slots] = hidden.reshape(-1, self.dim)
            products = self.input(block)[: len(part) * slots].view(len(part), slots, 3, self.dim)
            packs[begin : begin + ITEMS, :3] = products.transpose(1, 2)
            packs[begin : begin + ITEMS, 3] = hidden + self.constant
        return PreparedSlots(as_array(packs), np.minimum(lengths.numpy(), slots).astype(np.int64))

    def score(self, prepared: Sequence[PreparedSlots], index: np.ndarray) -> np.ndarray:
        """Logits `(pairs, outputs)` of `index (pairs, fields)`, by one thread."""
        packs, lengths = tuple(one.packs for one in prepared), tuple(one.lengths for one in prepared)
        counts = sum(one[index[:, field]] for field, one in enumerate(lengths))
        logits = np.empty((len(index), self.outputs), np.float32)
        work = _Workspace(self)
        for start in range(0, len(index), PAIRS):
            part = slice(start, start + PAIRS)
            self._block(work, packs, lengths, index[part], np.asarray(counts[part]), logits[part])
        return logits

    def calibrate(self, prepared: Sequence[PreparedSlots], index: np.ndarray, quantile: float = 0.9999) -> None:
        """Choose the static scales of the 8-bit products from pairs like those to come.

        Args:
            prepared: Items of each field.
            index: `(pairs, fields)`; at most 1,024 of them are used.
            quantile: Of the activations, beyond which they are cut.
        """
        quantised, self.quantised = self.quantised, False
        self.seen: list[list[np.ndarray]] = [[] for _ in self.layers]
        self.score(prepared, index[:PAIRS])
        seen, self.quantised = self.seen, quantised
        del self.seen
        found = []
        for layer, samples in zip(self.layers, seen, strict=True):
            inputs = torch.from_numpy(np.concatenate(samples))
            wide = inputs @ layer.up.weight.detach().float().T + layer.up.bias.detach().float()
            hidden = activate(wide, self.head.config.activation)
            step = _quantile(inputs.abs(), quantile) / 127
            # ReLU leaves nothing below zero; other activations keep a little there.
            lowest = float(-hidden.min().clamp(max=0))
            spread = _quantile(hidden, quantile) + lowest
            found.append((step, spread / 255, lowest))
        self.calibrate_to(found)

    def calibrate_to(self, scales: Sequence[Sequence[float]]) -> None:
        """Take the static scales that `calibrate` chose before: of each layer input step, hidden step, lowest value."""
        self.scales = [(float(step), float(hidden), float(lowest)) for step, hidden, lowest in scales]
        name = self.head.config.activation
        self.integer = [
            _IntegerFeedForward(layer, name, *found) for layer, found in zip(self.layers, self.scales, strict=True)
        ]

    def _feed_forward(self, number: int, rows: Tensor) -> Tensor:
        if hasattr(self, "seen"):
            self.seen[number].append(rows.float().numpy())
        if self.quantised:
            return self.integer[number](rows)
        up, down = self.wide[number]
        return down(up(rows), rows)

    def _block(
        self, work: _Workspace, packs: Any, lengths: Any, index: np.ndarray, counts: np.ndarray, logits: np.ndarray
    ) -> None:
        """One block of at most `PAIRS` pairs: rows of whole pairs fill products of `ROWS` rows."""
        ends = np.cumsum(counts)
        (weight, bias, epsilon), (second_weight, second_bias, second_epsilon) = self.norms[0]
        start = done = 0
        while start < len(index):
            stop = min(int(np.searchsorted(ends, done + ROWS, side="right")), start + self.pairs_per_product)
            starts = ends[start:stop] - counts[start:stop] - done
            kernels.attend_items(packs, lengths, index[start:stop], starts, weight, bias, epsilon, as_array(work.rows))
            rows = self._feed_forward(0, work.rows)
            first = as_array(work.queries)
            kernels.normalise_rows(as_array(rows), second_weight, second_bias, second_epsilon, starts, first)
            folded = self.folded_query(work.queries)
            work.residuals[start:stop] = work.queries[: stop - start]
            kernels.attend_first(
                as_array(rows),
                starts,
                counts[start:stop],
                as_array(folded),
                as_array(work.means)[start:stop],
            )
            start, done = stop, int(ends[stop - 1])
        (weight, bias, epsilon), (second_weight, second_bias, second_epsilon) = self.norms[-1]
        middle = self.folded_value(work.means, work.residuals)
        nobody = np.empty(0, np.int64)
        kernels.normalise_rows(as_array(middle), weight, bias, epsilon, nobody, as_array(work.queries))
        final = self._feed_forward(len(self.layers) - 1, middle)
        kernels.normalise_and_read(as_array(final), second_weight, second_bias, second_epsilon, *self.output, logits)


class _Workspace:
    """Buffers of one thread."""

    def __init__(self, head: FastTransformerHead) -> None:
        self.rows = torch.zeros(ROWS, head.dim, dtype=head.dtype)
        self.queries = torch.zeros(head.pairs_per_product, head.dim, dtype=head.dtype)
        self.means = torch.zeros(PAIRS, head.dim, dtype=head.dtype)
        self.residuals = torch.zeros(PAIRS, head.dim, dtype=head.dtype)


class _IntegerFeedForward:
    """The two wide products of a layer in 8-bit integers, their sum with the residual in bfloat16."""

    def __init__(self, layer: HeadLayer, activation: str, step: float, hidden_step: float, lowest: float) -> None:
        self.step, self.zero = step, 128
        zero = round(lowest / hidden_step)
        self.up = QuantisedLinear(layer.up.weight, layer.up.bias, step, self.zero, hidden_step, zero, activation)
        self.down = QuantisedLinear(layer.down.weight, layer.down.bias, hidden_step, zero, None)

    def __call__(self, rows: Tensor) -> Tensor:
        stored = torch.empty(rows.shape, dtype=torch.uint8)
        kernels.quantise_rows(as_array(rows), self.step, float(self.zero), stored.numpy())
        return self.down(self.up(stored), rows)


def _quantile(values: Tensor, quantile: float) -> float:
    flat = values.reshape(-1)
    place = max(1, round(quantile * len(flat)))
    return max(float(flat.kthvalue(place).values), 1e-6)


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().double()


def _norm(norm: Any) -> tuple[np.ndarray, np.ndarray, float]:
    return norm.weight.detach().float().numpy(), norm.bias.detach().float().numpy(), float(norm.eps)
