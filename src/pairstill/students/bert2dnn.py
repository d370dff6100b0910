"""BERT2DNN: bags of unigrams and bigrams through a feed-forward network (BERT2DNN, arXiv 2010.10442)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.students.base import Corpus, Prepared, Student, as_tensors
from pairstill.students.encoders.bag import BagEncoder, BagEncoderConfig
from pairstill.students.heads.bag import BagHead, Combiner
from pairstill.students.heads.feed_forward import FeedForwardHeadConfig
from pairstill.students.heads.similarity_skip import SimilaritySkip
from pairstill.students.inference import precision_context
from pairstill.tokens.ngram_text import NGramSettings
from pairstill.tokens.ngrams import NGramTokenizer
from pairstill.tokens.ragged import RaggedTokens


def _published_head() -> FeedForwardHeadConfig:
    return FeedForwardHeadConfig(widths=(1024, 512, 128, 64))


@dataclass(frozen=True)
class BERT2DNNConfig:
    """Configuration of `BERT2DNN`.

    Attributes:
        encoder: N-grams and their embeddings.
        bag: `fields`: a bag a field, side by side; `union`: one bag of the n-grams of all fields (no n-gram crosses fields).
        combiner: `sum`, `mean` or `sqrtn` (the paper's code): what the head reads of a bag.
        similarity_skip: Add the scaled cosine of the bags of each two fields to the logit (beyond the paper): at the start,
            with random embeddings, about the overlap of their n-grams. Of one field there is none.
        head: Shape of the feed-forward network; the paper's is 1024-512-128-64 with ReLU.
        field_count: Texts of a tuple; 1 classifies single texts.
        outputs: Logits of a tuple.
    """

    encoder: BagEncoderConfig = field(default_factory=BagEncoderConfig)
    bag: Literal["fields", "union"] = "fields"
    combiner: Combiner = "sqrtn"
    similarity_skip: bool = False
    head: FeedForwardHeadConfig = field(default_factory=_published_head)
    field_count: int = 2
    outputs: int = 1


class BERT2DNN(Student):
    """Embeddings of n-grams summed to a bag, a feed-forward network over the bags; there is no transformer and no base.

    Kept per item are the bag's sum and its count, apart, so that bags can be joined.
    """

    name: ClassVar[str] = "bert2dnn"
    config_type: ClassVar[type] = BERT2DNNConfig

    def __init__(
        self, config: BERT2DNNConfig, tokenizer: NGramTokenizer, encoder_model: dict[str, Any] | None = None
    ) -> None:
        super().__init__(config, tokenizer)
        del encoder_model
        bags = config.encoder
        self.dim: int = bags.dim
        self.encoders = nn.ModuleList(
            BagEncoder(len(tokenizer), bags.dim) for _ in range(1 if bags.shared else config.field_count)
        )
        self.head = BagHead(
            config.head, config.combiner, config.bag == "union", bags.dim, config.field_count, config.outputs
        )
        self.skip: SimilaritySkip | None = None
        if config.similarity_skip and config.field_count > 1:
            if not bags.shared:
                raise InputError(
                    "the skip compares bags, and the fields have tables of their own",
                    fix="Set encoder.shared=true, or similarity_skip=false",
                )
            self.skip = SimilaritySkip(config.field_count, config.outputs)
            self.head.start_at_zero()

    @classmethod
    def new_tokenizer(cls, config: BERT2DNNConfig, corpus: Corpus | None) -> NGramTokenizer:
        """Hash buckets, or a vocabulary of the n-grams of all fields' texts.

        Raises:
            InputError: A vocabulary is to be learned and there are no texts.
        """
        bags = config.encoder
        settings = NGramSettings(bags.bigrams, bags.split_punctuation, bags.hash_buckets)
        if corpus is None and bags.hash_buckets is None:
            raise InputError(
                "a bert2dnn learns its vocabulary from texts, and there are none",
                fix="Give a corpus, or set encoder.hash_buckets",
            )
        return NGramTokenizer.learn(
            chain.from_iterable(corpus or ()), settings, size=bags.vocabulary, minimum_count=bags.minimum_count,
            most_words=max(bags.max_lengths),
        )  # fmt: skip

    @classmethod
    def read_tokenizer(cls, folder: Path) -> NGramTokenizer:
        """The n-grams of a student folder."""
        return NGramTokenizer.from_folder(folder)

    def tokenize(self, field: int, texts: Sequence[str]) -> RaggedTokens:
        """Ids of the n-grams of the first words of texts; those outside of the vocabulary are left out."""
        return self.tokenizer.encode(texts, self.max_lengths[field])  # type: ignore[no-any-return]

    @property
    def length_unit(self) -> str:
        """Words, whose n-grams are read."""
        return "words"

    def cut(self, field: int, texts: Sequence[str]) -> np.ndarray:
        """Which texts have more words than are read."""
        return self.tokenizer.longer(texts, self.max_lengths[field])  # type: ignore[no-any-return]

    def encoder(self, field: int) -> BagEncoder:
        """The encoder of a field."""
        found: BagEncoder = self.encoders[field if len(self.encoders) > 1 else 0]  # type: ignore[assignment]
        return found

    def encoder_modules(self) -> Sequence[nn.Module]:
        """None: nothing comes from a base, so there is no stage 1."""
        return ()

    def encoding_modules(self, field: int) -> Mapping[str, nn.Module]:
        """The field's table."""
        return {"encoder": self.encoder(field)}

    def encoding_settings(self, field: int) -> Sequence[Any]:
        """What an n-gram is, and how many words are read."""
        return [asdict(self.tokenizer.settings), self.max_lengths[field]]

    def scoring_head(self) -> tuple[BagHead, SimilaritySkip | None]:
        """The head and the skip."""
        return self.head, self.skip

    def kept_vectors(self, field: int) -> int:
        """One: the sum."""
        del field
        return 1

    def with_precision(self, precision: str) -> Self:
        """The student itself: a sum of embeddings is made in float32."""
        precision_context(precision)
        return self

    def encoder_outputs(self, field: int, ids: Tensor, lengths: Tensor) -> Representation[Tensor]:
        """Sums and counts of the bags."""
        outputs: Representation[Tensor] = self.encoder(field)(ids, lengths)
        return outputs

    def prepare(self, field: int, representation: Representation[Any]) -> Prepared:
        """The field's part of the first layer, and the skip's normalised sum."""
        tensors = as_tensors(representation, self.device)
        if tensors.scalars is None:
            raise InputError("the representation has no counts", expected="what a bert2dnn's `encode` gives")
        prepared = self.head.prepare(field, tensors.vectors, tensors.scalars[:, 0])
        return prepared if self.skip is None else {**prepared, "similarity": self.skip.prepare(tensors.vectors[:, 0])}

    def score(self, prepared: Sequence[Prepared], index: Tensor) -> Tensor:
        """The head's logits, plus the skip's term."""
        logits = self.head.score(prepared, index)
        return logits if self.skip is None else logits + self.skip(prepared, index)

    def multiply_adds_per_pair(self, lengths: Sequence[float]) -> float:
        """The head's, which do not depend on the lengths of the texts, plus the skip's."""
        del lengths
        skip = 0.0 if self.skip is None else self.skip.multiply_adds_per_pair(self.dim)
        return self.head.multiply_adds_per_pair() + skip

    def multiply_adds_per_item(self, field: int, length: float) -> float:
        """Additions of the embeddings of `length` n-grams."""
        del field
        return length * self.dim

    def bytes_per_item(self, field: int, length: float) -> float:
        """Sum and count."""
        del field, length
        return 4.0 * (self.dim + 1)
