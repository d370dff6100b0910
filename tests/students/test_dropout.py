"""Dropout by bytes beside PyTorch's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from pairstill.students import make_student
from pairstill.students.cross_encoder import CrossEncoder
from pairstill.students.encoders.dropout import Dropout, dropout, replace_dropout
from pairstill.students.persistence import parse_config
from tiny import FAMILIES, tiny_base


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("probability", [0.1, 0.5, 0.001])
def test_share_scale_and_gradient(precision: torch.dtype, probability: float) -> None:
    torch.manual_seed(0)
    values = torch.ones(1003, 999, dtype=precision, requires_grad=True)
    out = dropout(values, probability)
    assert out.dtype == precision
    assert out.shape == values.shape
    share = (out == 0).float().mean().item()
    assert share == pytest.approx(max(1, round(probability * 256)) / 256, abs=0.002)
    assert out.float().mean().item() == pytest.approx(1, abs=0.01)
    assert len(out.unique()) == 2
    out.sum().backward()
    assert torch.equal(values.grad, out.detach())


def test_neighbouring_elements_are_dropped_independently() -> None:
    torch.manual_seed(0)
    dropped = (dropout(torch.ones(80_000, 8), 0.25) == 0).float()
    both = (dropped.T @ dropped) / len(dropped)
    assert both.fill_diagonal_(0.0625) == pytest.approx(torch.full((8, 8), 0.0625), abs=0.005)


def test_the_generator_of_pytorch_decides() -> None:
    torch.manual_seed(3)
    first = dropout(torch.ones(100), 0.5)
    state = torch.get_rng_state()
    second = dropout(torch.ones(100), 0.5)
    torch.set_rng_state(state)
    assert torch.equal(dropout(torch.ones(100), 0.5), second)
    assert not torch.equal(first, second)


def test_none_all_and_evaluation() -> None:
    values = torch.randn(5, 5)
    assert dropout(values, 0.0) is values
    assert not dropout(values, 1.0).any()
    assert Dropout(0.5).eval()(values) is values


@pytest.mark.parametrize("family", FAMILIES)
def test_every_module_of_a_base_is_replaced(family: str, tmp_path: Path) -> None:
    model = CrossEncoder.from_sequence_classification(
        str(tiny_base(tmp_path / "base", family)), max_length=16, dropout=0.1
    ).model
    replace_dropout(model)
    assert not [one for one in model.modules() if isinstance(one, nn.Dropout)]
    assert {one.p for one in model.modules() if isinstance(one, Dropout)} >= {0.1}


@pytest.mark.parametrize("probability", [0.99, 0.999])
def test_something_is_always_kept(probability: float) -> None:
    torch.manual_seed(0)
    out = dropout(torch.ones(100_000), probability)
    assert torch.isfinite(out).all()
    assert (out != 0).any()


@pytest.mark.parametrize("name", ["bert-dot", "colbert", "cross-encoder"])
def test_dropout_of_a_shape(base: Path, name: str) -> None:
    values = {"encoder": {"base": str(base), "shape": "tiny", "dropout": 0.25, "max_lengths": [16]}}
    student = make_student(name, parse_config(name, values))
    found = {one.p for one in student.modules() if isinstance(one, (Dropout, nn.Dropout)) and one.p}
    assert found == {0.25}
