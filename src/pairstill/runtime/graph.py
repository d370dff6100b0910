"""One ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from pairstill.errors import ArtefactError, MissingExtraError
from pairstill.runtime.workers import Workers


class Graph:
    """An ONNX graph, run by one thread at a time and by any number of threads at once.

    Parallelism is over blocks of items and tuples, of which each thread has its own: products of one block that share
    threads would wait for one another at the end of every operation.

    Args:
        path: The `.onnx` file.

    Attributes:
        name: Of the file.
        inputs: Names of the inputs.
        recorded: A list that every run adds its inputs to, for calibration; None records nothing.

    Raises:
        ArtefactError: ONNX Runtime cannot read the file.
        MissingExtraError: ONNX Runtime is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtraError("onnxruntime", "serve") from None
        self.name, self.recorded = path.name, cast("list[dict[str, np.ndarray]] | None", None)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            detail = str(error).splitlines()[0]
            raise ArtefactError(f"ONNX Runtime cannot read the graph: {detail}", file=path) from None
        self.inputs = tuple(one.name for one in self._session.get_inputs())
        self._outputs = [one.name for one in self._session.get_outputs()]

    def run_items(self, arrays: Mapping[str, np.ndarray], size: int, workers: Workers) -> dict[str, np.ndarray]:
        """As `run`, of inputs and outputs whose first dimension counts items: `size` items at a time, put together without a copy."""
        count = len(next(iter(arrays.values())))
        first = self.run({name: one[:size] for name, one in arrays.items()})
        if count <= size:
            return first
        out = {name: np.empty((count, *one.shape[1:]), one.dtype) for name, one in first.items()}
        for name, one in first.items():
            out[name][:size] = one

        def fill(start: int) -> None:
            binding = self._session.io_binding()
            # Held here until the run is over: a binding may only point to it.
            feed = {name: np.ascontiguousarray(arrays[name][start : start + size]) for name in self.inputs}
            for name, one in feed.items():
                binding.bind_cpu_input(name, one)
            for name, one in out.items():
                part = one[start : start + size]
                binding.bind_output(name, "cpu", 0, one.dtype, part.shape, part.ctypes.data)
            self._session.run_with_iobinding(binding)

        workers.map(fill, range(size, count, size))
        return out

    def run(self, arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Outputs by name; arrays that the graph does not read are left out."""
        feed = {name: np.ascontiguousarray(arrays[name]) for name in self.inputs}
        if self.recorded is not None:
            self.recorded.append(feed)
        return dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))
