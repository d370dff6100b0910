"""TwinBERT with a residual block as crossing: its relevance version."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from pairstill.students.heads.residual import ResidualHead, ResidualHeadConfig
from pairstill.students.twinbert import TwinBERT, TwinBERTConfig


@dataclass(frozen=True)
class TwinBERTResConfig(TwinBERTConfig):
    """Configuration of `TwinBERTRes`: that of `TwinBERTConfig`, and two more.

    Attributes:
        head: Shape of the residual block.
        similarity_skip: Add the towers' own cosine, scaled, to the logit (beyond the paper).
    """

    head: ResidualHeadConfig = field(default_factory=ResidualHeadConfig)
    similarity_skip: bool = True


class TwinBERTRes(TwinBERT):
    """Two towers, the maximum or concatenation of their vectors, a residual block, logistic regression."""

    name: ClassVar[str] = "twinbert-res"
    config_type: ClassVar[type] = TwinBERTResConfig

    def __init__(self, config: TwinBERTResConfig, tokenizer: Any, encoder_model: dict[str, Any] | None = None) -> None:
        super().__init__(config, tokenizer, encoder_model, config.similarity_skip)

    def make_head(self) -> ResidualHead:
        """A residual block over the joined vectors."""
        return ResidualHead(self.config.head, self.dim, self.field_count, self.outputs)
