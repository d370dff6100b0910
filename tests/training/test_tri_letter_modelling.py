"""Masked words of tri-letters: what is masked, what is guessed, and that it is learnt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pairstill.errors import InputError
from pairstill.students.encoders.transformer import EncoderConfig
from pairstill.students.encoders.tri_letter import TriLetterEncoder
from pairstill.tokens.tri_letter import TriLetterConfig, TriLetterTokenizer
from pairstill.training.settings import TrainingSettings
from pairstill.training.tri_letter_modelling import MaskedWordModel, MaskedWordModelling, WordTexts, frequent_words

TEXTS = [
    f"{color} {thing} {made} {number}xyz"
    for number, (color, thing, made) in enumerate(
        [("red", "shoe", "leather"), ("blue", "hat", "cotton"), ("green", "mug", "clay")] * 12
    )
]
SETTINGS = TrainingSettings(pairs=960, batch_size=12, learning_rate=5e-3)


def objective(share: float = 0.3) -> MaskedWordModelling:
    tokenizer = TriLetterTokenizer.learn([TEXTS], TriLetterConfig())
    words = frequent_words(tokenizer, TEXTS, 9)
    torch.manual_seed(0)
    encoder = TriLetterEncoder.new(EncoderConfig(shape="1x24x2"), len(tokenizer.vocabulary), 3)
    texts = [WordTexts(TEXTS[start:stop], tokenizer, words, 3) for start, stop in ((0, 24), (24, 36))]
    return MaskedWordModelling(MaskedWordModel(encoder, 9), *texts, share, SETTINGS)


def test_frequent_words_are_those_to_guess() -> None:
    tokenizer = TriLetterTokenizer.learn([TEXTS], TriLetterConfig())
    assert frequent_words(tokenizer, TEXTS, 3) == ["blue", "clay", "cotton"]
    with pytest.raises(InputError, match="46 words are to be told apart, and the texts have 45"):
        frequent_words(tokenizer, TEXTS, 46)
    texts = WordTexts(["red 1xyz shoe mug", "", "hat"], tokenizer, ["shoe", "red"], 3)
    assert texts.wanted.padded(np.arange(3), -1)[0].tolist() == [[1, -1, 0], [-1, -1, -1], [-1, -1, -1]]
    assert texts.cut() == 1


def test_a_masked_word_is_not_seen_and_others_are() -> None:
    model = objective().model.eval()
    tokenizer = TriLetterTokenizer.learn([TEXTS], TriLetterConfig())
    ids, lengths = tokenizer.tokenize(["red shoe leather", "blue shoe leather", "red hat leather"], 3).padded(
        np.arange(3)
    )
    places = torch.tensor([[True, False, False]] * 3)
    with torch.no_grad():
        logits = model(torch.from_numpy(ids), torch.from_numpy(lengths), places)
    torch.testing.assert_close(logits[0], logits[1])
    assert not torch.allclose(logits[0], logits[2], atol=1e-4)


def test_every_text_is_presented_once_a_pass_and_steps_repeat() -> None:
    one = objective()
    rows = np.concatenate([one.texts.rows(step, 7, 30) for step in range(5)])
    assert sorted(rows[:24].tolist()) == list(range(24))
    assert len(rows) == 30
    assert one.loss(3).item() == objective().loss(3).item()
    assert one.measure() == one.measure()


def test_words_are_learnt_from_their_neighbours() -> None:
    one = objective()
    before = one.measure()
    optimizer = torch.optim.AdamW(one.model.parameters(), lr=5e-3)
    for step in range(60):
        one.loss(step).backward()
        optimizer.step()
        optimizer.zero_grad()
    one.model.eval()
    after = one.measure()
    assert after["loss"] < 0.5 * before["loss"]
    assert after["accuracy"] > 0.8


def test_a_share_outside_is_refused() -> None:
    with pytest.raises(InputError, match="the share of masked words is 1"):
        objective(1.0)
