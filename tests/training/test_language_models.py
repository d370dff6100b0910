"""Pre-training and layer-wise distillation: values, interruptions, learning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pairstill.errors import ArtefactError, InputError
from pairstill.losses import LayerMap
from pairstill.students.encoders.language_model import new_bert, new_language_model
from pairstill.students.encoders.layers import layer_outputs
from pairstill.students.encoders.pretrained import load_encoder
from pairstill.training.layerwise import TERMS, LayerwiseDistillation, LayerwisePlan
from pairstill.training.masked_language_modelling import MaskedLanguageModelling
from pairstill.training.masking import Masking
from pairstill.training.settings import TrainingSettings
from pairstill.training.step_loop import StepObjective, StepResult, fit_steps
from pairstill.training.text_batches import TextBatches, held_out, split_batches, tokenized
from tiny import WORDS, tiny_tokenizer

SETTINGS = TrainingSettings(pairs=150, batch_size=8, learning_rate=3e-3, evaluate_every=40, checkpoint_every_s=0.0)
# A word is followed by the next one, so there is something to learn.
GENERATOR = np.random.default_rng(0)
TEXTS = [" ".join(WORDS[start : start + length]) for start, length in GENERATOR.integers([0, 4], [8, 10], (120, 2))]


def batches(joined: int = 1) -> tuple[TextBatches, TextBatches]:
    return split_batches(TEXTS, tiny_tokenizer(), 20, 0.2, texts_per_sequence=joined)


def pretraining(settings: TrainingSettings = SETTINGS, dropout: float = 0.1) -> MaskedLanguageModelling:
    torch.manual_seed(0)
    model = new_language_model("2x32x2", 65, positions=20, padding=0, dropout=dropout)
    masking = Masking.of_tokenizer(tiny_tokenizer(), whole_words=False)
    return MaskedLanguageModelling(model, *batches(), masking, settings)


def layerwise(
    base: Path, settings: TrainingSettings = SETTINGS, terms: tuple[str, ...] = TERMS
) -> LayerwiseDistillation:
    torch.manual_seed(0)
    learnt, held = batches(2)
    student = new_bert("2x24x2", 65, positions=20, padding=0)
    return LayerwiseDistillation(
        student, load_encoder(str(base)), LayerwisePlan(LayerMap((1, 3), 3), terms),
        lambda step: learnt.batch(step, settings.batch_size, settings.pairs), held.all(16), settings, learnt.fingerprint(),
    )  # fmt: skip


class Interruption(Exception):
    pass


def run(objective: Any, folder: Path, stop: int | None = None, settings: TrainingSettings = SETTINGS) -> StepResult:
    def progress(done: int, total: int) -> None:
        assert total == settings.pairs
        if done == stop:
            raise Interruption

    return fit_steps(objective, settings, folder, progress=progress)


@pytest.mark.parametrize("kind", ["pretraining", "layerwise"])
def test_interrupted_it_ends_with_the_same_weights(kind: str, base: Path, tmp_path: Path) -> None:
    def make() -> StepObjective:
        return pretraining() if kind == "pretraining" else layerwise(base)

    calm = make()
    expected = run(calm, tmp_path / "calm")
    for stop in (24, 96):
        with pytest.raises(Interruption):
            run(make(), tmp_path / "broken", stop)
    broken = make()
    found = run(broken, tmp_path / "broken")
    for name, value in calm.model.state_dict().items():
        assert torch.equal(value, broken.model.state_dict()[name]), name
    assert (found.before, found.best, found.best_sequences) == (expected.before, expected.best, expected.best_sequences)
    assert [one["training_loss"] for one in found.history] == [one["training_loss"] for one in expected.history]
    loaded = make()
    assert run(loaded, tmp_path / "calm") == expected
    assert all(torch.equal(value, loaded.model.state_dict()[name]) for name, value in calm.model.state_dict().items())
    with pytest.raises(ArtefactError, match="a training with other settings"):
        run(make(), tmp_path / "calm", settings=replace(SETTINGS, learning_rate=1e-3))


def test_pretraining_learns_what_follows_what(tmp_path: Path) -> None:
    settings = replace(
        SETTINGS, pairs=4800, batch_size=32, learning_rate=1e-2, evaluate_every=1200, checkpoint_every_s=60
    )
    result = run(pretraining(settings, 0.0), tmp_path, settings=settings)
    assert result.before["perplexity"] == pytest.approx(65, rel=0.3)
    assert result.best["perplexity"] < result.before["perplexity"] / 3
    assert result.best["accuracy"] > 0.4


def test_the_loss_is_the_mean_over_masked_tokens() -> None:
    objective = pretraining(dropout=0.0)
    objective.model.eval()
    found = objective.loss(3)
    generator = np.random.default_rng([0, 3])
    total, count = 0.0, 0
    for part in objective.batches.batch(3, 8, 150):
        seen, chosen = objective.masking.apply(part.ids.numpy(), part.lengths.numpy(), generator)
        for row in range(len(part)):
            for column in np.flatnonzero(chosen[row]):
                place = torch.zeros(1, seen.shape[1], dtype=torch.bool)
                place[0, column] = True
                logits = objective.model(
                    torch.from_numpy(seen[row : row + 1]), None if part.types is None else part.types[row : row + 1],
                    part.lengths[row : row + 1], place,
                )  # fmt: skip
                total -= float(torch.log_softmax(logits[0].detach(), 0)[part.ids[row, column]])
                count += 1
    assert float(found.detach()) == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize("terms", [TERMS, ("attention",), ("hidden",), ("embeddings",)])
def test_layers_are_compared_over_the_real_tokens_of_the_whole_step(base: Path, terms: tuple[str, ...]) -> None:
    objective = layerwise(base, terms=terms)
    parts = objective.batch(0)
    # Another division of the same sequences into passes, with other padding.
    longest = parts[0]
    split = [
        type(longest)(longest.ids[rows, : longest.lengths[rows].max()], longest.types[rows, : longest.lengths[rows].max()], longest.lengths[rows])
        for rows in (torch.tensor([0, 3, 5]), torch.tensor([1, 2, 4, 6, 7]))
    ]  # fmt: skip
    objective.model.eval()
    whole = objective._terms(parts)
    for name, value in objective._terms(split).items():
        torch.testing.assert_close(value, whole[name])

    expected = {"attention": 0.0, "hidden": 0.0}
    mine = layer_outputs(objective.student, longest.ids, longest.types, longest.lengths)
    theirs = layer_outputs(objective.teacher, longest.ids, longest.types, longest.lengths)
    tokens = [(row, token) for row in range(8) for token in range(int(longest.lengths[row]))]
    if "attention" in terms:
        for layer, other in ((0, 0), (1, 2)):
            errors = [
                float((mine.attention[layer][row, head, i, j].detach() - theirs.attention[other][row, head, i, j].detach()) ** 2)
                for row, i in tokens for j in range(int(longest.lengths[row])) for head in range(2)
            ]  # fmt: skip
            expected["attention"] += sum(errors) / len(errors)
    if objective.hidden is not None:
        chosen = [(0, 0)] * ("embeddings" in terms) + [(1, 1), (2, 3)] * ("hidden" in terms)
        for layer, other in chosen:
            errors = [
                float(one.detach()) for row, token in tokens
                for one in (objective.hidden.projection(mine.hidden[layer][row, token]) - theirs.hidden[other][row, token]) ** 2
            ]  # fmt: skip
            expected["hidden"] += sum(errors) / len(errors)
    for name, value in whole.items():
        assert float(value.detach()) == pytest.approx(expected[name], rel=1e-4), name
    assert set(whole) == {"attention"} if terms == ("attention",) else "hidden" in whole


def test_distillation_comes_nearer_to_the_teacher(base: Path, tmp_path: Path) -> None:
    settings = replace(
        SETTINGS, pairs=2000, batch_size=16, learning_rate=1e-2, evaluate_every=500, checkpoint_every_s=60
    )
    result = run(layerwise(base, settings), tmp_path, settings=settings)
    assert result.best["loss"] < result.before["loss"] / 3
    assert result.best["hidden"] < result.before["hidden"] / 3


def test_a_pass_presents_every_text_once_and_steps_stand_alone() -> None:
    tokens = tokenized(tiny_tokenizer(), TEXTS)
    made = TextBatches(tokens, tiny_tokenizer(), 20, seed=5)
    shown = [
        tuple(row[row > 4].tolist()) for step in range(15) for part in made.batch(step, 8, 1000) for row in part.ids
    ]
    everything = sorted(tuple(tokens.ids[tokens.offsets[i] : tokens.offsets[i + 1]].tolist()) for i in range(120))
    assert sorted(shown) == everything
    again = TextBatches(tokens, tiny_tokenizer(), 20, seed=5)
    for one, other in zip(made.batch(17, 8, 1000), again.batch(17, 8, 1000), strict=True):
        assert torch.equal(one.ids, other.ids)
    assert sum(len(part) for part in made.batch(2, 8, 20)) == 4
    pairs = TextBatches(tokens, tiny_tokenizer(), 8, texts_per_sequence=2)
    part = pairs.batch(0, 8, 8)[0]
    assert part.ids.shape[1] == 8
    assert part.types is not None
    assert int(part.types.sum()) > 0
    assert [int((row == 3).sum()) for row in part.ids] == [2] * 8
    assert made.cut() == 0
    assert TextBatches(tokens, tiny_tokenizer(), 6).cut() == int((tokens.lengths > 4).sum())
    with pytest.raises(InputError, match=r"there are 1 texts to learn from, and a sequence is made of 2"):
        TextBatches(tokenized(tiny_tokenizer(), ["w1"]), tiny_tokenizer(), 8, texts_per_sequence=2)


def test_equal_texts_are_held_out_together() -> None:
    texts = [f"text {number % 500}" for number in range(2000)]
    chosen = held_out(texts, 0.1, 0)
    assert chosen.mean() == pytest.approx(0.1, abs=0.04)
    np.testing.assert_array_equal(chosen[:500], chosen[500:1000])
    np.testing.assert_array_equal(held_out(texts[::-1], 0.1, 0), chosen[::-1])
    assert (held_out(texts, 0.1, 1) != chosen).any()
    for share in (0.0, 1.0):
        with pytest.raises(InputError, match="would be held out"):
            held_out(texts, share, 0)


def test_plans() -> None:
    assert LayerwisePlan.parse("uniform", (), 3, 6).layer_map.teacher_layers == (2, 4, 6)
    assert LayerwisePlan.parse("last", ["attention"], 2, 6) == LayerwisePlan(LayerMap((5, 6), 6), ("attention",))
    assert LayerwisePlan.parse("1,6", (), 2, 6).layer_map.teacher_layers == (1, 6)
    for layer_map, terms, depth, message in (
        ("uniform", [], 7, "the student has 7 layers and the teacher 6"),
        ("uniform", [], 4, "6 layers cannot be dealt evenly to 4.*--layer-map last"),
        ("top", [], 2, "the layer map 'top' cannot be read"),
        ("1,2,3", [], 2, "the student has 2 layers"),
        ("first", ["logits"], 2, "of the layers 'logits' is to be learnt"),
    ):
        with pytest.raises(InputError, match=message):
            LayerwisePlan.parse(layer_map, terms, depth, 6)


def test_a_diverging_training_is_stopped(tmp_path: Path) -> None:
    settings = replace(SETTINGS, learning_rate=1e30, clip=None)
    with pytest.raises(InputError, match=r"diverges.*Lower the learning rate"):
        run(pretraining(settings), tmp_path, settings=settings)
