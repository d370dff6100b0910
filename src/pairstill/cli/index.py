"""`pairstill index`: an approximate index of a store, with its recall measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from pairstill.cli.flags import writable


def index(
    store: Annotated[Path, typer.Option(help="Store from `pairstill encode`, of one vector an item.")],
    out: Annotated[
        Path, typer.Option(callback=writable, help="Folder of the index; a stale one in it is built again.")
    ],
    structure: Annotated[
        Literal["hnsw", "ivf"],
        typer.Option(help="hnsw: faster search. ivf: built in a fraction of the time, for millions of items."),
    ] = "hnsw",
    recall: Annotated[
        float, typer.Option(help="Share of the truly nearest to find; the effort of a search is raised until it does.")
    ] = 0.95,
    depth: Annotated[int, typer.Option(min=1, help="How many nearest that share is of.")] = 10,
    student: Annotated[Path | None, typer.Option(help="Student folder, to measure recall with real queries.")] = None,
    tuples: Annotated[Path | None, typer.Option(help="With --student: tuple set of the queries.")] = None,
    field: Annotated[str, typer.Option(help="Of the queries.")] = "query",
    split: Annotated[list[str] | None, typer.Option(help="With --tuples: its queries alone.")] = None,
    queries: Annotated[
        Path | None, typer.Option(help="With --student: CSV, TSV, JSON Lines or Parquet file of queries.")
    ] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="With --queries: column of the ids.")] = None,
    text_column: Annotated[list[str] | None, typer.Option("--text", help="With --queries: column of the text.")] = None,
    position: Annotated[
        int | None,
        typer.Option(help="Which field of the student asks, from 1; its place in the tuple set, or 1, if left out."),
    ] = None,
    metric: Annotated[
        Literal["cosine", "dot"] | None, typer.Option(help="How vectors are compared; known of student or store.")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="Queries that recall is measured on.")] = 256,
    neighbours: Annotated[int, typer.Option(min=2, help="hnsw: links of an item and level.")] = 32,
    build_effort: Annotated[int, typer.Option(min=1, help="hnsw: candidates held while an item is added.")] = 200,
    lists: Annotated[
        int | None, typer.Option(min=1, help="ivf: lists; 4 times the root of the items if left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sample and of ivf's centroids.")] = 0,
    threads: Annotated[
        int | None, typer.Option(help="Threads; OMP_NUM_THREADS or all cores that are ours if left out.")
    ] = None,
) -> None:
    """Build an approximate index of a store beside it; its recall against exact search is measured and printed."""
    from pairstill.cli.flags import refuse_flags
    from pairstill.cli.progress import progress_bar
    from pairstill.cli.queries import read_queries
    from pairstill.errors import InputError
    from pairstill.files import MANIFEST

    asking = {"--tuples": tuples, "--queries": queries}
    if student is None:
        refuse_flags(asking, "without --student no query can be encoded")
    elif not any(asking.values()):
        raise InputError("--student is given without queries", expected="--tuples or --queries, to measure recall with")

    from pairstill.machine import set_threads
    from pairstill.retrieval.approximate import (
        IndexSettings,
        build_index,
        import_faiss,
        read_index_manifest,
        staleness,
    )  # fmt: skip
    from pairstill.retrieval.search import open_store
    from pairstill.retrieval.similarity import similarity_of
    from pairstill.retrieval.vectors import StoredVectors, query_vectors
    from pairstill.store import RepresentationStore
    from pairstill.students import load_student

    settings = IndexSettings(structure, neighbours, build_effort, lists, recall, depth, sample, seed)
    import_faiss().omp_set_num_threads(set_threads(threads))
    asked = None
    if student is not None:
        wanted, _ = read_queries(tuples, field, split, queries, id_column, text_column, position)
        model = load_student(student)
        similarity = similarity_of(model)
        if metric is not None and metric != similarity.metric:
            raise InputError(f"--metric is {metric}", expected=f"{similarity.metric}, as the student compares")
        opened, metric = open_store(model, wanted.field, store), similarity.metric
        asked = query_vectors(similarity, model.encode(wanted.field, _some(wanted.texts, sample, seed)))
    else:
        opened = RepresentationStore.open(store, checksums=False)
        metric = metric or opened.provenance.get("similarity")
        if metric is None:
            raise InputError(
                "the store does not say how its vectors are compared", file=store,
                fix="Give --metric, or --student and queries; or encode again with a student that compares two vectors",
            )  # fmt: skip
    items = StoredVectors(opened, metric)
    if (out / MANIFEST).exists():
        found = read_index_manifest(out)
        if found.settings == settings and found.metric == metric and asked is None and staleness(found, opened) is None:
            print(f"index: {out}   is up to date")
            return
    with progress_bar("Indexing", "items") as progress:
        built = build_index(items, out, settings, asked, progress).manifest
    measured = built.recall
    what = "queries" if measured.asked == "queries" else "items as queries"
    print(
        f"index: {out}   {built.items:,} items, {built.settings.structure}, {built.metric}, {built.bytes / 1e6:,.0f} MB, built in "
        f"{built.seconds:,.1f} s\n"
        f"recall@{measured.depth}: {measured.value:.4f} against exact search on {measured.queries:,} {what} at effort "
        f"{built.effort}; {measured.approximate_per_s:,.0f} queries/s, exact {measured.exact_per_s:,.0f}"
    )
    if measured.value < recall:
        import sys

        print(f"the recall asked for, {recall:g}, was not reached at the greatest effort", file=sys.stderr)


def _some(texts: Sequence[str], count: int, seed: int) -> list[str]:
    import numpy as np

    return [texts[row] for row in np.sort(np.random.default_rng(seed).permutation(len(texts))[:count])]
