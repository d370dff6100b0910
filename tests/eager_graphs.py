"""Exports whose graphs stay PyTorch modules: all of an export but the tracing, which takes seconds a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


class EagerGraphs:
    """Stands in for `save_graphs` and `Graph`; a graph's file holds its number."""

    def __init__(self) -> None:
        self.saved: list[tuple[Any, list[str], list[str]]] = []

    def save(self, folder: Path, parts: Sequence[Any]) -> None:
        for part in parts:
            (folder / part.file).write_text(str(len(self.saved)))
            self.saved.append((part.module.eval(), [one.name for one in part.inputs], list(part.outputs)))

    def load(self, path: Path) -> EagerGraph:
        return EagerGraph(*self.saved[int(path.read_text())])


class EagerGraph:
    def __init__(self, module: Any, inputs: list[str], outputs: list[str]) -> None:
        self.module, self.inputs, self.outputs = module, inputs, outputs

    def run_items(self, arrays: Mapping[str, Any], size: int, workers: Any) -> dict[str, np.ndarray]:
        del size, workers
        return self.run(arrays)

    def run(self, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            given = self.module(*(torch.from_numpy(np.asarray(arrays[name])) for name in self.inputs))
        given = (given,) if isinstance(given, torch.Tensor) else given
        return {name: one.numpy() for name, one in zip(self.outputs, given, strict=True)}


@pytest.fixture
def eager_graphs(monkeypatch: pytest.MonkeyPatch) -> EagerGraphs:
    graphs = EagerGraphs()
    monkeypatch.setattr("pairstill.export.onnx_parts.save_graphs", graphs.save)
    monkeypatch.setattr("pairstill.runtime.encoders.Graph", graphs.load)
    monkeypatch.setattr("pairstill.runtime.heads.Graph", graphs.load)
    return graphs
