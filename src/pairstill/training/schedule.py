"""The learning rate over a training."""

from __future__ import annotations

SCHEDULES = ("linear", "constant")
"""How a rate goes on after warm-up."""


def rate_share(step: int, steps: int, warmup: float, schedule: str = "linear") -> float:
    """Share of the largest rate at a step: linear warm-up, then as `schedule` says.

    Args:
        step: Counted from 0.
        steps: In all.
        warmup: Share of them over which the rate rises; 0 begins with the largest.
        schedule: `linear` falls to zero, `constant` stays.
    """
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 1.0 if schedule == "constant" else max(0.0, (steps - step) / max(1, steps - rising))
