"""A pretrained transformer cut in two: lower layers that read one text, upper layers that read the joined tuple (PreTTR)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pairstill.students.encoders.layer_parts import layers_of
from pairstill.students.encoders.packed_transformer import packs, run_packed_layers
from pairstill.students.encoders.packing import Packing
from pairstill.students.encoders.pretrained import attention_mask, position_limit

MASKED = -1e4


class LowerLayers(nn.Module):
    """Embeddings and the first layers, over one text at a fixed place of the joined sequence.

    Args:
        model: A BERT-like or DistilBERT model without its pooler.
        layers: How many of its layers.
    """

    def __init__(self, model: nn.Module, layers: int) -> None:
        super().__init__()
        config: Any = model.config
        self.config = config
        self.embeddings: Any = model.embeddings
        self.project: Any = getattr(model, "embeddings_project", nn.Identity())
        self.layers = nn.ModuleList(layers_of(model)[:layers])
        self.types = int(getattr(config, "type_vocab_size", 0) or 0)
        limit = position_limit(config)
        self.first_position = 0 if limit is None else config.max_position_embeddings - limit

    def forward(self, ids: Tensor, lengths: Tensor, offset: int | Tensor, later: bool | Tensor) -> Tensor:
        """Hidden vectors `(items, tokens, hidden)`, zero past each length.

        Args:
            ids: `(items, tokens)`, padded on the right.
            lengths: `(items,)` valid tokens.
            offset: Position of the first token in the joined sequence.
            later: Whether this is a text after the first, which token types tell apart.
        """
        valid = attention_mask(lengths, ids.shape[1])
        packing = Packing.of(lengths, ids.shape[1], lengths) if packs(self) else None
        positions = (torch.arange(ids.shape[1], device=ids.device) + offset + self.first_position).expand_as(ids)
        if packing is not None:
            ids, positions = (one.reshape(-1)[packing.slots][None] for one in (ids, positions))
        more = {"token_type_ids": torch.zeros_like(ids) + later * int(self.types > 1)} if self.types else {}
        hidden = self.project(self.embeddings(input_ids=ids, position_ids=positions, **more))
        if packing is not None:
            return packing.spread(run_packed_layers(self.layers, packing, hidden[0])) * valid[:, :, None]
        mask = ((1 - valid) * MASKED)[:, None, None].to(hidden.dtype)
        for layer in self.layers:
            outputs = layer(hidden, mask)
            hidden = outputs[0] if isinstance(outputs, tuple) else outputs
        masked: Tensor = hidden * valid[:, :, None].to(hidden.dtype)
        return masked.float()
