"""Modules as ONNX files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

OPSET, IR_VERSION = 20, 10


@dataclass(frozen=True)
class Input:
    """An input of a graph.

    Attributes:
        name: Of it.
        example: A tensor to trace with; dimensions that vary are 2 or more in it.
        varying: Names of the dimensions that vary.
    """

    name: str
    example: Tensor
    varying: Mapping[int, str]


@dataclass(frozen=True)
class GraphPart:
    """What becomes a file.

    Attributes:
        file: Its name.
        module: Its `forward` takes the inputs in this order and gives a tensor or a tuple of tensors.
        inputs: In the order of the arguments.
        outputs: Names of what `forward` gives.
    """

    file: str
    module: nn.Module
    inputs: Sequence[Input]
    outputs: Sequence[str]


def save_graphs(folder: Path, parts: Sequence[GraphPart]) -> None:
    """Write modules as ONNX files.

    They are traced together, for most of the time of a trace does not depend on its size, and then taken apart.
    """
    import onnx_ir

    for part in parts:
        # Names are all that tells values of a graph apart.
        assert not {one.name for one in part.inputs} & set(part.outputs), part.file
    inputs = [(f"{part.file}/{one.name}", one) for part in parts for one in part.inputs]
    outputs = [f"{part.file}/{name}" for part in parts for name in part.outputs]
    shapes = tuple(dict.fromkeys(one.varying, torch.export.Dim.DYNAMIC) for _, one in inputs)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            _All(parts).eval(), tuple(one.example.clone() for _, one in inputs), dynamo=True, opset_version=OPSET,
            input_names=[name for name, _ in inputs], output_names=outputs, dynamic_shapes=(shapes,), verbose=False,
        )  # fmt: skip
    assert program is not None
    for part in parts:
        graph = onnx_ir.convenience.extract(
            program.model.graph, [f"{part.file}/{one.name}" for one in part.inputs],
            [f"{part.file}/{name}" for name in part.outputs],
        )  # fmt: skip
        for value in chain(graph.inputs, graph.outputs):
            value.name = str(value.name).removeprefix(f"{part.file}/")
        for node in onnx_ir.traversal.RecursiveGraphIterator(graph):
            # Where in which file of this machine it was traced.
            node.metadata_props.clear()
        onnx_ir.save(onnx_ir.Model(graph, ir_version=IR_VERSION, producer_name="pairstill"), folder / part.file)


class _All(nn.Module):
    """All parts, one after another."""

    def __init__(self, parts: Sequence[GraphPart]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(one.module for one in parts)
        self.counts = [len(one.inputs) for one in parts]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        given, found = iter(inputs), []
        for part, count in zip(self.parts, self.counts, strict=True):
            result = part(*(next(given) for _ in range(count)))
            found += [result] if isinstance(result, Tensor) else list(result)
        return tuple(found)


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
