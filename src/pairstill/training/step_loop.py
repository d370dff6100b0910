"""A training loop for objectives that make their own batches: language models, and transformers learnt layer by layer.

The loop of students (`fit`) presents tuples to a scorer; here an objective is a function of a step's number, which is all
that resuming at the exact step needs.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pairstill.errors import ArtefactError, InputError
from pairstill.files import locked_folder, read_json, write_json, write_text
from pairstill.students.persistence import write_weights
from pairstill.training.checkpoint import Checkpoint
from pairstill.training.freed_memory import FreedMemory
from pairstill.training.identity import check_identity
from pairstill.training.optimizers import dense_optimizer
from pairstill.training.row_updates import clip_gradients
from pairstill.training.schedule import rate_share
from pairstill.training.settings import TrainingSettings
from pairstill.training.token_gradients import TokenGradients, token_tables

logger = logging.getLogger(__name__)


class StepObjective(Protocol):
    """What is learnt."""

    @property
    def model(self) -> nn.Module:
        """All parameters that are trained; its `state_dict` has no tensor twice."""

    def loss(self, step: int) -> Tensor:
        """The mean loss of a step, a function of its number, the weights and PyTorch's random state (dropout)."""

    def measure(self) -> Mapping[str, float]:
        """Figures on what was held out; `loss` is the one to bring down."""

    def identity(self) -> dict[str, Any]:
        """What a resumed training must have in common with the interrupted one."""


@dataclass(frozen=True)
class StepResult:
    """What a training came to.

    Attributes:
        before: Held-out figures of the untrained model.
        best: Held-out figures of the weights that are kept.
        best_sequences: Sequences presented when they were reached.
        sequences: Sequences presented in all.
        seconds: Of training and measuring, interruptions not counted.
        history: One entry a look.
    """

    before: Mapping[str, float]
    best: Mapping[str, float]
    best_sequences: int
    sequences: int
    seconds: float
    history: Sequence[Mapping[str, float]] = field(default_factory=tuple)


def fit_steps(
    objective: StepObjective,
    settings: TrainingSettings,
    folder: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> StepResult:
    """Train `objective.model` in place; it ends with the weights of the best look at what was held out.

    Interrupted, the same call goes on from the last checkpoint in `folder` and ends with the same weights, bit for bit, on
    the same machine with the same threads. Finished, the same call loads the result.

    Args:
        objective: What is learnt.
        settings: `pairs` and `batch_size` count sequences; `learning_rate` is of all parameters.
        folder: For checkpoints, `log.jsonl`, `result.json` and `best.safetensors`.
        progress: Called with (sequences done, sequences in all).

    Raises:
        ArtefactError: `folder` was started with other data or settings, or another process trains in it.
        InputError: The loss is no longer a number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked_folder(folder):
        return _fit_steps(objective, settings, folder, progress)


def _fit_steps(
    objective: StepObjective, settings: TrainingSettings, folder: Path, progress: Callable[[int, int], None] | None
) -> StepResult:
    timing = {"checkpoint_every_s", "log_every"}
    settled = {key: value for key, value in asdict(settings).items() if key not in timing}
    check_identity(folder, {**objective.identity(), "settings": settled})
    model = objective.model
    if (folder / "result.json").exists():
        _load_best(model, folder)
        return StepResult(**read_json(folder / "result.json"))

    optimizer = dense_optimizer(_groups(model, settings.weight_decay), settings)
    tokens = TokenGradients(token_tables(model))
    checkpoint = Checkpoint(folder / "checkpoint")
    torch.manual_seed(settings.seed)
    state = checkpoint.load(model, [optimizer], None)
    if state is None:
        model.eval()
        state = {
            "step": 0, "before": dict(objective.measure()), "best": None, "best_step": 0, "since": 0, "seconds": 0.0,
            "history": [], "losses": [],
        }  # fmt: skip
    model.train()
    steps = settings.steps
    every = max(1, (settings.evaluate_every or max(settings.pairs // 10, 1)) // settings.batch_size)
    began, saved = time.perf_counter() - state["seconds"], time.perf_counter()
    freed_memory = FreedMemory()
    while state["step"] < steps and not (settings.patience is not None and state["since"] >= settings.patience):
        step = state["step"]
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate_share(step, steps, settings.warmup, settings.schedule)
        with tokens.collected():
            value = objective.loss(step)
            number = float(value.detach())
            if not math.isfinite(number):
                raise InputError(
                    f"the loss is {number} after {step * settings.batch_size:,} sequences: the training diverges",
                    fix=f"Lower the learning rate, with another --out or without {folder}",
                )
            torch.autograd.backward(value)
        # Else what the layers kept of this step would be in memory beside the next one's.
        del value
        if settings.clip is not None:
            clip_gradients(list(model.parameters()), settings.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        state["step"] = step + 1
        state["losses"].append(number)
        if state["step"] % every == 0 or state["step"] == steps:
            _look(objective, state, settings, folder, began)
        state["seconds"] = time.perf_counter() - began
        freed_memory.look()
        if time.perf_counter() - saved > settings.checkpoint_every_s:
            checkpoint.save(model, [optimizer], None, state)
            saved = time.perf_counter()
        if progress is not None:
            progress(min(state["step"] * settings.batch_size, settings.pairs), settings.pairs)
    result = StepResult(
        before=state["before"],
        best=state["best"],
        best_sequences=min(state["best_step"] * settings.batch_size, settings.pairs),
        sequences=min(state["step"] * settings.batch_size, settings.pairs),
        seconds=round(state["seconds"], 2),
        history=state["history"],
    )
    _load_best(model, folder)
    write_json(folder / "result.json", asdict(result))
    checkpoint.remove()
    return result


def _look(
    objective: StepObjective, state: dict[str, Any], settings: TrainingSettings, folder: Path, began: float
) -> None:
    objective.model.eval()
    found = dict(objective.measure())
    objective.model.train()
    entry = {
        "sequences": min(state["step"] * settings.batch_size, settings.pairs), "training_loss": float(np.mean(state["losses"])),
        **found, "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip
    state["history"].append(entry)
    state["losses"] = []
    state["since"] += 1
    if state["best"] is None or found["loss"] < state["best"]["loss"]:
        state.update(best=found, best_step=state["step"], since=0)
        write_weights(folder / "best.safetensors", objective.model.state_dict())
    # Whole, so that looks repeated after an interruption stand in it once.
    write_text(folder / "log.jsonl", "".join(json.dumps(one) + "\n" for one in state["history"]))
    logger.info("%s", entry)


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices with weight decay, vectors without."""
    groups: list[dict[str, Any]] = []
    for matrices in (True, False):
        found = [(number, one) for number, one in enumerate(model.parameters()) if (one.ndim > 1) == matrices]
        groups.append(
            {
                "params": [one for _, one in found],
                "numbers": [number for number, _ in found],
                "weight_decay": weight_decay * matrices,
            }
        )
    return groups


def _load_best(model: nn.Module, folder: Path) -> None:
    from safetensors.torch import load_file

    path = folder / "best.safetensors"
    if not path.exists():
        raise ArtefactError("the weights of the finished training are missing", file=path, fix=f"Remove {folder}")
    model.load_state_dict(load_file(path))
    model.eval()
