"""`pairstill index`: an approximate index of a store, of vectors or of the tokens of late interaction, with its recall measured."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pairstill.cli.flags import writable

if TYPE_CHECKING:
    from pairstill.retrieval.recall import Recall
    from pairstill.retrieval.token_index import TokenIndexSettings
    from pairstill.store import RepresentationStore
    from pairstill.students import Student


def index(
    store: Annotated[
        Path, typer.Option(help="Store from `pairstill encode`: of one vector an item, or of late interaction.")
    ],
    out: Annotated[
        Path, typer.Option(callback=writable, help="Folder of the index; a stale one in it is built again.")
    ],
    structure: Annotated[
        Literal["hnsw", "ivf"] | None,
        typer.Option(
            help="hnsw (if left out): faster search. ivf: built in a fraction of the time, for millions of items."
        ),
    ] = None,
    recall: Annotated[
        float, typer.Option(help="Share of the truly nearest to find; the effort of a search is raised until it does.")
    ] = 0.95,
    depth: Annotated[int, typer.Option(min=1, help="How many nearest that share is of.")] = 10,
    student: Annotated[
        Path | None,
        typer.Option(help="Student folder, to measure recall with real queries; late interaction needs it."),
    ] = None,
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
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="Queries that recall is measured on; 256, or 50 of late interaction, if left out."),
    ] = None,
    neighbours: Annotated[
        int | None, typer.Option(min=2, help="hnsw: links of an item and level; 32 if left out.")
    ] = None,
    build_effort: Annotated[
        int | None, typer.Option(min=1, help="hnsw: candidates held while an item is added; 200 if left out.")
    ] = None,
    lists: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="ivf and late interaction: centroids; 4 (8 of late interaction) times the root of the vectors if left out.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the sample and of centroids.")] = 0,
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
    from pairstill.retrieval.approximate import IndexSettings, build_index, import_faiss, read_index_manifest
    from pairstill.retrieval.index_state import staleness
    from pairstill.retrieval.search import open_store
    from pairstill.retrieval.token_index import TokenIndexSettings
    from pairstill.retrieval.vectors import StoredVectors, query_vectors
    from pairstill.store import RepresentationStore
    from pairstill.students import load_student

    import_faiss().omp_set_num_threads(set_threads(threads))
    asked = None
    if student is not None:
        wanted, _ = read_queries(tuples, field, split, queries, id_column, text_column, position)
        model = load_student(student)
        opened = open_store(model, wanted.field, store)
        similarity = model.similarity()
        texts = _some(wanted.texts, sample or (256 if similarity else 50), seed)
        if similarity is None:
            refuse_flags(
                {"--structure": structure, "--metric": metric, "--neighbours": neighbours, "--build-effort": build_effort},
                f"a {model.name} compares no single vectors",
            )  # fmt: skip
            _index_tokens(model, wanted.field, opened, texts, out, TokenIndexSettings(lists, recall, depth, seed))
            return
        if metric is not None and metric != similarity.metric:
            raise InputError(f"--metric is {metric}", expected=f"{similarity.metric}, as the student compares")
        metric = similarity.metric
        asked = query_vectors(similarity, model.encode(wanted.field, texts))
    else:
        opened = RepresentationStore.open(store, checksums=False)
        if opened.dim is not None and (opened.stride != "fixed" or opened.tokens != 1):
            raise InputError(
                f"the store keeps up to {opened.tokens} vectors an item", file=store,
                fix="Give --student, if it is one of late interaction such as colbert, and queries",
            )  # fmt: skip
        metric = metric or opened.provenance.get("similarity")
        if metric is None:
            raise InputError(
                "the store does not say how its vectors are compared", file=store,
                fix="Give --metric, or --student and queries; or encode again with a student that compares two vectors",
            )  # fmt: skip
    settings = IndexSettings(
        structure or "hnsw", neighbours or 32, build_effort or 200, lists, recall, depth, sample or 256, seed
    )
    items = StoredVectors(opened, metric)
    if (out / MANIFEST).exists():
        found = read_index_manifest(out)
        if found.settings == settings and found.metric == metric and asked is None and staleness(found, opened) is None:
            print(f"index: {out}   is up to date")
            return
    with progress_bar("Indexing", "items") as progress:
        built = build_index(items, out, settings, asked, progress).manifest
    print(
        f"index: {out}   {built.items:,} items, {built.settings.structure}, {built.metric}, {built.bytes / 1e6:,.0f} MB, built in "
        f"{built.seconds:,.1f} s"
    )
    _print_recall(built.recall, built.effort, recall)


def _index_tokens(
    model: Student,
    field: int,
    store: RepresentationStore,
    texts: Sequence[str],
    out: Path,
    settings: TokenIndexSettings,
) -> None:
    from pairstill.cli.progress import progress_bar
    from pairstill.errors import InputError
    from pairstill.files import refuse_other_artefact
    from pairstill.retrieval.pairs import PairScorer, rows_by_id
    from pairstill.retrieval.token_index import KIND, TokenIndex

    if field:
        raise InputError("the student's second field asks, and an index of tokens serves its first")
    refuse_other_artefact(out, KIND)
    with progress_bar("Indexing", "items") as progress:
        index = TokenIndex.build(model, store, settings, progress)
    with progress_bar("Searching exactly", "queries") as progress:
        recall = index.tune(PairScorer(model, 0), model.encode(field, texts), store, rows_by_id(store), progress)
    index.save(out, recall)
    built = index.manifest
    print(
        f"index: {out}   {built.items:,} items, {built.tokens:,} tokens, {built.centroids:,} centroids, {built.bytes / 1e6:,.0f} MB, "
        f"built in {built.seconds:,.1f} s"
    )
    _print_recall(recall, index.effort, settings.recall)


def _print_recall(measured: Recall, effort: int, wanted: float) -> None:
    what = "queries" if measured.asked == "queries" else "items as queries"
    print(
        f"recall@{measured.depth}: {measured.value:.4f} against exact search on {measured.queries:,} {what} at effort "
        f"{effort}; {measured.approximate_per_s:,.0f} queries/s, exact {measured.exact_per_s:,.0f}"
    )
    if measured.value < wanted:
        print(f"the recall asked for, {wanted:g}, was not reached at the greatest effort", file=sys.stderr)


def _some(texts: Sequence[str], count: int, seed: int) -> list[str]:
    import numpy as np

    return [texts[row] for row in np.sort(np.random.default_rng(seed).permutation(len(texts))[:count])]
