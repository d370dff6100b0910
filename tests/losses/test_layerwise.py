"""Layer-wise losses against plain transcriptions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pairstill.errors import InputError
from pairstill.losses import AttentionLoss, HiddenLoss, LayerMap, LayerOutputs, attention_scores

BATCH, TOKENS, HEADS, NARROW, WIDE = 3, 4, 2, 6, 10


def outputs(layers: int, width: int, seed: int, mask: Tensor | None = None, scale: float = 1.0) -> LayerOutputs:
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).requires_grad_(True)

    return LayerOutputs(
        [numbers(BATCH, TOKENS, width) for _ in range(layers + 1)],
        [numbers(BATCH, HEADS, TOKENS, TOKENS) for _ in range(layers)],
        mask,
    )


MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_attention(mask: Tensor | None, padding: bool, scale: float) -> None:
    student, teacher = outputs(2, NARROW, 0, mask, scale), outputs(4, WIDE, 1, mask, scale)
    expected = 0
    for layer, other in ((0, 1), (1, 3)):
        total, cells = 0, 0
        for b in range(BATCH):
            for h in range(HEADS):
                for i in range(TOKENS):
                    for j in range(TOKENS):
                        seen = mask is None or (bool(mask[b, j]) and (padding or bool(mask[b, i])))
                        # The reference code adds -10000 to masked scores and sets what is below -100 to 0, on both sides.
                        difference = student.attention[layer][b, h, i, j] - teacher.attention[other][b, h, i, j]
                        total = total + (difference**2 if seen else 0)
                        cells += 1 if seen or padding else 0
        expected = expected + total / cells
    got = AttentionLoss(LayerMap.uniform(2, 4), padding)(student, teacher)
    torch.testing.assert_close(got, expected)
    for mine, wanted in zip(
        torch.autograd.grad(got, student.attention), torch.autograd.grad(expected, student.attention), strict=True
    ):
        torch.testing.assert_close(mine, wanted)


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize(("hidden", "embeddings"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_hidden_states_and_embeddings_share_a_projection(
    mask: Tensor | None, padding: bool, hidden: bool, embeddings: bool, scale: float
) -> None:
    torch.manual_seed(0)
    layer_map = LayerMap((1, 4), 4)
    loss = HiddenLoss(layer_map, NARROW, WIDE, hidden=hidden, embeddings=embeddings, mean_over_padding=padding).double()
    student, teacher = outputs(2, NARROW, 2, mask, scale), outputs(4, WIDE, 3, mask, scale)
    weight, bias = loss.projection.weight, loss.projection.bias
    expected = 0
    for mine, other in ([(0, 0)] if embeddings else []) + ([(1, 1), (2, 4)] if hidden else []):
        total, cells = 0, 0
        for b in range(BATCH):
            for i in range(TOKENS):
                if mask is None or padding or bool(mask[b, i]):
                    cells += WIDE
                    for k in range(WIDE):
                        mapped = sum(student.hidden[mine][b, i, d] * weight[k, d] for d in range(NARROW)) + bias[k]
                        total = total + (mapped - teacher.hidden[other][b, i, k]) ** 2
        expected = expected + total / cells
    got = loss(student, teacher)
    torch.testing.assert_close(got, expected)
    inputs = [weight, bias, *(student.hidden if hidden and embeddings else [])]
    for mine, wanted in zip(torch.autograd.grad(got, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(mine, wanted)
    assert len(list(loss.parameters())) == 2


def test_attention_scores_are_those_before_the_softmax() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(BATCH, HEADS, TOKENS, 5) for _ in range(3))
    scores = attention_scores(query, key)
    assert float(scores[1, 1, 2, 3]) == pytest.approx(sum(float(a * b) for a, b in zip(query[1, 1, 2], key[1, 1, 3], strict=True)) / math.sqrt(5), rel=1e-5)  # fmt: skip
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(torch.softmax(scores, -1) @ value, expected)


def test_layer_maps() -> None:
    assert LayerMap.uniform(3, 12).teacher_layers == (4, 8, 12)
    assert LayerMap.uniform(6, 6).teacher_layers == (1, 2, 3, 4, 5, 6)
    assert LayerMap.last(2, 6).teacher_layers == (5, 6)
    assert LayerMap.first(2, 6).teacher_layers == (1, 2)
    with pytest.raises(InputError, match="6 layers cannot be dealt evenly to 4"):
        LayerMap.uniform(4, 6)
    with pytest.raises(InputError, match=r"names layer 7\. Expected: 1 to 6"):
        LayerMap((3, 7), 6)
    with pytest.raises(InputError, match="goes down"):
        LayerMap((3, 2), 6)
    with pytest.raises(InputError, match="is empty"):
        LayerMap((), 6)


def test_other_models_are_refused() -> None:
    layer_map = LayerMap.uniform(2, 4)
    attention, hidden = AttentionLoss(layer_map), HiddenLoss(layer_map, NARROW, WIDE)
    student, teacher = outputs(2, NARROW, 0), outputs(4, WIDE, 1)
    with pytest.raises(InputError, match=r"student has 3 layers and the teacher 4\. Expected: 2 and 4"):
        attention(outputs(3, NARROW, 0), teacher)
    with pytest.raises(InputError, match="no attention scores"):
        attention(LayerOutputs(student.hidden), teacher)
    with pytest.raises(InputError, match="2 attention heads and the teacher 1"):
        attention(student, LayerOutputs(teacher.hidden, [one[:, :1] for one in teacher.attention]))
    with pytest.raises(InputError, match="both models must read the same tokens"):
        attention(student, LayerOutputs(teacher.hidden, [one[:, :, :3, :3] for one in teacher.attention]))
    with pytest.raises(InputError, match=r"are 6 and 6 wide\. Expected: 6 and 10"):
        hidden(student, outputs(4, NARROW, 1))
    with pytest.raises(InputError, match="both models must read the same tokens"):
        hidden(student, LayerOutputs([one[:, :3] for one in teacher.hidden]))
    with pytest.raises(InputError, match="neither hidden states nor embeddings"):
        HiddenLoss(layer_map, NARROW, WIDE, hidden=False, embeddings=False)
    with pytest.raises(InputError, match="1 hidden states"):
        LayerOutputs(student.hidden[:1])
    with pytest.raises(InputError, match="1 layers of attention and 2"):
        LayerOutputs(student.hidden, student.attention[:1])
