"""Tri-letter tokens: a word is its overlapping groups of three letters (TwinBERT; the rules of its authors' tokenizer)."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pairstill.errors import ArtefactError, InputError
from pairstill.files import read_json, refuse_newer, write_json
from pairstill.tokens.ragged import RaggedTokens, RaggedWords

logger = logging.getLogger(__name__)

FILE = "tri-letters.json"
FORMAT, FORMAT_VERSION = "pairstill/tri-letters", 1
ENOUGH_TEXTS = 100
"""Of fewer, when they are tokenised, a loss of all words says nothing about a corpus."""
UNICODE = "For other alphabets set unicode=true (distill: --set encoder.tri_letter.unicode=true, pretrain: --tri-letter-set unicode=true)"
TEXTS_AT_ONCE = 8192
_DELETED = re.compile(r"[^a-z0-9 ]+")


@dataclass(frozen=True)
class TriLetterConfig:
    """How texts become tri-letters.

    Attributes:
        vocabulary_size: At most so many tri-letters are learned; TwinBERT's vocabulary has 49,292.
        minimum_count: A tri-letter is learned where it occurs so often in the corpus.
        letters: Tri-letters read of a word; the rest of a longer word is not read.
        unicode: Keep letters, digits and marks of every script; off (as published), a to z and 0 to 9 alone.
    """

    vocabulary_size: int = 49_292
    minimum_count: int = 2
    letters: int = 20
    unicode: bool = False


class _Characters(dict[int, str | None]):
    """What becomes of each character of a normalised text: kept, a space, or deleted."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        kept = character if unicodedata.category(character)[0] in "LMN" else " " if character.isspace() else None
        self[code] = kept
        return kept


@dataclass
class TriLetterTokenizer:
    """Texts to words, words to the ids of their tri-letters.

    1. Lowercase. 2. Delete (not replace) every character but a to z, 0 to 9 and the space; so a tab or a line break joins the
    words beside it. 3. Split at spaces. 4. A word `w` is `#w#`, and its tri-letters are that string's consecutive groups of
    three: as many as it has letters. 5. A text without a word is the empty word, `###`. 6. The id of a tri-letter is its
    place in the vocabulary, counted from 1; 0 is padding, and any tri-letter that is not in the vocabulary.

    With `unicode`, step 1 normalises (NFKC) first, step 2 keeps letters, digits and marks of every script, and all white
    space counts as space. A script without spaces between words makes one long word of a sentence.

    Args:
        vocabulary: Distinct tri-letters.
        letters: Tri-letters read of a word.
        unicode: See above.

    Example:
        >>> tokenizer = TriLetterTokenizer(["#he", "hel", "ell", "llo", "lo#"])
        >>> tokenizer.tri_letters("hello")
        ['#he', 'hel', 'ell', 'llo', 'lo#']
        >>> tokenizer.tokenize(["Hello, shell!"], max_words=12).padded(np.array([0]))[0].tolist()
        [[[1, 2, 3, 4, 5], [0, 0, 2, 3, 0]]]
    """

    vocabulary: Sequence[str]
    letters: int = 20
    unicode: bool = False
    pad_token_id: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._ids = {one: number for number, one in enumerate(self.vocabulary, start=1)}
        self._characters = _Characters()
        self._warned = False

    @classmethod
    def learn(cls, corpus: Iterable[Iterable[str]], config: TriLetterConfig) -> TriLetterTokenizer:
        """Learn the most frequent tri-letters of a corpus; of equally frequent ones the first by alphabet.

        Args:
            corpus: Texts of each field; all fields share one vocabulary.
            config: Size and rules.

        Raises:
            InputError: No text has a word, or no tri-letter is frequent enough.
        """
        tokenizer = cls((), config.letters, config.unicode)
        words: Counter[str] = Counter()
        texts = empty = 0
        for part in corpus:
            for text in part:
                found = tokenizer.words(text)
                words.update(found)
                texts += 1
                empty += found == [""] and not text.isspace() and bool(text)
        kept = "letters and digits" if config.unicode else "a to z and 0 to 9"
        if texts and not any(words):
            raise InputError(
                f"none of {texts:,} texts has a word after everything but {kept} was deleted",
                expected="texts to learn tri-letters from",
                fix=None if config.unicode else UNICODE,
            )
        tokenizer._warn(empty, texts)
        counts: Counter[str] = Counter()
        for word, times in words.items():
            for one in tokenizer.tri_letters(word):
                counts[one] += times
        frequent = sorted(
            (one for one, times in counts.items() if times >= config.minimum_count), key=lambda one: (-counts[one], one)
        )
        if not frequent:
            raise InputError(
                f"no tri-letter occurs {config.minimum_count} times in {texts:,} texts",
                expected="enough texts to learn a vocabulary from",
                fix=f"Lower minimum_count, or give more texts. {UNICODE}",
            )
        return cls(tuple(frequent[: config.vocabulary_size]), config.letters, config.unicode)

    @classmethod
    def load(cls, folder: str | Path) -> TriLetterTokenizer:
        """Read what `save_pretrained` wrote.

        Raises:
            ArtefactError: The file is missing, newer, or not what it should be.
        """
        path = Path(folder) / FILE
        body = read_json(path)
        if not isinstance(body, dict) or body.get("format") != FORMAT:
            raise ArtefactError("the file holds no tri-letter vocabulary", file=path, expected=f'"format": "{FORMAT}"')
        refuse_newer(path, body, FORMAT_VERSION)
        vocabulary, letters, unicode = (body.get(name) for name in ("vocabulary", "letters", "unicode"))
        whole = isinstance(vocabulary, list) and all(isinstance(one, str) for one in vocabulary)
        if not whole or not isinstance(letters, int) or not isinstance(unicode, bool):
            raise ArtefactError("the file is damaged", file=path, expected="vocabulary, letters and unicode")
        return cls(tuple(vocabulary), letters, unicode)  # type: ignore[arg-type]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `tri-letters.json`."""
        body = {
            "format": FORMAT, "version": FORMAT_VERSION, "letters": self.letters, "unicode": self.unicode,
            "vocabulary": list(self.vocabulary),
        }  # fmt: skip
        write_json(Path(folder) / FILE, body)

    def get_vocab(self) -> dict[str, int]:
        """Tri-letters and their ids."""
        return dict(self._ids)

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """None: there is no word but those of the text. Named as in `transformers`."""
        del pair
        return 0

    def words(self, text: str) -> list[str]:
        """Cleaned words of a text; one empty word where there is none."""
        if self.unicode:
            text = unicodedata.normalize("NFKC", text).lower().translate(self._characters)
        else:
            text = _DELETED.sub("", text.lower())
        return text.split() or [""]

    def tri_letters(self, word: str) -> list[str]:
        """Tri-letters of a cleaned word, at most `letters` of them."""
        marked = f"#{word or '#'}#"
        return [marked[start : start + 3] for start in range(min(len(marked) - 2, self.letters))]

    def tokenize(self, texts: Sequence[str], max_words: int) -> RaggedWords:
        """Tri-letter ids of the first `max_words` words of every text."""
        # Row 0 of the table is the word that pads; the others are the distinct words in the order of their first use.
        rows: dict[str, int] = {}
        parts = []
        empty = 0
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            places = []
            for text in texts[start : start + TEXTS_AT_ONCE]:
                found = self.words(text)
                empty += found == [""] and not text.isspace() and bool(text)
                places.append([rows.setdefault(word, len(rows) + 1) for word in found[:max_words]])
            parts.append(RaggedTokens.from_lists(places))
        whole = RaggedTokens.concatenate(parts)
        if len(texts) >= ENOUGH_TEXTS:
            self._warn(empty, len(texts))
        known = self._ids
        lists = [[known.get(one, 0) for one in self.tri_letters(word)] for word in rows]
        table = np.zeros((len(lists) + 1, max(map(len, lists), default=1)), dtype=np.int32)
        for row, ids in enumerate(lists, start=1):
            table[row, : len(ids)] = ids
        return RaggedWords(whole.ids, whole.offsets, table)

    def _warn(self, empty: int, texts: int) -> None:
        """Say once that more than one text in a hundred loses everything."""
        if self._warned or empty * 100 <= texts:
            return
        self._warned = True
        logger.warning(
            "%d of %d texts (%.1f%%) have no word left after everything but %s was deleted%s",
            empty, texts, 100 * empty / texts, "letters and digits" if self.unicode else "a to z and 0 to 9",
            "" if self.unicode else f". {UNICODE}",
        )  # fmt: skip
