"""Words as floors, BM25 and mining read them."""

import unicodedata

import pytest

from pairstill.tokens.words import words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Glass lamps, GAS 3", ["glass", "lamp", "gas", "3"]),
        ("snake_case café's", ["snake_case", "café", "s"]),
        ("红砖 brick砖", ["红", "砖", "brick", "砖"]),
        ("コーヒー・カップ", ["コ", "ー", "ヒ", "ー", "カ", "ッ", "プ"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("𠀀𠀁", ["𠀀", "𠀁"]),
        (" ,.・ ", []),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_every_letter_and_digit_is_in_a_word() -> None:
    letters = [chr(point) for point in range(0x110000) if chr(point).isalnum()]
    lost = [one for one in letters if not words(one)]
    assert not lost, [unicodedata.name(one, hex(ord(one))) for one in lost[:5]]
