"""In which precision a bulk job multiplies: by what the processor has, and by measured agreement with float32."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pairstill.errors import InputError
from pairstill.machine import best_precision
from pairstill.metrics.graded import kendall
from pairstill.scoring.bulk.scorer import FastScorer, Scorer, ScorerSettings, make_scorer
from pairstill.store import RepresentationStore
from pairstill.students import Student

NEEDED_TAU = 0.99
NEEDED_OVERLAP = 0.95
WORTH = 1.1
"""How many times as fast a less exact precision must be to be chosen."""
LEFT, RIGHT, OVERLAP = 32, 256, 10
MEASURE_S = 1.0


@dataclass(frozen=True)
class Agreement:
    """A precision on a sample of the job's own items, beside float32.

    Attributes:
        precision: Which.
        pairs_per_s: Of the head alone, one thread, items prepared.
        kendall_tau: Over the job's pairs in the sample; 1 for float32.
        top_10_overlap: Mean over left items, of which each was scored with every right item of the sample.
        pairs: In the sample, for tau.
    """

    precision: str
    pairs_per_s: float
    kendall_tau: float
    top_10_overlap: float
    pairs: int

    @property
    def agrees(self) -> bool:
        """Whether it ranks as float32 does."""
        return self.kendall_tau >= NEEDED_TAU and self.top_10_overlap >= NEEDED_OVERLAP

    def said(self) -> str:
        """For people."""
        if self.precision == "float32":
            return f"float32 {self.pairs_per_s:,.0f} pairs/s"
        return (
            f"{self.precision} {self.pairs_per_s:,.0f} pairs/s, Kendall's tau with float32 {self.kendall_tau:.4f}, "
            f"top-10 overlap {self.top_10_overlap:.3f}"
        )


@dataclass(frozen=True)
class PrecisionChoice:
    """What a job computes in, and why.

    Attributes:
        asked: What the user asked for.
        chosen: What it is.
        calibration: Static scales of int8; None for other precisions.
        measured: float32 first.
    """

    asked: str
    chosen: str
    calibration: tuple[tuple[float, float, float], ...] | None
    measured: tuple[Agreement, ...]

    def settings(self) -> dict[str, Any]:
        """What changes a score, as JSON."""
        scales = None if self.calibration is None else [list(one) for one in self.calibration]
        return {"asked": self.asked, "chosen": self.chosen, "calibration": scales}

    def body(self) -> dict[str, Any]:
        """All of it, as JSON."""
        measured = [{**asdict(one), "agrees": one.agrees} for one in self.measured]
        needed = {"kendall_tau": NEEDED_TAU, "top_10_overlap": NEEDED_OVERLAP}
        return {**self.settings(), "needed": needed, "measured": measured}

    def said(self) -> str:
        """One line for people."""
        how = "asked for" if self.asked != "auto" else "chosen by measurement"
        line = f"precision: {self.chosen}, {how}: " + "; ".join(one.said() for one in self.measured)
        short = [one.precision for one in self.measured if one.precision == self.chosen and not one.agrees]
        if short:
            line += f". {self.chosen} agrees less with float32 than tau {NEEDED_TAU} and overlap {NEEDED_OVERLAP}"
        return line

    @property
    def head_pairs_per_s(self) -> float:
        """The head's own rate in the chosen precision."""
        return next(one.pairs_per_s for one in self.measured if one.precision == self.chosen)


def choose_precision(
    student: Student, stores: Sequence[RepresentationStore], pairs: np.ndarray, asked: str, seed: int = 0
) -> PrecisionChoice:
    """Measure precisions on a sample and choose.

    `auto` takes the fastest of those that the processor multiplies natively and that rank as float32 does; a less exact one
    must be at least 1.1 times as fast. A named precision is taken, and measured all the same.

    Args:
        student: The student.
        stores: One a field.
        pairs: `(pairs, fields)` store rows, some of the job's own.
        asked: auto, float32, bfloat16 or int8.
        seed: Of the sample.

    Raises:
        InputError: The precision is unknown, or the head has none such.
    """
    if asked not in ("auto", "float32", "bfloat16", "int8"):
        raise InputError(f"the precision '{asked}' is unknown", expected="auto, float32, bfloat16 or int8")
    sample = _Sample.of(pairs, seed)
    reference = make_scorer(student, stores, _settings("float32"))
    first, exact = sample.measure(reference, None)
    measured, calibrations = [first], {}
    names = [asked] if asked != "auto" else _candidates(reference, student)
    for name in names:
        if name != "float32":
            scorer = make_scorer(student, stores, _settings(name))
            calibrations[name] = sample.calibrate(scorer)
            measured.append(sample.measure(scorer, exact, name)[0])
    chosen = asked
    if asked == "auto":
        best = measured[0]
        for one in measured[1:]:
            if one.agrees and one.pairs_per_s > WORTH * best.pairs_per_s:
                best = one
        chosen = best.precision
    return PrecisionChoice(asked, chosen, calibrations.get(chosen), tuple(measured))


def _candidates(reference: Scorer, student: Student) -> list[str]:
    if best_precision() != "bfloat16":
        return []
    from pairstill.students.heads.transformer import TransformerHead

    head = getattr(student, "head", None)
    return (
        ["bfloat16", "int8"]
        if isinstance(reference, FastScorer) and isinstance(head, TransformerHead)
        else ["bfloat16"]
    )


def _settings(precision: str) -> ScorerSettings:
    return ScorerSettings("", (), (), precision)


@dataclass(frozen=True)
class _Sample:
    """Items of the job.

    Attributes:
        items: Per field, store rows.
        pairs: `(pairs, fields)` places in `items`: the job's own pairs.
        cross: `(left * right, fields)` places: every left item with every right one (or tuple of the other fields).
        left: Number of left items.
    """

    items: tuple[np.ndarray, ...]
    pairs: np.ndarray
    cross: np.ndarray
    left: int

    @classmethod
    def of(cls, pairs: np.ndarray, seed: int) -> _Sample:
        random = np.random.default_rng(seed)
        some = pairs[np.sort(random.permutation(len(pairs))[: LEFT * RIGHT])]
        items, places = [], np.empty_like(some)
        for field in range(some.shape[1]):
            found, places[:, field] = np.unique(some[:, field], return_inverse=True)
            items.append(found)
        lefts = random.permutation(len(items[0]))[:LEFT]
        rights = np.unique(places[:, 1:], axis=0)
        rights = rights[random.permutation(len(rights))[:RIGHT]]
        cross = np.concatenate([np.repeat(lefts, len(rights))[:, None], np.tile(rights, (len(lefts), 1))], axis=1)
        return cls(tuple(items), places, cross, len(lefts))

    def prepare(self, scorer: Scorer) -> list[Any]:
        return [scorer.prepare(field, rows) for field, rows in enumerate(self.items)]

    def calibrate(self, scorer: Scorer) -> tuple[tuple[float, float, float], ...] | None:
        if not isinstance(scorer, FastScorer) or scorer.head.precision != "int8":
            return None
        scorer.head.calibrate(self.prepare(scorer), self.pairs)
        found = scorer.head.calibration
        return None if found is None else tuple(found)

    def measure(
        self, scorer: Scorer, exact: tuple[np.ndarray, np.ndarray] | None, precision: str = "float32"
    ) -> tuple[Agreement, tuple[np.ndarray, np.ndarray]]:
        prepared = self.prepare(scorer)
        # The first call compiles.
        scorer.score(prepared, self.cross[:1])
        logits = scorer.score(prepared, self.pairs)[:, 0], scorer.score(prepared, self.cross)[:, 0]
        done, began = 0, time.perf_counter()
        while done == 0 or time.perf_counter() - began < MEASURE_S:
            scorer.score(prepared, self.cross)
            done += len(self.cross)
        rate = done / (time.perf_counter() - began)
        tau, overlap = 1.0, 1.0
        if exact is not None:
            found = kendall(exact[0], logits[0]).value
            tau = 1.0 if found is None else float(found)
            overlap = top_overlap(*(one.reshape(self.left, -1) for one in (exact[1], logits[1])))
        return Agreement(precision, round(rate, 1), tau, overlap, len(self.pairs)), logits


def top_overlap(exact: np.ndarray, other: np.ndarray) -> float:
    """Mean share of the best 10 of each row of `(lists, scores)` that are among the best 10 in both."""
    count = min(OVERLAP, exact.shape[1])
    shared = []
    for one, two in zip(exact, other, strict=True):
        best, kept = (np.argsort(-scores, kind="stable")[:count] for scores in (one, two))
        shared.append(len(np.intersect1d(best, kept)) / count)
    return float(np.mean(shared))
