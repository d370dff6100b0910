"""BERT with its masked-language-modelling head, and bases in the format of `transformers`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pairstill.errors import InputError
from pairstill.students.encoders import attention
from pairstill.students.encoders.packed_transformer import packs, run_packed
from pairstill.students.encoders.packing import Packing
from pairstill.students.encoders.pretrained import as_encoder, attention_mask, load_encoder, quiet_loading, resolve_base
from pairstill.students.encoders.shape import Shape

HEAD = "cls.predictions."
HEAD_NAMES = {
    "dense.weight": "transform.dense.weight", "dense.bias": "transform.dense.bias",
    "norm.weight": "transform.LayerNorm.weight", "norm.bias": "transform.LayerNorm.bias", "bias": "bias",
}  # fmt: skip
"""Our names of the head's tensors, and those of `transformers` after `HEAD`."""


class MaskedLanguageModel(nn.Module):
    """Guesses masked tokens: GELU(dense), LayerNorm, then products with the input embeddings (Devlin et al. 2019, section 3.1).

    Args:
        encoder: A BERT without its pooler.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        config = encoder.config
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        nn.init.normal_(self.dense.weight, std=config.initializer_range)
        nn.init.zeros_(self.dense.bias)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, ids: Tensor, types: Tensor | None, lengths: Tensor, places: Tensor) -> Tensor:
        """Logits of the tokens at some places.

        Args:
            ids: `(batch, tokens)`, some of them masked.
            types: Token types of the same shape, or None.
            lengths: `(batch,)` valid tokens.
            places: `(batch, tokens)` bool; only there the vocabulary is scored, which is most of a small model's work.

        Returns:
            `(places that are true, vocabulary)` float32, row by row.
        """
        if packs(self.encoder):
            packing = Packing.of(lengths, ids.shape[1], lengths)
            hidden = run_packed(self.encoder, packing, ids, types)[: packing.count]
            hidden = hidden[places.flatten()[packing.slots[: packing.count]]]
        else:
            extra = {} if types is None else {"token_type_ids": types}
            mask = attention_mask(lengths, ids.shape[1])
            hidden = self.encoder(input_ids=ids, attention_mask=mask, **extra).last_hidden_state[places]
        hidden = self.norm(functional.gelu(self.dense(hidden)))
        words = self.encoder.get_input_embeddings().weight
        return functional.linear(hidden, words, self.bias.to(hidden.dtype)).float()

    def tensors(self) -> dict[str, Tensor]:
        """Weights under the names that `BertForMaskedLM` gives them; the tied output layer is left out."""
        named = {f"bert.{name}": value for name, value in self.encoder.state_dict().items()}
        own = dict(self.state_dict())
        return named | {HEAD + theirs: own[ours] for ours, theirs in HEAD_NAMES.items()}


def new_language_model(
    shape: str, vocabulary_size: int, *, positions: int, padding: int, dropout: float = 0.0
) -> MaskedLanguageModel:
    """A language model with random weights.

    Args:
        shape: See `Shape.parse`.
        vocabulary_size: Of its tokenizer.
        positions: Most tokens that it will ever read.
        padding: Id of the padding token.
        dropout: Everywhere in the transformer.
    """
    return MaskedLanguageModel(new_bert(shape, vocabulary_size, positions=positions, padding=padding, dropout=dropout))


def new_bert(shape: str, vocabulary_size: int, *, positions: int, padding: int, dropout: float = 0.0) -> nn.Module:
    """A BERT without pooler and with random weights; arguments as for `new_language_model`."""
    from transformers import AutoModel, BertConfig

    size = Shape.parse(shape)
    config = BertConfig(
        vocab_size=vocabulary_size, hidden_size=size.hidden, num_hidden_layers=size.layers, num_attention_heads=size.heads,
        intermediate_size=size.intermediate, max_position_embeddings=positions, pad_token_id=padding,
        hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    return as_encoder(AutoModel.from_config(config, attn_implementation=attention.register()))


def load_language_model(base: str, dropout: float = 0.0) -> MaskedLanguageModel:
    """A BERT base to pre-train further; its head too, where it has one, else one with random weights.

    Raises:
        InputError: The base is no BERT.
    """
    from transformers import AutoConfig, AutoModelForMaskedLM

    with quiet_loading(base):
        config = AutoConfig.from_pretrained(resolve_base(base))
    if config.model_type != "bert":
        raise InputError(f"the base '{base}' is a {config.model_type}", expected="a BERT, to pre-train it further")
    model = MaskedLanguageModel(load_encoder(base, dropout=dropout))
    with quiet_loading(base):
        loaded, report = AutoModelForMaskedLM.from_pretrained(
            resolve_base(base), dtype=torch.float32, output_loading_info=True
        )
    if not any(name.startswith(HEAD) for name in report["missing_keys"]):
        found = loaded.state_dict()
        model.load_state_dict({ours: found[HEAD + theirs] for ours, theirs in HEAD_NAMES.items()}, strict=False)
    return model
