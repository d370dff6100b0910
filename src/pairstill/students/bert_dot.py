"""BERT_DOT: one vector a text, their dot product (Margin-MSE, arXiv 2010.02666, section 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pairstill.students.dual_encoder import DualEncoder, load_encoders
from pairstill.students.encoders.transformer import EncoderConfig, Keep
from pairstill.students.heads.dot import DotHead


@dataclass(frozen=True)
class BERTDotConfig:
    """Configuration of `BERTDot`.

    Attributes:
        encoder: Where the encoders start from.
        pooling: `cls` (the paper), or `mean`, which suits bases that were trained for similarity.
        projection: Dimension that the vector is projected to; None (the paper) keeps the encoder's.
        scaled: A learned scale and bias turn the dot product into the logit; the paper has neither.
        field_count: Two.
        outputs: One.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    pooling: Literal["cls", "mean"] = "mean"
    projection: int | None = None
    scaled: bool = True
    field_count: int = 2
    outputs: int = 1


class BERTDot(DualEncoder):
    """Dual encoder with a dot product: one vector an item, searched by inner product, nothing normalised."""

    name: ClassVar[str] = "bert-dot"
    config_type: ClassVar[type] = BERTDotConfig
    single_vector: ClassVar[bool] = True

    def __init__(self, config: BERTDotConfig, tokenizer: Any, encoder_model: dict[str, Any] | None = None) -> None:
        keep = Keep(1, "first" if config.pooling == "cls" else "mean")
        super().__init__(
            config,
            tokenizer,
            load_encoders(config.encoder, config.field_count, False, encoder_model),
            [keep] * config.field_count,
            projection=config.projection,
            shared_projection=True,
        )

    def make_head(self) -> DotHead:
        """The dot product."""
        return DotHead(self.dim, self.field_count, self.outputs, scaled=self.config.scaled)
