"""What the verbs that train have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairstill.cli.progress import progress_bar
from pairstill.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from pairstill.training.validation import Validation
    from pairstill.tuples import TupleSet


def resolve_precision(precision: str) -> str:
    """`auto` means bfloat16 where the processor computes it natively."""
    if precision == "auto":
        from pairstill.machine import best_precision

        return best_precision()
    if precision not in ("float32", "bfloat16"):
        raise InputError(f"the precision '{precision}' is unknown", expected="auto, float32 or bfloat16")
    return precision


def validation_of(tuple_set: TupleSet, metric: str | None, rows: int) -> Validation:
    """The validation split and metric, checked before anything heavy is loaded."""
    from pairstill.metrics.catalogue import parse_metric
    from pairstill.training.validation import Validation

    wanted = None if metric is None else parse_metric(metric, tuple_set.labels.kind)
    return Validation.on_labels(tuple_set, "valid", wanted, rows)


@contextlib.contextmanager
def progress_steps() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Progress bars one after another: asking for the next step's ends the one before."""
    stack = contextlib.ExitStack()

    def step(what: str) -> Callable[[int, int], None]:
        stack.close()
        unit = "texts" if what.startswith("Encoding") else "pairs"
        return stack.enter_context(progress_bar(what, unit))

    with stack:
        yield step


def open_accelerator(tracker: str | None, folder: Path) -> Any:
    """An `accelerate.Accelerator` where there are several processes or a tracker; None for one plain process."""
    import os

    if tracker is None and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    try:
        from accelerate import Accelerator
    except ModuleNotFoundError as error:
        raise MissingExtraError("accelerate", "train") from error
    try:
        accelerator = Accelerator(log_with=tracker, project_dir=str(folder), cpu=True)
        if tracker is not None:
            accelerator.init_trackers("pairstill")
    except (ValueError, ImportError) as error:
        raise InputError(
            f"the tracker '{tracker}' cannot be used: {error}", expected="tensorboard or wandb, installed"
        ) from None
    return accelerator
