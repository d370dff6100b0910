"""A small transformer learns what a large one does in its layers: language models on texts, rankers on tuples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.losses import AttentionLoss, DistillationLoss, HiddenLoss, LayerMap, LayerOutputs
from pairstill.students import CrossEncoder
from pairstill.students.encoders.layers import layer_outputs, packed_layer_outputs
from pairstill.students.encoders.packed_transformer import packable
from pairstill.students.encoders.pretrained import check_max_lengths
from pairstill.students.inference import precision_context, with_precision
from pairstill.students.persistence import state_fingerprint
from pairstill.tokens.ragged import bucket_budget, length_batches
from pairstill.tokens.texts import ArrowTexts
from pairstill.training.batches import Batches
from pairstill.training.data import TrainingData
from pairstill.training.settings import TrainingSettings
from pairstill.training.step_loop import StepResult, fit_steps
from pairstill.training.text_batches import Sequences
from pairstill.tuples import Tuples, TupleSet

TERMS = ("attention", "hidden", "embeddings")


@dataclass(frozen=True)
class LayerwisePlan:
    """What is learnt of a teacher's layers.

    Attributes:
        layer_map: Which of the teacher's layers each of the student's learns from.
        terms: Of `TERMS`: attention scores before the softmax, hidden states, and the embedding layer's output.
    """

    layer_map: LayerMap
    terms: tuple[str, ...] = TERMS

    def __post_init__(self) -> None:
        unknown = [one for one in self.terms if one not in TERMS]
        if unknown or not self.terms:
            raise InputError(
                f"of the layers '{unknown[0]}' is to be learnt" if unknown else "nothing of the layers is to be learnt",
                expected=f"some of {', '.join(TERMS)}",
            )

    @classmethod
    def parse(cls, layer_map: str, terms: Sequence[str], student_layers: int, teacher_layers: int) -> LayerwisePlan:
        """From words.

        Args:
            layer_map: `uniform` (every k-th), `first`, `last`, or the teacher's layers such as `2,4,6`.
            terms: Of `TERMS`; empty means all.
            student_layers: How many the student has.
            teacher_layers: How many the teacher has.

        Raises:
            InputError: The map cannot be read, or does not fit the models.
        """
        if student_layers > teacher_layers:
            raise InputError(
                f"the student has {student_layers} layers and the teacher {teacher_layers}",
                expected="no more layers than the teacher",
            )
        if layer_map == "uniform" and teacher_layers % student_layers:
            raise InputError(
                f"{teacher_layers} layers cannot be dealt evenly to {student_layers}",
                fix="Name the layers, such as --layer-map 2,5, or use --layer-map last",
            )
        named = {"uniform": LayerMap.uniform, "first": LayerMap.first, "last": LayerMap.last}
        if layer_map in named:
            found = named[layer_map](student_layers, teacher_layers)
        else:
            try:
                found = LayerMap(tuple(int(one) for one in layer_map.split(",")), teacher_layers)
            except ValueError:
                raise InputError(
                    f"the layer map '{layer_map}' cannot be read",
                    expected="uniform, first, last, or layers such as 2,4,6",
                ) from None
        found.check(student_layers, teacher_layers)
        return cls(found, tuple(terms) or TERMS)


class LayerwiseDistillation:
    """The sum of TinyBERT's attention, hidden-state and embedding losses (Jiao et al. 2020, section 3.1), the teacher run live.

    Each is a mean over the real tokens of a step, however they are padded and grouped into passes.

    Args:
        student: A transformer without a head, trained.
        teacher: Another one that reads the same tokens.
        plan: What is learnt.
        batch: Gives the sequences of a step.
        held_out: To measure with.
        settings: Precision and seed.
        data: What `batch` and `held_out` depend on, as JSON has it.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        plan: LayerwisePlan,
        batch: Callable[[int], list[Sequences]],
        held_out: list[Sequences],
        settings: TrainingSettings,
        data: Any,
    ) -> None:
        self.student, self.plan, self.batch, self.held_out, self.data = student, plan, batch, held_out, data
        self.settings = settings
        self._packed = packable(student) and packable(teacher)
        # Packed layers convert their weights themselves; for the others the teacher's are converted once.
        self.teacher = (
            teacher if self._packed else with_precision(teacher, lambda model: [model], settings.precision)
        ).eval()
        self._teacher_precision = settings.precision if self._packed else "float32"
        self.attention = AttentionLoss(plan.layer_map) if "attention" in plan.terms else None
        parts: dict[str, nn.Module] = {"student": student}
        self.hidden: HiddenLoss | None = None
        if "hidden" in plan.terms or "embeddings" in plan.terms:
            widths = [int(model.config.hidden_size) for model in (student, teacher)]  # type: ignore[union-attr, arg-type]
            torch.manual_seed(settings.seed)
            self.hidden = HiddenLoss(
                plan.layer_map, *widths, hidden="hidden" in plan.terms, embeddings="embeddings" in plan.terms
            )
            parts["projection"] = self.hidden
        self.model = nn.ModuleDict(parts)

    def loss(self, step: int) -> Tensor:
        """Of one step."""
        return torch.stack(list(self._terms(self.batch(step)).values())).sum()

    @torch.no_grad()
    def measure(self) -> Mapping[str, float]:
        """Each term on the held-out sequences, and their sum."""
        found = {name: float(value) for name, value in self._terms(self.held_out).items()}
        return {"loss": sum(found.values()), **found}

    def identity(self) -> dict[str, Any]:
        """Data, layers, teacher, and the student's weights at the start."""
        return {
            "data": self.data,
            "layers": [list(self.plan.layer_map.teacher_layers), list(self.plan.terms)],
            "teacher": state_fingerprint(dict(self.teacher.state_dict()), None),
            "model": state_fingerprint(dict(self.student.state_dict()), None),
        }

    def _terms(self, parts: list[Sequences]) -> dict[str, Tensor]:
        """Terms of several passes, as if they were one."""
        sums: dict[str, list[Tensor]] = {}
        tokens = sum(float(part.lengths.sum()) for part in parts)
        cells = sum(float(part.lengths.square().sum()) for part in parts)
        for part in parts:
            with torch.no_grad():
                theirs = self._outputs(self.teacher, part, self._teacher_precision)
            mine = self._outputs(self.student, part, self.settings.precision)
            if self.attention is not None:
                share = float(part.lengths.square().sum()) / cells
                sums.setdefault("attention", []).append(self.attention(mine, theirs) * share)
            if self.hidden is not None:
                share = float(part.lengths.sum()) / tokens
                sums.setdefault("hidden", []).append(self.hidden(mine, theirs) * share)
        return {name: torch.stack(values).sum() for name, values in sums.items()}

    def _outputs(self, model: nn.Module, part: Sequences, precision: str) -> LayerOutputs:
        outputs = packed_layer_outputs if self._packed else layer_outputs
        with precision_context(precision):
            found = outputs(model, part.ids, part.types, part.lengths, attention=self.attention is not None)
        return replace(found, hidden=[one.float() for one in found.hidden])


def learn_layers(
    student: CrossEncoder,
    teacher: CrossEncoder,
    tuple_set: TupleSet,
    data: TrainingData,
    plan: LayerwisePlan,
    settings: TrainingSettings,
    folder: Path,
    *,
    held_out: Tuples,
    progress: Callable[[int, int], None] | None = None,
) -> StepResult:
    """Ranker distillation's first step: a cross-encoder learns the layers of a larger one on tuples.

    "Understanding BERT Rankers Under Distillation" builds on TinyBERT, whose task stage learns layers first and predictions
    (`distil` with the prediction loss) afterwards. Classification layers take no part.

    Args:
        student: Trained in place.
        teacher: Left as it is; it has the student's vocabulary.
        tuple_set: Where the texts are.
        data: Rows to learn from; neither scores nor labels are read.
        plan: What is learnt.
        settings: `pairs` counts tuples; `learning_rate` is of all parameters.
        folder: Work folder, for checkpoints and the log.
        held_out: Rows to measure with.
        progress: Called with (tuples done, tuples in all).

    Raises:
        InputError: The models have other vocabularies, or the teacher fewer positions.
    """
    student.check_fields(tuple_set)
    if student.tokenizer.get_vocab() != teacher.tokenizer.get_vocab() or student.template != teacher.template:
        raise InputError(
            "the student has another vocabulary than the teacher, and layers are compared token by token",
            fix="Give the student a base with the teacher's vocabulary, or learn scores alone (leave out --layerwise)",
        )
    check_max_lengths(teacher.model.config, student.max_lengths, student.template.special_count + student.field_count)
    tokens = [
        student.tokenize(field, ArrowTexts(tuple_set.collection_of(field).texts))
        for field in range(student.field_count)
    ]
    batches = Batches(data, DistillationLoss(), settings)

    def sequences(index: np.ndarray) -> list[Sequences]:
        total = np.stack([one.lengths[index[:, field]] for field, one in enumerate(tokens)], axis=1).sum(axis=1)
        total = np.minimum(total + student.template.special_count, student.max_length)
        parts = []
        for rows in length_batches(total, bucket_budget(total), len(total)):
            padded = [one.padded(index[rows, field], student.padding) for field, one in enumerate(tokens)]
            ids, lengths = ([torch.from_numpy(pair[place]) for pair in padded] for place in (0, 1))
            parts.append(Sequences(*student.template.join(ids, lengths, student.max_length, student.padding)))
        return parts

    shown = held_out.index
    objective = LayerwiseDistillation(
        student.model.base_model, teacher.model.base_model, plan, lambda step: sequences(data.tuples.index[batches.rows(step)[0]]),
        [one for start in range(0, len(shown), 64) for one in sequences(shown[start : start + 64])], settings,
        [tuple_set.fingerprint, data.fingerprint(), TrainingData(held_out).fingerprint(), student.max_length],
    )  # fmt: skip
    result = fit_steps(objective, settings, folder, progress=progress)
    student.eval()
    return result
