"""`pretrain --words tri-letter`: a tower over tri-letter words, as a base for TwinBERT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pairstill.cli.training import settings_given
from pairstill.training.settings import TrainingSettings

if TYPE_CHECKING:
    from pairstill.tokens.tri_letter import TriLetterConfig


def tri_letter_config(settings: Sequence[str]) -> TriLetterConfig:
    """From `--tri-letter-set key=value`."""
    from pairstill.students.persistence import parse_settings
    from pairstill.tokens.tri_letter import TriLetterConfig

    values = settings_given("--tri-letter-set", settings, "unicode=true or minimum_count=1")
    parsed: TriLetterConfig = parse_settings(TriLetterConfig, values, "tri-letters")
    return parsed


def pretrain_words(
    texts: Sequence[str],
    blank: int,
    out: Path,
    work: Path,
    *,
    shape: str,
    words: int,
    mask_share: float,
    max_length: int,
    dropout: float,
    held_out_share: float,
    settings_for: Callable[[int], TrainingSettings],
    tri_letters: TriLetterConfig,
) -> None:
    """Learn tri-letters and a tower, and say what it came to.

    Args:
        texts: All of them.
        blank: How many blank ones were left out.
        out: Folder of the base.
        work: Folder of the training.
        shape: See `Shape.parse`.
        words: How many of the most frequent words are told apart.
        mask_share: Of these words.
        max_length: Words read of a text.
        dropout: Of the transformer.
        held_out_share: Of the texts.
        settings_for: The training's settings, for so many texts a pass.
        tri_letters: How texts become tri-letters.
    """
    import torch

    from pairstill.cli.progress import progress_bar
    from pairstill.cli.texts import said_texts
    from pairstill.students.base_folder import save_tri_letter_base
    from pairstill.students.encoders.transformer import EncoderConfig
    from pairstill.students.encoders.tri_letter import TriLetterEncoder
    from pairstill.tokens.tri_letter import TriLetterTokenizer
    from pairstill.training.base_card import base_card
    from pairstill.training.step_loop import fit_steps
    from pairstill.training.text_batches import held_out
    from pairstill.training.tri_letter_modelling import MaskedWordModel, MaskedWordModelling, WordTexts, frequent_words

    tokenizer = TriLetterTokenizer.learn([texts], tri_letters)
    guessed = frequent_words(tokenizer, texts, words)
    seed = settings_for(len(texts)).seed
    chosen = held_out(texts, held_out_share, seed)
    learnt, held = (
        WordTexts(
            [text for text, one in zip(texts, chosen, strict=True) if one == apart],
            tokenizer,
            guessed,
            max_length,
            seed,
        )
        for apart in (False, True)
    )
    settings = settings_for(learnt.per_pass)
    torch.manual_seed(seed)
    config = EncoderConfig(shape=shape, dropout=dropout)
    encoder = TriLetterEncoder.new(config, len(tokenizer.vocabulary), max_length)
    print(said_texts(texts, blank, learnt, held, "words"))
    objective = MaskedWordModelling(MaskedWordModel(encoder, words), learnt, held, mask_share, settings)
    with progress_bar("Pre-training", "texts") as progress:
        result = fit_steps(objective, settings, work, progress=progress)
    card = base_card(
        "A tower over tri-letter words, pre-trained by guessing masked words", len(texts), settings, result
    )
    save_tri_letter_base(out, encoder, tokenizer, card)
    print(
        f"base: {out}   {len(tokenizer.vocabulary):,} tri-letters, held-out perplexity among {words:,} words "
        f"{result.before['perplexity']:,.1f} -> {result.best['perplexity']:,.2f}, accuracy {result.best['accuracy']:.3f}, "
        f"{result.seconds:,.0f} s"
    )
