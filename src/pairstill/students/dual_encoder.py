"""Students made of an encoder per field, a projection, one head, and optionally the similarity skip."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.students.base import Corpus, Prepared, Student, as_tensors
from pairstill.students.encoders.image import ImageEncoder, ImageInputs, image_bytes
from pairstill.students.encoders.numeric import NumericNetwork, Standardiser
from pairstill.students.encoders.pretrained import check_max_lengths, tokenize
from pairstill.students.encoders.transformer import EncoderConfig, Keep, TransformerEncoder
from pairstill.students.field_inputs import FILE, FieldEncoders, FieldReader, features_of, kinds_of
from pairstill.students.heads.base import Head, Similarity
from pairstill.students.heads.similarity_skip import SimilaritySkip
from pairstill.tokens.inputs import Inputs, NumericInputs, as_numbers


class DualEncoder(Student):
    """n encoders (shared or separate), the kept vectors projected, one head over them (DiPair, figure 2 and section 3.8).

    Fields may hold other things than texts (DiPair's open question). Numbers are standardised where a text is encoded, and a
    small network stands in the place of their projection; stage 1 trains that network, as it does projections. Images have an
    encoder whose patch vectors are kept as token vectors are, and a projection wherever its dimension is another one.

    Args:
        config: The student's configuration.
        tokenizer: The base's tokenizer, or a `FieldReader`.
        encoders: One shared encoder, or one a field, of texts; or what `load_field_encoders` gives.
        keeps: Per field, which token vectors are kept.
        projection: Dimension D; None keeps the encoder's.
        shared_projection: One projection for all fields, or one each.
        projection_bias: Whether projections have a bias.
        similarity_skip: Add the base's own cosine to the logit; the head's last layer then starts at zero.

    Attributes:
        keep_setting: The setting of the configuration that says how many token vectors are kept.
    """

    keep_setting: ClassVar[str] = "keep"

    def __init__(
        self,
        config: Any,
        tokenizer: Any,
        encoders: Sequence[nn.Module] | FieldEncoders,
        keeps: Sequence[Keep],
        *,
        projection: int | None = None,
        shared_projection: bool = False,
        projection_bias: bool = True,
        similarity_skip: bool = False,
    ) -> None:
        super().__init__(config, tokenizer)
        if not isinstance(encoders, FieldEncoders):
            encoders = FieldEncoders(
                encoders, list(range(self.field_count)) if len(encoders) > 1 else [0] * self.field_count
            )
        self.encoders, self._encoder_of = nn.ModuleList(encoders.modules), tuple(encoders.places)
        self.keeps = tuple(keeps)
        self._check_lengths()
        hidden = [getattr(one, "hidden_size", None) for one in encoders.modules]
        self.dim: int = (
            projection or next((one for one in hidden if one is not None), None) or config.inputs.numeric.dim
        )
        self._make_projections(projection, shared_projection, projection_bias)
        if similarity_skip and (len(set(self.kinds)) > 1 or "numeric" in self.kinds):
            raise InputError(
                f"the similarity skip adds the cosine of a base's own vectors, and the fields are {' and '.join(dict.fromkeys(self.kinds))}",
                expected="fields of texts, or of images", fix="Set similarity_skip=false",
            )  # fmt: skip
        self.skip = SimilaritySkip(self.field_count, self.outputs) if similarity_skip else None
        self.head = self.make_head()
        if self.skip is not None:
            self.head.start_at_zero()

    def _check_lengths(self) -> None:
        """Refuse lengths of texts that are beyond the base, or that leave fewer tokens than are to be kept."""
        for field, (keep, length) in enumerate(zip(self.keeps, self.max_lengths, strict=True)):
            if self.kinds[field] == "image" and keep.tokens > self.encoder(field).tokens:
                raise InputError(
                    f"of the {self.encoder(field).tokens} vectors of an image (field {field + 1}) {keep.tokens} are to be kept",
                    expected=f"keep of at most {self.encoder(field).tokens}",
                )
            if self.kinds[field] != "text":
                continue
            special = self._text_tokenizer.num_special_tokens_to_add(False)
            check_max_lengths(self.encoder(field).model.config, [length], special + 1)
            if keep.tokens > length:
                raise InputError(
                    f"of the texts of field {field + 1}, cut at {length} tokens, {keep.tokens} are to be kept",
                    expected=f"{self.keep_setting} of at most {length}",
                    fix=f"Lower {self.keep_setting}, or raise the maximum length",
                )  # fmt: skip

    def _make_projections(self, projection: int | None, shared: bool, bias: bool) -> None:
        """Projections of texts, and networks of numbers; and which one each field has, None where vectors stay as they are."""
        self.projections, places = nn.ModuleList(), dict[Any, int]()
        self._projection_of: list[int | None] = []
        for field, kind in enumerate(self.kinds):
            key = kind if shared and kind != "numeric" else field
            if key not in places and kind == "numeric":
                places[key] = len(self.projections)
                vectors = self.kept_vectors(field) or 1
                features = features_of(self.config)[field]
                self.projections.append(NumericNetwork(features, self.config.inputs.numeric, vectors, self.dim))
            elif key not in places and (projection or self.encoder(field).hidden_size != self.dim):
                places[key] = len(self.projections)
                self.projections.append(nn.Linear(self.encoder(field).hidden_size, self.dim, bias))
            self._projection_of.append(places.get(key))
        for layer in self.projections:
            if isinstance(layer, nn.Linear):
                # Lengths of the projected vectors are about those of the encoder's.
                nn.init.orthogonal_(layer.weight)
                if bias:
                    nn.init.zeros_(layer.bias)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Per field, what an item is: `text`, `numeric` or `image`."""
        return kinds_of(self.config)

    @property
    def _text_tokenizer(self) -> Any:
        return self.tokenizer.text if isinstance(self.tokenizer, FieldReader) else self.tokenizer

    @classmethod
    def new_tokenizer(cls, config: Any, corpus: Corpus | None) -> Any:
        """The base's, or a `FieldReader` where fields hold other things than texts."""
        if all(kind == "text" for kind in kinds_of(config)):
            return super().new_tokenizer(config, corpus)
        return FieldReader.new(config)

    @classmethod
    def read_tokenizer(cls, folder: Path) -> Any:
        """The base's, or a `FieldReader` where the folder has one."""
        return FieldReader.load(folder) if (folder / FILE).exists() else super().read_tokenizer(folder)

    def learn_inputs(self, corpus: Corpus | None) -> None:
        """Means and deviations of numbers, from the training items."""
        for field, items in enumerate(corpus or ()):
            if self.kinds[field] == "numeric":
                features = features_of(self.config)[field]
                self.encoder(field).learn(NumericInputs.from_items(list(items), features).values)

    def tokenize(self, field: int, texts: Sequence[Any]) -> Inputs:
        """Token ids of texts; numbers as they are; encoded images, which are decoded block by block."""
        if self.kinds[field] == "image":
            images = [image_bytes(one, f"item {number}") for number, one in enumerate(texts, start=1)]
            return ImageInputs(images, self.tokenizer.image, self.encoder(field).tokens)
        if self.kinds[field] == "numeric":
            return NumericInputs.from_items(texts, features_of(self.config)[field])
        return tokenize(self._text_tokenizer, texts, self.max_lengths[field])

    def is_tuple(self, sentences: Sequence[Any]) -> bool:
        """Where fields hold other things than texts, a tuple is one tuple, and a list holds tuples."""
        mixed = any(kind != "text" for kind in self.kinds)
        return isinstance(sentences, tuple) if mixed else super().is_tuple(sentences)

    def checked_tuple(self, row: Sequence[Any], number: int) -> Sequence[Any]:
        """Texts as they are, numbers as tuples, images as encoded bytes."""
        if all(kind == "text" for kind in self.kinds):
            return super().checked_tuple(row, number)
        if len(row) != self.field_count:
            raise InputError(
                f"the tuple is {row!r:.200}", row=number, expected=f"{self.field_count} items: {', '.join(self.kinds)}"
            )
        features, found = features_of(self.config), list[Any]()
        for field, (kind, item) in enumerate(zip(self.kinds, row, strict=True)):
            what = f"field {field + 1} of tuple {number}"
            if kind == "numeric":
                found.append(as_numbers(item, features[field], what))
            elif kind == "image":
                found.append(image_bytes(item, what))
            elif isinstance(item, str):
                found.append(item)
            else:
                raise InputError(f"{what} is {item!r:.200}", expected="a text")
        return tuple(found)

    @abstractmethod
    def make_head(self) -> Head:
        """The head of this architecture, from `self.config`, `self.keeps` and `self.dim`."""

    def encoder_modules(self) -> Sequence[nn.Module]:
        """The encoders that come from a base."""
        return [one for one in self.encoders if not isinstance(one, Standardiser)]

    def kept_vectors(self, field: int) -> int | None:
        """Slots, of which a shorter text leaves some empty; None where every token is kept."""
        if self.keeps[field].take == "all":
            return None
        return 1 if self.keeps[field].pooled else self.keeps[field].tokens

    def encoder_vectors(self, field: int) -> int | None:
        """As `kept_vectors`; numbers are stored as one vector."""
        return 1 if self.kinds[field] == "numeric" else self.kept_vectors(field)

    def encoder_model_config(self) -> dict[str, Any] | None:
        """Of the first encoder, all of texts have the same shape; by kind where there are other kinds."""
        found: dict[str, Any] = {
            kind: self.encoder(field).model_config() for field, kind in enumerate(self.kinds) if kind != "numeric"
        }
        return found["text"] if all(kind == "text" for kind in self.kinds) else found or None

    def encoding_modules(self, field: int) -> Mapping[str, nn.Module]:
        """The field's encoder, and its projection."""
        parts: dict[str, nn.Module] = {"encoder": self.encoder(field)}
        projection = self._projection(field)
        return parts if projection is None else {**parts, "projection": projection}

    def encoding_settings(self, field: int) -> Sequence[Any]:
        """What is kept of how many tokens, and whether the skip's vector is."""
        read: Any = self.max_lengths[field] if self.kinds[field] == "text" else self.kinds[field]
        if self.kinds[field] == "image":
            read = self.tokenizer.image.to_dict()
        return [asdict(self.keeps[field]), read, self.skip is not None]

    def scoring_head(self) -> tuple[Head, SimilaritySkip | None]:
        """The head and the skip."""
        return self.head, self.skip

    def encoder(self, field: int) -> Any:
        """The encoder of a field: a `TransformerEncoder` of texts, a `Standardiser` of numbers, an `ImageEncoder`."""
        return self.encoders[self._encoder_of[field]]

    def _projection(self, field: int) -> nn.Module | None:
        place = self._projection_of[field]
        return None if place is None else self.projections[place]

    def encoder_outputs(self, field: int, ids: Tensor, lengths: Tensor) -> Representation[Tensor]:
        """Kept token vectors before the projection; standardised numbers, before the network, as one vector."""
        if self.kinds[field] == "numeric":
            return Representation(self.encoder(field)(ids)[:, None], lengths)
        outputs: Representation[Tensor] = self.encoder(field)(ids, lengths, self.keeps[field])
        return outputs

    def project(self, field: int, outputs: Representation[Tensor]) -> Representation[Tensor]:
        """Project the kept vectors; vectors past a text's length stay zero. Numbers fill all their slots."""
        projection = self._projection(field)
        if projection is None:
            return outputs
        vectors = projection(outputs.vectors)
        if isinstance(projection, NumericNetwork):
            return Representation(vectors, torch.full_like(outputs.lengths, projection.vectors))
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
        encoder, projection = self.encoder(field), self._projection(field)
        if isinstance(projection, NumericNetwork):
            return projection.multiply_adds()
        projected = self._kept(field, length) * encoder.hidden_size * self.dim if projection is not None else 0.0
        return float(encoder.multiply_adds(length) + projected)

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


def load_field_encoders(config: Any, tokenizer: Any, similarity: bool, saved: dict[str, Any] | None) -> FieldEncoders:
    """The encoder that each field's kind needs.

    Args:
        config: Of a student that has `encoder` and `inputs`.
        tokenizer: The student's; a `FieldReader` has the image processor.
        similarity: Whether encoders keep the vector of the similarity skip.
        saved: What `encoder_model_config` gave; None loads the bases.
    """
    kinds, features = kinds_of(config), features_of(config)
    texts = [place for place, kind in enumerate(kinds) if kind == "text"]
    text_saved = saved if len(texts) == len(kinds) else (saved or {}).get("text")
    modules: list[nn.Module] = [*load_encoders(config.encoder, len(texts), similarity, text_saved)] if texts else []
    places = {place: min(number, len(modules) - 1) for number, place in enumerate(texts)}
    for place, count in features.items():
        places[place] = len(modules)
        modules.append(Standardiser(count))
    for place in (place for place, kind in enumerate(kinds) if kind == "image"):
        if config.inputs.image.shared and isinstance(modules[-1] if modules else None, ImageEncoder):
            places[place] = len(modules) - 1
            continue
        places[place] = len(modules)
        if saved is not None:
            modules.append(ImageEncoder.from_saved(saved["image"], tokenizer.image, similarity))
        else:
            modules.append(ImageEncoder.from_base(config.inputs.image.base, tokenizer.image, similarity))
    return FieldEncoders(modules, [places[place] for place in range(len(kinds))])
