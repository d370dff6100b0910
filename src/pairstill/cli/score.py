"""`pairstill score`: bulk jobs over stores, on this machine or on a Ray cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pairstill.cli.flags import writable


def score(
    student: Annotated[Path, typer.Option(help="Student folder.")],
    store: Annotated[
        list[str], typer.Option(help="FIELD=FOLDER from `pairstill encode`; one a field, in the student's order.")
    ],
    out: Annotated[Path, typer.Option(callback=writable, help="Folder of the job; given again, it resumes.")],
    pairs: Annotated[
        str | None,
        typer.Option(
            help="Parquet file or folder, or an fsspec address (s3://...), with a column of ids a field, or lists of ids to pair "
            "with one; or a TREC run. Left out: every item of the first store with every item of the second."
        ),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="FIELD=NAME of a column of --pairs, where names differ.")
    ] = None,
    trec: Annotated[
        bool, typer.Option("--trec", help="--pairs is a TREC run whatever its name; .trec and .run are anyway.")
    ] = False,
    top: Annotated[int | None, typer.Option(help="Keep the best so many of each item of the first field.")] = None,
    above: Annotated[float | None, typer.Option(help="Keep what scores above this raw logit.")] = None,
    output: Annotated[
        int | None, typer.Option(help="With --top or --above and several logits: which one, from 0.")
    ] = None,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "int8"],
        typer.Option(help="auto measures on the job's own pairs and takes the fastest that ranks as float32 does."),
    ] = "auto",
    memory: Annotated[
        int, typer.Option(help="MiB of prepared items a worker holds; the whole bound is printed.")
    ] = 256,
    shard_pairs: Annotated[
        int | None, typer.Option(help="Pairs of a shard, which is what a lost worker loses; chosen if left out.")
    ] = None,
    on_bad_row: Annotated[
        Literal["stop", "skip"],
        typer.Option(help="Where a row cannot be scored: stop, or write it to skipped.parquet."),
    ] = "stop",
    engine: Annotated[Literal["processes", "ray"], typer.Option(help="Where shards run.")] = "processes",
    workers: Annotated[
        int | None, typer.Option(help="Processes with one thread each; one a core (of the cluster) if left out.")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster: auto on one of its machines, or HOST:PORT.")
    ] = None,
) -> None:
    """Score pairs of stored items by the student's head alone; interrupted, the same command resumes."""
    import sys

    from pairstill.cli.flags import pairs_of
    from pairstill.cli.progress import progress_bar
    from pairstill.errors import InputError

    stores = pairs_of(store, "--store")
    columns = pairs_of(column or (), "--column")
    if workers is not None and workers < 1:
        raise InputError(f"the number of workers is {workers}", expected="at least 1")
    if engine != "ray" and ray_address is not None:
        raise InputError("--ray-address is given without --engine ray", fix="Give both")

    from pairstill.scoring.bulk.job import run_bulk
    from pairstill.scoring.bulk.keep import Keep
    from pairstill.scoring.bulk.plan import BulkJob, plan_bulk

    where = _engine(engine, workers, ray_address)
    job = BulkJob(
        str(student), stores, out, pairs, columns, trec or None, Keep.of(top, above), output, precision, memory << 20,
        shard_pairs, on_bad_row,
    )  # fmt: skip
    plan = plan_bulk(job)
    for line in (
        *plan.notes,
        plan.choice.said(),
        plan.sizes.said(where.workers or 1, plan.base_bytes) if engine == "processes" else None,
        f"{plan.pairs:,} pairs in {len(plan.shards):,} shards, keeping {job.keep.said()}",
    ):
        if line:
            print(line, file=sys.stderr)
    with progress_bar("Scoring", "rows" if plan.source and plan.source.lists else "pairs") as progress:
        result = run_bulk(plan, where, progress)
    summary = result.summary
    share = summary["head_share"]
    skipped = f", {summary['rows_skipped']:,} rows skipped" if (out / "skipped.parquet").exists() else ""
    print(
        f"scores: {out}   {summary['pairs']:,} pairs, {_kept(out):,} rows kept{skipped}, {plan.choice.chosen}, "
        f"{summary['pairs_per_s']:,.0f} pairs/s, {share:.0%} of the workers' time in the head"
    )


def _engine(name: str, workers: int | None, address: str | None) -> Any:
    from pairstill.jobs import ProcessEngine
    from pairstill.machine import usable_cores

    if name == "processes":
        return ProcessEngine(usable_cores() if workers is None else workers)
    from pairstill.jobs.ray_engine import RayEngine

    return RayEngine(workers, address)


def _kept(folder: Path) -> int:
    from pairstill.files import read_manifest

    return int(read_manifest(folder, "scores", 1)["rows"])
