"""How long, how fast and how carefully to train."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pairstill.errors import InputError
from pairstill.training.schedule import SCHEDULES

OPTIMIZERS = ("adamw", "adagrad")


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of one stage of training.

    Attributes:
        pairs: Tuples presented in all; more than the data has means several passes, each in an order of its own.
        batch_size: Tuples of a step, over all processes together.
        learning_rate: Of newly added parameters.
        encoder_learning_rate: Of parameters that come from the base; None freezes them (stage 1).
        table_rate: Learning rate of tables that are updated row by row, as a multiple of `learning_rate`: a row is read in
            few of the steps.
        optimizer: `adamw`, or `adagrad` (without weight decay).
        warmup: Share of the steps over which the rate rises from 0.
        schedule: Of the rate afterwards: `linear` falls to 0, `constant` stays.
        weight_decay: AdamW's, on matrices alone.
        average_decay: Look at, and keep, the running mean of the weights with this decay; None takes the last step's.
        clip: Largest norm of the gradient; None does not clip.
        betas: AdamW's.
        epsilon: AdamW's.
        precision: `float32`, or `bfloat16` where the processor has it.
        seed: Of the order of the data and of dropout.
        cluster_rows: Tuples that share texts stand together in pieces of so many rows, so that fewer texts are encoded per
            batch; 1 shuffles row by row.
        evaluate_every: Tuples between two looks at the validation metric; None looks ten times.
        patience: Stop after so many looks without a better value; None never stops early.
        checkpoint_every_s: Seconds between two checkpoints.
        log_every: Steps between two losses that a tracker is told.
    """

    pairs: int = 300_000
    batch_size: int = 128
    learning_rate: float = 1e-3
    encoder_learning_rate: float | None = 5e-5
    table_rate: float = 10.0
    optimizer: str = "adamw"
    warmup: float = 0.06
    schedule: str = "linear"
    weight_decay: float = 0.01
    average_decay: float | None = None
    clip: float | None = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-6
    precision: str = "float32"
    seed: int = 0
    cluster_rows: int = 1
    evaluate_every: int | None = None
    patience: int | None = None
    checkpoint_every_s: float = 60.0
    log_every: int = 20

    def __post_init__(self) -> None:
        for name in ("pairs", "batch_size", "cluster_rows", "evaluate_every", "patience", "log_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"the training's {name} is {value}", expected="1 or more")
        for name in (
            "learning_rate",
            "encoder_learning_rate",
            "table_rate",
            "weight_decay",
            "clip",
            "epsilon",
            "checkpoint_every_s",
        ):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise InputError(f"the training's {name} is {value}", expected="a number of 0 or more")
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise InputError(f"the training's {name} is '{getattr(self, name)}'", expected=" or ".join(known))
        if not 0 <= self.warmup < 1:
            raise InputError(f"the training's warmup is {self.warmup}", expected="0 or more, below 1")
        if self.seed < 0:
            raise InputError(f"the training's seed is {self.seed}", expected="0 or more")
        if self.average_decay is not None and not 0 < self.average_decay < 1:
            raise InputError(f"the training's average_decay is {self.average_decay}", expected="between 0 and 1")

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return max(1, -(-self.pairs // self.batch_size))
