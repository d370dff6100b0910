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
from torch import Tensor, nn

from pairstill.errors import ArtefactError, InputError
from pairstill.files import fingerprint_json, read_json, write_json, write_text
from pairstill.losses import DistillationLoss, Targets
from pairstill.students import Student
from pairstill.students.inference import precision_context
from pairstill.students.persistence import write_weights
from pairstill.training.checkpoint import Checkpoint
from pairstill.training.order import epoch_order
from pairstill.training.settings import TrainingSettings
from pairstill.training.sources import ItemSource, TupleScorer
from pairstill.training.validation import Validation
from pairstill.training.weight_average import WeightAverage
from pairstill.tuples import Tuples

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """Rows to learn from.

    Attributes:
        tuples: The rows.
        teacher_logits: `(rows, outputs)` raw logits; None where labels alone are learnt.
        tuple_set: Fingerprint of the set that the rows and their texts are from; None leaves it unchecked on resuming.
    """

    tuples: Tuples
    teacher_logits: np.ndarray | None = None
    tuple_set: str | None = None

    def fingerprint(self) -> str:
        """Of the rows, labels, weights and logits; the texts are in `tuple_set`."""
        import hashlib

        digest = hashlib.sha256()
        for array in (
            self.tuples.index,
            self.tuples.labels,
            self.tuples.weights,
            self.tuples.groups,
            self.teacher_logits,
        ):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def targets(self, rows: np.ndarray, device: torch.device) -> Targets:
        """Of the rows of a batch."""

        def tensor(array: np.ndarray | None) -> Tensor | None:
            return None if array is None else torch.from_numpy(array[rows]).to(device)

        return Targets(tensor(self.teacher_logits), tensor(self.tuples.labels), tensor(self.tuples.weights))


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
    """

    best: float | None
    best_pairs: int
    pairs: int
    seconds: float
    texts_per_pair: float
    history: Sequence[Mapping[str, float]] = field(default_factory=tuple)


def fit(
    student: Student,
    sources: Sequence[ItemSource],
    data: TrainingData,
    loss: DistillationLoss,
    settings: TrainingSettings,
    folder: Path,
    *,
    validation: Validation | None = None,
    validation_sources: Sequence[ItemSource] | None = None,
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
        accelerator: An `accelerate.Accelerator` for several processes or trackers; None makes none. Trackers are told
            the loss every `settings.log_every` steps and every look, named after the folder.
        progress: Called with (tuples done, tuples in all).

    Raises:
        ArtefactError: `folder` was started with other data or settings.
        InputError: The loss is no longer a number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    main = accelerator is None or accelerator.is_main_process
    if accelerator is not None:
        student.to(accelerator.device)
    identity = _identity(student, data, loss, settings, validation)
    if main:
        _check_identity(folder, identity)
    if (folder / "result.json").exists():
        _load_best(student, folder)
        return FitResult(**read_json(folder / "result.json"))

    trained = _freeze(student, settings)
    scorer = TupleScorer(student, sources)
    looker = TupleScorer(student, validation_sources or sources)
    optimizer = torch.optim.AdamW(
        _groups(student, trained, settings), betas=settings.betas, eps=settings.epsilon, fused=True
    )
    average = None if settings.average_decay is None else WeightAverage(trained, settings.average_decay)
    checkpoint = Checkpoint(folder / "checkpoint")
    torch.manual_seed(settings.seed)
    state = checkpoint.load(student, optimizer, average) or {
        "step": 0, "best": None, "best_step": 0, "since": 0, "seconds": 0.0, "texts": 0, "history": [], "losses": [],
    }  # fmt: skip
    stepper = _distributed(scorer, accelerator)
    scorer.train()
    if settings.encoder_learning_rate is None:
        for module in student.encoder_modules():
            module.eval()

    rows_in_all, steps = len(data.tuples), settings.steps
    every = max(1, (settings.evaluate_every or max(settings.pairs // 10, 1)) // settings.batch_size)
    began, saved = time.perf_counter() - state["seconds"], time.perf_counter()
    orders: dict[int, np.ndarray] = {}
    while state["step"] < steps and not (settings.patience is not None and state["since"] >= settings.patience):
        step = state["step"]
        rows = _rows_of_step(data.tuples, settings, step, rows_in_all, orders)
        mine, share = _share(data.tuples, rows, accelerator)
        rate = _rate(step, steps, settings.warmup)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        with precision_context(settings.precision, student.device.type):
            logits = stepper(data.tuples.index[mine])
        value = loss(logits, data.targets(mine, student.device))
        if not math.isfinite(float(value.detach())):
            raise InputError(
                f"the loss is {float(value.detach())} after {step * settings.batch_size:,} tuples: the training diverges",
                fix="Lower the learning rates",
            )
        torch.autograd.backward(value * share)
        if settings.clip is not None:
            nn.utils.clip_grad_norm_(trained, settings.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        state["step"] = step + 1
        if average is not None:
            average.update(step + 1)
        texts = sum(len(np.unique(data.tuples.index[mine, column])) for column in range(student.field_count))
        state["texts"] += texts / len(mine) * len(rows)
        state["losses"].append(float(value.detach()))
        if accelerator is not None and accelerator.trackers and (step + 1) % settings.log_every == 0:
            recent = float(np.mean(state["losses"][-settings.log_every :]))
            accelerator.log({f"{folder.name}/loss": recent}, step=(step + 1) * settings.batch_size)
        if validation is not None and (state["step"] % every == 0 or state["step"] == steps):
            with average.in_place() if average is not None else contextlib.nullcontext():
                _look(state, validation, looker, settings, folder, began, main, accelerator)
            scorer.train()
            if settings.encoder_learning_rate is None:
                for module in student.encoder_modules():
                    module.eval()
        state["seconds"] = time.perf_counter() - began
        if main and time.perf_counter() - saved > settings.checkpoint_every_s:
            checkpoint.save(student, optimizer, average, state)
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
        "loss": float(np.mean(state["losses"])),
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


def _rows_of_step(
    tuples: Tuples, settings: TrainingSettings, step: int, rows: int, orders: dict[int, np.ndarray]
) -> np.ndarray:
    """Rows of a step; a batch may reach over the end of a pass into the next one."""
    start, stop = step * settings.batch_size, min((step + 1) * settings.batch_size, settings.pairs)
    parts = []
    while start < stop:
        epoch, offset = divmod(start, rows)
        if epoch not in orders:
            orders.clear()
            orders[epoch] = epoch_order(tuples.index, tuples.groups, settings.seed, epoch, settings.cluster_rows)
        part = orders[epoch][offset : offset + stop - start]
        parts.append(part)
        start += len(part)
    return np.concatenate(parts)


def _share(tuples: Tuples, rows: np.ndarray, accelerator: Any) -> tuple[np.ndarray, float]:
    """This process's rows of a step, and the factor on its loss that makes the mean over processes the step's loss."""
    if accelerator is None or accelerator.num_processes == 1:
        return rows, 1.0
    mine = np.array_split(rows, accelerator.num_processes)[accelerator.process_index]
    if not len(mine):
        # A last step may have fewer rows than there are processes; everyone must take part in it.
        return rows[:1], 0.0
    if tuples.weights is None:
        return mine, accelerator.num_processes * len(mine) / len(rows)
    whole = max(float(tuples.weights[rows].sum()), 1e-12)
    return mine, accelerator.num_processes * float(tuples.weights[mine].sum()) / whole


def _rate(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up, then linear decay to zero."""
    rising = max(1, round(steps * warmup))
    return (step + 1) / rising if step < rising else max(0.0, (steps - step) / max(1, steps - rising))


def _freeze(student: Student, settings: TrainingSettings) -> list[nn.Parameter]:
    new = {id(one) for one in student.new_parameters()}
    for parameter in student.parameters():
        parameter.requires_grad_(id(parameter) in new or settings.encoder_learning_rate is not None)
    return [one for one in student.parameters() if one.requires_grad]


def _groups(student: Student, trained: Sequence[nn.Parameter], settings: TrainingSettings) -> list[dict[str, Any]]:
    """Parameter groups: new or old, with weight decay (matrices) or without."""
    new = {id(one) for one in student.new_parameters()} if student.encoder_modules() else set()
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for number, parameter in enumerate(trained):
        key = (id(parameter) in new, parameter.ndim > 1)
        peak = (
            settings.learning_rate
            if key[0] or settings.encoder_learning_rate is None
            else settings.encoder_learning_rate
        )
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
    loss: DistillationLoss,
    settings: TrainingSettings,
    validation: Validation | None,
) -> dict[str, Any]:
    timing = {"checkpoint_every_s", "log_every"}
    return {
        "architecture": student.name,
        "config": fingerprint_json(asdict(student.config)),
        "data": data.fingerprint(),
        "texts": data.tuple_set,
        "loss": asdict(loss),
        "settings": {key: value for key, value in asdict(settings).items() if key not in timing},
        "validation": None if validation is None else [validation.name, TrainingData(validation.tuples).fingerprint()],
    }


def _check_identity(folder: Path, identity: dict[str, Any]) -> None:
    """A checkpoint belongs to one set of data and settings; mixing them silently would be a wrong result."""
    path = folder / "identity.json"
    if not path.exists():
        write_json(path, identity)
        return
    found = read_json(path)
    wanted = json.loads(json.dumps(identity))
    different = sorted(key for key in wanted if key in found and found[key] != wanted[key])
    if different:
        raise ArtefactError(
            f"the folder holds a training with other {', '.join(different)}", file=folder,
            expected="the same command as before, to resume it", fix="Give another --out, or remove the folder",
        )  # fmt: skip
