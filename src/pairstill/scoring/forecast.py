"""What a bulk job will take: hours, storage and money, from measured rates.

    encode_s   = sum over fields of items x encode_s_per_item
    score_s    = pairs x (head_s_per_pair + rest_s_per_pair + sum over fields of prepared_per_pair x prepare_s_per_item)
    hours      = (encode_s + score_s) / (machines x cores x parallel efficiency) / 3600 + start_s / 3600
    storage    = sum over fields of items x bytes_per_item + rows kept x bytes_per_row  (+ partial results until they are merged)
    money      = hours x machines x price of a machine-hour

All seconds are of one core. `prepared_per_pair` is 1 / right_block and 1 / left_block in a cross product; in pairs by id it
is the expected number of distinct items of a chunk drawn at random, which is the worst case: pairs that stand beside each
other in the input and share items need fewer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pairstill.errors import ArtefactError, InputError
from pairstill.files import read_json
from pairstill.scoring.bulk.rows import CHUNK_PAIRS
from pairstill.scoring.bulk.sizes import Sizes, cross_blocks, plan_sizes

PARTIAL_BYTES_PER_ROW = 9.0
"""Of a partial result after compression; two store rows and a score are 20 bytes before."""
Kind = Literal["cross", "pairs"]


@dataclass(frozen=True)
class Rates:
    """What was measured, in seconds of one core.

    Attributes:
        encode_s: Per item, a field; None where it is not known.
        head_s: Per pair.
        prepare_s: Per item that is prepared.
        rest_s: Per pair: reading, ids, order, selection, writing.
        start_s: Until the first pair is scored, once a job.
        bytes_per_item: In the store, a field.
        prepared_bytes: Per item, a field.
        bytes_per_row: Of a row that is kept.
        multiply_adds: Of a pair.
        outputs: Logits of a pair.
        source: Where the numbers come from.
    """

    encode_s: tuple[float | None, ...]
    head_s: float
    prepare_s: float
    rest_s: float
    start_s: float
    bytes_per_item: tuple[float, ...]
    prepared_bytes: tuple[float, ...]
    bytes_per_row: float
    multiply_adds: float
    outputs: int
    source: str


@dataclass(frozen=True)
class Work:
    """What is to be done, and with what.

    Attributes:
        items: A field.
        pairs: None means the cross product of two fields.
        top: How many are kept of each item of the first field; None keeps `kept_share` of the pairs.
        kept_share: Of the pairs, where `top` is None.
        encode: Whether the items have to be encoded, too.
        machines: Number of equal machines.
        cores: Of each.
        price: Of a machine-hour, in any currency; None leaves money out.
        efficiency: Speed of a core among busy ones, as a share of what was measured.
        memory_bytes: As of the job.
        pairs_per_shard: As of the job.
    """

    items: tuple[int, ...]
    pairs: int | None = None
    top: int | None = None
    kept_share: float = 1.0
    encode: bool = True
    machines: int = 1
    cores: int = 1
    price: float | None = None
    efficiency: float = 1.0
    memory_bytes: int = 256 << 20
    pairs_per_shard: int | None = None


@dataclass(frozen=True)
class Forecast:
    """What it will take.

    Attributes:
        pairs: Number of pairs.
        encode_hours: Of all machines together, working at once; None where the rate is not known.
        score_hours: The same.
        hours: Sum of both, and the start.
        pairs_per_s: Of all machines.
        store_bytes: Of all fields.
        kept_rows: Of the result.
        result_bytes: Of the result.
        partial_bytes: Until they are merged; 0 where nothing is merged.
        money: None without a price.
        prepared_per_pair: Items prepared a pair, a field.
        pairs_per_shard: About so many.
    """

    pairs: int
    encode_hours: float | None
    score_hours: float
    hours: float
    pairs_per_s: float
    store_bytes: float
    kept_rows: int
    result_bytes: float
    partial_bytes: float
    money: float | None
    prepared_per_pair: tuple[float, ...]
    pairs_per_shard: int

    def body(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def forecast(rates: Rates, work: Work) -> Forecast:
    """Apply the formula at the head of this module.

    Raises:
        InputError: Numbers do not fit together or are out of range.
    """
    _check(rates, work)
    cross = work.pairs is None
    pairs = math.prod(work.items) if work.pairs is None else work.pairs
    sizes = plan_sizes(
        pairs, rates.prepared_bytes, rates.bytes_per_item, rates.outputs, rates.multiply_adds, work.memory_bytes,
        work.pairs_per_shard, cross,
    )  # fmt: skip
    partial_rows = 0.0
    if cross:
        left, right = cross_blocks(work.items[0], work.items[1], sizes)
        prepared: tuple[float, ...] = (1 / right, 1 / left)
        if work.top is not None:
            partial_rows = work.items[0] * -(-work.items[1] // right) * min(work.top, right)
    else:
        prepared = prepared_in_chunk(work.items, min(pairs, CHUNK_PAIRS, sizes.pairs_per_shard), sizes.limits)
        if work.top is not None:
            partial_rows = float(pairs) if pairs / work.items[0] <= work.top else _partial_of_pairs(work, pairs, sizes)
    per_pair = rates.head_s + rates.rest_s + rates.prepare_s * sum(prepared)
    cores = work.machines * work.cores * work.efficiency
    score_hours = pairs * per_pair / cores / 3600
    encode_hours: float | None = 0.0
    if work.encode:
        known = [None if rate is None else count * rate for count, rate in zip(work.items, rates.encode_s, strict=True)]
        encode_hours = None if None in known else sum(one or 0.0 for one in known) / cores / 3600
    hours = score_hours + (encode_hours or 0.0) + rates.start_s / 3600
    kept = int(pairs * work.kept_share)
    if work.top is not None:
        kept = min(pairs, work.items[0] * work.top)
    return Forecast(
        pairs=pairs,
        encode_hours=encode_hours,
        score_hours=score_hours,
        hours=hours,
        pairs_per_s=cores / per_pair,
        store_bytes=sum(count * one for count, one in zip(work.items, rates.bytes_per_item, strict=True)),
        kept_rows=kept,
        result_bytes=kept * rates.bytes_per_row,
        partial_bytes=partial_rows * PARTIAL_BYTES_PER_ROW,
        money=None if work.price is None else hours * work.machines * work.price,
        prepared_per_pair=prepared,
        pairs_per_shard=sizes.pairs_per_shard,
    )


def prepared_in_chunk(items: Sequence[int], pairs: int, limits: Sequence[int]) -> tuple[float, ...]:
    """Items of each field that are prepared per pair, of `pairs` pairs drawn at random.

    As `tiling.score_rows` does it: fields that have room are prepared once, the others in tiles, those with more items
    outermost; inside a tile only what its pairs need.

    Example:
        >>> [round(one, 3) for one in prepared_in_chunk([1000, 10**9], 10_000, [2000, 2000])]
        [0.1, 1.0]
    """
    distinct = [expected_distinct(count, pairs) for count in items]
    fitting = [one <= limit for one, limit in zip(distinct, limits, strict=True)]
    order = sorted(range(len(items)), key=lambda field: (not fitting[field], -distinct[field] / limits[field]))
    found, tiles = [0.0] * len(items), 1
    for field in order:
        in_tile = expected_distinct(items[field], pairs / tiles)
        found[field] = tiles * in_tile / pairs
        tiles *= max(1, math.ceil(in_tile / limits[field]))
    return tuple(found)


def expected_distinct(count: float, draws: float) -> float:
    """Expected number of distinct items of `count` among `draws` draws with replacement."""
    return count * -math.expm1(draws * math.log1p(-1 / count)) if count > 1 else min(1.0, draws)


def rates_of_job(folder: str | Path) -> Rates:
    """Rates of a finished job of `pairstill score`, and of the encodings of its stores where they are noted.

    Raises:
        ArtefactError: The folder holds no finished job.
    """
    from pairstill.store import RepresentationStore

    folder = Path(folder)
    body = read_json(folder / "summary.json")
    try:
        pairs, seconds = body["pairs_scored"], body["scoring_seconds"]
        stores = [RepresentationStore.open(one["folder"], checksums=False) for one in body["stores"]]
        head = body["head_share"] * seconds
        prepare = body["prepare_share"] * seconds
        kept = sum(one["bytes"] for one in read_json(folder / "manifest.json")["shards"])
        rows = max(1, read_json(folder / "manifest.json")["rows"])
        return Rates(
            encode_s=tuple(_encode_s(Path(one["folder"])) for one in body["stores"]),
            head_s=head / pairs,
            prepare_s=prepare / max(1, body["items_prepared"]),
            rest_s=max(0.0, seconds - head - prepare) / pairs,
            start_s=max(
                0.0,
                body["whole_last_run_seconds"] - body["seconds_of_the_last_runs_shards"] / body["engine"]["workers"],
            ),
            bytes_per_item=tuple(one.bytes_per_item() for one in stores),
            prepared_bytes=tuple(body["prepared_bytes_per_item"]),
            bytes_per_row=kept / rows,
            multiply_adds=body["multiply_adds_per_pair"],
            outputs=body["outputs"],
            source=f"the job {folder}",
        )
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ArtefactError(
            f"the summary lacks {error}", file=folder / "summary.json", expected="a finished job of `pairstill score`"
        ) from None


def _encode_s(store: Path) -> float | None:
    """Seconds of one core per item, of what `pairstill encode` noted beside a store."""
    path = store / "encoding.json"
    if not path.exists():
        return None
    body: Mapping[str, Any] = read_json(path)
    rate, threads = body.get("items_per_s"), body.get("threads")
    return float(threads) / float(rate) if rate and threads else None


def _partial_of_pairs(work: Work, pairs: int, sizes: Sizes) -> float:
    """Rows of partial results where pairs come in no order."""
    chunk = min(pairs, CHUNK_PAIRS, sizes.pairs_per_shard)
    lefts = expected_distinct(work.items[0], chunk)
    return pairs / chunk * min(chunk, lefts * (work.top or 1))


def _check(rates: Rates, work: Work) -> None:
    fields = len(rates.bytes_per_item)
    if len(work.items) != fields:
        raise InputError(f"items are given for {len(work.items)} fields", expected=f"{fields}, as the student has")
    if work.pairs is None and fields != 2:
        raise InputError(
            f"the cross product of {fields} fields is asked for", fix="Give the number of tuples with --pairs"
        )
    for name, value in (
        ("items", min(work.items)), ("pairs", 1 if work.pairs is None else work.pairs), ("machines", work.machines),
        ("cores", work.cores), ("top", 1 if work.top is None else work.top),
    ):  # fmt: skip
        if value < 1:
            raise InputError(f"the number of {name} is {value}", expected="at least 1")
    if not 0 < work.efficiency <= 1 or not 0 <= work.kept_share <= 1:
        raise InputError("the efficiency, or the share that is kept, is out of range", expected="above 0, at most 1")
    if work.price is not None and work.price < 0:
        raise InputError(f"the price is {work.price}", expected="0 or more")
