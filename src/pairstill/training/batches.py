"""What a step presents: which rows, which of them to this process, and what they should be like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pairstill.errors import InputError
from pairstill.losses import Loss, Targets
from pairstill.scratch import pieces, positions
from pairstill.training.data import TrainingData
from pairstill.training.order import chapter_of, epoch_order, group_order
from pairstill.training.settings import TrainingSettings

CHAPTER_ROWS = 1 << 22
"""Rows whose order is made in memory at a time; larger passes are cut into chapters of about so many."""


@dataclass(frozen=True)
class Batch:
    """One process's part of a step.

    Attributes:
        index: `(scored, fields)` items to score: the rows' own or, for in-batch losses, every query with every passage.
        targets: Of the same.
        whole: Of the whole step, where this is a part of it; None where it is all.
        share: Factor of the loss by which the mean over the processes becomes the loss of the whole step.
        texts: Distinct texts per row.
        rows: Rows of the whole step.
    """

    index: np.ndarray
    targets: Targets
    whole: Targets | None
    share: float
    texts: float
    rows: int


class Batches:
    """The batches of a stage, each a function of its number alone, so that a training resumes at any of them.

    A step covers `batch_size` places of an endless sequence of passes. Where tuples are compared with one another, the rows of
    a group stand together in it, and a step takes the groups that start in its places, whole: as many rows on average, one
    group more or less.

    A pass over more than `CHAPTER_ROWS` rows is cut into chapters by lot; only the order of the present one is in memory, and its
    rows are all that is read meanwhile.

    Args:
        data: Rows to learn from.
        loss: Says what a batch is made of.
        settings: Size, seed and clustering.
        processes: How many share a step.
        process: Which of them this is.
    """

    def __init__(
        self, data: TrainingData, loss: Loss, settings: TrainingSettings, processes: int = 1, process: int = 0
    ) -> None:
        self.data, self.unit, self.settings = data, loss.unit, settings
        self.processes, self.process = processes, process
        self._chapters = max(1, -(-len(data.tuples) // CHAPTER_ROWS))
        self._bounds: dict[int, np.ndarray] = {}
        self._orders: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
        if self.unit != "tuples" and settings.batch_size < 2:
            raise InputError(
                f"a batch has {settings.batch_size} row and the loss '{loss.name}' compares rows", expected="2 or more"
            )
        if self.unit == "in-batch":
            # The rest of a tuple, after its first field, is what all queries of a batch meet.
            self._rests, self._rest_of = np.unique(data.tuples.index[:, 1:], axis=0, return_inverse=True)
            self._rest_of = self._rest_of.reshape(-1)
            keys = self._key(data.tuples.index[:, 0], self._rest_of)
            self._rows_by_key = np.argsort(keys, kind="stable")
            self._keys = keys[self._rows_by_key]

    def batch(self, step: int, device: torch.device) -> Batch:
        """This process's part of a step."""
        rows, pieces = self.rows(step)
        mine, share = self.part(pieces if self.unit != "tuples" else np.arange(len(rows)))
        index, targets = self._formed(rows, pieces, mine, device)
        whole = None if self.processes == 1 else self._formed(rows, pieces, np.arange(len(rows)), device)[1]
        # Queries are shared out; their passages are the whole step's.
        read = [rows[mine], *[rows if self.unit == "in-batch" else rows[mine]] * (index.shape[1] - 1)]
        texts = sum(len(np.unique(self.data.tuples.index[one, column])) for column, one in enumerate(read))
        return Batch(index, targets, whole, share, texts / len(mine), len(rows))

    def rows(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a step, and the number of the piece of a group that each belongs to (0 where single tuples are learnt).

        A batch may reach over the end of a pass into the next one.
        """
        size, length = self.settings.batch_size, len(self.data.tuples)
        start, stop = step * size, (step + 1) * size
        if self.unit == "tuples":
            stop = min(stop, self.settings.pairs)
        # Groups: a whole step's places always have a group that starts in them, since none is longer; fewer might not.
        rows, pieces, piece = [], [], 0
        while start < stop:
            epoch, offset = divmod(start, length)
            bounds = self._bounds_of(epoch)
            chapter = int(np.searchsorted(bounds, offset, side="right")) - 1
            reach = min(int(bounds[chapter + 1]) - offset, stop - start)
            order, starts = self._order(epoch, chapter)
            offset -= int(bounds[chapter])
            if self.unit == "tuples":
                taken = order[offset : offset + reach]
                lengths = np.array([0])
            else:
                ends = np.append(starts, len(order))
                low, high = np.searchsorted(starts, [offset, offset + reach])
                taken = order[ends[low] : ends[high]]
                lengths = np.diff(ends[low : high + 1])
            rows.append(taken)
            pieces.append(
                np.zeros(len(taken), np.int64)
                if self.unit == "tuples"
                else np.repeat(piece + np.arange(len(lengths)), lengths)
            )
            piece += len(lengths)
            start += reach
        return np.concatenate(rows), np.concatenate(pieces)

    def part(self, pieces: np.ndarray) -> tuple[np.ndarray, float]:
        """Places of this process's rows among those of a step, and the factor on its loss.

        Args:
            pieces: `(rows,)` numbers, equal for neighbours that must stay together.
        """
        if self.processes == 1:
            return np.arange(len(pieces)), 1.0
        starts = np.flatnonzero(np.diff(pieces, prepend=-1))
        # Each piece goes where its first row would go if rows were dealt out in equal parts.
        sizes = [len(one) for one in np.array_split(pieces, self.processes)]
        owner = np.repeat(np.arange(self.processes), sizes)[starts]
        lengths = np.diff(np.append(starts, len(pieces)))
        mine = np.flatnonzero(np.repeat(owner, lengths) == self.process)
        if not len(mine):
            # A step may have fewer pieces than there are processes; everyone must take part in it.
            return np.arange(lengths[0]), 0.0
        return mine, float(self.processes)

    def _chapter_of(self, piece: slice, epoch: int) -> np.ndarray:
        compared = None if self.unit == "tuples" else self.data.tuples.compared
        return chapter_of(piece, compared, self._chapters, self.settings.seed, epoch)

    def _bounds_of(self, epoch: int) -> np.ndarray:
        """`(chapters + 1,)` places of a pass at which its chapters start, and its end."""
        if epoch not in self._bounds:
            count = len(self.data.tuples)
            sizes = np.array([count])
            if self._chapters > 1:
                sizes = np.zeros(self._chapters, np.int64)
                for piece in pieces(count):
                    sizes += np.bincount(self._chapter_of(piece, epoch), minlength=self._chapters)
            self._bounds.clear()
            self._bounds[epoch] = np.concatenate([[0], np.cumsum(sizes)])
        return self._bounds[epoch]

    def _order(self, epoch: int, chapter: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a chapter in their order, and the places in it at which pieces of groups start."""
        if (epoch, chapter) not in self._orders:
            tuples, settings = self.data.tuples, self.settings
            self._orders.clear()
            index, groups = tuples.index, tuples.groups if self.unit == "tuples" else tuples.compared
            rows = None
            if self._chapters > 1:
                rows = positions(len(tuples), lambda piece: self._chapter_of(piece, epoch) == chapter)
                index, groups = index[rows], groups[rows]
            if self.unit == "tuples":
                order = epoch_order(index, groups, settings.seed, epoch, settings.cluster_rows, chapter)
                starts = np.empty(0, np.int64)
            else:
                order, starts = group_order(
                    index, groups, settings.seed, epoch, settings.batch_size, settings.cluster_rows, chapter
                )
            self._orders[epoch, chapter] = (order if rows is None else rows[order], starts)
        return self._orders[epoch, chapter]

    def _formed(
        self, rows: np.ndarray, pieces: np.ndarray, mine: np.ndarray, device: torch.device
    ) -> tuple[np.ndarray, Targets]:
        if self.unit == "in-batch":
            return self._crossed(rows, pieces, mine, device)
        groups = None if self.unit == "tuples" else pieces[mine]
        return self.data.tuples.index[rows[mine]], self.data.targets(rows[mine], device, groups)

    def _crossed(
        self, rows: np.ndarray, pieces: np.ndarray, mine: np.ndarray, device: torch.device
    ) -> tuple[np.ndarray, Targets]:
        """Every query of `mine` with every distinct rest of the step's tuples."""
        numbers, at = np.unique(pieces[mine], return_index=True)
        queries, rests = self.data.tuples.index[rows[mine][at], 0], np.unique(self._rest_of[rows])
        index = np.concatenate(
            [np.repeat(queries, len(rests))[:, None], np.tile(self._rests[rests], (len(queries), 1))], axis=1
        )
        keys = self._key(np.repeat(queries, len(rests)), np.tile(rests, len(queries)))
        place = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        found = self._keys[place] == keys
        known = self._rows_by_key[place]
        groups = np.repeat(numbers, len(rests))
        own = np.zeros(len(keys), dtype=bool)
        cell = np.searchsorted(numbers, pieces[mine]) * len(rests) + np.searchsorted(rests, self._rest_of[rows[mine]])
        own[cell] = True
        known[cell] = rows[mine]

        def tensor(array: np.ndarray | None, missing: float) -> Tensor | None:
            if array is None:
                return None
            shape = (len(keys),) + (1,) * (array.ndim - 1)
            return torch.from_numpy(np.where(found.reshape(shape), array[known], np.float32(missing))).to(device)

        tuples = self.data.tuples
        return index, Targets(
            tensor(self.data.teacher_logits, np.nan),
            tensor(tuples.labels, np.nan),
            tensor(tuples.weights, 1.0),
            torch.from_numpy(groups).to(device),
            torch.from_numpy(own).to(device),
            self.data.score_kind,
        )

    def _key(self, first: np.ndarray, rest: np.ndarray) -> np.ndarray:
        keys: np.ndarray = first.astype(np.int64) * np.int64(len(self._rests)) + rest
        return keys
