"""Progress of long work on the terminal: rate and time left; plain lines where there is no terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(what: str, unit: str = "rows") -> Iterator[Callable[[int, int], None]]:
    """Show `what` with count, rate and time left on stderr.

    The callable takes (done, total). The first call sets where the rate is counted from, so that a resumed job does not
    claim the speed of work that was done before. Without a terminal one line is printed every ten seconds.

    Example:
        >>> with progress_bar("Annotating", "pairs") as progress:   # doctest: +SKIP
        ...     progress(500, 1000)
    """
    if sys.stderr.isatty():
        yield from _rich_bar(what, unit)
    else:
        yield from _plain_lines(what, unit)


def _rich_bar(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} {task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=1, unit=unit, rate="")
        began = time.perf_counter()
        base: int | None = None

        def report(done: int, total: int) -> None:
            nonlocal base
            base = done if base is None else base
            passed = max(time.perf_counter() - began, 1e-9)
            bar.update(task, completed=done, total=total, rate=f"{(done - base) / passed:,.0f}/s")

        yield report


def _plain_lines(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    began = time.perf_counter()
    last = began
    base: int | None = None
    latest = (0, 0)

    def line(done: int, total: int) -> None:
        passed = max(time.perf_counter() - began, 1e-9)
        rate = (done - (base or 0)) / passed
        left = f"{(total - done) / rate:,.0f} s left" if rate > 0 and done < total else f"{passed:,.0f} s"
        print(f"{what}: {done:,} of {total:,} {unit}, {rate:,.0f}/s, {left}", file=sys.stderr, flush=True)

    def report(done: int, total: int) -> None:
        nonlocal last, base, latest
        base = done if base is None else base
        latest = (done, total)
        if time.perf_counter() - last >= 10:
            last = time.perf_counter()
            line(done, total)

    yield report
    if latest[1]:
        line(*latest)
