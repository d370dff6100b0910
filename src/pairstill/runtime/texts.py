"""Texts to token ids, as an exported student's `tokens` says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pairstill.errors import ArtefactError, InputError
from pairstill.runtime.manifest import ExportedField, ExportManifest
from pairstill.tokens.ngram_text import PlainNGrams
from pairstill.tokens.ragged import RaggedTokens
from pairstill.tokens.tri_letter import TriLetterTokenizer

Tokenize = Callable[[Sequence[str]], RaggedTokens]


class WordPieceTexts:
    """Token ids by a `tokenizer.json`, cut, with special tokens around them.

    Args:
        tokenizer: Of the `tokenizers` package, without truncation and padding of its own; never changed, so that it
            may be shared by threads.
        spec: `before` and `after` (ids around the text), `room` (ids of the text; None cuts nothing), `cut` (`right` or
            `left`: which end goes), `masks` (None, or the `token` that follows the text `count` times, or `up_to` a length),
            `empty` (the id that a text without tokens has; None for none).
    """

    def __init__(self, tokenizer: Any, spec: Any) -> None:
        self.tokenizer = tokenizer
        self.before, self.after = list(map(int, spec["before"])), list(map(int, spec["after"]))
        self.room, self.empty, self.masks = spec["room"], spec["empty"], spec["masks"]
        self.from_left = spec["cut"] == "left"

    def __call__(self, texts: Sequence[str]) -> RaggedTokens:
        """Token ids of texts."""
        found = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return RaggedTokens.from_lists([self._around(one.ids) for one in found])

    def _around(self, ids: list[int]) -> list[int]:
        if not ids and self.empty is not None:
            ids = [self.empty]
        if self.room is not None and len(ids) > self.room:
            ids = ids[-self.room :] if self.from_left else ids[: self.room]
        whole = [*self.before, *ids, *self.after]
        if self.masks is not None:
            up_to = self.masks["up_to"]
            whole += [self.masks["token"]] * (self.masks["count"] if up_to is None else up_to - len(whole))
        return whole


def text_readers(manifest: ExportManifest) -> list[Tokenize]:
    """How the texts of each field become token ids; files that fields share are read once.

    Raises:
        ArtefactError: A file is damaged.
    """

    @cache
    def wordpiece(path: Path) -> Any:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:
            raise ArtefactError(f"the tokenizer cannot be read: {error}", file=path) from None
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cache
    def ngrams() -> PlainNGrams:
        return PlainNGrams.from_folder(manifest.folder)

    @cache
    def tri_letters() -> TriLetterTokenizer:
        return TriLetterTokenizer.load(manifest.folder)

    def reader(field: ExportedField) -> Tokenize:
        spec, most = field.tokens, field.max_length
        if spec["kind"] == "wordpiece":
            return WordPieceTexts(wordpiece(manifest.file(spec["file"])), spec)
        if spec["kind"] == "ngrams":
            return lambda texts: ngrams().encode(texts, most)
        if spec["kind"] == "tri-letters":
            return lambda texts: tri_letters().tokenize(texts, most)
        raise ValueError(f"tokens of the kind {spec['kind']!r}")

    return [reader(field) for field in manifest.fields]


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what is no text, or text that UTF-8 cannot hold.

    Raises:
        InputError: It says which one.
    """
    for row, one in enumerate(texts, start=1):
        if not isinstance(one, str):
            raise InputError(f"the text is {one!r:.100}", row=row, expected="a string")
        try:
            one.encode()
        except UnicodeEncodeError:
            raise InputError(
                "the text holds half of a surrogate pair, which is no character", row=row, expected="Unicode text"
            ) from None
