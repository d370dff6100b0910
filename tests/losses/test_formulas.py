"""Every loss and its gradient against a plain transcription, on random and extreme batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import loss_transcriptions as plain
from pairstill.losses import (
    DistillationLoss,
    InBatchCrossEntropy,
    InBatchMarginMSE,
    LabelCrossEntropy,
    LambdaLoss,
    ListNet,
    ListwiseKL,
    LogitSquaredError,
    Loss,
    MarginMSE,
    Mixture,
    PredictionLoss,
    ProbabilitySquaredError,
    RankNet,
    Targets,
    WeightedRankNet,
)

Formula = Callable[[Tensor, Targets], Tensor]
CASES: dict[str, tuple[Loss, Formula]] = {
    "cross-entropy": (DistillationLoss(2.0), lambda s, t: plain.distillation(s, t, 2.0, 0.0)),
    "cross-entropy, a third of labels": (DistillationLoss(0.5, 0.3), lambda s, t: plain.distillation(s, t, 0.5, 0.3)),
    "labels": (LabelCrossEntropy(), plain.label_cross_entropy),
    "prediction": (PredictionLoss(2.0), lambda s, t: plain.prediction(s, t, 2.0)),
    "mse-logit": (LogitSquaredError(), lambda s, t: plain.squared_error(s, t, False)),
    "mse-probability": (ProbabilitySquaredError(2.0), lambda s, t: plain.squared_error(s, t, True, 2.0)),
    "ranknet": (RankNet(), lambda s, t: plain.ranknet(s, t, "teacher")),
    "ranknet of labels": (RankNet("labels"), lambda s, t: plain.ranknet(s, t, "labels")),
    "weighted ranknet": (WeightedRankNet(), lambda s, t: plain.ranknet(s, t, "teacher", True)),
    "weighted ranknet of labels": (WeightedRankNet("labels"), lambda s, t: plain.ranknet(s, t, "labels", True)),
    "margin-mse": (MarginMSE(), plain.margin_mse),
    "listwise-kl": (ListwiseKL(3.0), lambda s, t: plain.listwise(s, t, 3.0, "teacher", True)),
    "listnet": (ListNet(), lambda s, t: plain.listwise(s, t, 1.0, "teacher", False)),
    "listnet of labels": (ListNet(0.5, "labels"), lambda s, t: plain.listwise(s, t, 0.5, "labels", False)),
    "ndcg-loss2": (LambdaLoss(), lambda s, t: plain.lambda_loss(s, t, "ndcg-loss2", 1.0, 10.0, 1.0, "teacher")),
    "lambdarank": (
        LambdaLoss("lambdarank", 2.0, order="labels"), lambda s, t: plain.lambda_loss(s, t, "lambdarank", 2.0, 10.0, 1.0, "labels")
    ),
    "ndcg-loss2++": (
        LambdaLoss("ndcg-loss2++", mu=3.0, temperature=2.0),
        lambda s, t: plain.lambda_loss(s, t, "ndcg-loss2++", 1.0, 3.0, 2.0, "teacher"),
    ),
    "in-batch cross-entropy": (InBatchCrossEntropy(1.5), lambda s, t: plain.in_batch_cross_entropy(s, t, 1.5)),
    "in-batch margin-mse": (InBatchMarginMSE(), lambda s, t: plain.in_batch_margin_mse(s, t, 0.75)),
    "in-batch margin-mse, weighted": (InBatchMarginMSE(0.3), lambda s, t: plain.in_batch_margin_mse(s, t, 0.3)),
    "mixture": (
        Mixture(MarginMSE(), RankNet("labels"), 0.3), lambda s, t: 0.7 * plain.margin_mse(s, t) + 0.3 * plain.ranknet(s, t, "labels")
    ),
}  # fmt: skip
IN_BATCH = ("in-batch cross-entropy", "in-batch margin-mse", "in-batch margin-mse, weighted")


def compare(loss: Loss, formula: Formula, logits: Tensor, targets: Targets) -> None:
    """Values in float64 and their gradients, and finite ones in float32."""
    logits = logits.double().requires_grad_(True)
    got, expected = loss(logits, targets), formula(logits, targets)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-8)
    (mine,) = torch.autograd.grad(got, logits)
    (wanted,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(mine, wanted, rtol=1e-6, atol=1e-8)
    narrow = logits.detach().float().requires_grad_(True)
    value = loss(narrow, targets)
    (gradient,) = torch.autograd.grad(value, narrow)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@st.composite
def batches(draw: st.DrawFn, in_batch: bool = False) -> tuple[Tensor, Targets]:
    """Groups of one to several rows in any order, ties, huge numbers, missing labels, weights or none."""
    count = draw(st.integers(1, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([0.0, 1.0, 30.0, 1e4]))

    def numbers(spread: float) -> Tensor:
        drawn = torch.randn(count, 1, generator=generator, dtype=torch.float64) * spread
        return drawn.round() if draw(st.booleans()) else drawn

    labels = torch.randint(0, 3, (count,), generator=generator) / 2
    labels[torch.rand(count, generator=generator) < draw(st.sampled_from([0.0, 0.4, 1.0]))] = float("nan")
    # Their products are exact in float32, so that sums that cancel compare to the last digit.
    weights = torch.randint(0, 257, (count,), generator=generator) / 256 if draw(st.booleans()) else None
    groups = torch.randint(0, draw(st.integers(1, 5)), (count,), generator=generator)
    teacher, own = numbers(draw(st.sampled_from([0.0, 1.0, 30.0]))), None
    if in_batch:
        own = torch.rand(count, generator=generator) < 0.6
        missing = (torch.rand(count, generator=generator) < 0.5) & ~own
        teacher[missing] = float("nan")
    return numbers(scale), Targets(teacher, labels, weights, groups, own)


@pytest.mark.parametrize("name", [name for name in CASES if name not in IN_BATCH])
@settings(max_examples=25, deadline=None)
@given(batch=batches())
def test_formula_and_gradient(name: str, batch: tuple[Tensor, Targets]) -> None:
    compare(*CASES[name], *batch)


@pytest.mark.parametrize("name", IN_BATCH)
@settings(max_examples=40, deadline=None)
@given(batch=batches(in_batch=True))
def test_in_batch_formula_and_gradient(name: str, batch: tuple[Tensor, Targets]) -> None:
    compare(*CASES[name], *batch)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=8, deadline=None)
@given(batch=batches(), processes=st.integers(2, 4))
def test_parts_of_a_batch_add_up_to_it(name: str, batch: tuple[Tensor, Targets], processes: int) -> None:
    loss, (logits, targets) = CASES[name][0], batch
    total = 0.0
    for process in range(processes):
        mine = torch.nonzero(targets.groups % processes == process)[:, 0]
        if len(mine):
            part = Targets(*(None if one is None else one[mine] for one in (
                targets.teacher_logits, targets.labels, targets.weights, targets.groups, targets.own)))  # fmt: skip
            total += float(loss(logits[mine], part, targets))
    assert total == pytest.approx(float(loss(logits, targets)), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("loss", [MarginMSE(), RankNet(), WeightedRankNet(), ListwiseKL(), ListNet(), LambdaLoss()])
@settings(max_examples=8, deadline=None)
@given(batch=batches(), shift=st.sampled_from([-100.0, 0.5, 7.0]))
def test_ranking_losses_do_not_see_the_offset_of_a_group_nor_the_order_of_rows(
    loss: Loss, batch: tuple[Tensor, Targets], shift: float
) -> None:
    logits, targets = batch
    logits = logits + 1e-3 * torch.arange(len(logits))[:, None]  # without ties, whose ranks go by position
    moved = logits + shift * targets.groups[:, None]
    assert float(loss(moved, targets)) == pytest.approx(float(loss(logits, targets)), rel=1e-5, abs=1e-6)
    order = torch.randperm(len(logits))
    turned = Targets(targets.teacher_logits[order], targets.labels[order],
                     None if targets.weights is None else targets.weights[order], targets.groups[order])  # fmt: skip
    assert float(loss(logits[order], turned)) == pytest.approx(float(loss(logits, targets)), rel=1e-6, abs=1e-9)


def test_margin_mse_of_triples_is_the_papers() -> None:
    """One relevant and one other passage a query: mean of (delta_s - delta_t)^2."""
    torch.manual_seed(0)
    student, teacher = torch.randn(8, 1), torch.randn(8, 1)
    expected = (((student[::2] - student[1::2]) - (teacher[::2] - teacher[1::2])) ** 2).mean()
    groups = torch.arange(4).repeat_interleave(2)
    torch.testing.assert_close(MarginMSE()(student, Targets(teacher, groups=groups)), expected)
    half = 0.5 * (((student - teacher)[::2] ** 2).mean() + ((student - teacher)[1::2] ** 2).mean())
    torch.testing.assert_close(LogitSquaredError()(student, Targets(teacher)), half)


@pytest.mark.parametrize("loss", [ProbabilitySquaredError(), LambdaLoss(), LambdaLoss("lambdarank")])
@settings(max_examples=25, deadline=None)
@given(batch=batches())
def test_probabilities_are_what_logits_would_be(loss: Loss, batch: tuple[Tensor, Targets]) -> None:
    logits, targets = batch
    teacher = targets.teacher_logits
    assert teacher is not None
    probabilities = replace(targets, teacher_logits=torch.sigmoid(teacher), score_kind="probability")
    compare(loss, lambda s, _: loss(s, targets), logits, probabilities)


def test_the_soft_target_of_the_published_sample() -> None:
    """A probability of .0241370 at T = 2 becomes .1358979 in the sample row of BERT2DNN's code."""
    teacher = torch.logit(torch.tensor([[0.0241370]], dtype=torch.float64))
    logits = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    DistillationLoss(2.0)(logits, Targets(teacher)).backward()
    assert logits.grad is not None
    assert 0.5 - float(logits.grad) == pytest.approx(0.1358979, abs=2e-7)  # p is rounded


def test_classes_of_pointwise_losses() -> None:
    torch.manual_seed(0)
    logits, teacher = torch.randn(9, 3, dtype=torch.float64), 3 * torch.randn(9, 3)
    compare(LogitSquaredError(), lambda s, t: plain.squared_error(s, t, False), logits, Targets(teacher))
    compare(ProbabilitySquaredError(), lambda s, t: plain.squared_error(s, t, True), logits, Targets(teacher))
    given_probabilities = Targets(torch.softmax(teacher, 1), score_kind="probability")
    compare(ProbabilitySquaredError(), lambda s, t: plain.squared_error(s, t, True), logits, given_probabilities)
    labels = torch.tensor([0, 1, 2, float("nan"), 1, 0, 2, 2, float("nan")])
    weights = torch.rand(9)
    for scale in (1.0, 30.0, 1e4):
        for targets in (Targets(teacher * scale, labels), Targets(teacher, labels, weights)):
            compare(LabelCrossEntropy(), plain.label_cross_entropy, logits * scale, targets)
            compare(DistillationLoss(2.0), lambda s, t: plain.distillation(s, t, 2.0, 0.0), logits * scale, targets)
            compare(
                DistillationLoss(1.0, 0.4), lambda s, t: plain.distillation(s, t, 1.0, 0.4), logits * scale, targets
            )
            compare(PredictionLoss(4.0), lambda s, t: plain.prediction(s, t, 4.0), logits * scale, targets)
    assert float(LabelCrossEntropy()(logits.detach(), Targets(labels=torch.full((9,), float("nan"))))) == 0


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_prediction_loss_of_two_classes_and_summed(temperature: float) -> None:
    torch.manual_seed(0)
    logits, teacher = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    zeros = torch.zeros(6, 1, dtype=torch.float64)
    two = PredictionLoss(temperature)(
        torch.cat([zeros, logits[:, :1]], 1), Targets(torch.cat([zeros, teacher[:, :1]], 1))
    )
    torch.testing.assert_close(PredictionLoss(temperature)(logits[:, :1], Targets(teacher[:, :1])), two)
    summed = PredictionLoss(temperature, mean_over_classes=False)(logits, Targets(teacher))
    torch.testing.assert_close(summed, 4 * PredictionLoss(temperature)(logits, Targets(teacher)))
