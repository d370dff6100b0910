"""Losses and their gradients against plain transcriptions of the formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pairstill.errors import InputError
from pairstill.losses import DistillationLoss, Targets


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """DiPair, equation 1."""
    p = 1 / (1 + torch.exp(-logits))
    return -(labels * torch.log(p) + (1 - labels) * torch.log(1 - p))


def close_with_gradient(got: Tensor, expected: Tensor, inputs: Tensor) -> None:
    torch.testing.assert_close(got, expected)
    (a,) = torch.autograd.grad(got, inputs, retain_graph=True)
    (b,) = torch.autograd.grad(expected, inputs, retain_graph=True)
    torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_soft_labels(temperature: float) -> None:
    torch.manual_seed(0)
    logits, teacher = torch.randn(20, 1, requires_grad=True), 4 * torch.randn(20, 1)
    got = DistillationLoss(temperature)(logits, Targets(teacher))
    close_with_gradient(got, cross_entropy(logits, 1 / (1 + torch.exp(-teacher / temperature))).mean(), logits)


def test_hard_labels_graded_and_weighted() -> None:
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(20, 1, requires_grad=True), torch.rand(20), torch.rand(20)
    got = DistillationLoss(hard_weight=1.0)(logits, Targets(None, labels, weights))
    close_with_gradient(got, (cross_entropy(logits[:, 0], labels) * weights).sum() / weights.sum(), logits)


def test_a_mixture_keeps_the_teacher_alone_where_there_is_no_label() -> None:
    torch.manual_seed(0)
    logits, teacher, labels = (
        torch.randn(4, 1, requires_grad=True),
        torch.randn(4, 1),
        torch.tensor([0.0, float("nan"), 1.0, float("nan")]),
    )
    soft, hard = (
        cross_entropy(logits[:, 0], torch.sigmoid(teacher[:, 0])),
        cross_entropy(logits[:, 0], torch.nan_to_num(labels)),
    )
    expected = torch.stack([0.7 * soft[0] + 0.3 * hard[0], soft[1], 0.7 * soft[2] + 0.3 * hard[2], soft[3]]).mean()
    close_with_gradient(DistillationLoss(hard_weight=0.3)(logits, Targets(teacher, labels)), expected, logits)


def test_classes() -> None:
    torch.manual_seed(0)
    logits, teacher, labels = torch.randn(9, 3, requires_grad=True), 3 * torch.randn(9, 3), torch.arange(9.0) % 3
    q, log_p = (
        torch.exp(teacher / 2) / torch.exp(teacher / 2).sum(1, keepdim=True),
        logits - torch.logsumexp(logits, 1, keepdim=True),
    )
    close_with_gradient(DistillationLoss(2.0)(logits, Targets(teacher)), -(q * log_p).sum(1).mean(), logits)
    close_with_gradient(
        DistillationLoss(hard_weight=1.0)(logits, Targets(None, labels)),
        -log_p[torch.arange(9), labels.long()].mean(),
        logits,
    )


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4], [-1e4], [80.0], [-80.0]], requires_grad=True)
    loss = DistillationLoss()(logits, Targets(torch.tensor([[-1e4], [1e4], [80.0], [-80.0]])))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_wrong_settings_and_rows_without_a_target_are_refused() -> None:
    with pytest.raises(InputError, match="temperature is 0"):
        DistillationLoss(0.0)
    with pytest.raises(InputError, match="hard labels is 2"):
        DistillationLoss(hard_weight=2.0)
    with pytest.raises(InputError, match="neither a label nor"):
        DistillationLoss(hard_weight=1.0)(torch.zeros(2, 1), Targets(None, torch.tensor([1.0, float("nan")])))
