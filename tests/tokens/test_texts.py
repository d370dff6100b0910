"""An Arrow array of texts reads as the list of its strings."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pairstill.tokens import texts as texts_module
from pairstill.tokens.texts import ArrowTexts


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_texts_are_those_of_the_list(kind: pa.DataType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts_module, "TEXTS_AT_ONCE", 3)
    strings = ["a", "", "é ß", "d", "e", "f", "g", "a"]
    texts = ArrowTexts(pa.array(["before", *strings], kind)[1:])
    assert len(texts) == len(strings)
    assert list(texts) == strings
    assert [texts[place] for place in range(-8, 8)] == [strings[place] for place in range(-8, 8)]
    for part in (slice(0, 3), slice(2, None), slice(6, 99), slice(5, 2), slice(None, None, 2)):
        assert texts[part] == strings[part]
    with pytest.raises(IndexError):
        texts[8]
    assert texts.count("a") == 2
    assert "é ß" in texts
