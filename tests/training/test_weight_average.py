from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from pairstill.errors import InputError
from pairstill.losses import DistillationLoss
from pairstill.students import make_student
from pairstill.students.persistence import parse_config
from pairstill.training.data import TrainingData
from pairstill.training.loop import fit
from pairstill.training.settings import TrainingSettings
from pairstill.training.sources import token_sources
from pairstill.training.weight_average import WeightAverage
from pairstill.tuples import TupleSet


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


def test_running_statistics_are_averaged_with_the_weights(base: Path, tuple_set: TupleSet, tmp_path: Path) -> None:
    kept = {}
    for decay in (None, 0.5):
        torch.manual_seed(0)
        config = parse_config(
            "twinbert-res", {"encoder": {"base": str(base)}, "head": {"batch_norm": True, "width": 8}}
        )
        student = make_student("twinbert-res", config)
        data = TrainingData(tuple_set.split("train"), tuple_set=tuple_set.fingerprint)
        settings = TrainingSettings(pairs=96, batch_size=16, average_decay=decay)
        fit(
            student,
            token_sources(student, tuple_set),
            data,
            DistillationLoss(hard_weight=1.0),
            settings,
            tmp_path / str(decay),
        )
        kept[decay] = {name: one for name, one in student.state_dict().items() if "running" in name}
    assert kept[None]
    for name, last in kept[None].items():
        assert torch.isfinite(last).all()
        assert not torch.equal(last, kept[0.5][name])


@pytest.mark.parametrize("decay", [0.0, 1.0, -1.0])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(InputError, match="average_decay"):
        TrainingSettings(average_decay=decay)
