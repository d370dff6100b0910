"""The `pairstill` command: one verb a file; heavy imports happen inside a verb, after its arguments were checked."""

from __future__ import annotations

import errno
import signal
import sys

import typer

from pairstill import __version__
from pairstill.cli.annotate import annotate
from pairstill.cli.bench import bench
from pairstill.cli.describe import describe
from pairstill.cli.distill import distill
from pairstill.cli.distill_language_model import distill_language_model
from pairstill.cli.encode import encode
from pairstill.cli.evaluate import evaluate
from pairstill.cli.export import export
from pairstill.cli.index import index
from pairstill.cli.mine import mine
from pairstill.cli.plan import plan
from pairstill.cli.pretrain import pretrain
from pairstill.cli.quickstart import quickstart
from pairstill.cli.report import report
from pairstill.cli.run import run
from pairstill.cli.score import score
from pairstill.cli.scores import scores
from pairstill.cli.search import search
from pairstill.cli.serve import serve
from pairstill.cli.store import store
from pairstill.cli.teach import teach
from pairstill.errors import MissingExtraError, PairstillError
from pairstill.experiments.processes import INTERRUPTED

app = typer.Typer(
    name="pairstill",
    help="Distil a slow cross-encoder into cheap pair-scoring students, and say what was paid for the speed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pairstill {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Distil a slow cross-encoder into cheap pair-scoring students, and say what was paid for the speed."""


app.command()(describe)
app.command()(mine)
app.command()(quickstart)
app.command()(pretrain)
app.command()(distill_language_model)
app.command()(teach)
app.command()(annotate)
app.command()(distill)
app.command()(evaluate)
app.command()(report)
app.command()(run)
app.command()(encode)
app.command()(score)
app.command()(plan)
app.command()(index)
app.command()(search)
app.command()(serve)
app.command()(export)
app.add_typer(bench, name="bench")
app.add_typer(scores, name="scores")
app.add_typer(store, name="store")


EXTRAS = {
    "train": (
        "torch", "transformers", "accelerate", "bm25s", "fsspec", "ir_measures", "matplotlib", "numba", "onnx", "onnxscript", "PIL",
        "sklearn", "scipy",
    ),
    "retrieval": ("faiss",),
    "serve": ("fastapi", "onnxruntime", "prometheus_client", "uvicorn"),
    "ray": ("ray",),
    "datasets": ("datasets",),
}  # fmt: skip
"""Packages that are not always installed, by the extra that brings them."""


REFUSALS = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENAMETOOLONG,
    errno.EMFILE,
}
"""What the system says of a place or a disk, and is no mistake of ours."""


def main() -> None:
    """Run the command line; a user's mistake becomes one message and exit code 2, an interrupt exit code 130 or 143."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        app()
    except PairstillError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = next((name for name, packages in EXTRAS.items() if package in packages), None)
        if extra is None:
            raise
        print(f"error: {MissingExtraError(package, extra)}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(
            f"error: {place}the system refuses: {error.strerror}. Make room or choose another place; what was finished is kept, "
            "and the same command goes on from there", file=sys.stderr,
        )  # fmt: skip
        sys.exit(2)
    except SystemExit as ended:
        if ended.code in INTERRUPTED:  # typer turns an interrupt into such a code and says nothing
            print("interrupted; run the same command again to resume", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
