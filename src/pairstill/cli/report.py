"""`pairstill report`: render results again, or several in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairstill.cli.flags import writable
from pairstill.errors import InputError


def report(
    results: Annotated[list[Path], typer.Argument(help="results.json files of `pairstill evaluate`.")],
    out: Annotated[Path, typer.Option(callback=writable, help="The HTML file.")],
) -> None:
    """Render one or several evaluations, with the analyses beside them, as one self-contained HTML file."""
    from pairstill.evaluation.analyses.results import FILE, Analyses
    from pairstill.evaluation.results import Comparison
    from pairstill.files import write_text
    from pairstill.report.html import to_html

    if out.is_dir():
        raise InputError("the output is a folder", file=out, expected="an HTML file to write")
    paths = [one / "results.json" if one.is_dir() else one for one in results]
    comparisons = [Comparison.load(one) for one in paths]
    inside = [one.parent / FILE for one in paths]
    write_text(out, to_html(comparisons, [Analyses.load(one) if one.exists() else None for one in inside]))
    print(f"report: {out}")
