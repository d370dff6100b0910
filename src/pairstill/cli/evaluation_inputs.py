"""What `pairstill evaluate` reads before any model is run, and `pairstill run` before any is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairstill.errors import InputError

if TYPE_CHECKING:
    from pairstill.evaluation.analyses.request import Request
    from pairstill.metrics.base import Metric, Relevance
    from pairstill.tuples import Tuples, TupleSet


@dataclass(frozen=True)
class EvaluationInputs:
    """What students are measured on.

    Attributes:
        tuple_set: Loaded.
        parts: The splits that are asked for, by name.
        metrics: Those asked for, and the defaults of the labels.
        relevance: How ranking metrics read the labels.
    """

    tuple_set: TupleSet
    parts: dict[str, Tuples]
    metrics: list[Metric]
    relevance: Relevance


def analysis_of(values: Mapping[str, Any]) -> Request | None:
    """Refuse options of `evaluate` that contradict one another or would be ignored; what looks inside students is wanted.

    Args:
        values: `qrels`, `teacher`, `teacher_scores`, `precision` and the analyses' options as that verb, without `--run`, has them.

    Raises:
        InputError: They are such options.
    """
    from pairstill.cli.analyses import analysis_request
    from pairstill.machine import resolve_precision

    if values["qrels"] is not None:
        raise InputError("--qrels is given without --run", fix="Give both, or leave --qrels out: labels judge students")
    if values["teacher"] is not None and values["teacher_scores"] is not None:
        raise InputError("both --teacher and --teacher-scores are given", fix="Leave out one of them")
    resolve_precision(values["precision"])
    return analysis_request(
        values["analyses"], values["analysis"], values["against"], values["term"], values["case"], values["analysis_pairs"], values["seed"]
    )  # fmt: skip


def evaluation_inputs(values: Mapping[str, Any]) -> EvaluationInputs:
    """Read and check what the options of `evaluate` name, but for models and scores.

    Args:
        values: `tuples`, `split`, `metric`, `by`, `relevant_from` and `gain_levels` as that verb has them.

    Raises:
        InputError: A split, label, metric or slice does not fit the tuple set, or there is none.
    """
    from pairstill.evaluation.comparison import check_labels, check_slices
    from pairstill.metrics.catalogue import default_metrics, parse_metric
    from pairstill.tuples import TupleSet

    tuple_set = TupleSet.load(values["tuples"])
    parts = {name: tuple_set.split(name) for name in dict.fromkeys(values["split"] or ["test"])}
    for name, rows in parts.items():
        check_labels(tuple_set, name, rows)
    kind = tuple_set.labels.kind
    metrics = [parse_metric(one, kind) for one in values["metric"] or []]
    metrics += [one for one in default_metrics(kind) if one.name not in {found.name for found in metrics}]
    check_slices(tuple_set, values["by"] or [])
    return EvaluationInputs(
        tuple_set, parts, metrics, relevance_of(tuple_set, values["relevant_from"], values["gain_levels"])
    )


def check_evaluation(values: Mapping[str, Any]) -> None:
    """Refuse an evaluation whose options, tuple set, splits, metrics, slices, teacher or scores do not fit, before it has students.

    Raises:
        InputError: It is such a one.
    """
    from pairstill.evaluation.score_files import read_scores

    if values["run"]:
        raise InputError("--run measures runs, and a grid compares students", fix="Leave out run")
    analysis_of(values)
    inputs = evaluation_inputs(values)
    scores: Sequence[str] = values["scores"] or []
    for name, path in (name_and_path(one, "--scores", needs_name=True) for one in scores):
        read_scores(name, "other", Path(path), inputs.tuple_set, inputs.parts)
    if values["teacher_scores"] is not None:
        read_scores("teacher", "teacher", values["teacher_scores"], inputs.tuple_set, inputs.parts)
    if values["teacher"] is not None:
        check_teacher_folder(name_and_path(values["teacher"], "--teacher", default="teacher")[1])


def check_teacher_folder(path: str) -> None:
    """Refuse a path without a model; what may be a hub name, `owner/model`, is left to who loads it."""
    hub = path.count("/") == 1 and not path.startswith((".", "/", "~")) and not Path(path).parent.exists()
    if not hub and not (Path(path) / "config.json").exists():
        raise InputError(
            "there is no teacher in this folder",
            file=path,
            expected="a folder with config.json, or a hub name such as owner/model",
        )


def name_and_path(value: str, option: str, *, needs_name: bool = False, default: str | None = None) -> tuple[str, str]:
    """`NAME=PATH`, or a path alone, which is named by its folder or the default."""
    name, equals, path = value.partition("=")
    if equals and name and path:
        return name, path
    if equals or needs_name or not value:
        raise InputError(f"{option} {value!r} cannot be read", expected=f"{option} NAME=PATH")
    return default or Path(value).resolve().name, value


def relevance_of(tuple_set: TupleSet, relevant_from: float | None, gain_levels: int | None) -> Relevance:
    """How ranking metrics read labels, from the options; raises `InputError` where one is out of the labels' range."""
    from pairstill.metrics.base import Relevance

    how = Relevance.of(tuple_set.labels)
    labels = tuple_set.labels
    threshold = how.threshold
    if relevant_from is not None:
        low = labels.minimum if labels.minimum is not None else 0.0
        high = labels.maximum if labels.maximum is not None else 1.0
        if labels.kind == "classes" or not low < relevant_from <= high:
            raise InputError(
                f"--relevant-from is {relevant_from:g}",
                expected=f"above {low:g} and at most {high:g}, the labels' range",
            )
        threshold = (relevant_from - low) / (high - low)
    return Relevance(gain_levels or how.levels, threshold)
