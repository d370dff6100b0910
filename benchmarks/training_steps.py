"""What benchmarks of single training steps share: steps in turn, so that a slow moment meets all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

WARM_UP = 2


def seconds_in_turn(steps: Mapping[str, Callable[[int], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round of each step, which is called with the round's number; the first `WARM_UP` are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + WARM_UP):
        for name, step in steps.items():
            began = time.perf_counter()
            step(number)
            if number >= WARM_UP:
                seconds[name].append(time.perf_counter() - began)
    return seconds
