"""A WordPiece vocabulary learnt from texts, the same in every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pairstill.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.models import Model
    from tokenizers.normalizers import Normalizer
    from tokenizers.pre_tokenizers import PreTokenizer

PADDING, UNKNOWN, FIRST, SEPARATOR, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
SPECIAL_TOKENS = (PADDING, UNKNOWN, FIRST, SEPARATOR, MASK)
"""In the order of their ids, from 0."""


def train_wordpiece(
    texts: Sequence[str], vocabulary_size: int, *, lowercase: bool = True, least_frequency: int = 2
) -> Tokenizer:
    """Learn word pieces as BERT has them (DiPair, section 4.3, pre-trains with 80,000 of its own).

    Args:
        texts: To learn from.
        vocabulary_size: Word pieces, special tokens counted.
        lowercase: Whether case and accents are dropped.
        least_frequency: A piece must occur so often.

    Raises:
        InputError: The texts do not give so many pieces, or their characters alone are more.
    """
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    alphabet: set[str] = set()
    for text in texts:
        alphabet.update(normalizer.normalize_str(text))
    characters = sorted(one for one in alphabet if not one.isspace())
    # The trainer numbers continuing characters in the order of a hash map with random seeds, and breaks ties by number. Giving
    # all characters in advance makes the vocabulary a function of the texts.
    known = [*SPECIAL_TOKENS, *characters, *(f"##{one}" for one in characters)]
    if vocabulary_size < len(known):
        raise InputError(
            f"a vocabulary of {vocabulary_size:,} is asked for, and the texts have {len(characters):,} different characters",
            expected=f"{len(known):,} or more: the special tokens, and each character at and after a word's start",
        )
    trained = _tokenizer(models.WordPiece(unk_token=UNKNOWN), normalizer, pre_tokenizers.BertPreTokenizer())
    trained.train_from_iterator(
        iter(texts),
        trainers.WordPieceTrainer(
            vocab_size=vocabulary_size, min_frequency=least_frequency, special_tokens=known, show_progress=False
        ),
    )
    vocabulary = trained.get_vocab()
    if len(vocabulary) < vocabulary_size:
        raise InputError(
            f"the texts give {len(vocabulary):,} word pieces that occur {least_frequency} times, {vocabulary_size:,} were asked for",
            fix=f"Lower --vocabulary to {len(vocabulary):,} or less, or give more texts",
        )
    # Anew from the vocabulary, because the characters given in advance count as special tokens in the trained one.
    tokenizer = _tokenizer(
        models.WordPiece(vocabulary, unk_token=UNKNOWN), normalizer, pre_tokenizers.BertPreTokenizer()
    )
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{FIRST} $A {SEPARATOR}", pair=f"{FIRST} $A {SEPARATOR} $B:1 {SEPARATOR}:1",
        special_tokens=[(name, vocabulary[name]) for name in (FIRST, SEPARATOR)],
    )  # fmt: skip
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def _tokenizer(model: Model, normalizer: Normalizer, pre_tokenizer: PreTokenizer) -> Tokenizer:
    from tokenizers import Tokenizer

    made = Tokenizer(model)
    made.normalizer, made.pre_tokenizer = normalizer, pre_tokenizer
    return made
