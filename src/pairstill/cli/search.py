"""`pairstill search`: the best items of a store for every query, as a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pairstill.cli.flags import writable
from pairstill.errors import InputError

if TYPE_CHECKING:
    from pairstill.retrieval.bm25 import Items
    from pairstill.retrieval.search import Queries
    from pairstill.tuples import TupleSet


def search(
    out: Annotated[
        Path, typer.Option(callback=writable, help="Folder for run.parquet and run.trec; a run in it is replaced.")
    ],
    student: Annotated[Path | None, typer.Option(help="Student folder.")] = None,
    store: Annotated[Path | None, typer.Option(help="Store from `pairstill encode` that is searched.")] = None,
    bm25: Annotated[
        bool, typer.Option("--bm25", help="Or search texts by their words, without a student: --tuples or --items.")
    ] = False,
    tuples: Annotated[Path | None, typer.Option(help="Tuple set of the queries; its labels judge the result.")] = None,
    field: Annotated[str, typer.Option(help="Of the queries.")] = "query",
    split: Annotated[list[str] | None, typer.Option(help="With --tuples: queries of these splits alone.")] = None,
    queries: Annotated[Path | None, typer.Option(help="Or a CSV, TSV, JSON Lines or Parquet file of queries.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="With --queries: column of the ids.")] = None,
    text_column: Annotated[
        list[str] | None,
        typer.Option("--text", help="With --queries: column of the text; several are joined by a space."),
    ] = None,
    passage_field: Annotated[
        str | None,
        typer.Option(
            help="With --bm25: field that is searched, the tuple set's other one if left out; with --items its name in the run."
        ),
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            help="With --bm25: a CSV, TSV, JSON Lines or Parquet file of what is searched, instead of the tuple set's texts."
        ),
    ] = None,
    items_id: Annotated[str | None, typer.Option(help="With --items: column of the ids.")] = None,
    items_text: Annotated[
        list[str] | None, typer.Option(help="With --items: column of the text; several are joined by a space.")
    ] = None,
    position: Annotated[
        int | None,
        typer.Option(
            min=1, help="Which field of the student asks, from 1; its place in the tuple set, or 1, if left out."
        ),
    ] = None,
    index: Annotated[Path | None, typer.Option(help="From `pairstill index`; left out, search is exact.")] = None,
    candidates: Annotated[
        Path | None,
        typer.Option(help="Run (folder, Parquet or TREC) of a first stage: score its items alone, with any student."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Items of a query.")] = 1000,
    qrels: Annotated[Path | None, typer.Option(help="TREC judgements, instead of the tuple set's labels.")] = None,
    relevant_from: Annotated[
        float | None, typer.Option(help="Least label, or grade of --qrels, that MRR, MAP and Recall call relevant.")
    ] = None,
    check: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="With --index: queries that are searched exactly, too, to reach the index's recall on them; 100, or 20 of late "
            "interaction, if left out.",
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="Of the encoder: float32 or bfloat16, or auto.")] = "float32",
    threads: Annotated[
        int | None, typer.Option(help="Threads; OMP_NUM_THREADS or all cores that are ours if left out.")
    ] = None,
) -> None:
    """Search a store with queries that are encoded now, or texts by their words; write a run, and measure it where there are judgements."""
    from pairstill.cli.flags import refuse_flags
    from pairstill.cli.progress import progress_bar
    from pairstill.cli.queries import read_queries
    from pairstill.cli.runs import judgements_of, print_quality
    from pairstill.machine import resolve_precision, set_threads

    if bm25:
        unused = {
            "--student": student, "--store": store, "--index": index, "--candidates": candidates, "--position": position,
            "--check": check is not None, "--threads": threads is not None, "--precision": precision != "float32",
        }  # fmt: skip
        refuse_flags(unused, "--bm25 has no student")
        if items is None:
            refuse_flags({"--items-id": items_id, "--items-text": items_text}, "there is no --items")
        folders = None
    else:
        words_only = {"--items": items, "--items-id": items_id, "--items-text": items_text}
        refuse_flags({**words_only, "--passage-field": passage_field}, "the store says what is searched")
        folders = _folders(student, store)
    chosen = resolve_precision(precision)
    asked, tuple_set = read_queries(tuples, field, split, queries, id_column, text_column, position)
    judgements = judgements_of(qrels, relevant_from, tuple_set, split, asked.field)

    from pairstill.retrieval.run import read_run

    if folders is None:
        if items is not None:
            searched = _items_of_file(items, items_id, items_text, tuple_set, asked.name, passage_field)
        else:
            searched = _items_of_tuples(tuple_set, tuples, asked.name, passage_field)
        _by_words(asked, searched, top, out)
        if judgements is not None:
            print_quality({out.name: read_run(out)}, judgements)
        return
    from pairstill.retrieval.search import SearchSettings, open_store
    from pairstill.retrieval.search import search as run
    from pairstill.students import load_student

    used = set_threads(threads)
    if index is not None:
        from pairstill.retrieval.approximate import import_faiss

        import_faiss().omp_set_num_threads(used)
    model = load_student(folders[0])
    opened = open_store(model, asked.field, folders[1])
    settings = SearchSettings(top, chosen, check)
    with progress_bar("Searching", "queries") as progress:
        done = run(model, opened, asked, out, index=index, candidates=candidates, settings=settings, progress=progress)
    print(
        f"run: {out}   {done.queries:,} queries, {done.items:,} items, {done.rows:,} results; encoded {done.encoded_per_s:,.0f} queries/s, "
        f"searched {done.searched_per_s:,.0f} queries/s ({done.way})"
    )
    if done.without_candidates:
        print(f"{done.without_candidates:,} queries have no candidate in {candidates}")
    if done.recall is not None:
        measured = done.recall
        print(
            f"recall@{measured.depth}: {measured.value:.4f} against exact search on {measured.queries:,} of these queries at effort {done.effort}; "
            f"{measured.approximate_per_s:,.0f} queries/s, exact {measured.exact_per_s:,.0f}"
        )
    if judgements is not None:
        print_quality({out.name: read_run(out)}, judgements)


def _folders(student: Path | None, store: Path | None) -> tuple[Path, Path]:
    if student is None or store is None:
        raise InputError(
            f"{'--student' if student is None else '--store'} is missing", expected="--student and --store, or --bm25"
        )
    return student, store


def _items_of_tuples(tuple_set: TupleSet | None, tuples: Path | None, asking: str, passage_field: str | None) -> Items:
    from pairstill.cli.queries import field_of
    from pairstill.retrieval.bm25 import Items

    if tuple_set is None or tuples is None:
        raise InputError("--bm25 is given without what is searched", expected="--tuples, or --items beside --queries")
    searched = passage_field or _other_field(tuple_set, asking)
    if searched is None:
        raise InputError(
            f"the fields beside '{asking}' are {', '.join(one for one in tuple_set.field_names if one != asking)}",
            expected="--passage-field, the one that is searched",
        )
    place = field_of(tuple_set, searched, tuples)
    return Items(tuple_set.collection_of(place).ids, tuple_set.texts(place), searched)


def _items_of_file(
    path: Path, id_column: str | None, text_columns: list[str] | None, tuple_set: TupleSet | None, asking: str,
    passage_field: str | None,
) -> Items:  # fmt: skip
    from pairstill.cli.encode import items_from_file
    from pairstill.retrieval.bm25 import Items

    if id_column is None or not text_columns:
        raise InputError("--items is given without --items-id or --items-text", expected="both, names of columns")
    other = None if tuple_set is None else _other_field(tuple_set, asking)
    ids, texts = items_from_file(path, id_column, text_columns, None, path)
    return Items(ids, texts, passage_field or other or ("item" if asking != "item" else "text"))


def _other_field(tuple_set: TupleSet, asking: str) -> str | None:
    others = [name for name in tuple_set.field_names if name != asking]
    return others[0] if len(others) == 1 else None


def _by_words(asked: Queries, items: Items, top: int, out: Path) -> None:
    from pairstill.cli.progress import progress_bar
    from pairstill.retrieval.bm25 import search_words

    with progress_bar("Searching", "queries") as progress:
        done = search_words(items, asked, out, top, progress)
    print(
        f"run: {out}   {done.queries:,} queries, {done.items:,} items, {done.rows:,} results; indexed in {done.index_s:,.1f} s, "
        f"searched {done.searched_per_s:,.0f} queries/s (bm25)"
    )
    if done.without_items:
        print(f"{done.without_items:,} queries share no word with any item")
