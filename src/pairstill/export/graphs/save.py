"""Modules as ONNX files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

OPSET = 20


@dataclass(frozen=True)
class Input:
    """An input of a graph.

    Attributes:
        name: Of it.
        example: A tensor to trace with; dimensions that vary are 2 or more in it.
        varying: Names of the dimensions that vary; equal names mean equal sizes.
    """

    name: str
    example: Tensor
    varying: Mapping[int, str]


def save_graph(module: nn.Module, path: Path, inputs: Sequence[Input], outputs: Sequence[str]) -> None:
    """Trace a module and write it as ONNX.

    Args:
        module: Its `forward` takes the inputs in this order and gives a tensor or a tuple of tensors.
        path: The file.
        inputs: In the order of the arguments.
        outputs: Names of what `forward` gives.
    """
    shapes = tuple(dict.fromkeys(one.varying, torch.export.Dim.DYNAMIC) for one in inputs)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            _Positional(module).eval(), tuple(one.example for one in inputs), dynamo=True, opset_version=OPSET,
            input_names=[one.name for one in inputs], output_names=list(outputs), dynamic_shapes=(shapes,), verbose=False,
        )  # fmt: skip
    assert program is not None
    program.save(str(path))


class _Positional(nn.Module):
    """Takes any number of inputs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = self.module(*inputs)
        return (given,) if isinstance(given, Tensor) else tuple(given)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks, and without fused layers that it does not know."""
    fused = torch.backends.mha.get_fastpath_enabled()
    disabled = logging.root.manager.disable
    torch.backends.mha.set_fastpath_enabled(False)
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        torch.backends.mha.set_fastpath_enabled(fused)
