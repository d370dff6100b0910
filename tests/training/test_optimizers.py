"""Optimisers and schedules, against plain transcriptions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pairstill.errors import InputError
from pairstill.training.optimizers import dense_optimizer
from pairstill.training.schedule import rate_share
from pairstill.training.settings import TrainingSettings

RATE = 0.05


def steps_of(optimizer: str, weight_decay: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Gradient and weights after each of five steps from ones; the first gradient is zero."""
    weight = nn.Parameter(torch.ones(2, 3))
    settings = TrainingSettings(optimizer=optimizer, learning_rate=RATE, epsilon=1e-6)
    found = dense_optimizer([{"params": [weight], "numbers": [0], "weight_decay": weight_decay}], settings)
    made = []
    for step in range(5):
        gradient = torch.randn(2, 3, generator=torch.Generator().manual_seed(step)) * bool(step)
        weight.grad = gradient.clone()
        found.step()
        made.append((gradient.double().numpy(), weight.detach().double().numpy().copy()))
    return made


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adagrad_begins_with_a_tenth_and_has_no_weight_decay(weight_decay: float) -> None:
    weights, sums = np.ones((2, 3)), np.full((2, 3), 0.1)
    for gradient, reached in steps_of("adagrad", weight_decay):
        sums += gradient**2
        weights -= RATE * gradient / np.sqrt(sums)
        np.testing.assert_allclose(reached, weights, rtol=1e-5)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_takes_its_weight_decay_off_the_weights(weight_decay: float) -> None:
    weights, first, second = np.ones((2, 3)), np.zeros((2, 3)), np.zeros((2, 3))
    for step, (gradient, reached) in enumerate(steps_of("adamw", weight_decay), start=1):
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        weights *= 1 - RATE * weight_decay
        weights -= RATE * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-6)
        np.testing.assert_allclose(reached, weights, rtol=1e-4)


def test_rates_rise_and_then_fall_or_stay() -> None:
    assert [rate_share(step, 10, 0.2) for step in range(10)] == pytest.approx(
        [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]
    )
    assert [rate_share(step, 10, 0.2, "constant") for step in range(10)] == pytest.approx([0.5] + [1.0] * 9)
    assert {rate_share(step, 10, 0.0, "constant") for step in range(10)} == {1.0}


@pytest.mark.parametrize(("name", "known"), [("optimizer", "adamw or adagrad"), ("schedule", "linear or constant")])
def test_unknown_words_are_refused_with_the_known_ones(name: str, known: str) -> None:
    with pytest.raises(InputError, match=f"the training's {name} is 'sgd'. Expected: {known}"):
        TrainingSettings(**{name: "sgd"})  # type: ignore[arg-type]
