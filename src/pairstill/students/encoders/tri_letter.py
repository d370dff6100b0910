"""A transformer over words that are sums of tri-letter embeddings (TwinBERT)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.students.encoders import attention
from pairstill.students.encoders.layer_parts import layers_of
from pairstill.students.encoders.packed_transformer import packs, run_packed_layers
from pairstill.students.encoders.packing import Packing
from pairstill.students.encoders.pretrained import as_encoder, encoder_from_config, load_encoder
from pairstill.students.encoders.shape import Shape
from pairstill.students.encoders.transformer import EncoderConfig, TransformerEncoder

PUBLISHED_SHAPE = "twinbert"


class TriLetterEncoder(TransformerEncoder):
    """Word vector = sum of the embeddings of its tri-letters + position embedding; then the layers of a BERT.

    As the authors have it, positions are counted from 1, id and position 0 are padding and zero, and there is neither
    LayerNorm nor dropout before the first layer, nor a segment embedding.

    Args:
        model: A BERT without its pooler, whose configuration says how many tri-letters (0 among them) and positions there are.
        similarity: See `TransformerEncoder`.
        weighted: See `TransformerEncoder`.

    Raises:
        InputError: The model is no BERT.
    """

    def __init__(self, model: nn.Module, similarity: bool = False, weighted: bool = False) -> None:
        super().__init__(model, similarity, weighted)
        config: Any = model.config
        if config.model_type != "bert":
            raise InputError(
                f"the base is a {config.model_type}", expected="a BERT, whose layers read tri-letter words",
                fix="Choose another base, or encoder.shape for layers with random weights",
            )  # fmt: skip
        self.letters = nn.Embedding(config.vocab_size, self.hidden_size, padding_idx=0)
        self.positions = nn.Embedding(config.max_position_embeddings, self.hidden_size, padding_idx=0)
        for table in (self.letters, self.positions):
            nn.init.normal_(table.weight, std=config.initializer_range)
            nn.init.zeros_(table.weight[0])
        model.embeddings = _NoEmbeddings()

    @classmethod
    def new(
        cls, config: EncoderConfig, tri_letters: int, words: int, similarity: bool = False, weighted: bool = False
    ) -> TriLetterEncoder:
        """A new encoder: layers of the base, or with random weights where the configuration names a shape.

        Args:
            config: Where the layers come from.
            tri_letters: Size of the vocabulary.
            words: Most words of a text.
            similarity: See `TransformerEncoder`.
            weighted: See `TransformerEncoder`.
        """
        sizes = {"vocab_size": tri_letters + 1, "max_position_embeddings": words + 1}
        if config.shape is None:
            model = load_encoder(config.base, config.layers, config.dropout)
            model.config.update(sizes)  # type: ignore[union-attr, operator]
        else:
            model = _random_layers(config, sizes)
        return cls(model, similarity, weighted)

    @classmethod
    def from_saved(
        cls, model_config: dict[str, Any], similarity: bool = False, weighted: bool = False
    ) -> TriLetterEncoder:
        """Build from a saved configuration; weights are loaded over it."""
        return cls(encoder_from_config(model_config), similarity, weighted)

    def hidden_states(self, ids: Tensor, lengths: Tensor, valid: Tensor | None = None) -> Tensor:
        """`(items, words, letters)` tri-letter ids to `(items, words, hidden)`."""
        return self.words_in_context(self.word_vectors(ids), lengths)

    def word_vectors(self, ids: Tensor) -> Tensor:
        """Sums of embeddings, `(items, words, hidden)`, of tri-letter ids `(items, words, letters)`."""
        items, words, _ = ids.shape
        # Known tri-letters alone: bags that skip their padding take half as long again in the backward pass.
        known = ids != 0
        counts = known.sum(dim=2).flatten()
        summed = nn.functional.embedding_bag(ids[known], self.letters.weight, counts.cumsum(0) - counts, mode="sum")
        return summed.view(items, words, -1)

    def words_in_context(self, vectors: Tensor, lengths: Tensor) -> Tensor:
        """What the layers make of word vectors `(items, words, hidden)`."""
        words = vectors.shape[1]
        places = torch.arange(1, words + 1, device=vectors.device)
        places = places * (places <= lengths[:, None])
        vectors = vectors + self.positions(places)
        if packs(self.model):
            packing = Packing.of(lengths, words, lengths)
            return packing.spread(run_packed_layers(layers_of(self.model), packing, packing.pack(vectors)))
        return self.run_layers(lengths, words, inputs_embeds=vectors)


class _NoEmbeddings(nn.Module):
    """In the place of a BERT's embedding layer: what is given goes on as it is."""

    def forward(self, inputs_embeds: Tensor, **_: Any) -> Tensor:
        """The word vectors."""
        return inputs_embeds


def tri_letter_shape(name: str) -> Shape:
    """See `Shape.parse`; also `twinbert`, the released one, whose feed-forward part is as wide as the rest."""
    return Shape.parse("6x512x8x512" if name == PUBLISHED_SHAPE else name)


def _random_layers(config: EncoderConfig, sizes: dict[str, int]) -> nn.Module:
    """A BERT of a named shape with random weights."""
    from transformers import AutoModel, BertConfig

    size = tri_letter_shape(str(config.shape))
    built = BertConfig(
        **sizes, hidden_size=size.hidden, num_hidden_layers=size.cut(config.layers).layers, num_attention_heads=size.heads,
        intermediate_size=size.intermediate, pad_token_id=0, hidden_dropout_prob=config.dropout, attention_probs_dropout_prob=config.dropout,
    )  # fmt: skip
    return as_encoder(AutoModel.from_config(built, attn_implementation=attention.register()))
