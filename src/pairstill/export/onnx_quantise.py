"""Graphs in 8-bit integers that no other tuple of a batch has a say in, and how far they rank as float32 does."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairstill.errors import InputError
from pairstill.metrics.graded import kendall
from pairstill.runtime import RuntimeStudent
from pairstill.scoring.bulk.precision import NEEDED_OVERLAP, NEEDED_TAU, OVERLAP, top_overlap
from pairstill.tuples import TupleSet

LEAST_WEIGHTS = 4096
"""Products with fewer weights stay in float32."""
BLOCK = 32
"""Weights of an encoder's output channel that share a step."""
LEFT, RIGHT = 24, 128


@dataclass(frozen=True)
class Samples:
    """Tuples of texts that stand for those to come.

    Attributes:
        calibration: To choose the steps of activations by.
        held_out: To measure on; none of them is in `calibration`.
    """

    calibration: Sequence[Sequence[str]]
    held_out: Sequence[Sequence[str]]

    @classmethod
    def of(cls, tuple_set: TupleSet, calibration: int = 128, held_out: int = 512) -> Samples:
        """Tuples spread evenly over a set: of training to calibrate, of the other splits to measure; halves where there is one alone.

        Raises:
            InputError: The set has fewer than 4 tuples.
        """
        if len(tuple_set) < 4:
            raise InputError(f"the tuple set has {len(tuple_set)} tuples", expected="4 or more")
        splits = np.asarray(tuple_set.tuples.column("split").combine_chunks().to_pylist())
        train, others = np.flatnonzero(splits == "train"), np.flatnonzero(splits != "train")
        if not len(train) or not len(others):
            train, others = np.arange(0, len(splits), 2), np.arange(1, len(splits), 2)
        index = tuple_set.index

        def spread(rows: np.ndarray, count: int) -> list[tuple[str, ...]]:
            chosen = rows[np.unique(np.linspace(0, len(rows) - 1, count).astype(np.int64))]
            fields = (tuple_set.texts(field, index[chosen, field]) for field in range(len(tuple_set.fields)))
            return list(zip(*fields, strict=True))

        return cls(spread(train, calibration), spread(others, held_out))


@dataclass(frozen=True)
class Agreement:
    """An export in 8-bit integers beside the same in float32.

    Attributes:
        kendall_tau: Over the held-out tuples.
        top_10_overlap: Mean over first texts, each scored with the same other texts.
        tuples: For tau.
        lists: For the overlap.
    """

    kendall_tau: float
    top_10_overlap: float
    tuples: int
    lists: int

    def said(self) -> str:
        """For people."""
        return (
            f"Kendall's tau {self.kendall_tau:.4f} on {self.tuples} held-out tuples, top-10 overlap {self.top_10_overlap:.3f} on "
            f"{self.lists} lists"
        )

    def check(self, what: str) -> None:
        """Raise `InputError` where the order is another one."""
        if self.kendall_tau < NEEDED_TAU or self.top_10_overlap < NEEDED_OVERLAP:
            raise InputError(
                f"{what} in int8 do not rank as float32 does: {self.said()}",
                expected=f"tau {NEEDED_TAU} and overlap {NEEDED_OVERLAP} or more", fix="Nothing was written: leave it in float32",
            )  # fmt: skip


def quantise(folder: Path, samples: Samples, names: Sequence[str]) -> dict[str, Any]:
    """Replace graphs of an export by such whose products with weights are in 8-bit integers.

    Weights have a step per channel and 7 bits, so that no processor's sums saturate; activations have a step each, chosen once
    from the calibration tuples, so that a score does not depend on the other tuples of a batch.

    Args:
        folder: Of the export.
        samples: See `Samples`.
        names: Of the graphs' files.

    Returns:
        For `export.json`: by graph, the step and zero point of each activation.
    """
    feeds = _feeds(RuntimeStudent.open(folder, threads=1), samples.calibration, names)
    return {name: _quantise(folder / name, feeds[name]) for name in names}


def quantise_weights(path: Path) -> None:
    """Replace a graph by one whose products with weights read these in 8 bits, a step for each 32 of a channel.

    Activations get steps as they come, one for each 32 of a vector: they depend on that vector alone, so a score does not depend
    on the other tuples of a batch, and there is nothing to calibrate. One step for all vectors, as heads have it, costs the
    encoders of trained students their order. What it saves is reading weights, which is nearly all that a short text costs.

    Raises:
        InputError: The graph has no such product.
    """
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

    model = onnx.load(path)
    wide = set(_wide_products(model, path, ["MatMul"]))
    others = [one.name for one in model.graph.node if one.name not in wide]
    config = DefaultWeightOnlyQuantConfig(block_size=BLOCK, is_symmetric=True, accuracy_level=4, bits=8)
    with _quiet("onnxruntime.quantization.matmul_nbits_quantizer"):
        quantiser = MatMulNBitsQuantizer(model, nodes_to_exclude=others, algo_config=config)
        quantiser.process()
    made = path.with_suffix(".int8")
    quantiser.model.save_model_to_file(str(made), False)
    made.replace(path)


def agreement(exact: RuntimeStudent, other: RuntimeStudent, rows: Sequence[Sequence[str]]) -> Agreement:
    """Compare two exports of a student on tuples."""
    firsts = list(dict.fromkeys(row[0] for row in rows))[:LEFT]
    rests = list(dict.fromkeys(tuple(row[1:]) for row in rows))[:RIGHT]
    crossed = [(first, *rest) for first in firsts for rest in rests]
    one, two = (student.score_texts([*rows, *crossed]) for student in (exact, other))
    taus, overlaps = [], []
    for column in range(exact.outputs):
        left, right = one[:, column], two[:, column]
        tau = kendall(left[: len(rows)], right[: len(rows)]).value
        taus.append(1.0 if tau is None else float(tau))
        lists = [scores[len(rows) :].reshape(len(firsts), -1) for scores in (left, right)]
        overlaps.append(top_overlap(*lists) if len(rests) > OVERLAP else 1.0)
    return Agreement(min(taus), min(overlaps), len(rows), len(firsts))


def _feeds(
    student: RuntimeStudent, rows: Sequence[Sequence[str]], names: Sequence[str]
) -> Mapping[str, list[dict[str, np.ndarray]]]:
    """What goes into each graph when the tuples are scored."""
    graphs = {one.name: one for one in student.graphs() if one.name in names}
    for one in graphs.values():
        one.recorded = []
    student.score_texts(rows)
    return {name: one.recorded or [] for name, one in graphs.items()}


def _quantise(path: Path, feeds: Sequence[dict[str, np.ndarray]]) -> dict[str, Any]:
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows: Iterator[dict[str, np.ndarray]] = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rows, None)

    model = onnx.load(path)
    nodes = _wide_products(model, path, ["MatMul", "Gemm"])
    made = path.with_suffix(".int8")
    quantization.quantize_static(
        str(path), str(made), Reader(), quant_format=quantization.QuantFormat.QDQ, per_channel=True, reduce_range=True,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8, nodes_to_quantize=nodes,
        calibrate_method=quantization.CalibrationMethod.MinMax,
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"]},
    )  # fmt: skip
    made.replace(path)
    return _steps(onnx.load(path))


def _wide_products(model: Any, path: Path, kinds: Sequence[str]) -> list[str]:
    """Names of the products with many weights."""
    weights = {one.name: int(np.prod(one.dims)) for one in model.graph.initializer}
    nodes = [
        one.name for one in model.graph.node if one.op_type in kinds and weights.get(one.input[1], 0) >= LEAST_WEIGHTS
    ]
    if not nodes:
        raise InputError(
            f"{path.name} has no product with {LEAST_WEIGHTS:,} weights or more", fix="Leave it in float32"
        )
    return nodes


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep what a library says of every node out of the log."""
    noisy = logging.getLogger(name)
    before = noisy.disabled
    noisy.disabled = True
    try:
        yield
    finally:
        noisy.disabled = before


def _steps(model: Any) -> dict[str, list[float]]:
    """Step and zero point of every activation."""
    from onnx import numpy_helper

    constants = {one.name: one for one in model.graph.initializer}
    return {
        one.input[0]: [float(numpy_helper.to_array(constants[name])) for name in one.input[1:3]]
        for one in model.graph.node
        if one.op_type == "QuantizeLinear" and one.input[1] in constants
    }
