"""An own WordPiece vocabulary."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from pairstill.errors import InputError
from pairstill.tokens.wordpiece import SPECIAL_TOKENS, train_wordpiece

GENERATOR = np.random.default_rng(0)
TEXTS = [" ".join("".join(GENERATOR.choice(list("abcdeé"), GENERATOR.integers(1, 7))) for _ in range(6)) for _ in range(300)]  # fmt: skip


def test_pieces_are_learnt_and_texts_come_back() -> None:
    tokenizer = train_wordpiece(TEXTS, 120)
    vocabulary = tokenizer.get_vocab()
    assert len(vocabulary) == 120
    assert [vocabulary[one] for one in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert max(len(one.removeprefix("##")) for one in set(vocabulary) - set(SPECIAL_TOKENS)) > 1
    encoded = tokenizer.encode("Bad Cab", "dé")
    assert encoded.tokens[0] == "[CLS]"
    assert tokenizer.decode(encoded.ids) == "bad cab de"
    assert encoded.type_ids[-1] == 1
    assert tokenizer.encode("bad[MASK]").tokens[-2] == "[MASK]"
    # A character given in advance is no special token: words that contain it stay whole.
    whole = next(one for one in vocabulary if len(one) > 2 and one.isalpha())
    assert tokenizer.encode(whole).tokens == ["[CLS]", whole, "[SEP]"]
    assert "é" in train_wordpiece(TEXTS, 120, lowercase=False).get_vocab()


def test_another_process_learns_the_same() -> None:
    code = "import json, sys; sys.path.insert(0, 'tests'); from tokens.test_wordpiece import TEXTS; from pairstill.tokens.wordpiece import train_wordpiece; print(json.dumps(train_wordpiece(TEXTS, 120).get_vocab()))"
    mine = train_wordpiece(TEXTS, 120).get_vocab()
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "TOKENIZERS_PARALLELISM": "false"}
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == mine


def test_too_few_texts_and_too_small_vocabularies() -> None:
    with pytest.raises(
        InputError, match=r"the texts give \d+ word pieces.*8,000 were asked for.*Lower --vocabulary to"
    ):
        train_wordpiece(TEXTS[:3], 8000)
    with pytest.raises(
        InputError, match=r"a vocabulary of 12 is asked for.*5 different characters\. Expected: 15 or more"
    ):
        train_wordpiece(TEXTS, 12)
