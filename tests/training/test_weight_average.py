from __future__ import annotations

import pytest
import torch
from torch import nn

from pairstill.errors import InputError
from pairstill.training.settings import TrainingSettings
from pairstill.training.weight_average import WeightAverage


def test_the_mean_is_the_recursion_of_its_definition() -> None:
    parameter = nn.Parameter(torch.tensor([4.0]))
    average, mean = WeightAverage([parameter], 0.9), 4.0
    for step in range(1, 60):
        with torch.no_grad():
            parameter += 1
        average.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * (4.0 + step)
    assert float(average.means[0]) == pytest.approx(mean, rel=1e-5)


def test_the_means_are_in_place_only_within_the_block() -> None:
    parameter = nn.Parameter(torch.ones(3))
    average = WeightAverage([parameter], 0.5)
    with torch.no_grad():
        parameter.zero_()
    with average.in_place():
        assert parameter.tolist() == [1, 1, 1]
    assert parameter.tolist() == [0, 0, 0]


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(InputError, match="average_decay"):
        TrainingSettings(average_decay=decay)
