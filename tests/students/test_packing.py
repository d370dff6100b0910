"""Texts without padding between them give the same hidden states and gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from pairstill.students import PreTTR, cross_encoder, make_student, prettr
from pairstill.students.cross_encoder import CrossEncoder
from pairstill.students.encoders import language_model, transformer, tri_letter, word_vectors
from pairstill.students.encoders import split as split_module
from pairstill.students.encoders.language_model import load_language_model
from pairstill.students.encoders.layers import layer_outputs, packed_layer_outputs
from pairstill.students.encoders.packed_transformer import packs
from pairstill.students.encoders.packing import Packing
from pairstill.students.encoders.transformer import EncoderConfig, Keep, TransformerEncoder
from pairstill.students.encoders.tri_letter import TriLetterEncoder
from pairstill.students.encoders.word_vectors import WordContext
from pairstill.students.persistence import parse_config
from tiny import tiny_base


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
    assert packs(encoder.model)
    monkeypatch.setattr(transformer, "packs", lambda _: False)
    padded = run(encoder, keep, attended)
    assert len(packed[1]) == len(padded[1]) > 20
    for one, other in zip([*packed[0], *packed[1]], [*padded[0], *padded[1]], strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=2e-5, rtol=1e-4)


def test_it_is_for_training_in_precisions_that_are_known(encoder: TransformerEncoder) -> None:
    assert packs(encoder.model)
    with torch.no_grad():
        assert not packs(encoder.model)
    with torch.autocast("cpu", torch.bfloat16):
        assert packs(encoder.model)
    with torch.autocast("cpu", torch.float16):
        assert not packs(encoder.model)
    encoder.model.config.hidden_act = "relu"  # type: ignore[union-attr]
    assert not packs(encoder.model)


def test_spreading_and_its_gradient() -> None:
    _, lengths = batch()
    packing = Packing.of(lengths, 14, lengths)
    count = int(lengths.sum())
    packed = torch.randn(256, 6, requires_grad=True)
    assert packing.slots.shape == (256,)
    valid = torch.arange(14) < lengths[:, None]
    spread = packing.spread(packed)
    assert torch.equal(spread[valid], packed[:count])
    assert packing.count == count
    weights = torch.randn(5, 14, 6)
    (spread * weights).sum().backward()
    assert packed.grad is not None
    assert torch.equal(packed.grad[:count], weights[valid])
    assert not packed.grad[count:].any()


def test_packing_and_its_gradient() -> None:
    _, lengths = batch()
    packing = Packing.of(lengths, 14, lengths)
    padded = torch.randn(5, 14, 6, requires_grad=True)
    valid = torch.arange(14) < lengths[:, None]
    packed = packing.pack(padded)
    assert torch.equal(packed[: packing.count], padded[valid])
    weights = torch.randn(packing.count, 6)
    (packed[: packing.count] * weights).sum().backward()
    assert padded.grad is not None
    assert torch.equal(padded.grad[valid], weights)
    assert not padded.grad[~valid].any()


def test_a_cross_encoder_gives_the_same_logits_and_gradients(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = CrossEncoder.from_sequence_classification(str(base), outputs=2, dropout=0.0).train()
    ids, lengths = batch()
    types = (torch.arange(14) > 1).long().expand(5, -1)

    assert packs(model.model.base_model)
    same_both_ways(model, cross_encoder, monkeypatch, lambda: model.classify(ids, types, lengths))


def test_a_language_model_gives_the_same_logits_and_gradients(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = load_language_model(str(base)).train()
    ids, lengths = batch()
    places = (torch.arange(14) < lengths[:, None]) & (ids % 3 == 0)
    types = (torch.arange(14) > 1).long().expand(5, -1)
    assert packs(model.encoder)
    same_both_ways(model, language_model, monkeypatch, lambda: model(ids, types, lengths, places))


def test_tri_letter_words_give_the_same_hidden_states_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = TriLetterEncoder.new(EncoderConfig(shape="2x24x3"), tri_letters=30, words=14).train()
    _, lengths = batch()
    ids = torch.randint(0, 30, (5, 14, 4), generator=torch.Generator().manual_seed(1))
    valid = torch.arange(14) < lengths[:, None]
    assert packs(model.model)
    same_both_ways(model, tri_letter, monkeypatch, lambda: model.hidden_states(ids * valid[:, :, None], lengths)[valid])


@pytest.mark.parametrize("attention", [True, False])
def test_every_layer_gives_the_same_and_has_the_same_gradients(attention: bool, encoder: TransformerEncoder) -> None:
    ids, lengths = batch()
    valid = torch.arange(14) < lengths[:, None]

    def run(packed: bool) -> list[Tensor]:
        encoder.zero_grad()
        outputs = packed_layer_outputs if packed else layer_outputs
        found = outputs(encoder.model, ids, None, lengths, attention=attention)
        assert found.packed is packed
        assert len(found.attention) == (found.layers if attention else 0)
        hidden = [one[0] if packed else one[valid] for one in found.hidden]
        scores = [one[(valid[:, None, :, None] & valid[:, None, None]).expand_as(one)] for one in found.attention]
        numbers = torch.Generator().manual_seed(3)
        sum((one * torch.randn(one.shape, generator=numbers)).sum() for one in [*hidden, *scores]).backward()  # type: ignore[union-attr]
        gradients = [one.grad.clone() for one in encoder.parameters() if one.grad is not None]
        return [one.detach() for one in [*hidden, *scores, *gradients]]

    pairs = list(zip(run(packed=True), run(packed=False), strict=True))
    assert len(pairs) > 20
    for one, other in pairs:
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=2e-5, rtol=1e-4)


def same_both_ways(
    model: torch.nn.Module,
    module: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    outputs: Callable[[], Tensor],
    *also: ModuleType,
) -> None:
    def run() -> list[Tensor]:
        model.zero_grad()
        found = outputs()
        (found * torch.arange(found.numel()).view(found.shape) / found.numel()).sum().backward()
        return [found.detach(), *(one.grad.clone() for one in model.parameters() if one.grad is not None)]

    packed = run()
    for one in (module, *also):
        monkeypatch.setattr(one, "packs" if hasattr(one, "packs") else "computable", lambda _: False)
    padded = run()
    assert len(packed) == len(padded) > 20
    for one, other in zip(packed, padded, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=2e-5, rtol=1e-4)


def loss_of(encoder: TransformerEncoder, seed: int) -> Tensor:
    torch.manual_seed(seed)
    vectors = encoder(*batch(), Keep(14, "all")).vectors
    return (vectors * torch.randn(vectors.shape, generator=torch.Generator().manual_seed(2))).sum()


def test_dropout_drops_the_same_elements_both_ways(base: Path) -> None:
    torch.manual_seed(0)
    encoder = TransformerEncoder.from_base(EncoderConfig(str(base), dropout=0.25)).train()
    parameters = [one for name, one in encoder.named_parameters() if "layer." in name]
    assert loss_of(encoder, 3).item() == loss_of(encoder, 3).item() != loss_of(encoder, 4).item()
    loss_of(encoder, 3).backward()
    direction = [torch.randn_like(one) for one in parameters]
    slope = sum((one.grad * step).sum().item() for one, step in zip(parameters, direction, strict=True))  # type: ignore[operator]

    def moved(size: float) -> float:
        with torch.no_grad():
            for one, step in zip(parameters, direction, strict=True):
                one.add_(step, alpha=size)
        found = loss_of(encoder, 3).item()
        with torch.no_grad():
            for one, step in zip(parameters, direction, strict=True):
                one.sub_(step, alpha=size)
        return found

    assert (moved(1e-3) - moved(-1e-3)) / 2e-3 == pytest.approx(slope, rel=0.02)
    encoder.eval()
    assert loss_of(encoder, 3).item() == loss_of(encoder, 4).item()


def test_bfloat16_differs_by_its_precision(encoder: TransformerEncoder) -> None:
    def gradients(precise: bool) -> Tensor:
        encoder.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=not precise):
            loss = loss_of(encoder, 3)
        loss.backward()
        return torch.cat([one.grad.flatten() for one in encoder.parameters() if one.grad is not None])

    exact, rounded = gradients(True), gradients(False)
    assert rounded.dtype == torch.float32
    assert 0 < ((rounded - exact).norm() / exact.norm()).item() < 0.03


@pytest.mark.parametrize("compression", [None, 5])
@pytest.mark.parametrize("split", [1, 2])
def test_prettr_gives_the_same_logits_and_gradients(
    split: int, compression: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    values = {
        "encoder": {"base": str(tiny_base(tmp_path)), "max_lengths": [6, 9]},
        "split": split,
        "compression": compression,
    }
    model = make_student("prettr", parse_config("prettr", values)).train()
    assert isinstance(model, PreTTR)
    assert packs(model.lower)
    assert len(model.upper) == 3 - split
    tokens = [model.tokenize(0, ["w1 w2 w3", "w4"]), model.tokenize(1, ["w3 w4 w5 w6 w7 w8 w9", "", "w2 w3"])]
    index = torch.tensor([[1, 0], [0, 0], [0, 2], [1, 1]])

    def logits() -> Tensor:
        prepared = []
        for field, one in enumerate(tokens):
            ids, lengths = (torch.from_numpy(array) for array in one.padded(np.arange(len(one))))
            outputs = model.encoder_outputs(field, ids, lengths)
            prepared.append(model.prepare(field, model.project(field, outputs)))
        return model.score(prepared, index)

    same_both_ways(model, split_module, monkeypatch, logits, prettr)


def test_word_vectors_in_context_are_the_same_and_have_the_same_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = WordContext(60, 12, layers=2, heads=3, intermediate=10).train()
    ids, lengths = batch()
    same_both_ways(model, word_vectors, monkeypatch, lambda: model(ids, lengths, 5))
