"""The optimisers of a training: AdamW or Adagrad, each also by row for tables of which a step reads few rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pairstill.training.row_updates import RowAdagrad, RowAdam
from pairstill.training.settings import TrainingSettings

ACCUMULATED = 0.1
"""What Adagrad's sums of squares begin with, as in TensorFlow, with which BERT2DNN was trained; nothing is added to their root."""


def dense_optimizer(groups: Sequence[dict[str, Any]], settings: TrainingSettings) -> torch.optim.Optimizer:
    """For parameters that every step changes.

    Args:
        groups: Parameter groups; `weight_decay` is AdamW's alone.
        settings: Which, and its constants.
    """
    if settings.optimizer == "adagrad":
        plain = [{**group, "weight_decay": 0.0} for group in groups]
        return torch.optim.Adagrad(
            plain, lr=settings.learning_rate, initial_accumulator_value=ACCUMULATED, eps=0.0, fused=True
        )
    return torch.optim.AdamW(
        list(groups), lr=settings.learning_rate, betas=settings.betas, eps=settings.epsilon, fused=True
    )


def row_optimizer(groups: Sequence[dict[str, Any]], settings: TrainingSettings) -> torch.optim.Optimizer:
    """For tables whose gradients come from `RowGradients`."""
    if settings.optimizer == "adagrad":
        return RowAdagrad(groups, ACCUMULATED)
    return RowAdam(groups, settings.betas)
