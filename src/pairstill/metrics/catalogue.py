"""All metrics by name, and which of them a table shows by default."""

from __future__ import annotations

from collections.abc import Sequence

from pairstill.errors import InputError, did_you_mean
from pairstill.metrics.base import Metric
from pairstill.metrics.binary import AucRoc, AveragePrecision, LogLoss
from pairstill.metrics.calibration import CalibrationError
from pairstill.metrics.classes import Accuracy, MacroF1
from pairstill.metrics.graded import Kendall, Pearson, Spearman
from pairstill.metrics.ranking import RankingMetric, parse_ranking_metric
from pairstill.tuples.set_manifest import LabelKind

POINT_METRICS: tuple[Metric, ...] = (
    AucRoc(), AveragePrecision(), LogLoss(), CalibrationError(), Pearson(), Spearman(), Kendall(), Accuracy(), MacroF1(),
)  # fmt: skip
RANKING_METRICS: tuple[Metric, ...] = (
    RankingMetric("nDCG", 10), RankingMetric("MRR", 10), RankingMetric("MAP"), RankingMetric("Recall", 10),
)  # fmt: skip
ALIASES = {"auc": "auc-roc", "ap": "average-precision", "ece": "calibration-error", "f1": "macro-f1"}


def default_metrics(kind: LabelKind) -> tuple[Metric, ...]:
    """What a table shows for labels of `kind`, the headline first.

    Raises:
        InputError: There are no labels.
    """
    if kind == "binary":
        return (AucRoc(), AveragePrecision(), LogLoss(), CalibrationError(), *RANKING_METRICS)
    if kind == "graded":
        return (Pearson(), Spearman(), Kendall(), *RANKING_METRICS)
    if kind == "classes":
        return (Accuracy(), MacroF1(), LogLoss(), CalibrationError())
    raise InputError("the tuple set has no labels", fix="Evaluate on a tuple set with a label column")


def find_metric(text: str, also: Sequence[str] = ()) -> Metric:
    """A metric by its name, in any letter case, whatever labels it reads.

    Args:
        text: The name.
        also: Names that the caller itself takes beside the metrics, for the message.

    Raises:
        InputError: There is no such metric; the nearest names are given.
    """
    name = ALIASES.get(text.strip().lower(), text.strip().lower())
    found = next((one for one in POINT_METRICS if one.name == name), None) or parse_ranking_metric(text)
    if found is None:
        names = [*(one.name for one in (*POINT_METRICS, *RANKING_METRICS)), *also]
        raise InputError(
            f"there is no metric '{text}'", expected=f"one of {', '.join(names)} (any number after @)",
            fix=did_you_mean(name, names, 0.4),
        )  # fmt: skip
    return found


def parse_metric(text: str, kind: LabelKind, also: Sequence[str] = ()) -> Metric:
    """A metric by its name, for labels of a kind; `also` as in `find_metric`.

    Raises:
        InputError: There is no such metric (see `find_metric`), or it is not defined for these labels.
    """
    found = find_metric(text, also)
    if kind not in found.kinds:
        right = [one.name for one in default_metrics(kind)]
        raise InputError(f"{found.title} is not defined for {kind} labels", expected=f"such as {', '.join(right)}")
    return found
