"""Published procedures: fine-tune a teacher; distil a student in one stage or in two."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pairstill.errors import InputError
from pairstill.files import MANIFEST, fingerprint_json, locked_folder, write_json
from pairstill.losses import DistillationLoss, Loss
from pairstill.representation import Representation
from pairstill.store import RepresentationStore, write_store
from pairstill.students import CrossEncoder, Student
from pairstill.students.heads.calibration import Calibration
from pairstill.students.heads.cosine import CosineHead
from pairstill.students.heads.similarity_skip import SimilaritySkip
from pairstill.students.persistence import state_fingerprint
from pairstill.training.batches import Batches
from pairstill.training.data import TrainingData, items_of
from pairstill.training.loop import FitResult, fit
from pairstill.training.settings import TrainingSettings
from pairstill.training.sources import ItemSource, StoreSource, token_sources
from pairstill.training.validation import Validation
from pairstill.tuples import TupleSet

ENCODER_OUTPUTS, STORE = "encoder-outputs", "store"
"""Where stage 1 stores them, and each of them inside."""

ProgressOf = Callable[[str], Callable[[int, int], None] | None]
"""Gives the progress callable of a named step."""


def no_progress(step: str) -> None:
    """Show nothing."""
    del step


def teach(
    tuple_set: TupleSet,
    teacher: CrossEncoder,
    settings: TrainingSettings,
    folder: Path,
    *,
    validation: Validation,
    split: str = "train",
    loss: Loss | None = None,
    accelerator: Any = None,
    progress_of: ProgressOf = no_progress,
) -> FitResult:
    """Fine-tune a cross-encoder on labels.

    Args:
        tuple_set: Labelled rows in `split`.
        teacher: Trained in place; ends as the best look at the validation metric.
        settings: `encoder_learning_rate` is used for the whole model.
        folder: Work folder, for checkpoints and the log.
        validation: Chooses the best state.
        split: Rows to learn from.
        loss: Learns from labels alone; None is sigmoid cross-entropy for binary and graded ones, softmax for classes.
            `RankNet("labels")` is what Margin-MSE trains its teachers with.
        accelerator: For several processes or trackers.
        progress_of: Gives the progress callable of a named step.

    Raises:
        InputError: The split has no labelled rows, or labels of another number of outputs, or the loss cannot learn from them.
    """
    teacher.check_fields(tuple_set)
    tuples = tuple_set.split(split)
    if tuples.labels is None or np.isnan(tuples.labels).all():
        raise InputError(f"the split '{split}' has no labels", expected="labelled rows to learn from")
    if tuple_set.labels.outputs != teacher.outputs:
        raise InputError(
            f"the teacher gives {teacher.outputs} outputs", expected=f"{tuple_set.labels.outputs} for these labels"
        )
    loss = loss or DistillationLoss(hard_weight=1.0)
    loss.check_outputs(teacher.outputs)
    data = TrainingData(tuples.take(np.flatnonzero(~np.isnan(tuples.labels))), tuple_set=tuple_set.fingerprint)
    return fit(
        teacher, token_sources(teacher, tuple_set), data.for_loss(loss), loss, settings, folder, validation=validation, accelerator=accelerator, progress=progress_of("Training the teacher"),
    )  # fmt: skip


@dataclass(frozen=True)
class DistillationPlan:
    """Which stages a student goes through.

    Attributes:
        stage1: Encoder frozen, its outputs stored once, new parameters trained; None leaves the stage out (one-stage
            training). Students without an encoder of their own (the cross-encoder) have no such stage.
        stage2: Everything trained; None stops after stage 1.
    """

    stage1: TrainingSettings | None
    stage2: TrainingSettings | None


@dataclass(frozen=True)
class DistillationResult:
    """What each stage came to; None for a stage that was left out."""

    stage1: FitResult | None
    stage2: FitResult | None

    @property
    def best(self) -> float | None:
        """The validation metric that the student ends with."""
        values = [one.best for one in (self.stage1, self.stage2) if one is not None and one.best is not None]
        return max(values, default=None)

    @property
    def before(self) -> float | None:
        """The validation metric before anything was trained; the student stays so where nothing was better."""
        return next((one.before for one in (self.stage1, self.stage2) if one is not None), None)


def distil(
    tuple_set: TupleSet,
    student: Student,
    data: TrainingData,
    loss: Loss,
    plan: DistillationPlan,
    folder: Path,
    *,
    validation: Validation | None = None,
    encoder_outputs: Path | None = None,
    accelerator: Any = None,
    progress_of: ProgressOf = no_progress,
) -> DistillationResult:
    """Train a student on teacher scores, labels, or both, in one stage or in two (DiPair, section 3.7).

    Stage 1 freezes the encoders. Their outputs cannot change, so they are computed once, stored before the projection, and
    read back: a stage-1 step costs a head's step. Stage 2 trains everything and encodes each distinct text of a batch once.
    Losses that compare tuples work in both: batches are made of whole groups, the rows of one item of the first field, and
    rows without a partner are left out.
    Where stage 2 does not beat the validation metric of stage 1, the student of stage 1 is what remains.

    Args:
        tuple_set: Where the texts are.
        student: Trained in place.
        data: Rows and teacher logits.
        loss: The objective.
        plan: The stages.
        folder: Work folder; interrupted, the same call resumes.
        validation: Chooses the best state of each stage; None keeps the last.
        encoder_outputs: Where stage 1 stores them, and finds those that another student of the same encoder, settings and texts
            has stored; None takes `folder`.
        accelerator: For several processes or trackers.
        progress_of: Gives the progress callable of a named step.

    Raises:
        InputError: No stage would train anything, the student gives other outputs than the teacher or the labels, or the loss
            does not take these scores or rows (see `TrainingData.for_loss`).
    """
    student.check_fields(tuple_set)
    data = data.for_loss(loss)
    _check_plan(student, data, loss, plan, tuple_set)
    data = replace(data, tuple_set=tuple_set.fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    first: FitResult | None = None
    before: dict[str, torch.Tensor] | None = None
    initialise_similarity(student, tuple_set, data, loss)
    if plan.stage1 is not None and student.encoder_modules():
        stored = encoder_outputs or folder / ENCODER_OUTPUTS
        with accelerator.main_process_first() if accelerator is not None else contextlib.nullcontext():
            # A finished stage is only loaded.
            finished = (folder / "stage-1" / "result.json").exists()
            sources = (
                [] if finished
                else stored_sources(tuple_set, student, data, validation, stored, plan.stage1.precision, progress_of)
            )  # fmt: skip
        first = fit(
            student, sources, data, loss, replace(plan.stage1, encoder_learning_rate=None), folder / "stage-1",
            validation=validation, look_first=True, accelerator=accelerator, progress=progress_of("Stage 1: new parameters"),
        )  # fmt: skip
        before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    second: FitResult | None = None
    if plan.stage2 is not None:
        second = fit(
            student, token_sources(student, tuple_set), data, loss, plan.stage2, folder / "stage-2",
            validation=validation, look_first=first is None, accelerator=accelerator, progress=progress_of("Stage 2: everything"),
        )  # fmt: skip
        if before is not None and first is not None and _worse(second.best, first.best):
            student.load_state_dict(before)
    result = DistillationResult(first, second)
    write_json(folder / "distillation.json", asdict(result))
    return result


def _check_plan(student: Student, data: TrainingData, loss: Loss, plan: DistillationPlan, tuple_set: TupleSet) -> None:
    if plan.stage2 is None and (plan.stage1 is None or not student.encoder_modules()):
        raise InputError(
            f"no stage would train this {student.name}",
            expected="stage 2; a student whose encoder reads the whole tuple, or starts from nothing, has no stage 1",
        )
    loss.check_outputs(student.outputs)
    if loss.unit == "in-batch" and isinstance(student, CrossEncoder):
        raise InputError(
            f"the loss '{loss.name}' scores every query of a batch with every passage, and a cross-encoder pays a whole "
            "transformer for each",
            fix="Use a student that encodes fields apart, or --loss margin-mse",
        )
    learnt = {}
    if data.teacher_logits is not None and loss.learns_teacher:
        learnt["teacher gives"] = data.teacher_logits.shape[1]
    labels = tuple_set.labels
    # Labels that are not learnt still measure the student, by one number or by the difference of two.
    measured = labels.kind == "classes" or (labels.kind != "none" and student.outputs > 2)
    if data.teacher_logits is None or measured or (loss.learns_labels and data.tuples.labels is not None):
        learnt["labels have"] = labels.outputs
    for source, outputs in learnt.items():
        if outputs != student.outputs:
            gives = f"{student.outputs} output{'s' if student.outputs != 1 else ''}"
            raise InputError(
                f"the student gives {gives}, the {source} {outputs}", expected="as many",
                fix=f"Set outputs={outputs}" + (f", or give scores of {gives}" if source == "teacher gives" else ""),
            )  # fmt: skip


def discard_encoder_outputs(folder: Path) -> None:
    """Delete what stage 1 stored; it is large, and only a resumed or repeated stage 1 needs it."""
    shutil.rmtree(folder / ENCODER_OUTPUTS, ignore_errors=True)


def stored_sources(
    tuple_set: TupleSet,
    student: Student,
    data: TrainingData,
    validation: Validation | None,
    folder: Path,
    precision: str,
    progress_of: ProgressOf = no_progress,
) -> list[ItemSource]:
    """Store the encoder outputs, before the projection, of every item that training or validation needs.

    Fields that share an encoder, a collection, a maximum length and a rule of what is kept share a store.
    """
    sources: list[ItemSource] = []
    made: dict[Any, StoreSource] = {}
    parts = [data.tuples.index] + ([validation.tuples.index] if validation is not None else [])
    for field, name in enumerate(tuple_set.field_names):
        key = _store_key(student, tuple_set, field)
        sharing = [other for other in range(student.field_count) if _store_key(student, tuple_set, other) == key]
        if key not in made:
            items = items_of(parts, sharing, len(tuple_set.collection_of(field)))
            made[key] = _store_field(
                tuple_set, student, field, items, folder, precision, progress_of(f"Encoding '{name}'")
            )
        sources.append(made[key])
    return sources


def _store_key(student: Student, tuple_set: TupleSet, field: int) -> Any:
    encoder = id(student.encoding_modules(field)["encoder"])
    return encoder, tuple_set.fields[field].collection, json.dumps(student.encoding_settings(field))


def _store_field(
    tuple_set: TupleSet, student: Student, field: int, items: np.ndarray, folder: Path, precision: str, progress: Any
) -> StoreSource:
    tokens = student.tokenize(field, tuple_set.values(field, items))

    def encode(start: int, stop: int) -> Representation[np.ndarray]:
        return student.encode(field, tokens.part(start, stop), precision=precision, before_projection=True)

    fingerprint = encoder_fingerprint(student, field, items)
    places = np.full(len(tuple_set.collection_of(field)), -1, dtype=np.int64)
    places[items] = np.arange(len(items))
    place = folder / fingerprint_json([tuple_set.fingerprint, fingerprint, precision])[:16]
    place.mkdir(parents=True, exist_ok=True)
    # Another student of the same encoder may be storing them just now.
    with locked_folder(place, wait=True):
        if (place / STORE / MANIFEST).exists():
            return StoreSource(RepresentationStore.open(place / STORE, fingerprint), places)
        store: RepresentationStore = write_store(
            place / STORE, encode, len(items), encoder_fingerprint=fingerprint, field=tuple_set.field_names[field],
            dtype="bfloat16" if precision == "bfloat16" else "float32",
            stride="ragged" if student.encoder_vectors(field) is None else "fixed", progress=progress,
        )  # fmt: skip
        return StoreSource(store, places)


def encoder_fingerprint(student: Student, field: int, items: np.ndarray | None = None) -> str:
    """Of the encoder of a field as it is now, and of the items that it is run on."""
    import hashlib

    encoder = student.encoding_modules(field)["encoder"]
    digest = "" if items is None else hashlib.sha256(np.ascontiguousarray(items).tobytes()).hexdigest()
    return state_fingerprint(dict(encoder.state_dict()), [*student.encoding_settings(field), digest])


def initialise_similarity(
    student: Student, tuple_set: TupleSet, data: TrainingData, loss: Loss, sample: int = 1024
) -> None:
    """Fit scale and bias of the cosine (the skip's, or the cosine head's) to a sample, by a few Newton-like steps.

    A learning rate that suits a network moves two numbers far too slowly, and a wrong scale makes the head learn to undo it.
    A similarity whose encoders or whose teacher know nothing yet may fit better upside down; it keeps its start, so that near stays
    relevant. So does one whose loss falls without end.
    """
    parts = student.scoring_head()
    terms: list[torch.nn.Module] = [one for one in parts or () if isinstance(one, SimilaritySkip | CosineHead)]
    calibration = getattr(parts[0], "calibration", None) if parts else None
    if isinstance(calibration, Calibration):
        terms = [calibration]
    if not terms:
        return
    if loss.unit == "tuples":
        rows = np.unique(np.linspace(0, len(data.tuples) - 1, min(sample, len(data.tuples))).astype(np.int64))
        index, targets = data.tuples.index[rows], data.targets(rows, student.device)
    else:
        size = min(sample if loss.unit == "groups" else sample // 8, len(data.tuples))
        batch = Batches(data, loss, TrainingSettings(batch_size=size, pairs=size)).batch(0, student.device)
        index, targets = batch.index, batch.targets
    # In evaluation mode: a head's running statistics are not for this.
    student.eval()
    prepared = []
    local = np.empty_like(index)
    for field in range(student.field_count):
        items, local[:, field] = np.unique(index[:, field], return_inverse=True)
        block = student.encode(field, tuple_set.values(field, items))
        with torch.no_grad():
            prepared.append(student.prepare(field, block))
    parameters: list[torch.Tensor] = [one for term in terms for one in term.parameters(recurse=False)]
    optimizer = torch.optim.LBFGS(parameters, max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(student.score(prepared, torch.from_numpy(local).to(student.device)), targets)
        torch.autograd.backward(value, inputs=parameters)
        return value

    start = [one.detach().clone() for one in parameters]
    try:
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        lowest = float(closure().detach())
    except RuntimeError as error:
        # Where labels order pairs against the teacher's margins, weighted RankNet has no minimum, and steps leave the range of floats.
        if "overflow" not in str(error):
            raise
        lowest = float("-inf")
    scales = [one.scale.detach() for one in terms if isinstance(one, SimilaritySkip | CosineHead | Calibration)]
    upside_down = student.outputs == 1 and not any(bool((one > 0).any()) for one in scales)
    if upside_down or not lowest > -1e-6:
        with torch.no_grad():
            torch._foreach_copy_(parameters, start)
    student.zero_grad(set_to_none=True)


def _worse(second: float | None, first: float | None) -> bool:
    return second is not None and first is not None and second < first
