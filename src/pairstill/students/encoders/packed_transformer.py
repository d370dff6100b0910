"""A BERT over packed texts, each layer forward and backward in one piece: what a training step on a CPU spends its time in.

Between the products of a layer PyTorch converts, copies, masks and adds, and spends more time on that than on the products.
Here every operand is converted once, the three projections are one product, and padding exists within the attention alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function

from pairstill.compiled import share_threads
from pairstill.students.encoders import layer_kernels as kernels
from pairstill.students.encoders.attention import ATTENTION, RECORDED
from pairstill.students.encoders.dropout import Dropped
from pairstill.students.encoders.layer_parts import LayerParts, layers_of
from pairstill.students.encoders.packing import Packing

_layer_norm = torch.ops.aten.native_layer_norm
_layer_norm_backward = torch.ops.aten.native_layer_norm_backward
_gelu_backward = torch.ops.aten.gelu_backward
_relu_backward = torch.ops.aten.threshold_backward


def packs(transformer: nn.Module) -> bool:
    """Whether a transformer without head takes packed texts now: one that is `packable`, and trained."""
    return packable(transformer) and torch.is_grad_enabled() and not hasattr(transformer, RECORDED)


def packable(transformer: nn.Module) -> bool:
    """Whether a transformer without head can take packed texts: a BERT on a CPU, float32 or surrounded by an autocast to bfloat16."""
    config: Any = transformer.config
    known = config.model_type == "bert" and config.hidden_act == "gelu" and config._attn_implementation == ATTENTION
    return known and computable(transformer)


def computable(module: nn.Module) -> bool:
    """Whether packed layers are for where a module is and for the precision that is asked for."""
    on_cpu = next(module.parameters()).device.type == "cpu"
    return on_cpu and (not torch.is_autocast_enabled("cpu") or torch.get_autocast_dtype("cpu") == torch.bfloat16)


def run_packed(transformer: Any, packing: Packing, ids: Tensor, types: Tensor | None = None) -> Tensor:
    """Last hidden states `(tokens, dim)` of padded ids and token types `(texts, width)`; see `Packing.spread`."""
    return run_packed_layers(layers_of(transformer), packing, _embedded(transformer, packing, ids, types))


def run_packed_layers(layers: Iterable[nn.Module], packing: Packing, hidden: Tensor) -> Tensor:
    """Last hidden states `(tokens, dim)` of `LayerParts.of` layers over what embeddings gave, `(tokens, dim)` float32."""
    for layer in layers:
        hidden, _ = _run_layer(LayerParts.of(layer), hidden, packing, scored=False)
    return hidden


def run_packed_outputs(
    transformer: Any, packing: Packing, ids: Tensor, types: Tensor | None = None, *, attention: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """What the embeddings and every layer gave, `(tokens, dim)` each, and every layer's scores before the softmax.

    Scores are float32 `(texts, heads, width, width)`, zero where there is no token; there are none without `attention`.
    """
    hidden, scores = [_embedded(transformer, packing, ids, types)], []
    for layer in layers_of(transformer):
        left, seen = _run_layer(LayerParts.of(layer), hidden[-1], packing, scored=attention)
        hidden.append(left)
        scores += [] if seen is None else [seen]
    return hidden, scores


def _embedded(transformer: Any, packing: Packing, ids: Tensor, types: Tensor | None) -> Tensor:
    positions = packing.slots % packing.width
    extra = {} if types is None else {"token_type_ids": types.reshape(-1)[packing.slots][None]}
    hidden: Tensor = transformer.embeddings(
        input_ids=ids.reshape(-1)[packing.slots][None], position_ids=positions[None], **extra
    )[0]
    return hidden


def _run_layer(parts: LayerParts, hidden: Tensor, packing: Packing, *, scored: bool) -> tuple[Tensor, Tensor | None]:
    """Products in the precision of the surrounding autocast (bfloat16, or float32 without one), the rest in float32."""
    dense = (parts.query, parts.key, parts.value, parts.out, parts.up, parts.down)
    norms = (parts.attention_norm, parts.output_norm)
    drops = [one.p if one.training else 0.0 for one in (parts.attention_dropout, parts.dropout)]
    epsilon = [one.eps for one in norms]
    rectified = parts.activation is nn.functional.relu
    precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
    parameters = [value for one in (*dense, *norms) for value in (one.weight, one.bias)]
    with torch.autocast("cpu", enabled=False):
        left, scores = _PackedLayer.apply(  # type: ignore[no-untyped-call]
            hidden, packing, (parts.heads, *drops, *epsilon, precision, scored, rectified), *parameters
        )
    return left, scores


class _PackedLayer(Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, packing: Packing, settings: Any, *parameters: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        query, query_bias, key, key_bias, value, value_bias = parameters[:6]
        out, out_bias, up, up_bias, down, down_bias, norm_1, norm_bias_1, norm_2, norm_bias_2 = parameters[6:]
        heads, attention_dropout, dropout, epsilon_1, epsilon_2, precision, scored, rectified = settings
        size = hidden.shape[1:]

        entered = hidden.to(precision)
        w_in, w_out, w_up, w_down = (
            _joined(one, precision) for one in ([query, key, value], [out], [up], [down])
        )  # fmt: skip
        b_in, b_out, b_up, b_down = (
            _joined(one, precision) for one in ([query_bias, key_bias, value_bias], [out_bias], [up_bias], [down_bias])
        )

        attended, scores, blocks = _attend(
            torch.addmm(b_in, entered, w_in.t()), packing, heads, attention_dropout, scored
        )
        drop_1 = Dropped(dropout)
        summed_1 = drop_1(torch.addmm(b_out, attended, w_out.t())) + hidden
        middle, mean_1, scale_1 = _layer_norm(summed_1, size, norm_1, norm_bias_1, epsilon_1)
        narrow_middle = middle.to(precision)
        raised = torch.addmm(b_up, narrow_middle, w_up.t())
        activated = nn.functional.relu(raised) if rectified else nn.functional.gelu(raised)
        drop_2 = Dropped(dropout)
        summed_2 = drop_2(torch.addmm(b_down, activated, w_down.t())) + middle
        left: Tensor
        left, mean_2, scale_2 = _layer_norm(summed_2, size, norm_2, norm_bias_2, epsilon_2)

        ctx.save_for_backward(
            entered, w_in, w_out, w_up, w_down, attended, summed_1, mean_1, scale_1, narrow_middle, raised, activated, summed_2,
            mean_2, scale_2, norm_1, norm_bias_1, norm_2, norm_bias_2,
        )  # fmt: skip
        ctx.drops, ctx.blocks = (drop_1, drop_2), blocks
        ctx.packing, ctx.rectified = packing, rectified
        return left, scores

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (
            entered, w_in, w_out, w_up, w_down, attended, summed_1, mean_1, scale_1, narrow_middle, raised, activated, summed_2,
            mean_2, scale_2, norm_1, norm_bias_1, norm_2, norm_bias_2,
        ) = ctx.saved_tensors  # fmt: skip
        drop_1, drop_2 = ctx.drops
        precision, size, every = entered.dtype, summed_1.shape[1:], [True, True, True]

        on_sum, on_norm_2, on_norm_bias_2 = _layer_norm_backward(
            gradients[0], summed_2, size, mean_2, scale_2, norm_2, norm_bias_2, every
        )
        on_down = drop_2.backward(on_sum).to(precision)
        on_activated = on_down @ w_down
        on_raised = _relu_backward(on_activated, raised, 0) if ctx.rectified else _gelu_backward(on_activated, raised)
        on_middle = on_sum + on_raised @ w_up
        on_sum, on_norm_1, on_norm_bias_1 = _layer_norm_backward(
            on_middle, summed_1, size, mean_1, scale_1, norm_1, norm_bias_1, every
        )
        on_out = drop_1.backward(on_sum).to(precision)
        on_in = _attend_backward(on_out @ w_out, gradients[1], ctx.packing, ctx.blocks)
        on_hidden = on_sum + on_in @ w_in

        on_weights = [
            *_weight_gradient(on_in, entered).chunk(3), _weight_gradient(on_out, attended),
            _weight_gradient(on_raised, narrow_middle), _weight_gradient(on_down, activated),
        ]  # fmt: skip
        on_biases = [*_column_sums(on_in).chunk(3), *(_column_sums(one) for one in (on_out, on_raised, on_down))]
        on_dense = [one for pair in zip(on_weights, on_biases, strict=True) for one in pair]
        return on_hidden, None, None, *on_dense, on_norm_1, on_norm_bias_1, on_norm_2, on_norm_bias_2


@dataclass(frozen=True)
class _Attended:
    """What the backward pass of a block's attention needs.

    Attributes:
        padded: Queries, keys and values `(3, texts, heads, width, dim / heads)`.
        weights: `(texts * heads, width, width)`.
        drop: What was dropped of them.
        dropped: They after dropout.
    """

    padded: Tensor
    weights: Tensor
    drop: Dropped
    dropped: Tensor


def _attend(
    projected: Tensor, packing: Packing, heads: int, dropout: float, scored: bool
) -> tuple[Tensor, Tensor | None, list[_Attended]]:
    """Attention of each packed text to itself, block by block.

    Args:
        projected: `(tokens, 3 * dim)` queries, keys and values.
        packing: Of the texts.
        heads: Of the attention.
        dropout: Of its weights.
        scored: Whether scores are wanted.

    Returns:
        `(tokens, dim)`, zero for tokens of no text; the scores; and what each block leaves for the backward pass.
    """
    share_threads()
    tokens, dim = len(projected), projected.shape[1] // 3
    scale = (dim // heads) ** -0.5
    out, found = projected.new_zeros(tokens, dim), []
    scores = torch.zeros(len(packing.lengths), heads, packing.width, packing.width) if scored else None
    for block in packing.blocks:
        padded = projected.new_empty(3, len(block.texts), heads, block.width, dim // heads)
        kernels.spread_heads(_array(projected), block.starts, block.lengths, _array(padded))
        query, key, value = padded.flatten(1, 2)
        weights = torch.bmm(query, key.transpose(1, 2))
        if scores is not None:
            width = min(block.width, packing.width)
            seen = weights.view(-1, heads, *weights.shape[1:])[:, :, :width, :width]
            scores[torch.from_numpy(block.texts), :, :width, :width] = seen.float() * scale
        kernels.softmax_rows(_heads(weights, heads), block.lengths, block.attended, scale)
        drop = Dropped(dropout)
        dropped = drop(weights)
        attended_to = torch.bmm(dropped, value).view(1, *padded.shape[1:])
        kernels.pack_heads(_array(attended_to), block.starts, block.lengths, _array(out))
        found.append(_Attended(padded, weights, drop, dropped))
    return out, scores, found


def _attend_backward(
    gradient: Tensor, on_scores: Tensor | None, packing: Packing, attended: Sequence[_Attended]
) -> Tensor:
    """The gradient `(tokens, 3 * dim)` of what `_attend` was given, from that of what it gave and that of its scores."""
    share_threads()
    out = gradient.new_zeros(len(gradient), 3 * gradient.shape[1])
    for block, seen in zip(packing.blocks, attended, strict=True):
        heads, head_dim = seen.padded.shape[2], seen.padded.shape[4]
        query, key, value = seen.padded.flatten(1, 2)
        on_out = torch.empty_like(seen.padded[:1])
        kernels.spread_heads(_array(gradient), block.starts, block.lengths, _array(on_out))
        on_out = on_out.flatten(0, 2)
        on_padded = torch.empty_like(seen.padded)
        on_query, on_key, on_value = on_padded.flatten(1, 2)
        torch.bmm(seen.dropped.transpose(1, 2), on_out, out=on_value)
        on_weights = seen.drop.backward(torch.bmm(on_out, value.transpose(1, 2)))
        kernels.softmax_rows_backward(
            _heads(seen.weights, heads), _heads(on_weights, heads), block.lengths, block.attended, head_dim**-0.5
        )  # fmt: skip
        if on_scores is not None:
            width = min(block.width, packing.width)
            given = on_scores[torch.from_numpy(block.texts), :, :width, :width].flatten(0, 1)
            on_weights[:, :width, :width].add_(given, alpha=head_dim**-0.5)
        torch.bmm(on_weights, key, out=on_query)
        torch.bmm(on_weights.transpose(1, 2), query, out=on_key)
        kernels.pack_heads(_array(on_padded), block.starts, block.lengths, _array(out))
    return out


def _weight_gradient(on_out: Tensor, entered: Tensor) -> Tensor:
    """Of a dense layer's weight, float32: the sum over tokens of gradient times input.

    The left side of such a product is read across rows, at a third of the speed; it is cheaper to turn the narrower one.
    """
    if entered.shape[1] < on_out.shape[1]:
        return (entered.t().contiguous() @ on_out).t().float()
    return (on_out.t().contiguous() @ entered).float()


def _column_sums(values: Tensor) -> Tensor:
    """The sum over rows, float32."""
    out = torch.zeros(values.shape[1])
    kernels.add_columns(_array(values), out.numpy(), share_threads())
    return out


def _joined(parameters: Sequence[Tensor], precision: torch.dtype) -> Tensor:
    """Weights one below the other, in a precision."""
    if len(parameters) == 1:
        return parameters[0].to(precision)
    out = parameters[0].new_empty(sum(map(len, parameters)), *parameters[0].shape[1:], dtype=precision)
    start = 0
    for one in parameters:
        out[start : start + len(one)] = one
        start += len(one)
    return out


def _array(values: Tensor) -> np.ndarray:
    """The memory of a tensor for compiled code: float32, or the bits of bfloat16."""
    found: np.ndarray = values.view(torch.uint16).numpy() if values.dtype == torch.bfloat16 else values.numpy()
    return found


def _heads(weights: Tensor, heads: int) -> np.ndarray:
    """`(texts * heads, width, width)` as `(texts, heads, width, width)`."""
    return _array(weights.view(-1, heads, *weights.shape[1:]))
