"""DE-FFNN: a dual encoder whose two vectors go through a feed-forward network (DiPair, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pairstill.students.dual_encoder import DualEncoder, load_field_encoders
from pairstill.students.encoders.transformer import EncoderConfig, Keep
from pairstill.students.field_inputs import InputsConfig
from pairstill.students.heads.feed_forward import FeedForwardHead, FeedForwardHeadConfig


@dataclass(frozen=True)
class DEFFNNConfig:
    """Configuration of `DEFFNN`.

    Attributes:
        encoder: Where the encoders of texts start from.
        inputs: What the fields hold, and how numbers and images are read.
        pooling: `cls` (the paper), or `mean`.
        head: Widths and activation; the paper's is x-128-128.
        similarity_skip: Add the base's own cosine, scaled, to the logit (beyond the paper).
        field_count: Texts of a tuple.
        outputs: Logits of a tuple.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    inputs: InputsConfig = field(default_factory=InputsConfig)
    pooling: Literal["cls", "mean"] = "mean"
    head: FeedForwardHeadConfig = field(default_factory=FeedForwardHeadConfig)
    similarity_skip: bool = True
    field_count: int = 2
    outputs: int = 1


class DEFFNN(DualEncoder):
    """Dual encoder with a feed-forward network over one vector per field."""

    name: ClassVar[str] = "de-ffnn"
    config_type: ClassVar[type] = DEFFNNConfig
    single_vector: ClassVar[bool] = True

    def __init__(self, config: DEFFNNConfig, tokenizer: Any, encoder_model: dict[str, Any] | None = None) -> None:
        keep = Keep(1, "first" if config.pooling == "cls" else "mean")
        super().__init__(
            config,
            tokenizer,
            load_field_encoders(config, tokenizer, config.similarity_skip, encoder_model),
            [keep] * config.field_count,
            similarity_skip=config.similarity_skip,
        )

    def make_head(self) -> FeedForwardHead:
        """A feed-forward network over the concatenated vectors."""
        return FeedForwardHead(self.config.head, [(1, self.dim)] * self.field_count, self.outputs)
