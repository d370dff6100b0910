"""DiPair-TSF: the first token vectors of each text, projected, through a small transformer (DiPair, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pairstill.students.base import per_field
from pairstill.students.dual_encoder import DualEncoder, load_field_encoders
from pairstill.students.encoders.transformer import EncoderConfig, Keep
from pairstill.students.field_inputs import InputsConfig
from pairstill.students.heads.transformer import TransformerHead, TransformerHeadConfig


@dataclass(frozen=True)
class DiPairTSFConfig:
    """Configuration of `DiPairTSF`.

    Attributes:
        encoder: Where the encoders of texts start from.
        inputs: What the fields hold, and how numbers and images are read.
        keep: Token vectors kept per field (the paper's N and M); one number serves all fields.
        keep_from: `first` (the paper) or `last` tokens.
        projection: Dimension D that kept vectors are projected to; None keeps the encoder's.
        shared_projection: One projection for all fields, or one each (the paper allows both).
        head: Shape of the transformer; the paper's has 2 layers, 1 attention head, 1024 wide.
        similarity_skip: Add the base's own cosine, scaled, to the logit (beyond the paper).
        field_count: Texts of a tuple.
        outputs: Logits of a tuple.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    inputs: InputsConfig = field(default_factory=InputsConfig)
    keep: tuple[int, ...] = (8, 16)
    keep_from: Literal["first", "last"] = "first"
    projection: int | None = 128
    shared_projection: bool = False
    head: TransformerHeadConfig = field(default_factory=TransformerHeadConfig)
    similarity_skip: bool = True
    field_count: int = 2
    outputs: int = 1


class DiPairTSF(DualEncoder):
    """Dual encoder, few projected token vectors a text, a transformer head that attends across the texts."""

    name: ClassVar[str] = "dipair-tsf"
    config_type: ClassVar[type] = DiPairTSFConfig

    def __init__(self, config: DiPairTSFConfig, tokenizer: Any, encoder_model: dict[str, Any] | None = None) -> None:
        super().__init__(
            config,
            tokenizer,
            load_field_encoders(config, tokenizer, config.similarity_skip, encoder_model),
            [Keep(tokens, config.keep_from) for tokens in per_field(config.keep, config.field_count, "keep")],
            projection=config.projection,
            shared_projection=config.shared_projection,
            similarity_skip=config.similarity_skip,
        )

    def make_head(self) -> TransformerHead:
        """A transformer over the kept vectors."""
        return TransformerHead(self.config.head, [keep.tokens for keep in self.keeps], self.dim, self.outputs)
