"""The outcome of a comparison as plain values: what the tables, the files and the report are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pairstill.errors import ArtefactError
from pairstill.evaluation.cost import Cost, CostReferences
from pairstill.evaluation.system import Role
from pairstill.files import parse_body, read_json, refuse_newer, write_json
from pairstill.metrics.calibration import ReliabilityBin

FORMAT = "pairstill/evaluation"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class MetricValue:
    """A metric of one system.

    Attributes:
        value: The mean over seeds; None where it is not defined.
        deviation: Standard deviation over seeds (n - 1); None for one seed.
        reason: Why there is no value; None where there is one.
    """

    value: float | None
    deviation: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Agreement:
    """How a system's scores follow the teacher's on the same rows, labelled or not; means over seeds.

    Attributes:
        pearson: Of sigmoid(logit) with the teacher's.
        spearman: Of the scores.
        kendall: Tau-b of the scores.
        same_class: Share of rows with the same decision; for classes alone.
    """

    pearson: MetricValue | None = None
    spearman: MetricValue | None = None
    kendall: MetricValue | None = None
    same_class: MetricValue | None = None


@dataclass(frozen=True)
class SystemResult:
    """One system on one split.

    Attributes:
        name: As in `Comparison.systems`.
        metrics: By the metric's name.
        compared: Value of the headline metric by which systems are compared. It is the headline's own value, but for a
            similarity whose Pearson is higher without the sigmoid: then that, in its favour.
        raw_pearson: Pearson without the sigmoid, for systems that are not calibrated; None for all others.
        retention: `compared` divided by the teacher's; None without a teacher, for the teacher, and for losses.
        margin_kept: (`compared` - best floor) / (teacher - best floor); None where the teacher is not above it.
        ahead_of: The next best system, where the lead over it is significant; None otherwise.
        agreement: With the teacher's scores; None without a teacher and for the teacher.
        reliability: Bins of the calibration plot, of the first seed; empty for systems that are not calibrated.
    """

    name: str
    metrics: dict[str, MetricValue]
    compared: float | None
    raw_pearson: float | None = None
    retention: float | None = None
    margin_kept: float | None = None
    ahead_of: str | None = None
    agreement: Agreement | None = None
    reliability: tuple[ReliabilityBin, ...] = ()


@dataclass(frozen=True)
class SliceResult:
    """All metrics of all systems on the rows of one slice value.

    Attributes:
        slice: Name of the slice column.
        value: Its value; `(other)` for the sum of rare ones, `(none)` for rows without one.
        rows: Labelled rows in it.
        groups: Groups in it.
        metrics: System name -> metric name -> value.
    """

    slice: str
    value: str
    rows: int
    groups: int
    metrics: dict[str, dict[str, MetricValue]]


@dataclass(frozen=True)
class Lead:
    """A pair of systems on the headline metric.

    Attributes:
        better: Name of the one with the better value.
        other: Name of the other.
        difference: The lead, never negative; None where one of them has no value.
        p_value: Of the paired bootstrap; None where one of them has no value.
    """

    better: str
    other: str
    difference: float | None
    p_value: float | None


@dataclass(frozen=True)
class SplitResult:
    """Everything about one split.

    Attributes:
        split: Its name.
        rows: All its rows.
        labelled: Rows with a label: the metrics are over these.
        groups: Groups among the labelled rows.
        ranked_groups: Groups with a relevant row: ranking metrics are over these; None for classes.
        systems: Best first by `compared`, systems without a value last.
        slices: In the order of rows, largest first within a column.
        leads: Every pair of systems.
        verdict: Sentences that must be read with the table.
    """

    split: str
    rows: int
    labelled: int
    groups: int
    ranked_groups: int | None
    systems: tuple[SystemResult, ...]
    slices: tuple[SliceResult, ...] = ()
    leads: tuple[Lead, ...] = ()
    verdict: tuple[str, ...] = ()

    def system(self, name: str) -> SystemResult:
        """The result of the system called `name`."""
        return next(one for one in self.systems if one.name == name)


@dataclass(frozen=True)
class SystemFacts:
    """What does not depend on a split.

    Attributes:
        name: Shown in tables.
        role: `teacher`, `student`, `floor` or `other`.
        seeds: Number of runs.
        calibrated: Whether its sigmoid claims to be a probability.
        description: One sentence.
        cost: On this machine; None where it was not measured.
    """

    name: str
    role: Role
    seeds: int
    calibrated: bool
    description: str = ""
    cost: Cost | None = None


@dataclass(frozen=True)
class Comparison:
    """What `compare` returns and `results.json` holds.

    Attributes:
        title: Heading of the report.
        data: Facts of the tuple set (fields, label kind, texts, fingerprint).
        headline: Name of the metric that ranks the systems.
        metrics: Names of all metrics shown -> titles, the headline first.
        lower_is_better: Names of those metrics that are losses.
        systems: In the order given.
        splits: The first is the one that the table is about.
        references: What speed-ups are against; None where no cost was measured.
        settings: Resamples, seed, gains, thresholds, binning.
        machine: Processor, cores, threads, versions.
        warnings: Sentences about the whole, such as a busy machine.
        created: UTC, ISO 8601.
    """

    title: str
    data: dict[str, Any]
    headline: str
    metrics: dict[str, str]
    lower_is_better: tuple[str, ...]
    systems: tuple[SystemFacts, ...]
    splits: tuple[SplitResult, ...]
    references: CostReferences | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    created: str = ""

    def facts(self, name: str) -> SystemFacts:
        """The facts of the system called `name`."""
        return next(one for one in self.systems if one.name == name)

    @property
    def main(self) -> SplitResult:
        """The first split."""
        return self.splits[0]

    @property
    def teacher(self) -> SystemFacts | None:
        """The teacher, where there is one."""
        return next((one for one in self.systems if one.role == "teacher"), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"format": FORMAT, "version": FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], file: Path | None = None) -> Comparison:
        """Check and read what `to_dict` gave.

        Raises:
            ArtefactError: It is something else, newer, or damaged; `file` is named in the message.
        """
        if not isinstance(content, Mapping) or content.get("format") != FORMAT:
            raise ArtefactError(
                "the file holds no evaluation", file=file, expected="a results.json of `pairstill evaluate`"
            )
        refuse_newer(file, content, FORMAT_VERSION)
        return parse_body(cls, content, file, "the evaluation")

    def save(self, path: str | Path) -> None:
        """Write `results.json`."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Comparison:
        """Read `results.json`."""
        return cls.from_dict(read_json(Path(path)), Path(path))
