"""Word vectors: read from GloVe's text files, contextualised by a small transformer (TK)."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.students.encoders.packed_transformer import computable, run_packed_layers
from pairstill.students.encoders.packing import Packing
from pairstill.students.encoders.pretrained import attention_mask
from pairstill.students.encoders.token_table import TokenTable


def read_word_vectors(path: str | Path, wanted: Callable[[int, str], bool]) -> tuple[list[str], np.ndarray]:
    """Words and their vectors from a GloVe text file: a word and its numbers a line, separated by single spaces.

    The first line says how many numbers there are; words may hold spaces, as some of GloVe's do. Of a word that comes twice
    the first line counts.

    Args:
        path: UTF-8 text.
        wanted: Called with (line from 0, word); false passes over the line, whose numbers are then only counted.

    Returns:
        The words, and `(words, dim)` float32.

    Raises:
        InputError: The file is not there, has no vectors, or a line is wrong; it names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("the file of word vectors does not exist", file=path, expected="a GloVe text file")
    words: dict[str, np.ndarray] = {}
    dim = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file):
            try:
                line = raw.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                raise InputError("the line is not UTF-8", file=path, row=number + 1, expected="UTF-8 text") from None
            if number == 0:
                dim = _first_dim(line, path)
            parts = line.rstrip(" ").rsplit(" ", dim)
            if len(parts) != dim + 1 or not parts[0] or (" " in parts[0] and _is_number(parts[0].rsplit(" ", 1)[1])):
                raise InputError(
                    f"the line has {len(line.split())} parts", file=path, row=number + 1,
                    expected=f"a word and {dim} numbers, as on the first line",
                )  # fmt: skip
            if parts[0] in words or not wanted(number, parts[0]):
                continue
            words[parts[0]] = _numbers(parts[1:], path, number + 1)
    if not words:
        raise InputError("the file has no word vectors that are wanted", file=path, expected="a GloVe text file")
    return list(words), np.stack(list(words.values()))


def _first_dim(line: str, path: Path) -> int:
    dim = len(line.rstrip(" ").split(" ")) - 1
    if dim < 2:
        raise InputError(
            f"the first line has {max(dim, 0)} numbers", file=path, row=1, expected="a word and its vector",
            fix="Remove the header line that word2vec writes" if dim == 1 else None,
        )  # fmt: skip
    return dim


def _numbers(parts: list[str], path: Path, row: int) -> np.ndarray:
    try:
        vector = np.array([float(one) for one in parts], dtype=np.float32)
    except ValueError:
        wrong = next(one for one in parts if not _is_number(one))
        raise InputError(
            f"{wrong!r} is no number", file=path, row=row, expected=f"a word and {len(parts)} numbers"
        ) from None
    if not np.isfinite(vector).all():
        raise InputError("the vector has a number that is not finite", file=path, row=row)
    return vector


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


class WordContext(nn.Module):
    """Word vectors with a little context: mix * word + (1 - mix) * transformer(word + position).

    Hofstätter et al., TK (ECAI 2020, arXiv 2002.01854), section 3.1.

    Args:
        words: Size of the vocabulary.
        dim: Of the vectors.
        layers: Of the transformer.
        heads: Attention heads; must divide the dimension.
        intermediate: Width of its feed-forward parts.
    """

    def __init__(self, words: int, dim: int, layers: int, heads: int, intermediate: int) -> None:
        super().__init__()
        self.words = TokenTable(nn.Embedding(words, dim))
        layer = nn.TransformerEncoderLayer(dim, heads, intermediate, dropout=0.0, batch_first=True)
        self.context = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.mix = nn.Parameter(torch.tensor(0.5))
        self.layers, self.intermediate = layers, intermediate

    def forward(self, ids: Tensor, lengths: Tensor, offset: int | Tensor) -> Tensor:
        """`(items, tokens, dim)`, zero past each length; `offset` is the position of the first token."""
        valid = attention_mask(lengths, ids.shape[1])
        if torch.is_grad_enabled() and computable(self):
            packing = Packing.of(lengths, ids.shape[1], lengths)
            words = self.words(ids.reshape(-1)[packing.slots])
            places = positions(ids.shape[1], words.shape[1], offset)[packing.slots % ids.shape[1]]
            context = run_packed_layers(self.context.layers, packing, words + places)
            return packing.spread(self.mix * words + (1 - self.mix) * context) * valid[:, :, None]
        words = self.words(ids)
        context = self.context(
            words + positions(ids.shape[1], words.shape[2], offset).to(words), src_key_padding_mask=valid == 0
        )
        mixed: Tensor = self.mix * words + (1 - self.mix) * context
        return mixed * valid[:, :, None]

    def multiply_adds(self, length: float) -> float:
        """Of one text: matrix products and attention."""
        dim = self.words.embedding_dim
        return float(self.layers * length * (4 * dim * dim + 2 * dim * self.intermediate + 2 * length * dim))


def positions(tokens: int, dim: int, offset: int | Tensor) -> Tensor:
    """Sinusoidal features `(tokens, dim)`: sines of ever longer waves in the first half, cosines in the second."""
    half = dim // 2
    rates = torch.exp(torch.arange(half) * (-math.log(10_000.0) / max(half - 1, 1)))
    angles = (torch.arange(tokens)[:, None] + offset) * rates
    return nn.functional.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, dim - 2 * half))
