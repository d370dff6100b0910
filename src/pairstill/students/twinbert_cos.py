"""TwinBERT with the cosine as crossing: its retrieval version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from pairstill.students.heads.cosine import CosineHead
from pairstill.students.twinbert import TwinBERT, TwinBERTConfig


@dataclass(frozen=True)
class TwinBERTCosConfig(TwinBERTConfig):
    """Configuration of `TwinBERTCos`: see `TwinBERTConfig`; two fields and one output."""


class TwinBERTCos(TwinBERT):
    """Two towers and a cosine with logistic regression: searched by nearest neighbours, one dot product a pair."""

    name: ClassVar[str] = "twinbert-cos"
    config_type: ClassVar[type] = TwinBERTCosConfig
    single_vector: ClassVar[bool] = True

    def __init__(self, config: TwinBERTCosConfig, tokenizer: Any, encoder_model: dict[str, Any] | None = None) -> None:
        super().__init__(config, tokenizer, encoder_model)

    def make_head(self) -> CosineHead:
        """Cosine with learned scale and bias."""
        return CosineHead(self.dim, self.field_count, self.outputs)
