"""BERT-base at 128 tokens on this machine: the yardstick of the papers, and the fastest form of it that runs here."""

from __future__ import annotations

import logging
import os
import statistics
import tempfile
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pairstill.evaluation.cost import Timing
from pairstill.evaluation.timing import as_timing, rates
from pairstill.machine import best_precision
from pairstill.students.inference import map_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

Scope = Literal["full", "pytorch", "none"]
TOKENS = 128
BATCH = 8
log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where exported graphs are kept: `$XDG_CACHE_HOME/pairstill`, or `~/.cache/pairstill`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pairstill"


def _model(attention: str, shape: dict[str, int]) -> nn.Module:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(attn_implementation=attention, **shape)
    model: nn.Module = BertModel(config, add_pooling_layer=False)
    return model.eval()


def _tokens(batch: int) -> Any:
    import torch

    return torch.randint(1000, 2000, (batch, TOKENS), generator=torch.Generator().manual_seed(0))


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters warn and log about things that a user cannot change."""
    names = ("torch.onnx", "onnxscript", "root", "onnx_ir")
    levels = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def exported(folder: Path | None = None, **shape: int) -> tuple[Path, Path]:
    """The float32 and the int8 ONNX file of BERT-base with random weights, exported once and kept.

    Args:
        folder: Where to keep them; None means `cache_folder()`.
        shape: Changes to the configuration, for tests.

    Returns:
        Paths of the float32 and the dynamically quantised int8 graph.
    """
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    key = (
        f"bert-base-{TOKENS}-torch{version('torch')}-transformers{version('transformers')}-ort{version('onnxruntime')}"
    )
    if shape:
        key += "-" + "-".join(f"{name}{value}" for name, value in sorted(shape.items()))
    final = (folder or cache_folder()) / key.replace("+", "_")
    paths = final / "float32.onnx", final / "int8.onnx"
    if all(path.exists() for path in paths):
        return paths
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=".bert-base-") as name, _quiet():
        work = Path(name) / "finished"
        work.mkdir()
        with torch.no_grad(), Path(os.devnull).open("w") as void, _stdout(void):
            torch.onnx.export(
                _model("eager", shape), (_tokens(2),), str(work / "float32.onnx"), dynamo=True, verbose=False,
                input_names=["input_ids"], output_names=["hidden"],
                dynamic_shapes={"input_ids": {0: torch.export.Dim("batch", min=2, max=512)}},
            )  # fmt: skip
        quantize_dynamic(
            str(work / "float32.onnx"), str(work / "int8.onnx"), weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip
        if not final.exists():
            work.rename(final)
    return paths


@contextmanager
def _stdout(stream: Any) -> Iterator[None]:
    from contextlib import redirect_stdout

    with redirect_stdout(stream):
        yield


def _session(path: Path, threads: int) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    tokens = _tokens(BATCH).numpy()
    return lambda: session.run(None, {"input_ids": tokens})


def measure_bert_base(
    scope: Scope = "full", *, seconds: float = 12.0, folder: Path | None = None, **shape: int
) -> tuple[tuple[Timing, ...], tuple[str, ...]]:
    """Pairs per second of BERT-base at 128 tokens, no padding, batch 8; PyTorch's threads together or on a batch each.

    Args:
        scope: `full`: PyTorch and ONNX Runtime in every precision that runs here; `pytorch`: without ONNX Runtime, whose
            first export takes about a minute; `none`: nothing.
        seconds: About how long to measure all of them.
        folder: Where exported graphs are kept; None means `cache_folder()`.
        shape: Changes to the configuration, for tests.

    Returns:
        The timings, and sentences about what could not be measured.
    """
    if scope == "none":
        return (), ("BERT-base was not measured.",)
    import torch

    threads = torch.get_num_threads()
    shared: dict[str, Any] = {"unit": "pairs", "threads": threads, "batch": BATCH, "lengths": (float(TOKENS),)}
    found: list[Timing] = []
    notes: list[str] = []
    model, tokens = _model("sdpa", shape), _tokens(BATCH)
    share = seconds / 4
    for precision in ("float32", "bfloat16"):
        if precision == "bfloat16" and best_precision() != "bfloat16":
            notes.append("BERT-base in bfloat16 was left out: the processor has no bfloat16 products.")
            continue
        narrow = model.to(getattr(torch, precision))
        with torch.inference_mode():
            together = rates(partial(narrow, tokens), BATCH, share / 2)
        apart = rates(lambda: list(map_blocks(narrow, [tokens] * threads)), BATCH * threads, share / 2)  # noqa: B023
        found.append(as_timing(max(together, apart, key=statistics.median), precision=precision, **shared))
    if scope == "pytorch":
        return tuple(found), ("BERT-base in ONNX Runtime was not measured.",)
    try:
        paths = exported(folder, **shape)
        for precision, path in zip(("float32", "int8"), paths, strict=True):
            timing = rates(_session(path, threads), BATCH, share)
            found.append(as_timing(timing, precision=precision, runtime="ONNX Runtime", **shared))
    except Exception as error:  # an optional yardstick: whatever the exporter raises is said, not raised
        log.warning("ONNX Runtime could not be measured", exc_info=True)
        notes.append(f"BERT-base in ONNX Runtime could not be measured: {str(error).strip().splitlines()[0][:200]}")
    return tuple(found), tuple(notes)
