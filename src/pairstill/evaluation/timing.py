"""Repeat, warm up, take the median."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from pairstill.evaluation.cost import Timing


def rates(work: Callable[[], object], units: int, seconds: float, least: int = 3, most: int = 200) -> list[float]:
    """Units per second of repetitions of `work`, which does `units` of them.

    Args:
        work: Called once to warm up, then timed.
        units: Pairs or items of one call.
        seconds: Keep repeating for about so long.
        least: Repetitions however long they take.
        most: Repetitions however short they are.
    """
    work()
    found: list[float] = []
    began = time.perf_counter()
    while len(found) < least or (time.perf_counter() - began < seconds and len(found) < most):
        start = time.perf_counter()
        work()
        found.append(units / max(time.perf_counter() - start, 1e-9))
    return found


def as_timing(
    found: list[float], *, unit: str, precision: str, threads: int, batch: int, lengths: tuple[float, ...],
    runtime: str = "PyTorch",
) -> Timing:  # fmt: skip
    """The median of `rates`, with its conditions."""
    return Timing(
        per_second=statistics.median(found), slowest=min(found), fastest=max(found), repetitions=len(found), unit=unit,
        runtime=runtime, precision=precision, threads=threads, batch=batch, lengths=lengths,
    )  # fmt: skip
