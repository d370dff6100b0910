from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairstill.mining.docstrings import WORD, documented_pairs, is_question_like, split_summary, without_leaks


@pytest.mark.parametrize(
    ("docstring", "summary", "rest"),
    [
        ("Sort a list in place.", "Sort a list in place", ""),
        ("Sort a list\nin place.\n\nMore.", "Sort a list in place", "More."),
        ("Sort a list. It is stable.\n\nMore.", "Sort a list", "It is stable.\nMore."),
        ("Make a :class:`~shop.Basket` of `items`.", "Make a ~shop.Basket of items", ""),
        ("Read version 3.11 files, e.g. sources.", "Read version 3.11 files, e.g. sources", ""),
    ],
)
def test_summary_is_the_first_sentence(docstring: str, summary: str, rest: str) -> None:
    found, after = split_summary(docstring)
    assert found == summary.replace("~", "")
    assert after == rest


@pytest.mark.parametrize(
    "text",
    [
        "Sort it", "sort(a, b) -> list of things", ">>> sort the list now", "Deprecated since the last big version",
        "1 2 3 4 5 6", "word " * 31, "See the documentation of this function", ":param x: the thing that is sorted",
        "Größe der Liste in Bytes",
    ],
)  # fmt: skip
def test_what_nobody_would_ask_is_left_out(text: str) -> None:
    assert not is_question_like(text)


def test_a_sentence_is_kept() -> None:
    assert is_question_like("Return the shortest path between two nodes")


def test_leaks_are_cut_from_text_comments_and_identifiers() -> None:
    query = "Convert a big image to a tensor"
    passage = "First. Convert a  BIG image, to a tensor!\ndef convert_a_big_image_to_a_tensor(x):\n    return x.image"
    clean = without_leaks(query, passage)
    assert "tensor" not in clean
    assert "First." in clean
    assert "(x):" in clean
    assert "return x.image" in clean


def test_short_queries_are_cut_whole_and_shorter_overlaps_stay() -> None:
    assert "sort" not in without_leaks("Sort a big list", "def sort_a_big_list(): pass")
    assert without_leaks("Sort a big list", "sort a list that is big") == "sort a list that is big"


@given(
    st.lists(st.sampled_from("abcdef"), min_size=1, max_size=8), st.lists(st.sampled_from("abcdef_. \n"), max_size=60)
)
def test_no_run_of_five_words_survives(query: list[str], passage: list[str]) -> None:
    words = [word.lower() for word in WORD.findall(without_leaks(" ".join(query), " ".join(passage)))]
    # Cutting one run may bring other words together, so a second look must find nothing that was there before.
    original = [word.lower() for word in WORD.findall(" ".join(passage))]
    size = min(5, len(query))
    runs = {tuple(query[start : start + size]) for start in range(len(query) - size + 1)}
    if not any(tuple(original[start : start + size]) in runs for start in range(len(original) - size + 1)):
        assert words == original
    else:
        assert len(words) <= len(original) - size


SOURCE = '''"""A module of many useful little things.

It explains itself in more than a dozen words, so that it can be a passage of the corpus.
"""

class Basket:
    """A basket of items that a customer wants to buy."""

    def __init__(self, owner, items, currency, discount, country, language):
        self.owner = owner

    def add(self, item):
        """Put one more item into the basket of the customer.

        The item is counted twice where it stands in the basket already; see the rules of the shop for details.
        """
        self.items.append(item)

    def _hidden(self):
        """Never seen by anyone who reads the corpus."""


def outer(a):
    """Call something else that lies deeper within the code.

    Nested functions are not public, so this text speaks of the outer one alone, and at some length.
    """
    def inner():
        """Nested things are never a question of the corpus, however long the text."""


def bare(a):
    """Have a summary but no text worth reading."""
'''


def test_a_file_gives_its_documented_public_objects(tmp_path: Path) -> None:
    path = tmp_path / "shop.py"
    path.write_text(SOURCE)
    found = {pair.name: pair for pair in documented_pairs(path, "shop") or []}
    assert {name: pair.kind for name, pair in found.items()} == {
        "shop": "module", "shop:Basket": "class", "shop:Basket.add": "method", "shop:outer": "function",
    }  # fmt: skip
    add = found["shop:Basket.add"]
    assert add.query == "Put one more item into the basket of the customer"
    assert "counted twice" in add.passage
    assert "self.items.append(item)" in add.passage
    assert "Put one more" not in add.passage
    assert '"""' not in add.passage


@pytest.mark.parametrize("content", [b'"""Doc."""\ndef oops(:\n', b"# \xe9\n", b'x = """\x00"""\n'])
def test_a_file_that_is_no_python_gives_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.py").write_bytes(content)
    assert documented_pairs(tmp_path / "x.py", "x") is None
