"""Gradients of token embeddings that are collected: those that PyTorch gives, in memory that is kept."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from pairstill.students.encoders.token_table import TokenTable, keep_token_table
from pairstill.students.encoders.transformer import EncoderConfig, Keep, TransformerEncoder
from pairstill.training.token_gradients import TokenGradients, token_tables

STEPS = [[[3, 3, 7, 0], [1, 9, 3, 0]], [[4, 0, 0, 0]], [[3, 1, 1, 9], [9, 9, 2, 0], [5, 5, 5, 5]]]


def backward(table: nn.Embedding, step: int) -> None:
    """One step: the table is read once for each field."""
    weights = torch.Generator().manual_seed(step)
    outputs = [table(torch.tensor([ids])) for ids in STEPS[step]]
    sum((one * torch.randn(one.shape, generator=weights)).sum() for one in outputs).backward()  # type: ignore[union-attr]


@pytest.mark.parametrize("padding", [0, None])
def test_they_are_those_of_pytorch_step_after_step(padding: int | None) -> None:
    torch.manual_seed(0)
    plain = nn.Embedding(12, 4, padding_idx=padding)
    table = TokenTable(copy.deepcopy(plain))
    collector = TokenGradients([table])
    memory = set()
    for step in (0, 1, 2, 0):
        plain.weight.grad = table.weight.grad = None
        backward(plain, step)
        with collector.collected():
            backward(table, step)
        assert plain.weight.grad is not None
        assert table.weight.grad is not None
        torch.testing.assert_close(table.weight.grad, plain.weight.grad)
        memory.add(table.weight.grad.data_ptr())
        # What clipping does to the kept memory must not be seen by the next step.
        table.weight.grad.mul_(0.5)
    assert len(memory) == 1


def test_without_a_collector_it_is_an_embedding() -> None:
    plain = nn.Embedding(12, 4)
    table = TokenTable(plain)
    assert table.weight is plain.weight
    backward(table, 0)
    assert table.weight.grad is not None
    found = table.weight.grad.clone()
    table.weight.grad = None
    backward(plain, 0)
    torch.testing.assert_close(found, plain.weight.grad)


def test_a_gradient_that_is_there_is_added_to() -> None:
    table = TokenTable(nn.Embedding(12, 4))
    table.weight.grad = torch.ones(12, 4)
    with TokenGradients([table]).collected():
        backward(table, 1)
    assert torch.equal(table.weight.grad[5], torch.ones(4))
    assert not torch.equal(table.weight.grad[4], torch.ones(4))


def test_an_output_layer_on_the_same_weights_keeps_its_gradient_of_padding() -> None:
    torch.manual_seed(0)
    plain = nn.Embedding(12, 4, padding_idx=0)
    table = TokenTable(copy.deepcopy(plain))

    def tied(one: nn.Embedding) -> None:
        (one(torch.tensor(STEPS[0])) @ one.weight.T).logsumexp(-1).sum().backward()

    tied(plain)
    with TokenGradients([table]).collected():
        tied(table)
    assert plain.weight.grad is not None
    assert plain.weight.grad[0].abs().max() > 0
    torch.testing.assert_close(table.weight.grad, plain.weight.grad)


def test_a_step_that_fails_leaves_nothing_behind() -> None:
    table = TokenTable(nn.Embedding(12, 4))

    def step() -> None:
        with TokenGradients([table]).collected():
            backward(table, 0)
            raise RuntimeError("in between")

    with pytest.raises(RuntimeError, match="in between"):
        step()
    assert table.collected is None
    assert table.weight.grad is None


def test_encoders_have_one(base: Path) -> None:
    encoder = TransformerEncoder.from_base(EncoderConfig(str(base))).train()
    (table,) = token_tables(encoder)
    ids, lengths = torch.tensor([[2, 7, 7, 3, 0]]), torch.tensor([4])
    encoder(ids, lengths, Keep(4)).vectors.square().sum().backward()
    assert table.weight.grad is not None
    expected = table.weight.grad.clone()
    encoder.zero_grad()
    with TokenGradients([table]).collected():
        encoder(ids, lengths, Keep(4)).vectors.square().sum().backward()
    torch.testing.assert_close(table.weight.grad, expected)
    assert expected.any(dim=1).nonzero().flatten().tolist() == [2, 3, 7]


def test_other_embeddings_stay(base: Path) -> None:
    model = TransformerEncoder.from_base(EncoderConfig(str(base))).model
    before = model.get_input_embeddings()  # type: ignore[operator]
    keep_token_table(model)
    assert model.get_input_embeddings() is before  # type: ignore[operator]
