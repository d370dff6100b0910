"""The order in which rows are presented: seeded, and such that rows that share texts can stand together."""

from __future__ import annotations

import numpy as np

from pairstill.training.neighbours import neighbours

BLOCK_ROWS = 1024
"""Neighbouring rows that are in the same chapter of a pass where single tuples are learnt; they are read together."""


def chapter_of(piece: slice, compared: np.ndarray | None, chapters: int, seed: int, epoch: int) -> np.ndarray:
    """`(rows of the piece,)` in which chapter of a pass rows are: by lot, another way every pass.

    A pass over more rows than can be ordered in memory is a sequence of chapters, each in an order of its own.

    Args:
        piece: Which rows.
        compared: `(rows,)` codes of all rows, those of equal code stay together; None deals out blocks of neighbouring rows.
        chapters: How many there are.
        seed: With `epoch`, everything that the result depends on besides the data.
        epoch: Number of the pass.
    """
    salt = np.uint64(np.random.default_rng([seed, epoch]).integers(1, 2**63))
    codes = np.arange(piece.start, piece.stop) // BLOCK_ROWS if compared is None else compared[piece]
    lots = _mix(_mix(codes.astype(np.uint64)) ^ salt) % np.uint64(chapters)
    return np.asarray(lots.astype(np.int64))


def epoch_order(
    index: np.ndarray, groups: np.ndarray, seed: int, epoch: int, cluster_rows: int = 1, chapter: int = 0
) -> np.ndarray:
    """A permutation of all rows for one pass, or for one chapter of it.

    With `cluster_rows` above 1, groups that share last items are put beside each other in clusters of so many rows, and the
    clusters are shuffled. A batch of several clusters then has many rows but few distinct texts. Clusters begin elsewhere
    every pass, so that other groups meet each time.

    Args:
        index: `(rows, fields)` items of each row.
        groups: `(rows,)` group codes.
        seed: With `epoch`, everything that the result depends on besides the data.
        epoch: Number of the pass.
        cluster_rows: Rows of a cluster.
        chapter: Number of the chapter whose rows these are.
    """
    generator = _generator(seed, epoch, chapter)
    if cluster_rows <= 1:
        return generator.permutation(len(index))
    _, group = np.unique(groups, return_inverse=True)
    place = np.argsort(neighbours(group, index[:, -1], generator.permutation(int(group.max()) + 1), cluster_rows))
    order = np.lexsort((generator.permutation(len(index)), place[group]))
    pieces = [order[start : start + cluster_rows] for start in range(0, len(order), cluster_rows)]
    return np.concatenate([pieces[number] for number in generator.permutation(len(pieces))])


def group_order(
    index: np.ndarray, groups: np.ndarray, seed: int, epoch: int, longest: int, cluster_rows: int = 1, chapter: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """A permutation of all rows for one pass in which the rows of a group stand together.

    A group of more than `longest` rows is dealt out at random, another way every pass, to equally large pieces of at most so
    many rows. With `cluster_rows` above 1, groups that share last items stand together, as in `epoch_order`.

    Args:
        index: `(rows, fields)` items of each row.
        groups: `(rows,)` group codes.
        seed: With `epoch`, everything that the result depends on besides the data.
        epoch: Number of the pass.
        longest: Most rows of a piece.
        cluster_rows: About so many rows of groups stay together.
        chapter: Number of the chapter whose rows these are.

    Returns:
        The order `(rows,)`, and the places in it `(pieces,)` at which a piece starts, rising from 0.
    """
    generator = _generator(seed, epoch, chapter)
    _, group = np.unique(groups, return_inverse=True)
    # Rows of a group in random order, then numbered through, which deals them to pieces.
    order = np.lexsort((generator.permutation(len(index)), group))
    sizes = np.bincount(group)
    first = np.cumsum(sizes) - sizes
    number = np.arange(len(index)) - np.repeat(first, sizes)
    pieces_of = -(-sizes // longest)
    piece = np.repeat(np.cumsum(pieces_of) - pieces_of, sizes) + number % np.repeat(pieces_of, sizes)
    count = int(pieces_of.sum())
    place = generator.permutation(count)
    if cluster_rows > 1:
        beside = neighbours(piece, index[order, -1], place, cluster_rows)
        lengths = np.bincount(piece)[beside]
        cluster = (np.cumsum(lengths) - lengths) // cluster_rows
        shuffled = generator.permutation(int(cluster.max()) + 1)
        place[beside[np.argsort(shuffled[cluster], kind="stable")]] = np.arange(count)
    chosen = np.argsort(place[piece], kind="stable")
    starts = np.flatnonzero(np.diff(place[piece][chosen], prepend=-1))
    return order[chosen], starts


def _generator(seed: int, epoch: int, chapter: int) -> np.random.Generator:
    return np.random.default_rng([seed, epoch, chapter] if chapter else [seed, epoch])


def _mix(values: np.ndarray) -> np.ndarray:
    """splitmix64: a good hash of integers."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed: np.ndarray = values ^ (values >> np.uint64(31))
        return mixed
