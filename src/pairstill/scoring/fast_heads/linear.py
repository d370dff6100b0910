"""Matrix products of one fixed shape, weights laid out once, bias, activation and residual fused."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16", "int8"]
ACTIVATIONS = {"none": ("none", ""), "relu": ("relu", ""), "gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh")}


class PackedLinear:
    """act(x W^T + b) or x W^T + b + other, for inputs of `rows` rows.

    Uses oneDNN's fused products where this PyTorch has them (they round once, after bias, activation or sum), and plain
    ones elsewhere.

    Args:
        weight: `(outside, inside)`, in any floating type.
        bias: `(outside,)`.
        rows: Of every input.
        dtype: Of inputs, weights and results.
        activation: Applied after the bias.
    """

    def __init__(self, weight: Tensor, bias: Tensor, rows: int, dtype: torch.dtype, activation: str = "none") -> None:
        self.activation, self.rows = activation, rows
        weight, self.bias = weight.detach().to(dtype).contiguous(), bias.detach().to(dtype).contiguous()
        self.fused = bool(torch._C._has_mkldnn) and activation in ACTIVATIONS
        self.weight: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows) if self.fused else weight

    def __call__(self, inputs: Tensor, other: Tensor | None = None) -> Tensor:
        """`(rows, inside)` to `(rows, outside)`; `other (rows, outside)` is added after the bias."""
        if not self.fused:
            outputs = torch.nn.functional.linear(inputs, self.weight, self.bias)
            if other is not None:
                return outputs + other
            return activate(outputs, self.activation)
        operation = torch.ops.mkldnn._linear_pointwise
        found: Tensor
        if other is not None:
            found = operation.binary(inputs, other, self.weight, self.bias, "add")
        else:
            name, algorithm = ACTIVATIONS[self.activation]
            found = operation(inputs, self.weight, self.bias, name, [], algorithm)
        return found


class QuantisedLinear:
    """A product in 8-bit integers: weights with one scale an output, inputs with one static scale.

    Static, because a scale taken from the block would make a pair's score depend on the pairs beside it.

    Args:
        weight: `(outside, inside)`.
        bias: `(outside,)`.
        input_scale: Of the inputs: real = scale * (stored - zero point).
        input_zero: Zero point of the inputs.
        output_scale: Of the outputs, which are unsigned 8-bit; None leaves them in bfloat16.
        output_zero: Zero point of the outputs.
        activation: Applied after the bias.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, input_scale: float, input_zero: int, output_scale: float | None,
        output_zero: int = 0, activation: str = "none",
    ) -> None:  # fmt: skip
        weight = weight.detach().float()
        self.scales = (weight.abs().amax(dim=1) / 127).clamp_min(1e-12)
        stored = (weight / self.scales[:, None]).round().clamp(-127, 127).to(torch.int8)
        self.zeros = torch.zeros(len(stored), dtype=torch.int64)
        self.weight: Tensor = torch.ops.onednn.qlinear_prepack(stored, None)
        self.bias, self.input_scale, self.input_zero = bias.detach().float(), input_scale, input_zero
        self.output_scale, self.output_zero, self.activation = output_scale, output_zero, activation

    def __call__(self, inputs: Tensor, other: Tensor | None = None) -> Tensor:
        """`(rows, inside)` 8-bit to `(rows, outside)`; `other` in bfloat16 is added after the bias."""
        scale = 1.0 if self.output_scale is None else self.output_scale
        kind = torch.bfloat16 if self.output_scale is None else torch.uint8
        found: Tensor
        if other is not None:
            found = torch.ops.onednn.qlinear_pointwise.binary(
                inputs, self.input_scale, self.input_zero, self.weight, self.scales, self.zeros, other, self.bias,
                scale, self.output_zero, kind, 1.0, 0, "add", 1.0, "none", [], "",
            )  # fmt: skip
            return found
        name, algorithm = ACTIVATIONS[self.activation]
        found = torch.ops.onednn.qlinear_pointwise(
            inputs, self.input_scale, self.input_zero, self.weight, self.scales, self.zeros, self.bias, scale, self.output_zero, kind,
            name, [], algorithm,
        )  # fmt: skip
        return found


def activate(values: Tensor, name: str) -> Tensor:
    """An activation by the name that head configurations use."""
    from pairstill.students.heads.feed_forward import activation_module

    if name == "none":
        return values
    found: Tensor = activation_module(name)(values)
    return found


def as_array(tensor: Tensor) -> np.ndarray:
    """The NumPy array of a tensor, without copying; bfloat16 as its bits in uint16."""
    found: np.ndarray = (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return found
