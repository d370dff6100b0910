"""The metric by which the best state of a training is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from pairstill.errors import InputError
from pairstill.losses import DistillationLoss, Loss, MarginMSE, Mixture, RankNet, ScoreKind, Targets
from pairstill.metrics.base import Metric, Predictions, Relevance
from pairstill.metrics.catalogue import default_metrics
from pairstill.metrics.ranking import RankingMetric
from pairstill.students.inference import precision_context
from pairstill.teachers.scores import TeacherScores
from pairstill.training.data import TrainingData
from pairstill.training.sources import TupleScorer
from pairstill.tuples import Tuples, TupleSet

BLOCK_QUERIES = 32
"""Queries, and passages, that `Validation.among_others` crosses."""


@dataclass(frozen=True)
class Validation:
    """Rows to look at during training, and what to measure on them; higher is better.

    Attributes:
        tuples: The rows.
        metric: On the labels; None measures the agreement with the teacher (minus the loss).
        kind: Of the labels.
        teacher_logits: `(rows, outputs)` for the agreement; None where labels are used.
        loss: Measures the agreement.
        score_kind: What `teacher_logits` are.
        relevance: How ranking metrics read the labels; None reads them as binary.
    """

    tuples: Tuples
    metric: Metric | None
    kind: str
    teacher_logits: np.ndarray | None = None
    relevance: Relevance | None = None
    loss: Loss = field(default_factory=DistillationLoss)
    score_kind: ScoreKind = "logit"

    @classmethod
    def on_labels(
        cls,
        tuple_set: TupleSet,
        split: str,
        metric: Metric | None = None,
        limit: int | None = None,
        slices: Mapping[str, Sequence[str]] | None = None,
    ) -> Validation:
        """The headline metric (AUC-ROC, Pearson after the sigmoid, accuracy) on a labelled split.

        Args:
            tuple_set: Where the split is.
            split: Usually `valid`.
            metric: None takes the headline metric of these labels.
            limit: Look at so many whole groups' rows at most, spread evenly; None looks at all.
            slices: Slice column -> values of the rows to look at; None looks at all.

        Raises:
            InputError: The split has no labels, they leave the metric undefined, or no row is in the slices.
        """
        tuples = tuple_set.in_slices(tuple_set.split(split), slices or {}, f"row of the split '{split}'")
        if tuples.labels is None or np.isnan(tuples.labels).all():
            raise InputError(f"the split '{split}' has no labels", expected="a labelled split to validate on")
        tuples = tuples.take(np.flatnonzero(~np.isnan(tuples.labels)))
        tuples = _some_groups(tuples, limit)
        labels = tuple_set.labels
        chosen = cls(tuples, metric or default_metrics(labels.kind)[0], labels.kind, None, Relevance.of(labels))
        logits = np.random.default_rng(0).standard_normal((len(tuples), labels.outputs))
        tried = chosen.metric.measure(chosen.predictions(logits))  # type: ignore[union-attr]
        if tried.value is None:
            raise InputError(
                f"{chosen.name} is not defined on the split '{split}': {tried.reason}",
                fix="Choose another metric, or label other rows",
            )
        return chosen

    @classmethod
    def among_others(
        cls, tuple_set: TupleSet, split: str, metric: Metric | None = None, limit: int | None = None
    ) -> Validation | None:
        """The rank of a query's own passage among those of other queries, for pairs of which no query has a second one.

        Relevant rows stand in blocks of `BLOCK_QUERIES`, and every query of a block meets every passage of it. The passages of
        other queries count as irrelevant.

        Args:
            tuple_set: Where the split is.
            split: Usually `valid`.
            metric: A ranking metric; None takes MRR@10.
            limit: Look at so many of these pairs at most, whole blocks spread evenly; None looks at all.

        Returns:
            None where a query has several rows, a row is irrelevant or there are not two passages: labels say more then.
        """
        tuples = tuple_set.split(split)
        rest = tuples.index[:, 1:]
        if (
            tuples.labels is None
            or not len(tuples)
            or not (tuples.labels > 0.5).all()
            or len(np.unique(tuples.index[:, 0])) < len(tuples)
            or not (rest != rest[0]).any()
        ):
            return None
        size = min(BLOCK_QUERIES, len(tuples))
        starts = np.arange(len(tuples) // size) * size
        if limit is not None:
            starts = starts[:: max(1, -(-len(starts) * size * size // max(limit, size * size)))]
        queries = np.repeat(starts[:, None] + np.arange(size), size, axis=1).reshape(-1)
        passages = np.tile(starts[:, None] + np.arange(size), (1, size)).reshape(-1)
        index = np.concatenate([tuples.index[queries, :1], rest[passages]], axis=1)
        own = (index[:, 1:] == rest[queries]).all(axis=1)
        crossed = Tuples(index, tuples.rows[queries], own.astype(np.float32), None, queries)
        return cls(crossed, metric or RankingMetric("MRR", 10), "binary")

    @classmethod
    def on_teacher(
        cls,
        tuple_set: TupleSet,
        split: str,
        scores: TeacherScores | None,
        limit: int | None = None,
        loss: Loss | None = None,
        slices: Mapping[str, Sequence[str]] | None = None,
    ) -> Validation:
        """The agreement with the teacher: minus the loss that is trained.

        In-batch losses have no batch here: margins inside groups stand for in-batch margins, RankNet for cross-entropy.

        Args:
            tuple_set: Where the split is.
            split: Usually `valid`.
            scores: The teacher's logits.
            limit: Look at so many whole groups' rows at most, spread evenly; None looks at all.
            loss: None measures the cross-entropy with the teacher's soft labels.
            slices: Slice column -> values of the rows to look at; None looks at all.

        Raises:
            InputError: The split has no scores, none that the loss can be measured on, or no row in the slices.
        """
        tuples = tuple_set.in_slices(tuple_set.split(split), slices or {}, f"row of the split '{split}'")
        logits = scores.for_rows(tuples.rows) if scores is not None else np.full((len(tuples), 1), np.nan, np.float32)
        tuples = tuples.take(np.flatnonzero(~np.isnan(logits).any(axis=1)))
        if not len(tuples) or scores is None:
            raise InputError(
                f"the split '{split}' has no teacher scores to agree with", expected="rows to validate on",
                fix=f"Annotate it as well: `pairstill annotate --split {split}`",
            )  # fmt: skip
        tuples = _some_groups(tuples, limit)
        measured = _without_batches(loss or DistillationLoss())
        data = TrainingData(tuples, scores.for_rows(tuples.rows).astype(np.float32), scores.kind).for_loss(measured)
        return cls(data.tuples, None, tuple_set.labels.kind, data.teacher_logits, loss=measured, score_kind=scores.kind)

    def predictions(self, logits: np.ndarray) -> Predictions:
        """Logits `(rows, outputs)` beside the labels of the rows."""
        return Predictions.of(
            logits, self.tuples.labels, self.tuples.groups, self.kind, relevance=self.relevance  # type: ignore[arg-type]
        )  # fmt: skip

    @property
    def name(self) -> str:
        """What is measured, such as `auc-roc`; `minus log-loss` where lower would be better."""
        if self.metric is None:
            return "minus loss against the teacher"
        return self.metric.name if self.metric.higher_is_better else f"minus {self.metric.name}"

    def measure(self, scorer: TupleScorer, precision: str, batch_size: int = 512) -> float:
        """The value for a model as it is now; the state of random numbers is left alone."""
        training = scorer.training
        scorer.eval()
        parts = []
        order = np.lexsort((self.tuples.index[:, -1], self.tuples.groups))
        with torch.inference_mode(), precision_context(precision, scorer.student.device.type):
            for start in range(0, len(order), batch_size):
                parts.append(scorer(self.tuples.index[order[start : start + batch_size]]).float().cpu().numpy())
        scorer.train(training)
        logits = np.empty((len(order), scorer.student.outputs), dtype=np.float32)
        logits[order] = np.concatenate(parts)
        if self.metric is None:
            targets = Targets(
                torch.from_numpy(self.teacher_logits),
                groups=torch.from_numpy(self.tuples.compared),
                score_kind=self.score_kind,
            )
            return -float(self.loss(torch.from_numpy(logits), targets))
        if not np.isfinite(logits).all():
            raise InputError("a logit is not a finite number: the training diverges", fix="Lower the learning rates")
        measured = self.metric.measure(self.predictions(logits))
        if measured.value is None:
            return float("-inf")
        return measured.value if self.metric.higher_is_better else -measured.value


def _without_batches(loss: Loss) -> Loss:
    """The teacher's part of a loss, measurable on any rows."""
    if isinstance(loss, Mixture):
        return _without_batches(loss.soft)
    if not loss.learns_teacher:
        return DistillationLoss()
    if getattr(loss, "order", "teacher") == "labels":
        return RankNet()
    if loss.unit == "in-batch":
        return MarginMSE() if "margin" in loss.name else RankNet()
    return loss


def _some_groups(tuples: Tuples, limit: int | None) -> Tuples:
    """Whole groups, evenly spread, of about `limit` rows."""
    if limit is None or len(tuples) <= limit:
        return tuples
    codes = np.unique(tuples.groups)
    kept = codes[:: max(1, round(len(tuples) / limit))]
    return tuples.take(np.flatnonzero(np.isin(tuples.groups, kept)))
