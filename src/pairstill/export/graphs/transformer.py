"""The transformer head of DiPair-TSF as a graph, with what folds folded and only what is read computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pairstill.export.graphs.gather import gather_tokens, mask_bias
from pairstill.students.heads.transformer import HeadLayer, TransformerHead


class GraphTransformerHead(nn.Module):
    """The same logits as `TransformerHead`.

    With one attention head these identities hold: the softmax's weights sum to 1, so the output matrix moves into the values
    and its bias into the residual; a term that is equal for all keys leaves the softmax unchanged, so of the last layer's
    query-key product only query matrix times key matrix remains, and its keys and values are never formed. With several
    attention heads the layers are as they were trained. Either way only position 0 of the last layer is computed.

    Args:
        head: The trained head.
    """

    def __init__(self, head: TransformerHead) -> None:
        super().__init__()
        self.head, self.folded = head, head.config.attention_heads == 1
        layers: list[HeadLayer] = list(head.layers)  # type: ignore[arg-type]
        self.layers = nn.ModuleList(layers)
        first, last, scale = layers[0], layers[-1], head.dim**-0.5
        self.scale = scale
        if not self.folded:
            return
        self.values, self.constants = nn.ModuleList(), nn.ParameterList()
        for layer in layers:
            self.values.append(_linear(_double(layer.out.weight) @ _double(layer.value.weight), None))
            self.constants.append(
                nn.Parameter((_double(layer.out.bias) + _double(layer.out.weight) @ _double(layer.value.bias)).float())
            )
        self.query = _linear(_double(first.query.weight) * scale, _double(first.query.bias) * scale)
        self.crossed = nn.ModuleList(
            _linear(
                (_double(layer.query.weight).T @ _double(layer.key.weight)).T * scale,
                _double(layer.query.bias) @ _double(layer.key.weight) * scale,
            )
            for layer in layers[1:]
        )
        del last

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Embedded slots (with the first layer's constant) and the first layer's products, each `(items, slots, dim)`."""
        found = self.head.prepare(field, vectors, lengths)
        if not self.folded:
            return found
        hidden = found["hidden"]
        wanted = hidden if len(self.layers) > 1 else hidden[:, :1]
        return {
            "hidden": hidden + self.constants[0], "query": self.query(wanted), "key": found["key"], "value": self.values[0](hidden),
        }  # fmt: skip

    def score(self, prepared: Sequence[Mapping[str, Tensor]], index: Tensor, columns: Sequence[Tensor]) -> Tensor:
        """Logits `(tuples, outputs)`; of each field the slots `columns` are read."""
        rows = [index[:, field] for field in range(len(prepared))]
        lengths = [one["lengths"][row] for one, row in zip(prepared, rows, strict=True)]

        def gather(name: str) -> Tensor:
            return torch.cat(
                [
                    gather_tokens(one[name], row, chosen)
                    for one, row, chosen in zip(prepared, rows, columns, strict=True)
                ],
                dim=1,
            )

        bias, single = mask_bias(lengths, columns), len(self.layers) == 1
        hidden, key, value = gather("hidden"), gather("key"), gather("value")
        query = prepared[0]["query"][rows[0]] if single else gather("query")
        hidden = self._finish(0, query, key, value, bias, hidden[:, :1] if single else hidden)
        for number in range(1, len(self.layers)):
            wanted = hidden[:, :1] if number == len(self.layers) - 1 else hidden
            if self.folded:
                query, key, value, wanted = self._folded(number, hidden, wanted)
            else:
                layer: HeadLayer = self.layers[number]  # type: ignore[assignment]
                query, key, value = layer.query(wanted), layer.key(hidden), layer.value(hidden)
            hidden = self._finish(number, query, key, value, bias, wanted)
        logits: Tensor = self.head.output(hidden[:, 0])
        return logits

    def _folded(self, number: int, hidden: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys, values and residual of a layer after the first; keys are the hidden vectors themselves."""
        last = number == len(self.layers) - 1
        value = hidden if last else self.values[number](hidden)
        return self.crossed[number - 1](wanted), hidden, value, wanted + self.constants[number]

    def _finish(self, number: int, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, residual: Tensor) -> Tensor:
        layer: HeadLayer = self.layers[number]  # type: ignore[assignment]
        if self.folded:
            weights = torch.softmax(torch.bmm(query, key.transpose(1, 2)) + bias, dim=-1)
            attended = torch.bmm(weights, value)
            if number and number == len(self.layers) - 1:
                attended = self.values[number](attended)
            middle = layer.attention_norm(attended + residual)
        else:
            middle = layer.attention_norm(layer.out(layer.attend(query, key, value, bias)) + residual)
        flat = middle.flatten(0, 1)
        wide: Tensor = layer.output_norm(layer.down(layer.activation(layer.up(flat))) + flat)
        return wide.view_as(middle)


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().double()


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    layer.weight = nn.Parameter(weight.float())
    if bias is not None:
        layer.bias = nn.Parameter(bias.float())
    return layer
