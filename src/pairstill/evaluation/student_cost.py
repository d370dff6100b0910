"""Measure a student (or teacher) through its three steps, on texts of the split it is evaluated on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pairstill.evaluation.cost import AGREEMENT_NEEDED, Cost, Timing
from pairstill.evaluation.execution import Execution
from pairstill.evaluation.timing import as_timing, rates
from pairstill.machine import best_precision
from pairstill.metrics.graded import kendall
from pairstill.representation import Representation
from pairstill.students.inference import map_blocks
from pairstill.tuples.tuple_set import Tuples, TupleSet

if TYPE_CHECKING:
    from pairstill.students.base import Student

BLOCKS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
SLOW_PAIRS_PER_SECOND = 1500
POOL_BYTES = 256 << 20


@dataclass(frozen=True)
class _Pool:
    """Pairs with their encoded items, similar lengths together; copies of items are items of their own."""

    representations: tuple[Representation[np.ndarray], ...]
    index: np.ndarray
    lengths: tuple[float, ...]

    def part(self, pairs: int) -> np.ndarray:
        """About `pairs` of the index, taken evenly over the lengths."""
        kept = np.unique(np.linspace(0, len(self.index) - 1, min(pairs, len(self.index))).astype(np.int64))
        return np.asarray(self.index[kept])


def sample_groups(tuples: Tuples, pairs: int, seed: int) -> Tuples:
    """Whole groups at random until there are `pairs` rows, so that items are shared as they are in the split."""
    order = np.random.default_rng(seed).permutation(np.unique(tuples.groups))
    rank = np.empty(int(order.max()) + 1, dtype=np.int64)
    rank[order] = np.arange(len(order))
    return tuples.take(np.argsort(rank[tuples.groups], kind="stable")[:pairs])


def _pool(student: Student, tuple_set: TupleSet, tuples: Tuples) -> tuple[_Pool, list[Sequence[Any]]]:
    index, representations, texts, totals, lengths = tuples.index.copy(), [], [], np.zeros(len(tuples)), []
    for field in range(student.field_count):
        items, index[:, field] = np.unique(tuples.index[:, field], return_inverse=True)
        texts.append(tuple_set.values(field, items))
        representations.append(student.encode(field, texts[-1]))
        tokens = student.tokenize(field, texts[-1]).lengths[index[:, field]]
        totals += tokens
        lengths.append(float(tokens.mean()))
    return _Pool(tuple(representations), index[np.argsort(totals, kind="stable")], tuple(lengths)), texts


def _copies(pool: _Pool, pairs: int) -> _Pool:
    """The pool repeated until it has `pairs` pairs or fills its memory."""
    held = sum(one.bytes_per_item() * len(one) for one in pool.representations)
    times = max(1, min(-(-pairs // len(pool.index)), POOL_BYTES // max(held, 1)))
    sizes = np.array([len(one) for one in pool.representations])
    index = np.concatenate([pool.index + copy * sizes for copy in range(times)])
    repeated = tuple(one.take(np.tile(np.arange(len(one)), times)) for one in pool.representations)
    return _Pool(repeated, index, pool.lengths)


def _blocks(student: Student, pool: _Pool, index: np.ndarray, size: int) -> list[tuple[list[Any], Any]]:
    """Per block the representations that it needs, as tensors, and its index into them: what a store would hand over."""
    import torch

    found = []
    for start in range(0, len(index), size):
        part, local, held = index[start : start + size], [], []
        for field in range(student.field_count):
            items, rows = np.unique(part[:, field], return_inverse=True)
            local.append(rows)
            block = pool.representations[field].take(items)
            ragged = student.kept_vectors(field) is None
            held.append((block.trimmed() if ragged else block).map(torch.from_numpy))
        found.append((held, torch.from_numpy(np.stack(local, axis=1))))
    return found


def _runner(execution: Execution, blocks: Sequence[tuple[list[Any], Any]]) -> Callable[[], np.ndarray]:
    def score(block: tuple[list[Any], Any]) -> np.ndarray:
        held, local = block
        return execution.score([execution.prepare(field, one) for field, one in enumerate(held)], local)

    return lambda: np.concatenate(list(map_blocks(score, blocks)))


def _score_runner(execution: Execution, blocks: Sequence[tuple[list[Any], Any]]) -> Callable[[], object]:
    ready = [([execution.prepare(field, one) for field, one in enumerate(held)], local) for held, local in blocks]
    return lambda: list(map_blocks(lambda block: execution.score(*block), ready))


def _agreement(reference: np.ndarray, other: np.ndarray) -> float:
    """The least Kendall's tau over outputs; 1 where the reference is constant."""
    taus = [kendall(reference[:, k], other[:, k]).value for k in range(reference.shape[1])]
    return min((tau for tau in taus if tau is not None), default=1.0)


def _best_block(execution: Execution, pool: _Pool, sizes: Sequence[int], seconds: float) -> tuple[float, int]:
    """Try block sizes from small to large until the time is spent: the best rate and its size."""
    best, began = (0.0, sizes[0]), time.perf_counter()
    for size in sizes:
        if best[0] and time.perf_counter() - began > seconds:
            break
        index = pool.part(max(4 * size, 64))
        run = _runner(execution, _blocks(execution.student, pool, index, size))
        best = max(best, (max(rates(run, len(index), 0.0, least=2)), size))
    return best


def measure_student(
    student: Student, tuple_set: TupleSet, tuples: Tuples, *, seconds: float = 12.0, seed: int = 0,
    end_to_end: Timing | None = None,
) -> Cost:  # fmt: skip
    """Measure a student on rows of a split.

    The head runs in its fast form where it has one, each thread on blocks of its own, at the best of float32 and, where the processor has it and Kendall's tau with float32 is at least 0.99,
    bfloat16; at the best block size; pairs of similar length together. Items are encoded before, so the head's clock holds
    `prepare` of each block's distinct items and `score`. The encoder runs in float32, or bfloat16 where scores from such
    encodings agree as well.

    Args:
        student: Anything with the contract of `Student`; put into evaluation mode here.
        tuple_set: The texts.
        tuples: Rows of the split; whole groups are sampled from them.
        seconds: About how long to measure; a slow model takes longer for its least repetitions.
        seed: Of the sample.
        end_to_end: What scoring the whole split took, if it was timed.
    """
    import torch

    training = student.training
    student.eval()
    try:
        threads = torch.get_num_threads()
        probe = sample_groups(tuples, 32, seed)
        small, _ = _pool(student, tuple_set, probe)
        # The fast head always works on full blocks of its own, so a few pairs would make it look slow.
        run = _runner(Execution(student, "float32", fast=False), _blocks(student, small, small.index, 16))
        rate = max(rates(run, len(small.index), 0.0, least=2))
        slow = rate < SLOW_PAIRS_PER_SECOND
        # Encoding the sample in both precisions is most of what timing a fast student takes.
        pairs = int(np.clip(rate * seconds / 12, 32, 256)) if slow else int(np.clip(256 * seconds, 256, 1024))
        pool, texts = _pool(student, tuple_set, sample_groups(tuples, pairs, seed))
        wide = pool if slow else _copies(pool, 4 * BLOCKS[-1])
        sizes = [size for size in BLOCKS if (size <= 128 if slow else size >= 64) and size <= max(len(wide.index), 16)]
        precisions, agreement, refused = ["float32"], None, None
        if best_precision() == "bfloat16":
            blocks = _blocks(student, pool, pool.index, 64)
            reference = _runner(Execution(student, "float32", fast=False), blocks)()
            agreement = _agreement(reference, _runner(Execution(student, "bfloat16"), blocks)())
            if agreement >= AGREEMENT_NEEDED:
                precisions.append("bfloat16")
            else:
                refused = (
                    f"bfloat16 is left out: Kendall's tau with float32 is {agreement:.3f}, below {AGREEMENT_NEEDED}"
                )
        share = seconds / 6
        executions = {name: Execution(student, name) for name in precisions}
        tried = {name: _best_block(one, wide, sizes, share) for name, one in executions.items()}
        precision = max(tried, key=lambda name: tried[name][0])
        execution = executions[precision]
        block = tried[precision][1]
        blocks = _blocks(student, wide, wide.part(max(4 * block, len(pool.index))), block)
        units = sum(len(local) for _, local in blocks)
        shared: dict[str, Any] = {
            "unit": "pairs", "precision": precision, "threads": threads, "batch": block, "runtime": execution.runtime,
        }  # fmt: skip
        head = rates(_runner(execution, blocks), units, share)
        alone = rates(_score_runner(execution, blocks), units, share / 2)
        encoders = tuple(
            _measure_encoder(student, field, texts[field], pool, precisions, share / 2, threads)
            for field in range(student.field_count)
        )
        return Cost(
            head=as_timing(head, lengths=pool.lengths, **shared),
            score_alone=as_timing(alone, lengths=pool.lengths, **shared),
            encoders=encoders,
            multiply_adds_per_pair=float(student.multiply_adds_per_pair(pool.lengths)),
            multiply_adds_per_item=tuple(
                float(student.multiply_adds_per_item(field, length)) for field, length in enumerate(pool.lengths)
            ),
            bytes_per_item=tuple(
                float(student.bytes_per_item(field, length)) for field, length in enumerate(pool.lengths)
            ),
            end_to_end=end_to_end,
            rank_agreement=agreement if precision == "bfloat16" else None,
            refused_precision=refused,
        )
    finally:
        student.train(training)


def _measure_encoder(
    student: Student,
    field: int,
    texts: Sequence[Any],
    pool: _Pool,
    precisions: Sequence[str],
    seconds: float,
    threads: int,
) -> Timing:
    batch = 64
    first = texts[:batch]
    rate = max(rates(lambda: student.encode(field, first, batch_size=batch), len(first), 0.0, least=1))
    sample = texts[: int(np.clip(rate * seconds / 3, min(16, len(texts)), len(texts)))]
    lengths = (float(student.tokenize(field, sample).lengths.mean()),)
    allowed = ["float32"]
    if "bfloat16" in precisions and pool.representations[field].vectors.dtype.kind == "f":
        lower = student.encode(field, texts, batch_size=batch, precision="bfloat16")
        changed = tuple(lower if k == field else one for k, one in enumerate(pool.representations))
        index = pool.part(512)
        reference = student.score_representations(pool.representations, index)
        if _agreement(reference, student.score_representations(changed, index)) >= AGREEMENT_NEEDED:
            allowed.append("bfloat16")
    timings = [
        as_timing(
            rates(
                partial(student.encode, field, sample, batch_size=batch, precision=precision),
                len(sample), seconds / len(allowed),
            ),
            unit="items", precision=precision, threads=threads, batch=batch, lengths=lengths,
        )
        for precision in allowed
    ]  # fmt: skip
    return max(timings, key=lambda one: one.per_second)


def timed_scores(
    student: Student,
    tuple_set: TupleSet,
    tuples: Tuples,
    progress: Callable[[int, int], None] | None = None,
    precision: str = "float32",
) -> tuple[np.ndarray, Timing]:
    """`(rows, outputs)` float32 logits of a split from its texts, and the rate of that one pass."""
    import torch

    began = time.perf_counter()
    logits = student.score_tuples(tuple_set, tuples, precision=precision, progress=progress)
    rate = len(tuples) / max(time.perf_counter() - began, 1e-9)
    lengths = []
    for field in range(student.field_count):
        items = np.unique(tuples.index[:, field])[:2000]
        lengths.append(float(student.tokenize(field, tuple_set.values(field, items)).lengths.mean()))
    timing = as_timing(
        [rate], unit="pairs", precision=precision, threads=torch.get_num_threads(), batch=1024, lengths=tuple(lengths)
    )
    return logits, timing
