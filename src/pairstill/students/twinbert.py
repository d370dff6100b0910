"""What both TwinBERTs share: two towers, WordPiece or tri-letters, one pooled vector a text (Lu, Jiao and Zhang 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.students.base import Corpus
from pairstill.students.dual_encoder import DualEncoder, load_encoders
from pairstill.students.encoders.transformer import EncoderConfig, Keep, TransformerEncoder
from pairstill.students.encoders.tri_letter import TriLetterEncoder
from pairstill.students.encoders.tri_letter_base import is_tri_letter_base, load_tri_letter_base
from pairstill.tokens import tri_letter
from pairstill.tokens.inputs import Inputs
from pairstill.tokens.tri_letter import TriLetterConfig, TriLetterTokenizer


@dataclass(frozen=True)
class TwinBERTEncoderConfig(EncoderConfig):
    """Where the towers start from.

    Attributes:
        tokens: `wordpiece`: the base's vocabulary. `tri-letter`: words as sums of tri-letter embeddings, learned from the
            training texts, or those of a base that `pretrain --words tri-letter` made; `max_lengths` then counts words.
        shape: Random weights of a BERT shape (see `Shape.parse`); with tri-letters also `twinbert`, the released one (6
            layers, 512 wide, feed-forward 512, 8 heads). None takes the layers of the base.
        tri_letter: How texts become tri-letters.
    """

    tokens: Literal["wordpiece", "tri-letter"] = "wordpiece"
    tri_letter: TriLetterConfig = field(default_factory=TriLetterConfig)


@dataclass(frozen=True)
class TwinBERTConfig:
    """What the configurations of both TwinBERTs share.

    Attributes:
        encoder: Where the towers start from.
        pooling: `mean`, `cls` (the first token's vector) or `weighted` (a mean with learned weights); the paper has the
            latter two.
        downscale: Project the pooled vector to so many dimensions, then tanh (the authors' production models); None
            keeps it as it is.
        eight_bit: Round down-scaled vectors to 256 levels between -1 and 1: of no field, of the first (queries), of
            all others (what is stored), or of all.
        field_count: Texts of a tuple.
        outputs: Logits of a tuple.
    """

    encoder: TwinBERTEncoderConfig = field(default_factory=TwinBERTEncoderConfig)
    pooling: Literal["mean", "cls", "weighted"] = "mean"
    downscale: int | None = None
    eight_bit: Literal["none", "first", "others", "all"] = "none"
    field_count: int = 2
    outputs: int = 1


class TwinBERT(DualEncoder):
    """Two towers, shared or separate, one vector a text; the crossing on top is the subclass's.

    With WordPiece the towers are a pretrained base, and two-stage training freezes them first. With tri-letters the
    embeddings have nothing to start from, so everything is trained at once.

    Raises:
        InputError: Settings that contradict one another, or no texts to learn tri-letters from.
    """

    def __init__(
        self, config: TwinBERTConfig, tokenizer: Any, encoder_model: dict[str, Any] | None = None,
        similarity_skip: bool = False,
    ) -> None:  # fmt: skip
        if config.eight_bit != "none" and config.downscale is None:
            raise InputError(
                "8-bit levels lie between -1 and 1, and vectors that are not down-scaled do not",
                fix="Set downscale, or store the vectors with --dtype int8, which has a scale for each",
            )
        take: Literal["first", "mean", "weighted"] = "first" if config.pooling == "cls" else config.pooling
        super().__init__(
            config,
            tokenizer,
            _towers(config, tokenizer, similarity_skip, encoder_model),
            [Keep(1, take)] * config.field_count,
            projection=config.downscale,
            shared_projection=config.encoder.shared,
            similarity_skip=similarity_skip,
        )
        for other in self.projections[1:]:
            # A cosine of vectors that went through two random projections says nothing.
            other.load_state_dict(self.projections[0].state_dict())

    @classmethod
    def new_tokenizer(cls, config: Any, corpus: Corpus | None) -> Any:
        """The base's, or tri-letters learned from the corpus where the base has none."""
        if config.encoder.tokens == "wordpiece":
            if config.encoder.tri_letter != TriLetterConfig():
                raise InputError(
                    "encoder.tri_letter has no effect on word pieces",
                    fix="Add encoder.tokens=tri-letter, or leave out encoder.tri_letter",
                )
            return super().new_tokenizer(config, corpus)
        if is_tri_letter_base(config.encoder.base):
            if config.encoder.tri_letter != TriLetterConfig():
                raise InputError(
                    "encoder.tri_letter says how tri-letters are learned, and the base has tri-letters of its own",
                    fix="Leave out encoder.tri_letter, or --base",
                )
            return TriLetterTokenizer.load(config.encoder.base)
        if corpus is None:
            raise InputError("there are no texts to learn tri-letters from", expected="the training texts")
        return TriLetterTokenizer.learn(corpus, config.encoder.tri_letter)

    @classmethod
    def read_tokenizer(cls, folder: Path) -> Any:
        """Tri-letters where the folder has them, WordPiece otherwise."""
        if (folder / tri_letter.FILE).exists():
            return TriLetterTokenizer.load(folder)
        return super().read_tokenizer(folder)

    def encoder_modules(self) -> Sequence[nn.Module]:
        """The towers where they come from a base; with tri-letters everything is new."""
        return [] if self.config.encoder.tokens == "tri-letter" else list(self.encoders)

    def transformers(self) -> Sequence[nn.Module]:
        """The towers."""
        return list(self.encoders)

    def new_parameters(self) -> Iterator[nn.Parameter]:
        """As every student, and the weights of the weighted average, which no base has."""
        yield from super().new_parameters()
        for tower in self.encoder_modules():
            if isinstance(tower, TransformerEncoder) and tower.pool is not None:
                yield tower.pool

    def encoding_settings(self, field: int) -> Sequence[Any]:
        """As every dual encoder; how texts become tri-letters, and whether vectors are rounded."""
        words = asdict(self.config.encoder.tri_letter) if self.config.encoder.tokens == "tri-letter" else None
        return [*super().encoding_settings(field), words, self.eight_bit(field)]

    @property
    def length_unit(self) -> str:
        """Words with tri-letters, word pieces otherwise."""
        return "words" if self.config.encoder.tokens == "tri-letter" else "tokens"

    def tokenize(self, field: int, texts: Sequence[Any]) -> Inputs:
        """WordPiece ids, or words of tri-letter ids."""
        if isinstance(self.tokenizer, TriLetterTokenizer):
            return self.tokenizer.tokenize(texts, self.max_lengths[field])
        return super().tokenize(field, texts)

    def project(self, field: int, outputs: Representation[Tensor]) -> Representation[Tensor]:
        """Down-scaling, tanh and 8-bit levels, where they are wanted."""
        projected = super().project(field, outputs)
        if self.config.downscale is None:
            return projected
        vectors = torch.tanh(projected.vectors.float())
        if self.eight_bit(field):
            vectors = eight_bit_levels(vectors)
        return Representation(vectors, projected.lengths, projected.similarity)

    def bytes_per_item(self, field: int, length: float) -> float:
        """A byte a number where vectors have 8 bits; else in float32, plus the skip's vector."""
        kept = super().bytes_per_item(field, length)
        return kept - 3.0 * self.dim if self.eight_bit(field) else kept

    def eight_bit(self, field: int) -> bool:
        """As the setting `eight_bit` says."""
        return self.config.eight_bit in ("all", "first" if field == 0 else "others")


def eight_bit_levels(vectors: Tensor) -> Tensor:
    """The nearest of 256 levels: q = round((v + 1) / (2 / 255)), v' = q (2 / 255) - 1; gradients pass as if v' were v."""
    step = 2 / 255
    levels = torch.round((vectors.detach() + 1) / step) * step - 1
    return vectors + (levels - vectors.detach()) if vectors.requires_grad else levels


def _towers(
    config: TwinBERTConfig, tokenizer: Any, similarity: bool, saved: dict[str, Any] | None
) -> Sequence[TransformerEncoder]:
    encoder, weighted = config.encoder, config.pooling == "weighted"
    if encoder.tokens == "wordpiece":
        if encoder.shape == "twinbert":
            raise InputError("the shape 'twinbert' is one of tri-letter towers", fix="Set encoder.tokens=tri-letter")
        return load_encoders(encoder, config.field_count, similarity, saved, weighted)
    count = 1 if encoder.shared else config.field_count
    if saved is not None:
        return [TriLetterEncoder.from_saved(saved, similarity, weighted) for _ in range(count)]
    sizes = len(tokenizer.vocabulary), max(encoder.max_lengths)
    if is_tri_letter_base(encoder.base):
        if encoder.shape is not None:
            raise InputError(
                "encoder.shape asks for random weights, and the base has tri-letter words and weights of its own",
                fix="Leave out encoder.shape, or --base",
            )
        towers = [
            load_tri_letter_base(encoder.base, encoder.layers, encoder.dropout, similarity, weighted)
            for _ in range(count)
        ]
        read = towers[0].positions.num_embeddings - 1
        if sizes[1] > read:
            raise InputError(
                f"the maximum length is {sizes[1]} words, and the base has read {read}", expected=f"at most {read}",
                fix=f"--max-length {read}",
            )  # fmt: skip
        return towers
    return [TriLetterEncoder.new(encoder, *sizes, similarity, weighted) for _ in range(count)]
