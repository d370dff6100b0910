"""One training loop for every student and teacher: resumable at the exact row, over one process or several."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pairstill.errors import ArtefactError, InputError
from pairstill.files import fingerprint_json, locked_folder, read_json, write_json, write_text
from pairstill.losses import Loss
from pairstill.students import Student
from pairstill.students.inference import precision_context
from pairstill.students.persistence import write_weights
from pairstill.training.batches import Batches
from pairstill.training.checkpoint import Checkpoint
from pairstill.training.data import TrainingData
from pairstill.training.freed_memory import FreedMemory
from pairstill.training.identity import check_identity
from pairstill.training.optimizers import dense_optimizer, row_optimizer
from pairstill.training.row_updates import RowGradients, clip_gradients, row_tables
from pairstill.training.schedule import rate_share
from pairstill.training.settings import TrainingSettings
from pairstill.training.sources import ItemSource, TupleScorer
from pairstill.training.token_gradients import TokenGradients, token_tables
from pairstill.training.validation import Validation
from pairstill.training.weight_average import WeightAverage

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitResult:
    """What a stage of training came to.

    Attributes:
        best: Best value of the validation metric, None where nothing was validated.
        best_pairs: Tuples presented when it was reached.
        pairs: Tuples presented in all.
        seconds: Of training and validation, interruptions not counted.
        texts_per_pair: Distinct texts encoded (or gathered) per tuple.
        history: One entry a look: pairs, loss, value, seconds.
        before: Value of the validation metric before the first step; None where nobody looked.
    """

    best: float | None
    best_pairs: int
    pairs: int
    seconds: float
    texts_per_pair: float
    history: Sequence[Mapping[str, float]] = field(default_factory=tuple)
    before: float | None = None


def fit(
    student: Student,
    sources: Sequence[ItemSource],
    data: TrainingData,
    loss: Loss,
    settings: TrainingSettings,
    folder: Path,
    *,
    validation: Validation | None = None,
    validation_sources: Sequence[ItemSource] | None = None,
    look_first: bool = False,
    accelerator: Any = None,
    progress: Callable[[int, int], None] | None = None,
) -> FitResult:
    """Train `student` in place; it ends with the weights of the best look at the validation metric.

    Interrupted, the same call goes on from the last checkpoint in `folder` and ends with the same weights, bit for bit, on
    the same machine with the same threads. Finished, the same call loads the result.

    Args:
        student: Parameters of the base are frozen where `settings.encoder_learning_rate` is None.
        sources: One a field.
        data: What to learn.
        loss: The objective.
        settings: How.
        folder: For checkpoints, `log.jsonl`, `result.json` and `best.safetensors`.
        validation: None keeps the last weights.
        validation_sources: None uses `sources`.
        look_first: Look before the first step, too: a student that begins as something useful remains so where no step makes it
            better.
        accelerator: An `accelerate.Accelerator` for several processes or trackers; None makes none. Trackers are told
            the loss every `settings.log_every` steps and every look, named after the folder.
        progress: Called with (tuples done, tuples in all).

    Raises:
        ArtefactError: `folder` was started with other data or settings, or another process trains in it.
        InputError: The loss is no longer a number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    main = accelerator is None or accelerator.is_main_process
    with locked_folder(folder) if main else contextlib.nullcontext():
        return _fit(
            student, sources, data, loss, settings, folder, validation, validation_sources, look_first, accelerator,
            progress,
        )  # fmt: skip


def _fit(
    student: Student,
    sources: Sequence[ItemSource],
    data: TrainingData,
    loss: Loss,
    settings: TrainingSettings,
    folder: Path,
    validation: Validation | None,
    validation_sources: Sequence[ItemSource] | None,
    look_first: bool,
    accelerator: Any,
    progress: Callable[[int, int], None] | None,
) -> FitResult:
    main = accelerator is None or accelerator.is_main_process
    if accelerator is not None:
        student.to(accelerator.device)
    identity = _identity(student, data, loss, settings, validation)
    if main:
        check_identity(folder, identity)
    if (folder / "result.json").exists():
        _load_best(student, folder)
        return FitResult(**read_json(folder / "result.json"))

    trained = _freeze(student, settings)
    scorer = TupleScorer(student, sources)
    looker = TupleScorer(student, validation_sources or sources)
    alone = accelerator is None or accelerator.num_processes == 1
    rows = RowGradients(row_tables(student))
    tokens = TokenGradients(token_tables(student) if alone else [])
    if rows.tables and not alone:
        raise InputError(
            f"the tables of a {student.name} are updated row by row, by one process",
            fix="Train it with one process; it needs no more",
        )
    optimizers = _optimizers(student, trained, rows.tables, settings)
    average = None
    if settings.average_decay is not None:
        average = WeightAverage([*trained, *_statistics(student)], settings.average_decay, rows.tables)
    checkpoint = Checkpoint(folder / "checkpoint")
    torch.manual_seed(settings.seed)
    saved_state = checkpoint.load(student, optimizers, average)
    state = saved_state or {
        "step": 0, "best": None, "best_step": 0, "since": 0, "seconds": 0.0, "texts": 0, "history": [], "losses": [], "before": None,
    }  # fmt: skip
    began, saved = time.perf_counter() - state["seconds"], time.perf_counter()
    freed_memory = FreedMemory()
    if saved_state is None and validation is not None and look_first:
        _look(state, validation, looker, settings, folder, began, main, accelerator)
        state["before"], state["since"] = state["best"], 0
    stepper = _distributed(scorer, accelerator)
    scorer.train()
    if settings.encoder_learning_rate is None:
        for module in student.encoder_modules():
            module.eval()

    processes = (1, 0) if alone else (accelerator.num_processes, accelerator.process_index)
    batches, steps = Batches(data, loss, settings, *processes), settings.steps
    every = max(1, (settings.evaluate_every or max(settings.pairs // 10, 1)) // settings.batch_size)
    # The last look is at the end, not once shortly before it, too.
    looks = {*range(every, steps - every // 2 + 1, every), steps}
    while state["step"] < steps and not (settings.patience is not None and state["since"] >= settings.patience):
        step = state["step"]
        batch = batches.batch(step, student.device)
        rate = rate_share(step, steps, settings.warmup, settings.schedule)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
        with rows.collected(), tokens.collected():
            with precision_context(settings.precision, student.device.type):
                logits = stepper(batch.index)
            value = loss(logits, batch.targets, batch.whole) * batch.share
            number = float(value.detach())
            if not math.isfinite(number):
                raise InputError(
                    f"the loss is {number} after {step * settings.batch_size:,} tuples: the training diverges",
                    fix=f"Lower the learning rates, with another --out or without {folder}",
                )
            torch.autograd.backward(value)
        # Else what the layers kept of this step would be in memory beside the next one's.
        del logits, value
        if settings.clip is not None:
            clip_gradients(trained, settings.clip)
        if average is not None:
            average.before_update()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        state["step"] = step + 1
        if average is not None:
            average.update(step + 1)
        state["texts"] += batch.texts * batch.rows
        state["losses"].append(number)
        if accelerator is not None and accelerator.trackers and (step + 1) % settings.log_every == 0:
            recent = float(np.mean(state["losses"][-settings.log_every :]))
            accelerator.log({f"{folder.name}/loss": recent}, step=(step + 1) * settings.batch_size)
        if validation is not None and state["step"] in looks:
            with average.in_place() if average is not None else contextlib.nullcontext():
                _look(state, validation, looker, settings, folder, began, main, accelerator)
            scorer.train()
            if settings.encoder_learning_rate is None:
                for module in student.encoder_modules():
                    module.eval()
        state["seconds"] = time.perf_counter() - began
        freed_memory.look()
        if main and time.perf_counter() - saved > settings.checkpoint_every_s:
            checkpoint.save(student, optimizers, average, state)
            saved = time.perf_counter()
        if main and progress is not None:
            progress(min(state["step"] * settings.batch_size, settings.pairs), settings.pairs)

    if validation is None and main:
        with average.in_place() if average is not None else contextlib.nullcontext():
            write_weights(folder / "best.safetensors", student.state_dict())
    result = FitResult(
        best=state["best"],
        best_pairs=state["best_step"] * settings.batch_size,
        pairs=min(state["step"] * settings.batch_size, settings.pairs),
        seconds=round(state["seconds"], 2),
        texts_per_pair=round(state["texts"] / max(1, state["step"] * settings.batch_size), 4),
        history=state["history"],
        before=state.get("before"),
    )
    if accelerator is not None:
        accelerator.wait_for_everyone()
    _load_best(student, folder)
    if main:
        write_json(folder / "result.json", asdict(result))
        checkpoint.remove()
    for parameter in student.parameters():
        parameter.requires_grad_(True)
    student.eval()
    return result


def _look(
    state: dict[str, Any],
    validation: Validation,
    looker: TupleScorer,
    settings: TrainingSettings,
    folder: Path,
    began: float,
    main: bool,
    accelerator: Any,
) -> None:
    value = validation.measure(looker, settings.precision)
    entry = {
        "pairs": state["step"] * settings.batch_size,
        "loss": float(np.mean(state["losses"])) if state["losses"] else None,
        validation.name: round(value, 6) if math.isfinite(value) else None,
        "seconds": round(time.perf_counter() - began, 1),
    }
    state["history"].append(entry)
    state["losses"] = []
    state["since"] += 1
    if state["best"] is None or value > state["best"]:
        # An undefined metric (Pearson of equal scores) is no best value, but the weights must be kept.
        state.update(best=value if math.isfinite(value) else None, best_step=state["step"], since=0)
        if main:
            write_weights(folder / "best.safetensors", looker.student.state_dict())
    if main:
        # Whole, so that looks repeated after an interruption stand in it once.
        write_text(folder / "log.jsonl", "".join(json.dumps(one) + "\n" for one in state["history"]))
        logger.info("%s", entry)
    if accelerator is not None and accelerator.trackers:
        accelerator.log({f"{folder.name}/{validation.name}": value}, step=entry["pairs"])


def _freeze(student: Student, settings: TrainingSettings) -> list[nn.Parameter]:
    encoders = student.encoder_modules() if settings.encoder_learning_rate is None else []
    frozen = {id(one) for module in encoders for one in module.parameters()}
    for parameter in student.parameters():
        parameter.requires_grad_(id(parameter) not in frozen)
    return [one for one in student.parameters() if one.requires_grad]


def _statistics(student: Student) -> list[torch.Tensor]:
    """Running statistics of batch normalisations: averaged weights go with an average of theirs, not with the last steps'."""
    return [one for name, one in student.named_buffers() if name.rpartition(".")[2] in ("running_mean", "running_var")]


def _optimizers(
    student: Student, trained: Sequence[nn.Parameter], tables: Sequence[nn.Parameter], settings: TrainingSettings
) -> list[torch.optim.Optimizer]:
    """One for what every step changes, and one for tables that are updated row by row."""
    by_row = {id(one) for one in tables}
    groups = _groups(student, trained, by_row, settings)
    dense = [group for group in groups if id(group["params"][0]) not in by_row]
    lazy = [group for group in groups if id(group["params"][0]) in by_row]
    optimizers = [dense_optimizer(dense, settings)]
    return [*optimizers, row_optimizer(lazy, settings)] if lazy else optimizers


def _groups(
    student: Student, trained: Sequence[nn.Parameter], by_row: set[int], settings: TrainingSettings
) -> list[dict[str, Any]]:
    """Parameter groups: new or old, with weight decay (matrices) or without, updated row by row or not."""
    # A cross-encoder has no encoder of its own, but all of it comes from the base; without a base all is new.
    from_base = student.transformers() and not student.encoder_modules()
    new = set() if from_base else {id(one) for one in student.new_parameters()}
    groups: dict[tuple[bool, bool, bool], dict[str, Any]] = {}
    for number, parameter in enumerate(trained):
        key = (id(parameter) in new, parameter.ndim > 1, id(parameter) in by_row)
        peak = (
            settings.learning_rate
            if key[0] or settings.encoder_learning_rate is None
            else settings.encoder_learning_rate
        )
        peak *= settings.table_rate if key[2] else 1.0
        group = groups.setdefault(
            key, {"params": [], "numbers": [], "peak": peak, "lr": 0.0, "weight_decay": settings.weight_decay * key[1]}
        )
        group["params"].append(parameter)
        group["numbers"].append(number)
    return list(groups.values())


def _distributed(scorer: TupleScorer, accelerator: Any) -> nn.Module:
    if accelerator is None or accelerator.num_processes == 1:
        return scorer
    prepared: nn.Module = nn.parallel.DistributedDataParallel(scorer)
    return prepared


def _load_best(student: Student, folder: Path) -> None:
    from safetensors.torch import load_file

    path = folder / "best.safetensors"
    if not path.exists():
        raise ArtefactError("the weights of the finished training are missing", file=path, fix=f"Remove {folder}")
    student.load_state_dict(load_file(path))


def _identity(
    student: Student,
    data: TrainingData,
    loss: Loss,
    settings: TrainingSettings,
    validation: Validation | None,
) -> dict[str, Any]:
    without = {"checkpoint_every_s", "log_every"} | (set() if row_tables(student) else {"table_rate"})
    return {
        "architecture": student.name,
        "config": fingerprint_json(asdict(student.config)),
        "data": data.fingerprint(),
        "texts": data.tuple_set,
        "loss": loss.description(),
        "settings": {key: value for key, value in asdict(settings).items() if key not in without},
        "validation": None if validation is None else [validation.name, TrainingData(validation.tuples).fingerprint()],
    }
