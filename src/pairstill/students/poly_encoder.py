"""Poly-encoder: several vectors of the first text, one of the second, attention between them (DiPair, appendix C)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.students.base import per_field
from pairstill.students.dual_encoder import DualEncoder, load_encoders
from pairstill.students.encoders.pretrained import attention_mask
from pairstill.students.encoders.transformer import EncoderConfig, Keep
from pairstill.students.heads.poly import PolyHead


@dataclass(frozen=True)
class PolyEncoderConfig:
    """Configuration of `PolyEncoder`.

    Attributes:
        encoder: Where the encoders start from.
        contexts: Vectors m of the first text.
        context_from: `codes` (m learned codes, each of which attends over all token vectors) or `first` (the first m token
            vectors; a shorter text has fewer).
        pooling: Of the second text: `cls`, or `mean`, which suits bases that were trained for similarity.
        attention: `basic` (products as they are) or `scaled` (divided by the root of the dimension).
        output_scaling: Factor on every encoder output.
        scaled: A learned scale and bias turn the score into the logit; the paper has neither.
        field_count: Two.
        outputs: One.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    contexts: int = 64
    context_from: Literal["codes", "first"] = "codes"
    pooling: Literal["cls", "mean"] = "mean"
    attention: Literal["basic", "scaled"] = "basic"
    output_scaling: float = field(default=0.06, metadata={"checked": True})
    scaled: bool = True
    field_count: int = 2
    outputs: int = 1

    def __post_init__(self) -> None:
        """Refuse a factor that is not above 0."""
        if not 0 < self.output_scaling < float("inf"):
            raise InputError(
                f"the setting 'output_scaling' of 'poly-encoder' is {self.output_scaling}", expected="a number above 0"
            )


class PolyEncoder(DualEncoder):
    """Between one vector a text and all of them: the first text is read m times, the second once."""

    name: ClassVar[str] = "poly-encoder"
    config_type: ClassVar[type] = PolyEncoderConfig
    keep_setting: ClassVar[str] = "contexts"

    def __init__(self, config: PolyEncoderConfig, tokenizer: Any, encoder_model: dict[str, Any] | None = None) -> None:
        longest = per_field(config.encoder.max_lengths, config.field_count, "max_lengths")[0]
        first = Keep(longest, "all") if config.context_from == "codes" else Keep(config.contexts, "first")
        super().__init__(
            config,
            tokenizer,
            load_encoders(config.encoder, config.field_count, False, encoder_model),
            [first] + [Keep(1, "first" if config.pooling == "cls" else "mean")] * (config.field_count - 1),
        )
        self.codes = nn.Embedding(config.contexts, self.dim) if config.context_from == "codes" else None
        if self.codes is not None:
            nn.init.uniform_(self.codes.weight)

    def make_head(self) -> PolyHead:
        """The second attention and the dot product."""
        config = self.config
        return PolyHead(
            config.contexts, self.dim, self.field_count, self.outputs, output_scaling=config.output_scaling,
            scaled_attention=config.attention == "scaled", scaled=config.scaled,
        )  # fmt: skip

    def kept_vectors(self, field: int) -> int | None:
        """The contexts of the first text, one vector of the second."""
        return 1 if field else self.config.contexts

    def encoder_vectors(self, field: int) -> int | None:
        """Every token of the first text where codes attend over them."""
        return None if self.codes is not None and field == 0 else self.kept_vectors(field)

    def encoding_modules(self, field: int) -> Mapping[str, nn.Module]:
        """The field's encoder, and the codes."""
        parts = super().encoding_modules(field)
        return parts if self.codes is None or field else {**parts, "projection": self.codes}

    def encoding_settings(self, field: int) -> Sequence[Any]:
        """Also how the codes attend."""
        codes = self.codes is not None and field == 0
        reads = [self.config.attention, self.config.output_scaling] if codes else None
        return [*super().encoding_settings(field), reads]

    def project(self, field: int, outputs: Representation[Tensor]) -> Representation[Tensor]:
        """Of the first text: each code's softmax over the token vectors, and their weighted sum `(items, contexts, dim)`."""
        if self.codes is None or field:
            return outputs
        tokens, codes = outputs.vectors, self.codes.weight
        scale = self.config.output_scaling / (self.dim**0.5 if self.config.attention == "scaled" else 1.0)
        products = torch.matmul(tokens, codes.T).transpose(1, 2).float() * scale
        hidden = attention_mask(outputs.lengths, tokens.shape[1])[:, None] == 0
        contexts = torch.bmm(torch.softmax(products.masked_fill(hidden, -torch.inf), dim=2), tokens.float())
        return Representation(contexts, torch.full_like(outputs.lengths, self.config.contexts))

    def multiply_adds_per_item(self, field: int, length: float) -> float:
        """Encoder, and two products of every code with every token."""
        codes = 2 * self.config.contexts * length * self.dim if self.codes is not None and field == 0 else 0.0
        return super().multiply_adds_per_item(field, length) + codes
