"""How models are run without gradients: weights in the precision asked for, and every core on blocks of its own."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import nn

from pairstill.errors import InputError

Module = TypeVar("Module", bound=nn.Module)
Block = TypeVar("Block")
Result = TypeVar("Result")


def precision_context(precision: str, device: str = "cpu") -> torch.autocast:
    """Autocast for `bfloat16`, nothing for `float32`.

    Raises:
        InputError: Any other name.
    """
    if precision not in ("float32", "bfloat16"):
        raise InputError(f"the precision '{precision}' is unknown", expected="float32 or bfloat16")
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


def with_precision(model: Module, transformers: Callable[[Module], Sequence[nn.Module]], precision: str) -> Module:
    """The model itself for `float32`; for `bfloat16` a copy whose transformers hold bfloat16 weights.

    Weights that are narrow already spare the conversions between layers that autocast makes in every forward pass.

    Args:
        model: Left as it is.
        transformers: Which of a model's modules are converted; what reads their output must widen it.
        precision: `float32` or `bfloat16`.

    Raises:
        InputError: Any other precision.
    """
    precision_context(precision)
    if precision == "float32":
        return model
    narrow = copy.deepcopy(model)
    for module in transformers(narrow):
        module.to(torch.bfloat16)
    return narrow


def map_blocks(
    function: Callable[[Block], Result],
    blocks: Sequence[Block],
    device: torch.device | str = "cpu",
    threads: int | None = None,
) -> Iterator[Result]:
    """`function` of every block, in order, without gradients; on a CPU each thread takes blocks of its own.

    One-threaded products on several blocks wait for nobody, where products that share all threads wait at the end of
    every operation; so numbers do not depend on how many threads there are, but for a single block. Only a few results
    are held at a time.

    Args:
        function: Safe to be called by several threads at once.
        blocks: What it is called with.
        device: Where the work is done; not on a CPU there is one thread.
        threads: None means as many as PyTorch is set to.
    """
    shared = torch.get_num_threads()
    threads = threads or shared

    def run(block: Block) -> Result:
        with torch.inference_mode():
            return function(block)

    if threads == 1 or len(blocks) < 2 or torch.device(device).type != "cpu":
        yield from map(run, blocks)
        return
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    waiting: deque[Future[Result]] = deque()
    try:
        for block in blocks:
            waiting.append(pool.submit(run, block))
            if len(waiting) > threads + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        # Some of PyTorch's libraries keep one number for the whole process.
        torch.set_num_threads(shared)
