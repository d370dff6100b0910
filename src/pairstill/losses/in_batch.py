"""What in-batch losses share: every query of a batch meets every passage of it, and some of these cells are tuples."""

from __future__ import annotations

import torch
from torch import Tensor

from pairstill.errors import InputError
from pairstill.losses.base import scores_of, wide
from pairstill.losses.grouping import group_lists
from pairstill.losses.targets import Targets


def own_cells(targets: Targets) -> Tensor:
    """`(cells,)` bool, which cells are tuples of the batch."""
    groups = targets.groups
    if groups is None:
        raise InputError("the batch says of no cell which query it belongs to")
    return torch.ones_like(groups, dtype=torch.bool) if targets.own is None else targets.own


def known_positive(targets: Targets) -> Tensor:
    """`(cells,)` bool, labelled relevant (above one half), be it a tuple of the batch or not."""
    if targets.labels is None:
        return torch.zeros_like(own_cells(targets))
    return wide(targets.labels) > 0.5


def positives(targets: Targets) -> Tensor:
    """`(cells,)` bool, the relevant tuples of each query.

    Those labelled above one half. A query none of whose tuples has a label takes the teacher's best tuple; a query whose
    labels are all one half or less has none. Trainings decide it over all rows of a query before they make batches of them
    (`pairstill.training.in_batch_labels`).
    """
    own = own_cells(targets)
    positive = own & known_positive(targets)
    if targets.teacher_logits is None:
        return positive
    places, mask = group_lists(targets.groups)  # type: ignore[arg-type]
    mask = mask & own[places]
    if targets.labels is not None:
        labelled = (~torch.isnan(targets.labels))[places] & mask
        mask = mask & ~labelled.any(dim=1, keepdim=True)
    scores = torch.nan_to_num(scores_of(targets), nan=float("-inf"))[places].masked_fill(~mask, float("-inf"))
    best, column = scores.max(dim=1)
    chosen = torch.nonzero(best > float("-inf"))[:, 0]
    positive = positive.clone()
    positive[places[chosen, column[chosen]]] = True
    return positive
