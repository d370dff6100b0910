"""Heads as graphs: what is prepared once per item, and what is paid per tuple."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.export.graphs.gather import gather_tokens, mask_bias
from pairstill.export.graphs.transformer import GraphTransformerHead
from pairstill.representation import Representation
from pairstill.students import PreTTR, Student
from pairstill.students.heads.feed_forward import FeedForwardHead
from pairstill.students.heads.kernel_pooling import KernelHead
from pairstill.students.heads.max_sim import MaxSimHead, sum_of_maxima
from pairstill.students.heads.poly import PolyHead
from pairstill.students.heads.residual import ResidualHead
from pairstill.students.heads.transformer import TransformerHead

Prepared = Sequence[Mapping[str, Tensor]]
ScoreFunction = Callable[[Prepared, Tensor, Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class HeadPlan:
    """How tuples are scored.

    Attributes:
        score: From what was prepared, `(tuples, fields)` rows into it and, per field, the token columns that are read.
        module: Holds the parameters of `score` and `prepare`.
        tokens: Whether the cost of a tuple depends on the tokens of its texts.
        prepare: From vectors and lengths of a field to what is prepared; None where `plain` says it all.
        plain: Per field how vectors are prepared without a graph: `all` tokens or the first one alone, times `factor`,
            `normalise`d.
        skip: Whether the cosine of the similarity vectors is added.
    """

    score: ScoreFunction
    module: nn.Module
    tokens: bool
    prepare: Callable[[int, Tensor, Tensor], Mapping[str, Tensor]] | None = None
    plain: Sequence[Mapping[str, Any]] = ()
    skip: bool = False


def plan_head(student: Student) -> HeadPlan:
    """How a student's tuples are scored.

    Raises:
        InputError: The head cannot be exported.
    """
    if isinstance(student, PreTTR):
        upper = GraphUpperLayers(student)
        return HeadPlan(upper.score, upper, True, upper.prepare)
    parts = student.scoring_head()
    head, skip = parts if parts is not None else (None, None)

    def with_skip(prepared: Prepared, index: Tensor, logits: Tensor) -> Tensor:
        return logits if skip is None else logits + skip(prepared, index)

    if isinstance(head, TransformerHead):
        folded = GraphTransformerHead(head)
        both = nn.ModuleList([folded, *([skip] if skip is not None else [])])
        return HeadPlan(
            lambda prepared, index, columns: with_skip(prepared, index, folded.score(prepared, index, columns)),
            both, True, folded.prepare, skip=skip is not None,
        )  # fmt: skip
    if isinstance(head, (FeedForwardHead, ResidualHead)):
        return HeadPlan(
            lambda prepared, index, columns: student.score(prepared, index),
            student,
            False,
            head.prepare,
            skip=skip is not None,
        )
    if isinstance(head, MaxSimHead):
        plain = [{"all": True, "factor": 1.0, "normalise": head.normalise}] * 2
        return HeadPlan(lambda *given: _max_sim(head, *given), head, True, plain=plain)
    if isinstance(head, KernelHead):
        plain = [{"all": True, "factor": 1.0, "normalise": True}] * 2
        return HeadPlan(lambda *given: _kernels(head, *given), head, True, plain=plain)
    if isinstance(head, PolyHead):
        plain = [{"all": place == 0, "factor": head.output_scaling, "normalise": False} for place in range(2)]
        return HeadPlan(lambda prepared, index, columns: head.score(prepared, index), head, False, plain=plain)
    raise InputError(f"the head of a {student.name} has no graph", expected="a student of this version of pairstill")


class Prepare(nn.Module):
    """What is prepared of a field, as tensors in the order of `names`."""

    def __init__(self, plan: HeadPlan, field: int) -> None:
        super().__init__()
        assert plan.prepare is not None
        self.module, self.function, self.field = plan.module, plan.prepare, field

    def forward(self, vectors: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """Everything but lengths."""
        return tuple(one for name, one in self.function(self.field, vectors, lengths).items() if name != "lengths")

    def names(self, vectors: Tensor, lengths: Tensor) -> list[str]:
        """What there is."""
        with torch.no_grad():
            return [name for name in self.function(self.field, vectors, lengths) if name != "lengths"]


class Score(nn.Module):
    """Logits of tuples, from tensors in one row.

    Args:
        plan: Of the head.
        names: Per field, the names of what was prepared.
    """

    def __init__(self, plan: HeadPlan, names: Sequence[Sequence[str]]) -> None:
        super().__init__()
        self.module, self.function, self.names = plan.module, plan.score, names

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs: of each field what was prepared, then `index`, then the columns of each field."""
        given = iter(inputs)
        prepared = [{name: next(given) for name in names} for names in self.names]
        index = next(given)
        return self.function(prepared, index, list(given)).float()


def _max_sim(head: MaxSimHead, prepared: Prepared, index: Tensor, columns: Sequence[Tensor]) -> Tensor:
    from pairstill.students.heads.calibration import calibrated

    (left, left_lengths), (right, right_lengths) = _both(prepared, index, columns)
    return calibrated(head.calibration, sum_of_maxima(left, left_lengths, right, right_lengths))


def _kernels(head: KernelHead, prepared: Prepared, index: Tensor, columns: Sequence[Tensor]) -> Tensor:
    (left, first), (right, second) = _both(prepared, index, columns)
    return head.pooled(left, first, right, second)


def _both(prepared: Prepared, index: Tensor, columns: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Gathered token vectors and lengths of each field."""
    return [
        (gather_tokens(one["vectors"], index[:, field], columns[field]), one["lengths"][index[:, field]])
        for field, one in enumerate(prepared)
    ]


class GraphUpperLayers(nn.Module):
    """The layers of a PreTTR that read the joined tuple.

    Args:
        student: The trained student.
    """

    def __init__(self, student: PreTTR) -> None:
        super().__init__()
        self.student = student

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> Mapping[str, Tensor]:
        """The student's own, where hidden vectors and queries of single vectors are kept for the first field alone."""
        return self.student.prepare(field, Representation(vectors, lengths))

    def score(self, prepared: Prepared, index: Tensor, columns: Sequence[Tensor]) -> Tensor:
        """As `PreTTR.score`."""
        student, rows = self.student, [index[:, field] for field in range(len(prepared))]
        lengths = [one["lengths"][row] for one, row in zip(prepared, rows, strict=True)]
        bias = mask_bias(lengths, columns)[:, None]
        single = len(student.parts) == 1

        def gather(name: str) -> Tensor:
            if single and name in ("hidden", "query"):
                return prepared[0][name][rows[0]]
            fields = zip(prepared, rows, columns, strict=True)
            return torch.cat([gather_tokens(one[name], row, chosen) for one, row, chosen in fields], dim=1)

        hidden, query, key, value = (gather(name) for name in ("hidden", "query", "key", "value"))
        for number, layer in enumerate(student.parts):
            last = number == len(student.parts) - 1
            if number:
                wanted = hidden[:, :1] if last else hidden
                query, key, value = layer.query(wanted), layer.key(hidden), layer.value(hidden)
            if last:
                query, hidden = query[:, :1], hidden[:, :1]
            hidden = layer.finish(layer.attend(query, key, value, bias), hidden)
        logits: Tensor = student.output(hidden[:, 0])
        return logits
