"""Words of a text, as everything that compares texts by them reads them."""

from __future__ import annotations

import re

UNSPACED = "\u3041-\u3096\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
"""Kana and Chinese characters, as a class of a regular expression: their scripts put no spaces between words."""
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


def words(text: str) -> list[str]:
    """Lower-cased runs of letters, digits and underscores, a plural's last s taken off; no stop words.

    On product titles the plural alone lifts word overlap by a fifth, and a floor should not be weaker than it need be. Where a
    script has no spaces, every character is a word, as WordPiece's own first step takes Chinese; a whole clause would match
    nothing but itself.

    Example:
        >>> words("Red Bricks, 红砖")
        ['red', 'brick', '红', '砖']
    """
    return [
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in WORD.findall(text.lower())
    ]
