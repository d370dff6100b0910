"""Ranking metrics by group, computed by ir-measures (trec_eval's definitions)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from pairstill.metrics.base import Floats, Measured, Metric, Predictions, ratio
from pairstill.tuples.set_manifest import LabelKind

Family = Literal["nDCG", "MRR", "MAP", "Recall"]
FAMILIES: tuple[Family, ...] = ("nDCG", "MRR", "MAP", "Recall")


@dataclass(frozen=True, repr=False)
class RankingMetric(Metric):
    """nDCG@k, MRR@k, MAP, MAP@k or Recall@k: the mean over groups of what ir-measures gives each.

    nDCG reads integer gains (linear, discounted by log2 of the rank + 1), the others read relevant or not; how labels
    become either is `Predictions.relevance`. A group without a relevant row says nothing about a ranking and is left out.
    Equal scores are ordered by document name as trec_eval does.

    Attributes:
        family: Which of the four.
        depth: The k; None for the whole list, which MAP alone reads.
    """

    family: Family
    depth: int | None = None
    kinds: ClassVar[frozenset[LabelKind]] = frozenset({"binary", "graded"})

    @property
    def name(self) -> str:  # type: ignore[override]
        """Such as `nDCG@10`."""
        return self.family if self.depth is None else f"{self.family}@{self.depth}"

    title = name

    def of_library(self) -> Any:
        """The measure as ir-measures names it."""
        import ir_measures

        one = {"nDCG": ir_measures.nDCG, "MRR": ir_measures.RR, "MAP": ir_measures.AP, "Recall": ir_measures.R}[
            self.family
        ]
        return one if self.depth is None else one @ self.depth

    def by_group(self, predictions: Predictions) -> Floats:
        """`(groups,)` value of each group, NaN where it has no relevant row."""
        import ir_measures

        graded = self.family == "nDCG"
        relevance = predictions.relevance
        truth = relevance.gains(predictions.labels) if graded else relevance.relevant(predictions.labels)
        names = predictions.documents
        judged: dict[str, dict[str, int]] = {}
        run: dict[str, dict[str, float]] = {}
        for row, group in enumerate(predictions.groups):
            document = f"{row:012d}" if names is None else str(names[row])
            judged.setdefault(str(group), {})[document] = int(truth[row])
            run.setdefault(str(group), {})[document] = float(predictions.scores[row])
        judged = {group: rows for group, rows in judged.items() if any(rows.values())}
        values = np.full(predictions.group_count, np.nan)
        if judged:
            kept = {group: run[group] for group in judged}
            for one in ir_measures.iter_calc([self.of_library()], judged, kept):
                values[int(one.query_id)] = one.value
        return values

    def _measure(self, predictions: Predictions) -> Measured:
        values = self.by_group(predictions)
        if np.isnan(values).all():
            return Measured(None, "no group has a relevant row")
        return Measured(float(np.nanmean(values)))

    def resampled(self, predictions: Predictions, weights: np.ndarray) -> Floats:
        """By the value of each group."""
        values = self.by_group(predictions)
        there = (~np.isnan(values)).astype(np.float64)
        return ratio(weights @ np.nan_to_num(values), weights @ there)


def parse_ranking_metric(text: str) -> RankingMetric | None:
    """`nDCG@10`, `mrr@5`, `MAP`, `MAP@1000`, `Recall@100` in any letter case; None where it is none of these."""
    match = re.fullmatch(r"([A-Za-z]+)(?:@([1-9][0-9]*))?", text.strip())
    if match is None:
        return None
    family = next((one for one in FAMILIES if one.lower() == match[1].lower()), None)
    if family is None or (match[2] is None and family != "MAP"):
        return None
    return RankingMetric(family, None if match[2] is None else int(match[2]))
