"""What a system costs on one machine: measured rates, counted multiply-adds, bytes; and the speed-ups that follow."""

from __future__ import annotations

from dataclasses import dataclass

AGREEMENT_NEEDED = 0.99
"""Kendall's tau with float32 that a lower precision must reach before its speed may be reported."""


@dataclass(frozen=True)
class Timing:
    """A rate that was measured here, with everything needed to read it.

    Attributes:
        per_second: Median rate of the repetitions.
        slowest: Lowest rate of them.
        fastest: Highest rate of them.
        repetitions: How many, after a warm-up.
        unit: `pairs` or `items`.
        runtime: `PyTorch` or `ONNX Runtime`.
        precision: `float32`, `bfloat16` or `int8`.
        threads: Threads of the runtime.
        batch: Pairs or items per call.
        lengths: Mean tokens read of each field after the cut; one number where texts are joined.
    """

    per_second: float
    slowest: float
    fastest: float
    repetitions: int
    unit: str
    runtime: str
    precision: str
    threads: int
    batch: int
    lengths: tuple[float, ...]

    def conditions(self) -> str:
        """One line: runtime, precision, threads, batch, lengths."""
        tokens = " + ".join(f"{length:.0f}" for length in self.lengths)
        threads = f"{self.threads} thread{'s' if self.threads != 1 else ''}"
        return f"{self.runtime} {self.precision}, {threads}, batch {self.batch}, {tokens} tokens"


@dataclass(frozen=True)
class Cost:
    """Cost of one student or teacher.

    Attributes:
        head: Pairs per second of `prepare` and `score` over blocks of the split, representations at hand: what the
            speed-ups are made from, as in DiPair's latency tables. For a cross-encoder this is the whole model.
        score_alone: Pairs per second of `score`, where `prepare` was done before.
        encoders: Items per second of `encode` per field, tokenising counted. For a cross-encoder only tokenising.
        end_to_end: Pairs per second of the whole split from texts, each distinct text encoded once; None where the scores
            were not computed here.
        multiply_adds_per_pair: Counted, of the head.
        multiply_adds_per_item: Counted, per field.
        bytes_per_item: Stored in float32, per field.
        rank_agreement: Kendall's tau of the head's logits at its precision with those in float32; None for float32.
        refused_precision: Sentence about a precision that was tried and disagreed; None where there is none.
    """

    head: Timing
    score_alone: Timing
    encoders: tuple[Timing, ...]
    multiply_adds_per_pair: float
    multiply_adds_per_item: tuple[float, ...]
    bytes_per_item: tuple[float, ...]
    end_to_end: Timing | None = None
    rank_agreement: float | None = None
    refused_precision: str | None = None


@dataclass(frozen=True)
class CostReferences:
    """What speed-ups are against, measured in the same run.

    Attributes:
        teacher: This run's teacher at its real lengths and best precision; None without a teacher model.
        bert_base: BERT-base (12 layers, 768 wide, random weights) at 128 tokens, once per runtime and precision; empty
            where it was not measured.
        notes: Sentences about references that could not be measured.
    """

    teacher: Timing | None = None
    bert_base: tuple[Timing, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def bert_base_float32(self) -> Timing | None:
        """BERT-base in PyTorch float32: the yardstick of the papers."""
        found = (one for one in self.bert_base if one.runtime == "PyTorch" and one.precision == "float32")
        return next(found, None)

    @property
    def bert_base_fastest(self) -> Timing | None:
        """The fastest BERT-base that ran here."""
        return max(self.bert_base, key=lambda one: one.per_second, default=None)


@dataclass(frozen=True)
class SpeedUps:
    """How many times as many pairs per second as each reference; None where a reference is missing."""

    teacher: float | None
    bert_base_float32: float | None
    bert_base_fastest: float | None


def speed_ups(cost: Cost | None, references: CostReferences | None) -> SpeedUps:
    """The three speed-ups of a system's head per pair."""
    if cost is None or references is None:
        return SpeedUps(None, None, None)

    def against(reference: Timing | None) -> float | None:
        return None if reference is None else cost.head.per_second / reference.per_second

    return SpeedUps(
        against(references.teacher), against(references.bert_base_float32), against(references.bert_base_fastest)
    )
