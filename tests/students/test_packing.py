"""Texts without padding between them give the same hidden states and gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pairstill.students.cross_encoder import CrossEncoder
from pairstill.students.encoders import packing
from pairstill.students.encoders.packing import Packing, packs
from pairstill.students.encoders.transformer import EncoderConfig, Keep, TransformerEncoder


@pytest.fixture
def encoder(base: Path) -> TransformerEncoder:
    torch.manual_seed(0)
    return TransformerEncoder.from_base(EncoderConfig(str(base)), similarity=True).train()


def batch(width: int = 14) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([3, width, 1, 7, 2])
    ids = torch.randint(5, 60, (5, width), generator=torch.Generator().manual_seed(1))
    return ids * (torch.arange(width) < lengths[:, None]), lengths


def run(encoder: TransformerEncoder, keep: Keep, attended: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
    ids, lengths = batch()
    found = encoder(ids, lengths, keep, attended)
    arrays = [one for one in found.arrays().values() if one.is_floating_point()]
    encoder.zero_grad()
    weights = torch.Generator().manual_seed(2)
    sum((one * torch.randn(one.shape, generator=weights)).sum() for one in arrays).backward()  # type: ignore[union-attr]
    gradients = [one.grad.clone() for one in encoder.parameters() if one.grad is not None]
    return [one.detach() for one in arrays], gradients


@pytest.mark.parametrize("keep", [Keep(4), Keep(4, "last"), Keep(14, "all"), Keep(1, "mean")], ids=lambda one: one.take)
@pytest.mark.parametrize("attended", [None, torch.tensor([2, 14, 1, 4, 1])], ids=["all", "some"])
def test_hidden_states_and_gradients(
    encoder: TransformerEncoder, keep: Keep, attended: Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = run(encoder, keep, attended)
    assert packs(encoder.model, *batch())
    monkeypatch.setattr(packing, "PACKED_SHARE", 0.0)
    assert not packs(encoder.model, *batch())
    padded = run(encoder, keep, attended)
    assert len(packed[1]) == len(padded[1]) > 20
    for one, other in zip([*packed[0], *packed[1]], [*padded[0], *padded[1]], strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=2e-5, rtol=1e-4)


def test_it_is_for_training_and_for_padded_batches(encoder: TransformerEncoder) -> None:
    ids, lengths = batch()
    assert packs(encoder.model, ids, lengths)
    assert not packs(encoder.model, ids, torch.full_like(lengths, ids.shape[1]))
    with torch.no_grad():
        assert not packs(encoder.model, ids, lengths)


def test_there_and_back() -> None:
    _, lengths = batch()
    packed_texts = Packing.of(lengths, 14, lengths)
    padded = torch.randn(5, 14, 6, requires_grad=True)
    packed = packed_texts.pack(padded)
    assert (packed_texts.count, len(packed)) == (int(lengths.sum()), 256)
    again = packed_texts.spread(packed)
    valid = torch.arange(14) < lengths[:, None]
    assert torch.equal(again[valid], padded[valid])
    again[valid].sum().backward()
    assert padded.grad is not None
    assert torch.equal(padded.grad, valid[:, :, None].expand(-1, -1, 6).float())


def test_a_cross_encoder_gives_the_same_logits_and_gradients(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = CrossEncoder.from_sequence_classification(str(base), outputs=2, dropout=0.0).train()
    ids, lengths = batch()
    types = (torch.arange(14) > 1).long().expand(5, -1)

    def run() -> list[Tensor]:
        model.zero_grad()
        logits = model.classify(ids, types, lengths)
        (logits * torch.arange(10).view(5, 2)).sum().backward()
        return [logits.detach(), *(one.grad.clone() for one in model.parameters() if one.grad is not None)]

    assert packs(model.model.base_model, ids, lengths)
    packed = run()
    monkeypatch.setattr(packing, "PACKED_SHARE", 0.0)
    padded = run()
    assert len(packed) == len(padded) > 20
    for one, other in zip(packed, padded, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=2e-5, rtol=1e-4)
