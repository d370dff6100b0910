"""Graphs in 8-bit integers: near to float32, the same in every batch, refused where they rank otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, load, numpy_helper, save

from pairstill.errors import InputError
from pairstill.export.onnx_quantise import Agreement, Samples, _quantise, agreement, quantise_weights
from pairstill.runtime.graph import Graph
from tiny import tiny_tuple_set

DIM, WIDE = 32, 160


def perceptron(path: Path) -> None:
    generator = np.random.default_rng(0)
    weights = {
        "up": generator.normal(0, DIM**-0.5, (WIDE, DIM)), "up.bias": generator.normal(0, 0.1, WIDE),
        "down": generator.normal(0, WIDE**-0.5, (WIDE, DIM)), "out": generator.normal(0, 1, (DIM, 2)),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gemm", ["x", "up", "up.bias"], ["wide"], "first", transB=1),
        helper.make_node("Relu", ["wide"], ["relu"], "relu"),
        helper.make_node("MatMul", ["relu", "down"], ["narrow"], "second"),
        helper.make_node("MatMul", ["narrow", "out"], ["logits"], "small"),
    ]
    graph = helper.make_graph(
        nodes, "perceptron", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", DIM])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 2])],
        [numpy_helper.from_array(one.astype(np.float32), name) for name, one in weights.items()],
    )  # fmt: skip
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def test_a_graph_in_eight_bits(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    perceptron(path)
    rows = np.random.default_rng(1).normal(size=(600, DIM)).astype(np.float32)
    exact = Graph(path).run({"x": rows})["logits"]
    steps = _quantise(path, [{"x": part} for part in np.array_split(rows[:290], 6)])
    assert set(steps) == {"x", "relu"}
    assert sum(one.op_type == "QuantizeLinear" for one in load(path).graph.node) == 2
    rounded = Graph(path).run({"x": rows})["logits"]
    assert 0 < np.abs(rounded - exact).max() < 0.06 * np.abs(exact).max()
    alone = np.concatenate([Graph(path).run({"x": rows[place : place + 1]})["logits"] for place in range(20)])
    np.testing.assert_allclose(alone, rounded[:20], rtol=1e-6, atol=1e-6)


def test_weights_in_eight_bits(tmp_path: Path) -> None:
    path = tmp_path / "graph.onnx"
    perceptron(path)
    rows = np.random.default_rng(1).normal(size=(600, DIM)).astype(np.float32)
    rows[7] *= 1000  # One large vector spoils no other.
    exact = Graph(path).run({"x": rows})["logits"]
    quantise_weights(path)
    assert [one.op_type for one in load(path).graph.node].count("MatMulNBits") == 1
    graph = Graph(path)
    rounded = graph.run({"x": rows})["logits"]
    others = np.arange(600) != 7
    for part in (others, ~others):
        assert 0 < np.linalg.norm((rounded - exact)[part]) < 0.02 * np.linalg.norm(exact[part])
    alone = np.concatenate([graph.run({"x": rows[place : place + 1]})["logits"] for place in range(20)])
    np.testing.assert_allclose(alone, rounded[:20], rtol=1e-5, atol=1e-5 * np.abs(rounded[:20]).max())
    with pytest.raises(InputError, match="no product with 4,096 weights"):
        quantise_weights(path)


def test_a_graph_without_products(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "nothing",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    save(helper.make_model(graph), tmp_path / "graph.onnx")
    with pytest.raises(InputError, match="no product with 4,096 weights"):
        _quantise(tmp_path / "graph.onnx", [])


class Numbers:
    """Scores are a number in the texts, disturbed."""

    outputs = 1

    def __init__(self, disturbance: float) -> None:
        self.disturbance = disturbance

    def score_texts(self, rows: list[tuple[str, str]]) -> np.ndarray:
        values = np.array([float(one) + float(other) for one, other in rows], np.float32)
        return (values + self.disturbance * np.sin(1e3 * values))[:, None]


def test_agreement() -> None:
    rows = [(str(one / 7), str(one % 13)) for one in range(60)]
    same = agreement(Numbers(0), Numbers(0), rows)  # type: ignore[arg-type]
    assert (same.kendall_tau, same.top_10_overlap, same.tuples, same.lists) == (1.0, 1.0, 60, 24)
    same.check("the head")
    other = agreement(Numbers(0), Numbers(5), rows)  # type: ignore[arg-type]
    assert other.kendall_tau < 0.9
    with pytest.raises(InputError, match="the head in int8 do not rank as float32 does: Kendall's tau"):
        other.check("the head")
    with pytest.raises(InputError, match=r"top-10 overlap 0\.900"):
        Agreement(1.0, 0.9, 10, 2).check("the head")


def test_samples_are_held_out() -> None:
    tuple_set = tiny_tuple_set()
    samples = Samples.of(tuple_set, 30, 50)
    assert (len(samples.calibration), len(samples.held_out)) == (30, 50)
    queries = tuple_set.texts(0)
    assert {row[0] for row in samples.calibration} <= set(queries[:28])
    assert {row[0] for row in samples.held_out} <= set(queries[28:])
