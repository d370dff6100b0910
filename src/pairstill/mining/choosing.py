"""Which of the neighbours become negatives and which transfer pairs: by hash, so that no order matters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def hash_ids(seed: int, purpose: str, ids: Sequence[str]) -> np.ndarray:
    """`(ids,)` uint64, one for each id, equal on every machine."""
    key = f"{seed}\n{purpose}\n".encode()
    digests = (hashlib.blake2b(key + one.encode(), digest_size=8).digest() for one in ids)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def mix(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """uint64 hash of pairs of hashes (the finaliser of splitmix64); `right` broadcasts against `left`."""
    with np.errstate(over="ignore"):
        value = left + right * np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(value ^ (value >> np.uint64(31)))


def repeats_in_row(codes: np.ndarray) -> np.ndarray:
    """`(rows, columns)` bool: the same code stands further left in the row."""
    repeated = np.zeros(codes.shape, dtype=bool)
    for column in range(1, codes.shape[1]):
        repeated[:, column] = (codes[:, :column] == codes[:, column : column + 1]).any(axis=1)
    return repeated


def wanted_negatives(positives: np.ndarray, per_positive: float, hashes: np.ndarray) -> np.ndarray:
    """How many negatives each query should have; a fraction is rounded up or down by the query's hash.

    Args:
        positives: `(queries,)` int64.
        per_positive: Negatives for each positive.
        hashes: `(queries,)` uint64.
    """
    exact = positives * per_positive
    whole = np.floor(exact + 1e-9)
    up = (hashes / 2.0**64) < (exact - whole)
    return (whole + up).astype(np.int64)


def draw(allowed: np.ndarray, hashes: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The `wanted` allowed places of each row with the lowest hashes.

    Args:
        allowed: `(rows, columns)` bool.
        hashes: `(rows, columns)` uint64.
        wanted: `(rows,)` int64; a row with fewer allowed places gives them all.

    Returns:
        Rows and columns of the drawn places, row by row, by hash within a row.
    """
    columns = np.argsort(np.where(allowed, hashes, np.uint64(2**64 - 1)), axis=1, kind="stable")
    count = np.minimum(wanted, allowed.sum(axis=1))
    taken = np.arange(allowed.shape[1]) < count[:, None]
    rows, places = np.nonzero(taken)
    return rows, columns[rows, places]
