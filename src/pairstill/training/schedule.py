"""The learning rate over a training."""

from __future__ import annotations


def warmup_and_decay(step: int, steps: int, warmup: float) -> float:
    """Share of the largest rate at a step: linear warm-up, then linear decay to zero.

    Args:
        step: Counted from 0.
        steps: In all.
        warmup: Share of them over which the rate rises.
    """
    rising = max(1, round(steps * warmup))
    return (step + 1) / rising if step < rising else max(0.0, (steps - step) / max(1, steps - rising))
