"""DE-Cos: a dual encoder whose score is the cosine of two vectors (DiPair, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pairstill.students.dual_encoder import DualEncoder, load_field_encoders
from pairstill.students.encoders.transformer import EncoderConfig, Keep
from pairstill.students.field_inputs import InputsConfig
from pairstill.students.heads.cosine import CosineHead


@dataclass(frozen=True)
class DECosConfig:
    """Configuration of `DECos`.

    Attributes:
        encoder: Where the encoders of texts start from.
        inputs: What the fields hold, and how numbers and images are read.
        pooling: `cls` (the paper), or `mean`, which suits bases that were trained for similarity.
        field_count: Two.
        outputs: One.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    inputs: InputsConfig = field(default_factory=InputsConfig)
    pooling: Literal["cls", "mean"] = "mean"
    field_count: int = 2
    outputs: int = 1


class DECos(DualEncoder):
    """Dual encoder with a cosine: one vector an item, searched by nearest neighbours, one dot product a pair."""

    name: ClassVar[str] = "de-cos"
    config_type: ClassVar[type] = DECosConfig
    single_vector: ClassVar[bool] = True

    def __init__(self, config: DECosConfig, tokenizer: Any, encoder_model: dict[str, Any] | None = None) -> None:
        keep = Keep(1, "first" if config.pooling == "cls" else "mean")
        super().__init__(
            config,
            tokenizer,
            load_field_encoders(config, tokenizer, False, encoder_model),
            [keep] * config.field_count,
        )

    def make_head(self) -> CosineHead:
        """Cosine with learned scale and bias."""
        return CosineHead(self.dim, self.field_count, self.outputs)
