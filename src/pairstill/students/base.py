"""The contract of every student: a tuple is scored in three steps, each cheaper and run more often than the one before."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.representation import Representation, concatenate
from pairstill.students.cross_encoder_interface import CrossEncoderInterface
from pairstill.students.encoders.pretrained import load_tokenizer, tokenize
from pairstill.students.heads.base import Similarity
from pairstill.students.inference import map_blocks, precision_context, with_precision
from pairstill.tokens.inputs import Inputs
from pairstill.tokens.ragged import length_batches
from pairstill.tuples import Tuples, TupleSet

if TYPE_CHECKING:
    from pairstill.students.heads.base import Head
    from pairstill.students.heads.similarity_skip import SimilaritySkip

Prepared = Mapping[str, Tensor]
"""What `prepare` gives for one field: tensors whose first dimension counts items."""

Value = TypeVar("Value")

Corpus = Sequence[Iterable[Any]]
"""Texts to learn a vocabulary from (or numbers, to learn their scale): one entry a field, read as often as it is asked for."""

Progress = Callable[[int, int], None]


class Student(nn.Module, CrossEncoderInterface):
    """A model that scores tuples of texts; some students read numbers or images in place of a text, too (see `kinds`).

    1. `encode` depends on one field alone: once per item, ever; stored and shared by every tuple that the item is in.
    2. `prepare` is the part of the head that depends on one item alone: once per item of a block of work.
    3. `score` takes rows into what was prepared and is all that is paid per tuple; so one call serves a list of pairs,
       one query against a thousand documents, a cross product, and training batches that encode each text once.

    Training runs the same three steps with gradients: `encoder_outputs`, `project`, `prepare`, `score`.

    Attributes:
        name: Architecture, such as `dipair-tsf`.
        field_count: How many texts a tuple has.
        outputs: How many logits a tuple gets.
        single_vector: Whether one vector is kept per item, so that nearest-neighbour search applies.
        head_from_base: Whether what is paid per tuple comes from the base, too, and wants its learning rate.
        max_lengths: Per field, at most so many tokens are read, special ones counted.
        card: Text of the model card that the student was saved with; None for a new one.
    """

    name: ClassVar[str]
    single_vector: ClassVar[bool] = False
    head_from_base: ClassVar[bool] = False

    def __init__(self, config: Any, tokenizer: Any) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.field_count: int = config.field_count
        self.outputs: int = config.outputs
        self.card: str | None = None
        self.max_lengths: tuple[int, ...] = per_field(config.encoder.max_lengths, config.field_count, "max_lengths")

    # What a student defines.

    @abstractmethod
    def encoder_outputs(self, field: int, ids: Tensor, lengths: Tensor) -> Representation[Tensor]:
        """What the encoder gives before anything newly added: stage 1 of two-stage training stores it.

        Args:
            field: Position of the field.
            ids: `(items, tokens)` int64, padded on the right; of other kinds what their `Inputs` give.
            lengths: `(items,)` valid tokens.
        """

    @abstractmethod
    def prepare(self, field: int, representation: Representation[Any]) -> Prepared:
        """The part of the head that depends on one item alone.

        Args:
            field: Position of the field.
            representation: NumPy arrays (from `encode` or a store) or tensors.
        """

    @abstractmethod
    def score(self, prepared: Sequence[Prepared], index: Tensor) -> Tensor:
        """Logits of tuples.

        Args:
            prepared: One entry a field.
            index: `(tuples, fields)` int64, rows into `prepared`.

        Returns:
            `(tuples, outputs)` float32 raw logits.
        """

    @abstractmethod
    def encoder_modules(self) -> Sequence[nn.Module]:
        """The modules that come from the base; two-stage training freezes them first. Empty where there are none."""

    @abstractmethod
    def multiply_adds_per_pair(self, lengths: Sequence[float]) -> float:
        """Multiply-adds of the head for one tuple, with nothing shared but only what is read computed.

        Args:
            lengths: Mean number of tokens of each field.
        """

    @abstractmethod
    def multiply_adds_per_item(self, field: int, length: float) -> float:
        """Multiply-adds of encoding one item of `length` tokens."""

    @abstractmethod
    def bytes_per_item(self, field: int, length: float) -> float:
        """Bytes kept per item in float32, at `length` tokens."""

    # What every student shares.

    @classmethod
    def new_tokenizer(cls, config: Any, corpus: Corpus | None) -> Any:
        """The tokenizer of a new student: the base's; a student with a vocabulary of its own learns it from the corpus."""
        del corpus
        return load_tokenizer(config.encoder.base)

    @classmethod
    def read_tokenizer(cls, folder: Path) -> Any:
        """The tokenizer of a student folder; raises `OSError` or `ValueError` where it cannot be read."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(folder))

    @property
    def kinds(self) -> tuple[str, ...]:
        """Per field, what an item is: `text`, `numeric` or `image`."""
        return ("text",) * self.field_count

    def learn_inputs(self, corpus: Corpus | None) -> None:
        """Learn from the training items what the weights take no part in, such as the scale of numbers; nothing here."""
        del corpus

    @property
    def pretrained(self) -> bool:
        """Whether any of its layers come from a base; where none does, learning rates want to be higher."""
        return bool(self.encoder_modules())

    def kept_vectors(self, field: int) -> int | None:
        """How many vectors every item keeps; None where it is as many as the text has tokens."""
        del field
        return None

    def eight_bit(self, field: int) -> bool:
        """Whether kept vectors have the 256 levels of a uint8 store (`pairstill.store.quantise.to_levels`)."""
        del field
        return False

    def encoder_vectors(self, field: int) -> int | None:
        """As `kept_vectors`, of `encoder_outputs`: what stage 1 of training stores."""
        return self.kept_vectors(field)

    def encoder_model_config(self) -> dict[str, Any] | None:
        """The configuration that rebuilds a pretrained encoder without its base; None where there is none."""
        return None

    def encoding_modules(self, field: int) -> Mapping[str, nn.Module]:
        """What `encode` of a field runs, by part: `encoder` (see `encoder_outputs`) and `projection`, where it has weights."""
        del field
        return {"encoder": self}

    def encoding_settings(self, field: int) -> Sequence[Any]:
        """What else `encode` of a field depends on, as JSON has it: lengths, what is kept."""
        return [self.name, asdict(self.config), self.max_lengths[field]]

    def scoring_head(self) -> tuple[Head, SimilaritySkip | None] | None:
        """The head, and its skip where there is one, to be executed by themselves; None where a head cannot be had apart."""
        return None

    def score_buckets(self, prepared: Sequence[Prepared], index: Tensor) -> Tensor:
        """As `score`; a student whose cost depends on the joined length splits the tuples by it."""
        return self.score(prepared, index)

    def project(self, field: int, outputs: Representation[Tensor]) -> Representation[Tensor]:
        """The newly added part of the encoder: what `encode` does after `encoder_outputs`. Identity here."""
        del field
        return outputs

    def similarity(self) -> Similarity | None:
        """How the logit follows from two single vectors, so that a search for neighbours finds the best; None where it does not."""
        return None

    def new_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters that do not come from the base."""
        old = {id(one) for module in self.encoder_modules() for one in module.parameters()}
        return (one for one in self.parameters() if id(one) not in old)

    def transformers(self) -> Sequence[nn.Module]:
        """The parts that come from the base."""
        return self.encoder_modules()

    def with_precision(self, precision: str) -> Self:
        """The student for inference: itself in `float32`, a copy with narrow transformers in `bfloat16`.

        The copy is kept until a weight changes.

        Raises:
            InputError: Any other precision.
        """
        if precision == "float32":
            return self
        state = [(one.data_ptr(), one._version) for one in self.parameters()]
        kept: tuple[Any, list[Self]] | None = self.__dict__.pop("_narrow", None)
        if kept is None or kept[0] != state:
            kept = (state, [with_precision(self, lambda student: student.transformers(), precision).eval()])
        # A list hides the copy from what counts and saves a module's parameters.
        self.__dict__["_narrow"] = kept
        return kept[1][0]

    def tokenize(self, field: int, texts: Sequence[Any]) -> Inputs:
        """Token ids of texts of one field, special tokens included, cut at the field's maximum length."""
        return tokenize(self.tokenizer, texts, self.max_lengths[field])

    @property
    def length_unit(self) -> str:
        """What `max_lengths` counts: `tokens`, or `words`."""
        return "tokens"

    def cut(self, field: int, texts: Sequence[str]) -> np.ndarray:
        """`(texts,)` bool, which texts of one field are longer than what is read of them."""
        # The same tokenizer with room for one token more: what fills it was cut.
        roomier = copy.copy(self)
        roomier.max_lengths = tuple(one + 1 for one in self.max_lengths)
        longer: np.ndarray = roomier.tokenize(field, texts).lengths > self.max_lengths[field]
        return longer

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    def encode(
        self,
        field: int,
        texts: Sequence[Any] | Inputs,
        *,
        batch_size: int = 64,
        precision: str = "float32",
        before_projection: bool = False,
        progress: Progress | None = None,
    ) -> Representation[np.ndarray]:
        """Representations of texts, in the order given; depends on one field alone, so store it.

        Args:
            field: Position of the field.
            texts: Texts (or numbers or images, where the field holds them), or what `tokenize` makes of them.
            batch_size: Texts per forward pass at 64 tokens; longer texts go in smaller batches.
            precision: `float32`, or `bfloat16` where the processor has it.
            before_projection: Return `encoder_outputs` as they are; stage 1 of training stores those.
            progress: Called with (done, total).
        """
        blocks = list(self.encode_blocks(field, texts, batch_size, precision, before_projection, progress))
        if not blocks:
            raise InputError("there is nothing to encode", expected="at least one text")
        order = np.argsort(np.concatenate([rows for rows, _ in blocks]), kind="stable")
        whole = concatenate([block for _, block in blocks])
        del blocks
        return whole.take(order)

    def encode_blocks(
        self,
        field: int,
        texts: Sequence[Any] | Inputs,
        batch_size: int = 64,
        precision: str = "float32",
        before_projection: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[tuple[np.ndarray, Representation[np.ndarray]]]:
        """As `encode`, block by block: pairs of positions and their representations, similar lengths together."""
        tokens = texts if isinstance(texts, Inputs) else self.tokenize(field, texts)
        training, done = self.training, 0
        self.eval()
        try:
            model = self.with_precision(precision)

            def encode(rows: np.ndarray) -> Representation[np.ndarray]:
                ids, lengths = tokens.padded(rows, self.padding)
                block = model.encoder_outputs(
                    field, torch.from_numpy(ids).to(self.device), torch.from_numpy(lengths).to(self.device)
                )
                return (block if before_projection else model.project(field, block)).map(_to_numpy)

            batches = length_batches(tokens.lengths, 64 * batch_size, 4 * batch_size)
            for rows, block in zip(batches, map_blocks(encode, batches, self.device), strict=True):
                done += len(rows)
                yield rows, block
                if progress is not None:
                    progress(done, len(tokens))
        finally:
            self.train(training)

    @property
    def padding(self) -> int:
        """The padding token's id."""
        return int(self.tokenizer.pad_token_id or 0)

    def score_tuples(
        self,
        tuple_set: TupleSet,
        tuples: Tuples,
        *,
        precision: str = "float32",
        block: int = 1024,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Raw logits of rows of a tuple set; each distinct text is encoded once.

        Returns:
            `(rows, outputs)` float32, in the order of `tuples`.
        """
        self.check_fields(tuple_set)
        index, representations = tuples.index.copy(), []
        sizes = [len(np.unique(index[:, field])) for field in range(self.field_count)]
        total = len(tuples) + sum(sizes)
        for field in range(self.field_count):
            rows, index[:, field] = np.unique(index[:, field], return_inverse=True)
            items, before = tuple_set.values(field, rows), sum(sizes[:field])
            representations.append(
                self.encode(field, items, precision=precision, progress=_shifted(progress, before, total))
            )
        return self.score_representations(
            representations,
            index,
            precision=precision,
            block=block,
            progress=_shifted(progress, sum(sizes), total),
        )

    def score_representations(
        self,
        representations: Sequence[Representation[np.ndarray]],
        index: np.ndarray,
        *,
        precision: str = "float32",
        block: int = 1024,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Raw logits of `index (tuples, fields)` into `representations`, in blocks of bounded memory."""
        out = np.empty((len(index), self.outputs), dtype=np.float32)
        training = self.training
        self.eval()
        try:
            for start in range(0, len(index), block):
                part = index[start : start + block]
                prepared, local = [], np.empty_like(part)
                with torch.inference_mode(), precision_context(precision, self.device.type):
                    for field in range(self.field_count):
                        rows, local[:, field] = np.unique(part[:, field], return_inverse=True)
                        items = representations[field].take(rows)
                        ragged = self.kept_vectors(field) is None
                        prepared.append(self.prepare(field, items.trimmed() if ragged else items))
                    logits = self.score_buckets(prepared, torch.from_numpy(local).to(self.device))
                out[start : start + block] = logits.float().cpu().numpy()
                if progress is not None:
                    progress(min(start + block, len(index)), len(index))
        finally:
            self.train(training)
        return out

    def score_texts(self, rows: Sequence[Sequence[str]], *, batch_size: int = 32) -> np.ndarray:
        """Raw logits of tuples of texts; each distinct text is encoded once.

        Args:
            rows: A list of tuples of `field_count` texts.
            batch_size: Texts per forward pass of an encoder.

        Returns:
            `(tuples, outputs)` float32.
        """
        if not rows:
            return np.zeros((0, self.outputs), dtype=np.float32)
        index = np.empty((len(rows), self.field_count), dtype=np.int64)
        representations = []
        for field in range(self.field_count):
            places: dict[str, int] = {}
            for number, row in enumerate(rows):
                index[number, field] = places.setdefault(row[field], len(places))
            representations.append(self.encode(field, list(places), batch_size=batch_size))
        return self.score_representations(representations, index)

    def check_fields(self, tuple_set: TupleSet) -> None:
        """Raise `InputError` unless the tuple set has as many fields as this student, of the kinds that it reads."""
        if len(tuple_set.fields) != self.field_count:
            raise InputError(
                f"the tuple set has {len(tuple_set.fields)} fields ({', '.join(tuple_set.field_names)})",
                expected=f"{self.field_count}, as this {self.name} was made for",
            )
        for field, one in enumerate(tuple_set.fields):
            self.check_kind(field, one.kind, one.name)

    def check_kind(self, field: int, kind: str, name: str) -> None:
        """Raise `InputError` unless this student reads items of that kind at position `field`, which the user calls `name`."""
        if 0 <= field < self.field_count and self.kinds[field] != kind:
            raise InputError(
                f"the field '{name}' is of kind {kind}",
                expected=f"{self.kinds[field]}, which this {self.name} reads as field {field + 1}",
            )

    def check_exportable(self) -> None:
        """Raise `InputError` where a field holds other things than texts, which no export takes."""
        if set(self.kinds) != {"text"}:
            raise InputError(
                f"the student reads {' and '.join(dict.fromkeys(self.kinds))}",
                expected="a student of texts, which alone can be exported",
            )

    def save_pretrained(self, folder: str | Path, card: str | None = None) -> None:
        """Write the student folder: config.json, model.safetensors, the tokenizer and a model card.

        Args:
            folder: Made if it is not there.
            card: Text of the model card; None writes the one that the student was loaded or last saved with.
        """
        from pairstill.students.persistence import save_student

        save_student(self, Path(folder), card)

    def push_to_hub(
        self, repository: str, *, private: bool = True, token: str | None = None, card: str | None = None
    ) -> str:
        """Upload the student folder to the Hugging Face hub.

        Args:
            repository: `owner/name`; made if it is not there.
            private: Of a repository that is made.
            token: None takes the one that `hf auth login` stored.
            card: Text of the model card; None uploads the one that the student was loaded or last saved with.

        Returns:
            The address of the commit.
        """
        from pairstill.students.persistence import push_student

        return push_student(self, repository, private=private, token=token, card=card)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Student:
        """Load a student folder or hub name; raises `InputError` where it is of another architecture than `cls`."""
        from pairstill.students.persistence import load_student

        student = load_student(folder)
        if not isinstance(student, cls):
            raise InputError(f"the folder holds a '{student.name}'", file=folder, expected=f"a '{cls.name}'")
        return student


def per_field(values: Sequence[Value], field_count: int, name: str) -> tuple[Value, ...]:
    """One value a field: a single value serves all of them."""
    if len(values) == 1:
        return tuple(values) * field_count
    if len(values) != field_count:
        raise InputError(
            f"{name} has {len(values)} values", expected=f"1, or {field_count}: one a field",
            fix=f"Set {name} to one number or {field_count}",
        )  # fmt: skip
    return tuple(values)


def as_tensors(representation: Representation[Any], device: torch.device) -> Representation[Tensor]:
    """NumPy arrays as tensors on `device`; tensors are moved."""
    return representation.map(
        lambda array: (array if isinstance(array, Tensor) else torch.from_numpy(array)).to(device)
    )


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Progress of a part as progress of the whole."""
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)


def _to_numpy(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
