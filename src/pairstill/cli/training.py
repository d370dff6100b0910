"""What the verbs that train have in common."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairstill.cli.flags import refuse_flags
from pairstill.cli.progress import progress_bar
from pairstill.errors import ArtefactError, InputError, MissingExtraError

if TYPE_CHECKING:
    from pairstill.losses import Loss
    from pairstill.students import Student
    from pairstill.teachers.scores import TeacherScores
    from pairstill.training.data import TrainingData
    from pairstill.training.validation import Validation
    from pairstill.tuples import TupleSet


AGREEMENT = "agreement"
TEACH, LAYERS, STAGE_1, STAGE_2 = "teach", "layers", "stage-1", "stage-2"
STAGE1_FLAGS = ("stage1_pairs", "stage1_batch_size", "stage1_learning_rate")
LAYERWISE_FLAGS = ("layerwise_pairs", "layerwise_learning_rate", "layer_map", "layer_term")


def validation_of(
    tuple_set: TupleSet,
    metric: str | None,
    rows: int,
    scores: TeacherScores | None = None,
    loss: Loss | None = None,
    slices: Mapping[str, Sequence[str]] | None = None,
) -> Validation:
    """The validation split and metric; `agreement`, and where no row has a label, is that with the teacher's scores.

    Where a loss learns against the other rows' passages, and the split has one row a query, too, the rank of its own passage
    among those of other queries.
    """
    import numpy as np

    from pairstill.metrics.catalogue import parse_metric
    from pairstill.metrics.ranking import RankingMetric
    from pairstill.training.validation import Validation

    labels = tuple_set.split("valid").labels
    if metric == AGREEMENT and scores is None:
        raise InputError(
            f"--metric {AGREEMENT} compares with a teacher's scores, and there are none", expected="a metric of labels"
        )
    if metric == AGREEMENT or (scores is not None and metric is None and (labels is None or np.isnan(labels).all())):
        return Validation.on_teacher(tuple_set, "valid", scores, rows, loss, slices)
    also = () if scores is None else (AGREEMENT,)
    wanted = None if metric is None else parse_metric(metric, tuple_set.labels.kind, also)
    if (
        not slices
        and loss is not None
        and loss.learns_lonely_rows
        and (wanted is None or isinstance(wanted, RankingMetric))
    ):
        among = Validation.among_others(tuple_set, "valid", wanted, rows)
        if among is not None:
            return among
    return Validation.on_labels(tuple_set, "valid", wanted, rows, slices)


def check_steps(out: Path, steps: Sequence[str]) -> None:
    """Refuse a folder where training would mix with that of other steps, or replace a model that was not trained there.

    Args:
        out: Folder of the model; its work is in `training`.
        steps: Of this training, in order.

    Raises:
        ArtefactError: It is such a folder.
    """
    work = out / "training"
    begun = [name for name in (LAYERS, STAGE_1, STAGE_2) if (work / name).exists()]
    if (work / "identity.json").exists():
        begun.insert(0, TEACH)
    if begun != list(steps[: len(begun)]):
        raise ArtefactError(
            f"the folder holds a training of other steps ({', '.join(begun)}; these are {', '.join(steps)})", file=out,
            expected="the same command as before, to resume it", fix="Give another --out, or remove the folder",
        )  # fmt: skip
    if not begun and (out / "config.json").exists():
        raise ArtefactError(
            "the folder holds a finished model, and no training to resume", file=out,
            fix="Give another --out, or remove the folder",
        )  # fmt: skip


def said(value: float | None) -> str:
    """A validation value as it is printed."""
    return "undefined" if value is None else f"{value:.4f}"


@contextlib.contextmanager
def progress_steps() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Progress bars one after another: asking for the next step's ends the one before."""
    stack = contextlib.ExitStack()

    def step(what: str) -> Callable[[int, int], None]:
        stack.close()
        unit = "texts" if what.startswith("Encoding") else "pairs"
        return stack.enter_context(progress_bar(what, unit))

    with stack:
        yield step


def open_accelerator(tracker: str | None, folder: Path) -> Any:
    """An `accelerate.Accelerator` where there are several processes or a tracker; None for one plain process."""
    import os

    if tracker is None and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    try:
        from accelerate import Accelerator
    except ModuleNotFoundError as error:
        raise MissingExtraError("accelerate", "train") from error
    try:
        if tracker is not None:
            from accelerate.tracking import get_available_trackers

            # Accelerate itself only warns, and trains without the tracker.
            if tracker not in [str(getattr(one, "value", one)) for one in get_available_trackers()]:
                raise ImportError(f"the package '{tracker}' is not installed")
        accelerator = Accelerator(log_with=tracker, project_dir=str(folder), cpu=True)
        if tracker is not None:
            accelerator.init_trackers("pairstill")
    except (ValueError, ImportError) as error:
        raise InputError(
            f"the tracker '{tracker}' cannot be used: {error}", expected="tensorboard or wandb, installed"
        ) from None
    return accelerator


def checked_loss(options: Mapping[str, Any]) -> Loss:
    """The loss that options of `pairstill distill` name, once what can be checked without data or students is checked.

    Args:
        options: Values by the parameters' names.

    Raises:
        InputError: A value is unknown, or a flag would be ignored.
    """
    from pairstill.losses import make_loss

    stages = options["stages"]
    if stages not in ("two", "one", "first"):
        raise InputError(f"--stages is '{stages}'", expected="two, one or first")
    if stages == "one":
        refuse_stage1(options, "--stages one leaves out stage 1")
    if options["layerwise"] is None:
        given = {f"--{name.replace('_', '-')}": options[name] for name in LAYERWISE_FLAGS}
        refuse_flags(given, "no --layerwise is given")
    return make_loss(
        options["loss"], temperature=options["temperature"], hard_weight=options["hard_weight"],
        settings=settings_given("--loss-set", options["loss_set"] or [], "scheme=lambdarank or mu=5"),
    )  # fmt: skip


def refuse_frozen_start(student: Student) -> None:
    """Refuse stage 1 alone where it would leave new parameters of the frozen encoders at their start."""
    frozen = {id(one) for part in student.encoder_modules() for one in part.parameters()}
    if any(id(one) in frozen for one in student.new_parameters()):
        raise InputError(
            "stage 1 freezes the encoders, and with them the weights of the weighted average, which would stay a plain mean",
            fix="Train stage 2 too, or set pooling=mean",
        )


def refuse_stage1(options: Mapping[str, Any], reason: str) -> None:
    """Refuse flags of a stage 1 that there is not."""
    refuse_flags({f"--{name.replace('_', '-')}": options[name] for name in STAGE1_FLAGS}, reason)


def training_data(
    tuple_set: TupleSet,
    folders: Sequence[Path],
    splits: Sequence[str] | None,
    loss: Loss,
    hard_weight: float,
    outputs: int | None = None,
) -> tuple[TrainingData, TeacherScores | None]:
    """Rows to learn from: those with a teacher's score, or with a label where labels alone are learnt; and all scores.

    Rows of the splits that have neither are left out, and at least one row must remain; where the loss compares rows, at least
    two of each split that share the first field's item with another. Two logits of a binary classifier become one, their
    difference, where the student is to give one (`outputs`; None: as many as the labels have).
    """
    import numpy as np
    import pyarrow.compute as pc

    from pairstill.scratch import positions, take
    from pairstill.teachers.scores import TeacherScores
    from pairstill.training.data import TrainingData

    present = set(pc.unique(tuple_set.tuples.column("split")).to_pylist())
    wanted = list(splits) if splits else [name for name in ("train", "transfer") if name in present]
    tuples = tuple_set.split(*wanted)
    if not folders:
        if loss.needs_teacher:
            raise InputError(
                "no teacher scores are given", fix="Give --scores FOLDER, or --hard-weight 1 to learn labels alone"
            )
        if tuples.labels is None:
            raise InputError("the tuple set has no labels, and no teacher scores are given", fix="Give --scores FOLDER")
        return _comparable(tuple_set, TrainingData(tuples).labelled(), wanted, loss), None
    scores = TeacherScores.load_joined(folders, tuple_set)
    loss.check_kind(scores.kind)
    _warn_of_sigmoids(scores, loss)
    if scores.outputs == 2 and (outputs or tuple_set.labels.outputs) == 1:
        scores = scores.as_single()
        print("the teacher gives two logits a row: their difference, logit_1 - logit_0, is learnt")
    logits = scores.for_rows(tuples.rows)
    known = positions(len(tuples), lambda piece: ~np.isnan(logits[piece]).any(axis=1))
    if not len(known):
        raise InputError(
            f"no row of {', '.join(wanted)} has a teacher's score", fix="Annotate these splits: `pairstill annotate`"
        )
    if len(known) < len(tuples):
        tuples, logits = tuples.take(known), take(logits, known)
    if (hard_weight > 0 or loss.needs_labels) and (tuples.labels is None or np.isnan(tuples.labels).all()):
        said = f"--hard-weight is {hard_weight:g}" if hard_weight > 0 else f"the loss '{loss.name}' learns labels"
        raise InputError(
            f"{said} and no scored row of {', '.join(wanted)} has a label",
            fix=f"{'Leave it out, or name' if hard_weight > 0 else 'Name'} a labelled split with --split",
        )
    data = TrainingData(tuples, logits, scores.kind)
    if loss.needs_labels:
        scored, data = len(data.tuples), data.labelled()
        if len(data.tuples) < scored:
            print(
                f"{scored - len(data.tuples):,} of {scored:,} scored rows have no label, which is what '{loss.name}' learns here: left out"
            )
    return _comparable(tuple_set, data, wanted, loss), scores


def _warn_of_sigmoids(scores: TeacherScores, loss: Loss) -> None:
    """Say what a loss has against probabilities, where scores of a scale of their own look like them."""
    from pairstill.scratch import pieces
    from pairstill.teachers.import_scores import ENOUGH_TO_TELL

    logits = scores.logits
    if scores.kind != "other" or len(scores) < ENOUGH_TO_TELL:
        return
    if not all(((logits[piece] >= 0) & (logits[piece] <= 1)).all() for piece in pieces(len(scores))):
        return
    try:
        loss.check_kind("probability")
    except InputError as error:
        print(
            f"note: all {len(scores):,} scores, which were imported as 'other', lie between 0 and 1. If they are probabilities: {error}",
            file=sys.stderr,
        )


def _comparable(tuple_set: TupleSet, data: TrainingData, splits: Sequence[str], loss: Loss) -> TrainingData:
    """What the loss can learn from; says how many rows that leaves out, and refuses a split of which nothing remains."""
    import numpy as np

    kept = data.for_loss(loss)
    for split in splits if loss.unit != "tuples" else ():
        # Rows rise in both.
        rows = tuple_set.split(split).rows
        places = np.searchsorted(kept.tuples.rows, rows).clip(max=len(kept.tuples) - 1)
        if not (kept.tuples.rows[places] == rows).any():
            field = tuple_set.field_names[0]
            raise InputError(
                f"the loss '{loss.name}' compares rows of the same {field}, and no two rows of the split '{split}' share one",
                fix=f"Name the other splits with --split, score several candidates of a {field}, or use --loss cross-entropy",
            )
    alone = len(data.tuples) - len(kept.tuples)
    if alone:
        print(f"{alone:,} of {len(data.tuples):,} rows are the only ones of their {tuple_set.field_names[0]}: left out")
    return kept


def settings_given(flag: str, settings: Sequence[str], such: str) -> dict[str, Any]:
    """Settings from a flag that is given as `key=value`, several times; `such` shows two."""
    import yaml

    values: dict[str, Any] = {}
    for one in settings:
        key, equals, text = one.partition("=")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = None
        if not equals or not isinstance(value, int | float | str):
            raise InputError(f"{flag} is given '{one}'", expected=f"key=value, such as {such}")
        values[key.strip()] = value
    return values


def take_field_kinds(values: dict[str, Any], student: str, tuple_set: TupleSet) -> None:
    """Set what a tuple set says about fields that hold no texts; settings of the user's stay.

    Raises:
        InputError: The student reads texts alone.
    """
    kinds = [one.kind for one in tuple_set.fields]
    if set(kinds) == {"text"}:
        return
    from dataclasses import fields

    from pairstill.students.persistence import ARCHITECTURES, architecture

    known = {name: {one.name for one in fields(kind.config_type)} for name, kind in ARCHITECTURES.items()}
    if "inputs" not in known.get(architecture(student).name, ()):
        other = next(one for one in tuple_set.fields if one.kind != "text")
        raise InputError(
            f"a {student} reads texts alone, and the field '{other.name}' is of kind {other.kind}",
            expected=f"one of {', '.join(sorted(name for name, one in known.items() if 'inputs' in one))}",
        )
    inputs = values.setdefault("inputs", {})
    if isinstance(inputs, dict):
        inputs.setdefault("kinds", kinds)
        if "numeric" in kinds and isinstance(inputs.setdefault("numeric", {}), dict):
            features = [len(tuple_set.values(place)[0]) for place, kind in enumerate(kinds) if kind == "numeric"]
            inputs["numeric"].setdefault("features", features)
    if "similarity_skip" in known[student] and (len(set(kinds)) > 1 or "numeric" in kinds):
        values.setdefault("similarity_skip", False)


def student_settings(config: Path | None, settings: Sequence[str]) -> dict[str, Any]:
    """Settings of a student from a YAML file, then from `--set key=value`, which win."""
    import yaml

    from pairstill.yaml_files import read_yaml

    values: dict[str, Any] = {}
    if config is not None:
        loaded = read_yaml(config, "file of settings")
        if not isinstance(loaded, dict):
            raise InputError("the file does not hold settings", file=config, expected="lines such as `projection: 128`")
        values = loaded
    for one in settings:
        key, equals, text = one.partition("=")
        if not equals:
            raise InputError(f"--set is given '{one}'", expected="key=value, such as keep=8,16")
        try:
            parsed = yaml.safe_load(f"[{text}]" if "," in text else text)
        except yaml.YAMLError:
            raise InputError(f"--set is given '{one}'", expected="a number, a word, or numbers with commas") from None
        target = values
        *parents, last = key.strip().split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise InputError(
                    f"--set is given '{one}'", expected=f"another setting: '{parent}' has a value of its own"
                )
        target[last] = (
            [parsed] if last in ("keep", "max_lengths", "widths") and not isinstance(parsed, list) else parsed
        )
    if not isinstance(values.get("encoder", {}), dict):
        raise InputError("the setting 'encoder' has no settings inside", expected="such as encoder.layers=3")
    return values
