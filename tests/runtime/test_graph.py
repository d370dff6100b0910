"""ONNX graphs: run whole, in pieces on threads, recorded, refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from pairstill.errors import ArtefactError
from pairstill.runtime.graph import Graph
from pairstill.runtime.workers import Workers


def doubled(path: Path) -> Graph:
    """items -> 2 * items, and items as they are."""
    shape = ["items", 3]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["twice"]), helper.make_node("Identity", ["x"], ["same"])], "doubled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("twice", "same")],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return Graph(path)


@pytest.mark.parametrize("count", [1, 4, 5, 23])
@pytest.mark.parametrize("threads", [1, 3])
def test_items_in_pieces(count: int, threads: int, tmp_path: Path) -> None:
    graph = doubled(tmp_path / "graph.onnx")
    values = np.random.default_rng(0).random((2 * count, 3), np.float32)[::2]
    found = graph.run_items({"x": values, "unread": values}, 4, Workers(threads))
    np.testing.assert_array_equal(found["twice"], 2 * values)
    np.testing.assert_array_equal(found["same"], values)


def test_runs_are_recorded_where_asked(tmp_path: Path) -> None:
    graph = doubled(tmp_path / "graph.onnx")
    graph.run({"x": np.ones((2, 3), np.float32)})
    graph.recorded = []
    graph.run({"x": np.zeros((1, 3), np.float32)})
    assert [one["x"].shape for one in graph.recorded] == [(1, 3)]


def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"no graph")
    with pytest.raises(ArtefactError, match="ONNX Runtime cannot read the graph"):
        Graph(tmp_path / "graph.onnx")
