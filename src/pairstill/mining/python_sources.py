"""The built-in corpus: summary lines of documented Python code, and the texts they sum up."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from pairstill import __version__
from pairstill.errors import InputError
from pairstill.mining.docstrings import WORD, DocumentedPair, documented_pairs
from pairstill.mining.python_files import PythonFile, Sources, folder_sources, installed_sources
from pairstill.tuples import Collection, Field, Labels, TupleSet
from pairstill.tuples.splitting import DEFAULT_FRACTIONS, make_splits

MAX_PASSAGES_PER_QUERY = 3
"""A summary with more passages ("Return the value of this field") says too little to be a question."""

READ_AHEAD = 1.5
"""With a cap, files are read until so many times the wanted queries were found; then the cap chooses among them."""


def python_source_pairs(
    source: str | Path | Sequence[str | Path] = "installed",
    *,
    queries: int | None = None,
    seed: int = 0,
    fractions: Mapping[str, float] = DEFAULT_FRACTIONS,
    progress: Callable[[int, int], None] | None = None,
) -> TupleSet:
    """Mine positive pairs from documented Python code.

    Every documented public module, class, function and method gives a pair: the query is the docstring's summary line,
    the passage is the rest of the docstring and the source, without any long run of words that repeats the query. Equal
    for equal files and settings, wherever and whenever it runs.

    Args:
        source: `installed` for the standard library and the libraries installed beside it, or one or several folders of
            Python sources.
        queries: Keep so many queries, chosen by hash; None keeps all.
        seed: Another seed chooses others and splits differently.
        fractions: Share of each split; a query's split depends on its text and the seed alone.
        progress: Called with (files read, files in all).

    Returns:
        Fields `query` and `passage`, label 1 everywhere, a passage's id is `module:qualified.name`, slice `kind` (module,
        class, function or method), group = query.

    Raises:
        InputError: A folder does not exist or has no Python source, nothing in it is documented, or there are fewer
            queries than asked for.
    """
    if queries is not None and queries < 1:
        raise InputError(f"{queries} queries were asked for", expected="at least 1")
    folders = [source] if isinstance(source, str | Path) else list(source)
    installed = source == "installed"
    sources = installed_sources() if installed else folder_sources([Path(one) for one in folders])
    where = "the installed libraries" if installed else ", ".join(str(one) for one in folders)
    by_query, counts = _read(sources, queries, seed, progress)
    found = len(by_query)
    if not found:
        raise InputError(
            "no documented public code was found", file=where,
            expected="docstrings with a summary line of 4 to 30 words and text or code below it",
        )  # fmt: skip
    if queries is not None:
        if found < queries:
            raise InputError(
                f"{found} queries were found, {queries} were asked for", file=where, fix=f"Ask for {found}"
            )
        keep = sorted(by_query, key=lambda query: _order(seed, query))[:queries]
        by_query = {query: by_query[query] for query in sorted(keep, key=lambda query: by_query[query][0].name)}
    counts |= {"queries_found": found, "queries": len(by_query)}
    provenance = {
        "pairstill": __version__, "corpus": "python-sources", "source": [str(one) for one in folders],
        "versions": sources.versions, "settings": {"queries": queries, "seed": seed, "fractions": dict(fractions)},
        "counts": counts,
    }  # fmt: skip
    return _tuple_set(by_query, seed, fractions, provenance)


def _read(
    sources: Sources, wanted: int | None, seed: int, progress: Callable[[int, int], None] | None
) -> tuple[dict[str, list[DocumentedPair]], dict[str, int]]:
    """Pairs by query, in the order of module names; with a cap only as many files as it needs, in hash order."""
    files = sorted(sources.files, key=lambda file: _order(seed, file.module)) if wanted else list(sources.files)
    read: list[tuple[PythonFile, list[DocumentedPair]]] = []
    seen: Counter[str] = Counter()
    unreadable = 0
    for number, file in enumerate(files):
        pairs = documented_pairs(file.path, file.module)
        unreadable += pairs is None
        read.append((file, pairs or []))
        seen.update({_normal(pair.query) for pair in pairs or []})
        if progress is not None:
            progress(number + 1, len(files))
        if (
            wanted
            and number % 100 == 99
            and sum(n <= MAX_PASSAGES_PER_QUERY for n in seen.values()) >= READ_AHEAD * wanted
        ):
            break
    by_query, repeated, vague = _merged(pair for _, pairs in sorted(read) for pair in pairs)
    return by_query, {
        "files": len(files), "files_read": len(read), "files_not_parsed": unreadable, "files_too_large": sources.skipped_large,
        "files_beyond_package_limit": sources.beyond_package_limit,
        "pairs_read": sum(len(pairs) for _, pairs in read), "repeated_passages_left_out": repeated,
        "vague_queries_left_out": vague,
    }  # fmt: skip


def _merged(pairs: Iterable[DocumentedPair]) -> tuple[dict[str, list[DocumentedPair]], int, int]:
    """Equal queries become one with several passages; a passage belongs to the first query that has it.

    Returns:
        Pairs by query, how many repeated passages and how many vague queries were left out.
    """
    by_key: dict[str, list[DocumentedPair]] = {}
    seen_passages: set[bytes] = set()
    seen_names: set[str] = set()
    repeated = 0
    for pair in pairs:
        digest = hashlib.blake2b(_normal(pair.passage).encode(), digest_size=16).digest()
        if digest in seen_passages or pair.name in seen_names:
            repeated += 1
            continue
        seen_passages.add(digest)
        seen_names.add(pair.name)
        by_key.setdefault(_normal(pair.query), []).append(pair)
    clear = {group[0].query: group for group in by_key.values() if len(group) <= MAX_PASSAGES_PER_QUERY}
    return clear, repeated, len(by_key) - len(clear)


def _tuple_set(
    by_query: Mapping[str, Sequence[DocumentedPair]],
    seed: int,
    fractions: Mapping[str, float],
    provenance: Mapping[str, object],
) -> TupleSet:
    query_ids = [f"q-{hashlib.blake2b(_normal(query).encode(), digest_size=8).hexdigest()}" for query in by_query]
    rows = [(one, pair) for one, group in zip(query_ids, by_query.values(), strict=True) for pair in group]
    ids, pairs = [one for one, _ in rows], [pair for _, pair in rows]
    names = pa.array([pair.name for pair in pairs], pa.string())
    groups = pa.array(ids, pa.string())
    tuples = pa.table(
        {
            "query": groups,
            "passage": names,
            "label": pa.array([1.0] * len(rows), pa.float64()),
            "weight": pa.nulls(len(rows), pa.float64()),
            "group": groups,
            "split": make_splits(groups, fractions, seed),
            "kind": pa.array([pair.kind for pair in pairs], pa.string()),
        }
    )
    collections = {
        "query": Collection(pa.array(query_ids, pa.string()), pa.array(list(by_query), pa.string())),
        "passage": Collection(names, pa.array([pair.passage for pair in pairs], pa.string())),
    }
    fields = (Field("query", "query", columns=("query",)), Field("passage", "passage", columns=("passage",)))
    return TupleSet(fields, Labels("binary"), collections, tuples, ("kind",), provenance)


def _normal(text: str) -> str:
    return " ".join(WORD.findall(text.lower()))


def _order(seed: int, name: str) -> bytes:
    return hashlib.blake2b(f"{seed}\n{name}".encode(), digest_size=8).digest()
