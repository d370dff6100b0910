"""`pairstill serve`: exported students and their stores as an HTTP service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def serve(
    student: Annotated[Path, typer.Option(help="Student that scores, from `pairstill export --format onnx`.")],
    store: Annotated[
        list[str] | None,
        typer.Option(help="Store of its items, FIELD=FOLDER with the field's position from 1; repeat for several."),
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(help="Texts of the items, to show: a table with columns id and text, or an .sqlite file."),
    ] = None,
    search_student: Annotated[
        Path | None, typer.Option(help="Exported student of single vectors that finds candidates for --student.")
    ] = None,
    search_store: Annotated[Path | None, typer.Option(help="Store of its items.")] = None,
    index: Annotated[
        Path | None,
        typer.Option(help="Index of the searched store, from `pairstill index`; left out, search is exact."),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Exported cross-encoder, to show what it would have said.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the model in answers; the student's folder if left out.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8080,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; all cores that are ours if left out.")] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with the key that requests must carry; or set PAIRSTILL_API_KEY.")
    ] = None,
    no_auth: Annotated[
        bool, typer.Option("--no-auth", help="Listen on an address that others can reach, without a key.")
    ] = False,
    timeout_s: Annotated[
        float, typer.Option(help="Seconds to an answer; what is still queued then is answered 503.")
    ] = 10.0,
    queue_pairs: Annotated[
        int, typer.Option(help="Pairs admitted at a time (a text to encode counts as 32); beyond, 429 at once.")
    ] = 131_072,
    batch_pairs: Annotated[
        int, typer.Option(help="Pairs computed together, and the share of a long request that others wait for.")
    ] = 2048,
    batch_wait_ms: Annotated[
        float, typer.Option(help="Longest wait for others to share a batch, under load alone.")
    ] = 1.0,
    max_documents: Annotated[int, typer.Option(help="Documents, tuples or items of a request.")] = 2000,
    max_characters: Annotated[int, typer.Option(help="Of a text.")] = 50_000,
    max_candidates: Annotated[int, typer.Option(help="Of a search.")] = 2000,
    body_mib: Annotated[
        float, typer.Option(help="MiB of a request's body; all bodies together have 16 times as many.")
    ] = 4.0,
    body_s: Annotated[float, typer.Option(help="Seconds in which a request must have arrived.")] = 10.0,
    answer_s: Annotated[float, typer.Option(help="Seconds in which a client must have read its answer.")] = 30.0,
    connections: Annotated[int, typer.Option(help="Open at a time.")] = 1000,
    query_cache_mib: Annotated[float, typer.Option(help="MiB of encodings of queries to keep; 0 keeps none.")] = 16.0,
    drain_s: Annotated[
        float, typer.Option(help="Seconds from SIGTERM, when readiness turns 503, to closing the door.")
    ] = 1.0,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Log a line for each request: route, status, time.")
    ] = False,
) -> None:
    """Serve students and stores over HTTP: score, rank, search; drop-in for Cohere's and TEI's rerankers.

    SIGTERM drains and ends; SIGHUP opens all folders again.
    """
    import logging
    import os

    from pairstill.cli.flags import pairs_of
    from pairstill.errors import InputError, MissingExtraError

    try:
        from pairstill.serving.settings import Limits, ServeSettings, Sources, read_api_key
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "serve") from None

    stores = {}
    for field, folder in pairs_of(store or [], "--store").items():
        if not field.isdigit() or int(field) < 1:
            raise InputError(f"--store names the field {field!r}", expected="its position, such as --store 2=FOLDER")
        stores[int(field) - 1] = Path(folder)
    mib = 1 << 20
    settings = ServeSettings(
        sources=Sources(student, stores, texts, search_student, search_store, index, teacher),
        name=name, host=host, port=port, threads=threads, api_key=read_api_key(api_key_file, os.environ),
        open_to_all=no_auth, drain_s=drain_s, query_cache_bytes=int(query_cache_mib * mib),
        limits=Limits(
            body_bytes=int(body_mib * mib), body_bytes_in_all=16 * int(body_mib * mib), body_s=body_s,
            answer_s=answer_s,            documents=max_documents, characters=max_characters, candidates=max_candidates, timeout_s=timeout_s,
            queue_pairs=queue_pairs, batch_pairs=batch_pairs, batch_wait_ms=batch_wait_ms, connections=connections,
        ),
    )  # fmt: skip
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        from pairstill.serving.server import serve as run
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "serve") from None

    run(settings, lambda address, seconds: print(f"serving: {address}   opened in {seconds:.1f} s", flush=True))
