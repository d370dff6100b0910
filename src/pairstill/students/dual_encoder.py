"""Students made of an encoder per field, a projection, one head, and optionally the similarity skip."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.students.base import Prepared, Student, as_tensors
from pairstill.students.encoders.pretrained import check_max_lengths
from pairstill.students.encoders.transformer import EncoderConfig, Keep, TransformerEncoder
from pairstill.students.heads.base import Head, Similarity
from pairstill.students.heads.similarity_skip import SimilaritySkip


class DualEncoder(Student):
    """n encoders (shared or separate), the kept vectors projected, one head over them (DiPair, figure 2 and section 3.8).

    Args:
        config: The student's configuration.
        tokenizer: The base's tokenizer.
        encoders: One shared encoder, or one a field.
        keeps: Per field, which token vectors are kept.
        projection: Dimension D; None keeps the encoder's.
        shared_projection: One projection for all fields, or one each.
        projection_bias: Whether projections have a bias.
        similarity_skip: Add the base's own cosine to the logit; the head's last layer then starts at zero.
    """

    def __init__(
        self,
        config: Any,
        tokenizer: Any,
        encoders: Sequence[TransformerEncoder],
        keeps: Sequence[Keep],
        *,
        projection: int | None = None,
        shared_projection: bool = False,
        projection_bias: bool = True,
        similarity_skip: bool = False,
    ) -> None:
        super().__init__(config, tokenizer)
        self.encoders = nn.ModuleList(encoders)
        self.keeps = tuple(keeps)
        check_max_lengths(encoders[0].model.config, self.max_lengths, tokenizer.num_special_tokens_to_add(False) + 1)
        for number, (keep, length) in enumerate(zip(self.keeps, self.max_lengths, strict=True), start=1):
            if keep.tokens > length:
                raise InputError(
                    f"of the texts of field {number}, cut at {length} tokens, {keep.tokens} are to be kept",
                    expected=f"keep of at most {length}", fix="Lower keep, or raise the maximum length",
                )  # fmt: skip
        hidden = encoders[0].hidden_size
        self.dim = projection or hidden
        self.projections = nn.ModuleList(
            nn.Linear(hidden, projection, projection_bias)
            for _ in range(1 if shared_projection else self.field_count)
            if projection
        )
        for layer in self.projections:
            # Lengths of the projected vectors are about those of the encoder's.
            nn.init.orthogonal_(layer.weight)  # type: ignore[arg-type]
            if projection_bias:
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        self.skip = SimilaritySkip(self.field_count, self.outputs) if similarity_skip else None
        self.head = self.make_head()
        if self.skip is not None:
            self.head.start_at_zero()

    @abstractmethod
    def make_head(self) -> Head:
        """The head of this architecture, from `self.config`, `self.keeps` and `self.dim`."""

    def encoder_modules(self) -> Sequence[nn.Module]:
        """The encoders."""
        return list(self.encoders)

    def kept_vectors(self, field: int) -> int | None:
        """Slots, of which a shorter text leaves some empty; None where every token is kept."""
        if self.keeps[field].take == "all":
            return None
        return 1 if self.keeps[field].pooled else self.keeps[field].tokens

    def encoder_model_config(self) -> dict[str, Any]:
        """Of the first encoder; all have the same shape."""
        return self.encoder(0).model_config()

    def encoding_modules(self, field: int) -> Mapping[str, nn.Module]:
        """The field's encoder, and its projection."""
        parts: dict[str, nn.Module] = {"encoder": self.encoder(field)}
        if len(self.projections):
            parts["projection"] = self.projections[field if len(self.projections) > 1 else 0]
        return parts

    def encoding_settings(self, field: int) -> Sequence[Any]:
        """What is kept of how many tokens, and whether the skip's vector is."""
        return [asdict(self.keeps[field]), self.max_lengths[field], self.skip is not None]

    def scoring_head(self) -> tuple[Head, SimilaritySkip | None]:
        """The head and the skip."""
        return self.head, self.skip

    def encoder(self, field: int) -> TransformerEncoder:
        """The encoder of a field."""
        found: TransformerEncoder = self.encoders[field if len(self.encoders) > 1 else 0]  # type: ignore[assignment]
        return found

    def encoder_outputs(self, field: int, ids: Tensor, lengths: Tensor) -> Representation[Tensor]:
        """Kept token vectors before the projection."""
        outputs: Representation[Tensor] = self.encoder(field)(ids, lengths, self.keeps[field])
        return outputs

    def project(self, field: int, outputs: Representation[Tensor]) -> Representation[Tensor]:
        """Project the kept vectors; vectors past a text's length stay zero."""
        if not len(self.projections):
            return outputs
        vectors = self.projections[field if len(self.projections) > 1 else 0](outputs.vectors)
        valid = torch.arange(vectors.shape[1], device=vectors.device) < outputs.lengths[:, None]
        return Representation(vectors * valid[:, :, None].to(vectors.dtype), outputs.lengths, outputs.similarity)

    def similarity(self) -> Similarity | None:
        """The head's."""
        return self.head.similarity()

    def prepare(self, field: int, representation: Representation[Any]) -> Prepared:
        """The head's part per item, and the skip's normalised vector."""
        tensors = as_tensors(representation, self.device).padded(self.kept_vectors(field) or 0)
        prepared = self.head.prepare(field, tensors.vectors, tensors.lengths)
        if self.skip is not None:
            vector = tensors.similarity if tensors.similarity is not None else tensors.vectors[:, 0]
            prepared["similarity"] = self.skip.prepare(vector)
        return prepared

    def score(self, prepared: Sequence[Prepared], index: Tensor) -> Tensor:
        """The head's logits, plus the skip's term."""
        logits = self.head.score(prepared, index)
        return logits if self.skip is None else logits + self.skip(prepared, index)

    def multiply_adds_per_pair(self, lengths: Sequence[float]) -> float:
        """The head's, which do not depend on the lengths of the texts, plus the skip's."""
        del lengths
        skip = self.skip.multiply_adds_per_pair(self.encoder(0).hidden_size) if self.skip is not None else 0.0
        return self.head.multiply_adds_per_pair() + skip

    def multiply_adds_per_item(self, field: int, length: float) -> float:
        """Encoder and projection."""
        encoder = self.encoder(field)
        projected = self._kept(field, length) * encoder.hidden_size * self.dim if len(self.projections) else 0
        return encoder.multiply_adds(length) + projected

    def bytes_per_item(self, field: int, length: float) -> float:
        """Kept vectors in float32, all slots (fixed stride) or every token (ragged), plus the skip's vector."""
        keep, encoder = self.keeps[field], self.encoder(field)
        own_vector = self.skip is not None and keep.take != "mean"
        return 4.0 * (self._kept(field, length) * self.dim + (encoder.hidden_size if own_vector else 0))

    def _kept(self, field: int, length: float) -> float:
        """How many vectors are kept of a text of so many tokens."""
        kept = self.kept_vectors(field)
        return min(length, self.max_lengths[field]) if kept is None else kept


def load_encoders(
    config: EncoderConfig, field_count: int, similarity: bool, saved: dict[str, Any] | None, weighted: bool = False
) -> list[TransformerEncoder]:
    """One shared encoder or one a field: the base's weights, or a saved configuration whose weights are loaded later."""
    count = 1 if config.shared else field_count
    if saved is not None:
        return [TransformerEncoder.from_saved(saved, similarity, weighted) for _ in range(count)]
    return [TransformerEncoder.from_base(config, similarity, weighted) for _ in range(count)]
