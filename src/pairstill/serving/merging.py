"""When the files of small commits are merged."""

from __future__ import annotations

from collections.abc import Sequence

MOST_COMMITS = 16
"""Commits whose files a store has before some are merged: looking up an id asks each of them."""
LEAST_DELETED = 1000


def commits_to_merge(sizes: Sequence[int], deleted: int) -> int:
    """How many of the last commits to merge, so that there stay few and each item is rewritten only a few times.

    Args:
        sizes: Rows of the commits, deleted ones included.
        deleted: Rows that are deleted.

    Returns:
        0 while there are few; all where most rows are deleted; else those of which each has at most twice the rows of all
        behind it.
    """
    total = sum(sizes)
    if deleted > max(LEAST_DELETED, total - deleted):
        return len(sizes)
    if len(sizes) <= MOST_COMMITS:
        return 0
    count, rows = 2, sum(sizes[-2:])
    while count < len(sizes) and sizes[-count - 1] <= 2 * rows:
        count += 1
        rows += sizes[-count]
    return count
