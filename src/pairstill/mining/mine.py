"""Hard negatives and transfer pairs for a tuple set of positives, as in appendix B of DiPair (arXiv 2010.03099)."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill import __version__
from pairstill.errors import InputError, did_you_mean
from pairstill.mining.choosing import draw, hash_ids, mix, repeats_in_row, wanted_negatives
from pairstill.mining.embeddings import TextEncoder
from pairstill.mining.known_pairs import TextCodes
from pairstill.mining.mined_rows import mined_table
from pairstill.mining.search import Found, search
from pairstill.mining.settings import MiningSettings
from pairstill.tuples import Labels, TupleSet

LABELLED = ("train", "valid", "test")
log = logging.getLogger(__name__)
ProgressOf = Callable[[str], Callable[[int, int], None] | None]


def mine_tuple_set(
    tuple_set: TupleSet,
    settings: MiningSettings | None = None,
    *,
    work: str | Path | None = None,
    encoder: TextEncoder | None = None,
    progress_of: ProgressOf = lambda step: None,
) -> TupleSet:
    """Add hard negatives and an unlabelled transfer set to positive pairs.

    The nearest passages of each query are found among the whole passage collection, which may hold passages without
    pairs. Negatives are drawn from them, never a passage whose text is a known answer of the query's text. Transfer pairs
    are the nearest passages of the training queries; no pair of valid or test enters them. All given rows stay as they
    are, in front; column `similarity` says how near the pairs are.

    Args:
        tuple_set: Two fields. Rows labelled 1 are the positives; without labels every row is one. Graded and class labels
            can get a transfer set, but no negatives.
        settings: None means the defaults of `MiningSettings`.
        work: Folder for vectors, taken up again after an interruption; None means a temporary one.
        encoder: Used instead of loading `settings.encoder`.
        progress_of: Gives the progress callable of a named step; called once for each step.

    Returns:
        The same collections; splits train, valid, test with labels 0 and 1, and transfer without.

    Raises:
        InputError: No positives, an unknown field, too few passages, a ceiling that leaves nothing, or bad settings.
    """
    settings = settings or MiningSettings()
    plan = _plan(tuple_set, settings)
    with tempfile.TemporaryDirectory(prefix="pairstill-mining-") as temporary:
        found = search(
            tuple_set, plan.query_field, plan.passage_field, plan.asked, settings, plan.pairs,
            Path(work or temporary), encoder, progress_of,
        )  # fmt: skip
    codes = TextCodes(tuple_set, plan.query_field, plan.passage_field)
    negatives, ceiling, report, similarities = _negatives(tuple_set, plan, found, codes, settings)
    transfer, transfer_report = _transfer(tuple_set, plan, found, codes, settings, negatives)
    labels = (
        Labels("binary") if tuple_set.labels.kind == "none" and settings.negatives_per_positive else tuple_set.labels
    )
    table = mined_table(tuple_set, plan, found, negatives, transfer)
    splits = np.asarray(table.column("split").to_pylist(), dtype=object)
    provenance = {
        "pairstill": __version__,
        "mining": {
            **asdict(settings), "ceiling_used": ceiling, "similarities": similarities,
            "counts": {
                "passages": len(tuple_set.collection_of(plan.passage_field)), "queries searched": len(plan.asked),
                "positives": int(plan.positive.sum()), **report, **transfer_report,
            },
            "rows": {name: int((splits == name).sum()) for name in (*LABELLED, "transfer")},
            "tuple_set": tuple_set.fingerprint,
        },
        "source": dict(tuple_set.provenance),
    }  # fmt: skip
    log.info("mined: %s", provenance["mining"])
    return replace(tuple_set, labels=labels, tuples=table, provenance=provenance)


@dataclass(frozen=True)
class Plan:
    """What there is and what is asked, before anything heavy is done.

    Attributes:
        query_field: Position of the field that asks.
        passage_field: Position of the field that is searched.
        pairs: `(rows, 2)` int64: query and passage item of each given row.
        splits: `(rows,)` split names.
        positive: `(rows,)` bool.
        asked: `(queries,)` int64: query items that are searched, in the order of their first row.
        positives: Split -> `(queries,)` int64: positives of each asked query.
        transfers: `(queries,)` bool: asked queries that get transfer pairs.
    """

    query_field: int
    passage_field: int
    pairs: np.ndarray
    splits: np.ndarray
    positive: np.ndarray
    asked: np.ndarray
    positives: dict[str, np.ndarray]
    transfers: np.ndarray


def check_mining(tuple_set: TupleSet, settings: MiningSettings) -> None:
    """Refuse, before anything heavy is loaded, what `mine_tuple_set` would refuse.

    Raises:
        InputError: See `mine_tuple_set`; a ceiling that leaves nothing shows only later.
    """
    _plan(tuple_set, settings)


def _plan(tuple_set: TupleSet, settings: MiningSettings) -> Plan:
    settings.check()
    names = tuple_set.field_names
    if len(names) != 2:
        raise InputError(
            f"the tuple set has {len(names)} fields", expected="two: one that asks and one that is searched"
        )
    query_field = _position(names, settings.query_field, 0)
    passage_field = _position(names, settings.passage_field, 1 if settings.query_field is None else 1 - query_field)
    if settings.query_field is None and settings.passage_field is not None:
        query_field = 1 - passage_field
    if query_field == passage_field:
        raise InputError(f"the field '{names[query_field]}' can not be both query and passage field")
    pairs = tuple_set.index[:, [query_field, passage_field]]
    splits = np.asarray(tuple_set.tuples.column("split").to_pylist(), dtype=object)
    labelled = np.isin(splits, LABELLED)
    positive = labelled & _positive_rows(tuple_set, settings)
    if settings.negatives_per_positive and not positive.any():
        raise InputError(
            "the tuple set has no positive pairs",
            expected="rows of train, valid or test with label 1, or without labels",
        )
    passages = len(tuple_set.collection_of(passage_field))
    if settings.negatives_per_positive and passages < settings.neighbours + 1:
        raise InputError(
            f"there are {passages} passages and {settings.neighbours} neighbours are asked for",
            expected=f"at least {settings.neighbours + 1} passages", fix=f"Ask for at most {passages - 1} neighbours",
        )  # fmt: skip
    gives_transfer = np.isin(splits, settings.transfer_splits) & bool(settings.transfer)
    if settings.transfer and not gives_transfer.any():
        raise InputError(
            f"transfer pairs are asked for queries of {', '.join(settings.transfer_splits)}, which have no rows",
            expected=f"one of {', '.join(sorted(set(splits[labelled])))}",
            fix="Name other transfer splits, or ask for no transfer pairs",
        )
    searched = gives_transfer | (positive & bool(settings.negatives_per_positive))
    items, firsts = np.unique(pairs[searched, 0], return_index=True)
    asked = items[np.argsort(firsts)]
    row_of = np.full(len(tuple_set.collection_of(query_field)), -1, dtype=np.int64)
    row_of[asked] = np.arange(len(asked))
    positives = {}
    for name in LABELLED:
        rows = positive & (splits == name) & (row_of[pairs[:, 0]] >= 0)
        positives[name] = np.bincount(row_of[pairs[rows, 0]], minlength=len(asked))
    transfers = np.zeros(len(asked), dtype=bool)
    transfers[row_of[pairs[gives_transfer, 0]]] = True
    return Plan(query_field, passage_field, pairs, splits, positive, asked, positives, transfers)


def _position(names: tuple[str, ...], wanted: str | None, otherwise: int) -> int:
    if wanted is None:
        return otherwise
    if wanted not in names:
        raise InputError(
            f"the tuple set has no field '{wanted}'",
            expected=f"one of {', '.join(names)}",
            fix=did_you_mean(wanted, names),
        )
    return names.index(wanted)


def _positive_rows(tuple_set: TupleSet, settings: MiningSettings) -> np.ndarray:
    kind = tuple_set.labels.kind
    if kind == "none":
        return np.ones(len(tuple_set), dtype=bool)
    if kind == "binary":
        return np.asarray(pc.fill_null(pc.equal(tuple_set.tuples.column("label"), 1.0), False))
    if settings.negatives_per_positive:
        raise InputError(
            f"the tuple set has {kind} labels, and a mined negative has none of them", expected="binary labels or none",
            fix="Ask for 0 negatives per positive to mine a transfer set alone",
        )  # fmt: skip
    return np.zeros(len(tuple_set), dtype=bool)


@dataclass(frozen=True)
class Mined:
    """Mined pairs: `(pairs,)` rows of the asked queries, columns of their neighbours, and splits."""

    rows: np.ndarray
    columns: np.ndarray
    splits: np.ndarray


NONE = Mined(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=object))


def _negatives(
    tuple_set: TupleSet, plan: Plan, found: Found, codes: TextCodes, settings: MiningSettings
) -> tuple[Mined, float | None, dict[str, int], dict[str, Any]]:
    if not settings.negatives_per_positive:
        return NONE, None, {}, {}
    items = found.neighbours.items[:, : settings.neighbours]
    similarities = found.neighbours.similarities[:, : settings.neighbours]
    labelled = np.isin(plan.splits, LABELLED)
    known = np.unique(codes.keys(plan.pairs[labelled, 0], plan.pairs[labelled, 1]))
    candidate = (items >= 0) & ~np.isin(codes.keys(plan.asked[:, None], items), known)
    candidate &= codes.passage[items] != codes.query[plan.asked][:, None]
    candidate &= ~repeats_in_row(codes.passage[items])
    has_positives = np.sum(list(plan.positives.values()), axis=0) > 0
    candidate &= has_positives[:, None]
    ceiling = settings.ceiling
    if settings.ceiling_quantile is not None:
        training = candidate & (plan.positives["train"] > 0)[:, None]
        pool = similarities[training if training.any() else candidate]
        ceiling = float(np.quantile(pool, settings.ceiling_quantile)) if len(pool) else None
    allowed = candidate if ceiling is None else candidate & (similarities < ceiling)
    if not allowed.any():
        seen = similarities[candidate]
        raise InputError(
            f"no candidate has a similarity below the ceiling {ceiling}" if len(seen) else "every neighbour is a known answer",
            expected=f"above {seen.min():.4f}, the lowest of {len(seen)} candidates" if len(seen) else "more neighbours",
            fix="Raise the ceiling, or give it as a quantile" if len(seen) else None,
        )  # fmt: skip
    query_hash, pair_hash = _pair_hashes(tuple_set, plan, items, settings.seed, "negatives")
    by_split = {
        name: wanted_negatives(count, settings.negatives_per_positive, query_hash)
        for name, count in plan.positives.items()
    }
    wanted = np.sum(list(by_split.values()), axis=0)
    rows, columns = draw(allowed, pair_hash, wanted)
    bounds = np.cumsum([by_split[name] for name in LABELLED], axis=0)
    first = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(plan.asked)))])[rows]
    place = np.arange(len(rows)) - first
    splits = np.asarray(LABELLED, dtype=object)[(place[None, :] >= bounds[:, rows]).sum(axis=0)]
    drawn = np.bincount(rows, minlength=len(plan.asked))
    positive_similarities = found.given[plan.positive]
    report = {
        "negatives": len(rows),
        "queries with positives": int(has_positives.sum()),
        "queries without a negative": int((has_positives & (wanted > 0) & (drawn == 0)).sum()),
        "queries with too few negatives": int((drawn < wanted).sum()),
    }
    similarities_report = {
        "candidates": _spread(similarities[candidate]),
        "positives": _spread(positive_similarities[~np.isnan(positive_similarities)]),
    }
    return Mined(rows, columns, splits), ceiling, report, similarities_report


def _transfer(
    tuple_set: TupleSet, plan: Plan, found: Found, codes: TextCodes, settings: MiningSettings, negatives: Mined
) -> tuple[Mined, dict[str, int]]:
    """The nearest passages, but for pairs that have rows already and queries whose text is held out."""
    if not settings.transfer:
        return NONE, {}
    items = found.neighbours.items[:, : settings.transfer]
    held = [name for name in ("valid", "test") if name not in settings.transfer_splits]
    held_out = np.unique(codes.query[plan.pairs[np.isin(plan.splits, held), 0]])
    asks = plan.transfers & ~np.isin(codes.query[plan.asked], held_out)
    keys = codes.keys(plan.asked[:, None], items)
    mined_items = found.neighbours.items[negatives.rows, negatives.columns]
    there = np.concatenate(
        [codes.keys(plan.pairs[:, 0], plan.pairs[:, 1]), codes.keys(plan.asked[negatives.rows], mined_items)]
    )
    near = (items >= 0) & asks[:, None]
    rows, columns = np.nonzero(near & ~np.isin(keys, there))
    _, firsts = np.unique(keys[rows, columns], return_index=True)
    firsts.sort()
    rows, columns = rows[firsts], columns[firsts]
    report = {"transfer": len(rows), "near pairs that have a row already": int((near & np.isin(keys, there)).sum())}
    if settings.transfer_pairs is not None and len(rows) > settings.transfer_pairs:
        _, pair_hash = _pair_hashes(tuple_set, plan, items, settings.seed, "transfer")
        keep = np.sort(np.argsort(pair_hash[rows, columns], kind="stable")[: settings.transfer_pairs])
        report |= {"transfer": len(keep), "transfer left out by the cap": len(rows) - len(keep)}
        rows, columns = rows[keep], columns[keep]
    return Mined(rows, columns, np.full(len(rows), "transfer", dtype=object)), report


def _pair_hashes(
    tuple_set: TupleSet, plan: Plan, items: np.ndarray, seed: int, purpose: str
) -> tuple[np.ndarray, np.ndarray]:
    """`(queries,)` hashes of the asked queries and `(queries, neighbours)` of their pairs, from ids and seed alone."""
    query_ids = tuple_set.collection_of(plan.query_field).ids.take(pa.array(plan.asked)).to_pylist()
    query_hash = hash_ids(seed, f"{purpose}, query", query_ids)
    used, inverse = np.unique(items, return_inverse=True)
    ids = tuple_set.collection_of(plan.passage_field).ids.take(pa.array(np.maximum(used, 0))).to_pylist()
    passage_hash = hash_ids(seed, f"{purpose}, passage", ids)
    return query_hash, mix(passage_hash[inverse.reshape(items.shape)], query_hash[:, None])


def _spread(values: np.ndarray) -> dict[str, float] | None:
    """Five quantiles, for choosing a ceiling."""
    if not len(values):
        return None
    return {f"{share:.2f}": round(float(np.quantile(values, share)), 4) for share in (0.05, 0.25, 0.5, 0.75, 0.95)}
