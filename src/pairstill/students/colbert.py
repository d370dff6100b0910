"""ColBERT: every token of both texts is kept, and each of the first finds its best match in the second."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.students.dual_encoder import DualEncoder, load_encoders
from pairstill.students.encoders.pretrained import tokenize
from pairstill.students.encoders.transformer import EncoderConfig, Keep
from pairstill.students.heads.max_sim import MaxSimHead
from pairstill.tokens.ragged import RaggedTokens

MARKERS = ("[unused0]", "[unused1]")
"""ColBERT's [Q] and [D]: entries of BERT's vocabulary that no text contains."""


@dataclass(frozen=True)
class ColBERTConfig:
    """Configuration of `ColBERT`; the defaults are those of Margin-MSE.

    Attributes:
        encoder: Where the encoders start from.
        projection: Dimension of the kept vectors (ColBERT v1: 128); None (the paper) takes the encoder's width, through a
            square projection.
        projection_bias: Whether the projection, which both fields share, has a bias (ColBERT v1: none).
        normalise: Make every token vector of length 1 (ColBERT v1: yes).
        query_masks: So many [MASK] tokens follow every query; 0 for none.
        query_length: Fill queries with [MASK] up to so many tokens (ColBERT v1: 32), in place of `query_masks`; None does not.
        attend_to_masks: Whether the other tokens of a query attend to its [MASK] tokens (ColBERT v1: no).
        markers: Put a marker after [CLS], another one for each field (ColBERT v1: [Q] and [D]).
        skip_punctuation: Keep no vectors of punctuation in documents (ColBERT v1: yes).
        scaled: A learned scale and bias turn the sum into the logit; the papers have neither.
        field_count: Two.
        outputs: One.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    projection: int | None = None
    projection_bias: bool = True
    normalise: bool = False
    query_masks: int = field(default=8, metadata={"checked": True})
    query_length: int | None = None
    attend_to_masks: bool = True
    markers: bool = False
    skip_punctuation: bool = False
    scaled: bool = True
    field_count: int = 2
    outputs: int = 1

    def __post_init__(self) -> None:
        """Refuse a negative number of [MASK] tokens."""
        if self.query_masks < 0:
            raise InputError(f"the setting 'query_masks' of 'colbert' is {self.query_masks}", expected="0 or more")


class ColBERT(DualEncoder):
    """Late interaction: token vectors of both texts are kept apart and meet in MaxSim alone."""

    name: ClassVar[str] = "colbert"
    config_type: ClassVar[type] = ColBERTConfig

    def __init__(self, config: ColBERTConfig, tokenizer: Any, encoder_model: dict[str, Any] | None = None) -> None:
        encoders = load_encoders(config.encoder, config.field_count, False, encoder_model)
        lengths = config.encoder.max_lengths * (1 if len(config.encoder.max_lengths) > 1 else config.field_count)
        super().__init__(
            config, tokenizer, encoders, [Keep(length, "all") for length in lengths],
            projection=config.projection or encoders[0].hidden_size, shared_projection=True,
            projection_bias=config.projection_bias,
        )  # fmt: skip
        self._markers = [self._token(one, "markers=false") for one in MARKERS] if config.markers else []
        masked = config.query_length is not None or config.query_masks > 0
        self._mask = self._token(tokenizer.mask_token, "query_masks=0 and no query_length") if masked else 0
        special = tokenizer.num_special_tokens_to_add(False) + len(self._markers[:1])
        for number, length in enumerate(self.max_lengths):
            added = self._fixed_masks(number)
            if length <= special + added:
                raise InputError(
                    f"the maximum length of field {number + 1} is {length} tokens, {special + added} of which are special ones",
                    expected=f"{special + added + 1} or more", fix="Raise --max-length, or lower query_masks",
                )  # fmt: skip
        if config.query_length is not None and config.query_length > self.max_lengths[0]:
            raise InputError(
                f"queries are filled up to {config.query_length} tokens and cut at {self.max_lengths[0]}",
                expected="a query_length of at most the first field's maximum length",
            )
        self._skipped = torch.tensor(self._punctuation(), dtype=torch.int64)

    def make_head(self) -> MaxSimHead:
        """MaxSim over all tokens."""
        return MaxSimHead(
            self.max_lengths, self.dim, self.field_count, self.outputs,
            normalise=self.config.normalise, scaled=self.config.scaled,
        )  # fmt: skip

    def encoding_settings(self, field: int) -> Sequence[Any]:
        """Also what is put into a text and what is left out."""
        config, query = self.config, field == 0
        added = (
            [config.query_masks, config.query_length, config.attend_to_masks] if query else [config.skip_punctuation]
        )
        return [*super().encoding_settings(field), added, field if config.markers else None]

    def tokenize(self, field: int, texts: Sequence[str]) -> RaggedTokens:
        """Token ids with marker and [MASK] tokens, which the field's maximum length counts."""
        room = self.max_lengths[field] - len(self._markers[:1]) - self._fixed_masks(field)
        plain = tokenize(self.tokenizer, texts, room)
        if not self._markers and (field or not self._mask):
            return plain
        lists = []
        for start, stop in zip(plain.offsets[:-1], plain.offsets[1:], strict=True):
            ids = plain.ids[start:stop].tolist()
            if self._markers:
                ids.insert(1, self._markers[field])
            if field == 0 and self._mask:
                ids += [self._mask] * (
                    self.config.query_masks if self.config.query_length is None else self.config.query_length - len(ids)
                )
            lists.append(ids)
        return RaggedTokens.from_lists(lists)

    def encoder_outputs(self, field: int, ids: Tensor, lengths: Tensor) -> Representation[Tensor]:
        """All token vectors before the projection; of documents without punctuation where that is skipped."""
        attended = None
        if field == 0 and self._mask and not self.config.attend_to_masks:
            ends = (ids == self.tokenizer.sep_token_id) * torch.arange(1, ids.shape[1] + 1, device=ids.device)
            attended = ends.amax(dim=1)
        return self.without_punctuation(field, ids, self.encoder(field)(ids, lengths, self.keeps[field], attended))

    def without_punctuation(self, field: int, ids: Tensor, outputs: Representation[Tensor]) -> Representation[Tensor]:
        """Token vectors of a document without those of punctuation, where that is skipped; `ids` are its `(items, tokens)`."""
        if field == 0 or not len(self._skipped):
            return outputs
        lengths = outputs.lengths
        places = torch.arange(ids.shape[1], device=ids.device)
        kept = (places < lengths[:, None]) & ~torch.isin(ids, self._skipped.to(ids.device))
        order = torch.argsort(places + (~kept) * ids.shape[1], dim=1)
        counts = kept.sum(dim=1)
        vectors = outputs.vectors.gather(1, order[:, :, None].expand_as(outputs.vectors))
        inside = places < counts[:, None]
        return Representation(vectors * inside[:, :, None], counts)

    def multiply_adds_per_pair(self, lengths: Sequence[float]) -> float:
        """Products of every token with every token."""
        return self.head.multiply_adds(lengths)  # type: ignore[operator, no-any-return]

    def marker_of(self, field: int) -> list[int]:
        """The id that follows [CLS], where there are markers."""
        return self._markers[field : field + 1]

    def masks_of(self, field: int) -> dict[str, int | None] | None:
        """The `token` that follows a text `count` times, or until the text is `up_to` tokens long; None where none does."""
        if field or not self._mask:
            return None
        return {"token": self._mask, "count": self._fixed_masks(field), "up_to": self.config.query_length}

    def _fixed_masks(self, field: int) -> int:
        """[MASK] tokens that every text of a field has."""
        return self.config.query_masks if field == 0 and self.config.query_length is None else 0

    def _token(self, token: str | None, setting: str) -> int:
        found = None if token is None else self.tokenizer.get_vocab().get(token)
        if found is None:
            raise InputError(
                f"the base's vocabulary has no {token or 'mask token'}", fix=f"Choose another base, or set {setting}"
            )
        return int(found)

    def _punctuation(self) -> list[int]:
        vocabulary = self.tokenizer.get_vocab() if self.config.skip_punctuation else {}
        return [vocabulary[one] for one in string.punctuation if one in vocabulary]
