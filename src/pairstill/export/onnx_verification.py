"""An exported student against the one that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pairstill.errors import InputError
from pairstill.runtime import RuntimeStudent
from pairstill.students import Student

TOLERANCE = 1e-5
MOST_TUPLES = 256
LEVEL, MOST_ROUNDED = 2 / 255, 0.05


@dataclass(frozen=True)
class Differences:
    """The largest differences that were found.

    Attributes:
        tuples: Compared.
        logits: Relative to max(1, |logit|).
        vectors: Of `encode`, over all fields: absolute, relative to the largest value of the same field.
        rounded_otherwise: Tuples with a vector that was rounded to another of the 256 levels of a TwinBERT in 8 bits, as a last
            digit of float32 can make it; their logits are not compared.
        source: Where the texts came from: `given` or `generated`.
    """

    tuples: int
    logits: float
    vectors: float
    rounded_otherwise: int
    source: str


def verify(student: Student, exported: RuntimeStudent, texts: Sequence[Sequence[str]] | None) -> Differences:
    """Compare token ids, representations and logits.

    Raises:
        InputError: Token ids differ, or logits by more than 1e-5 relative to max(1, |logit|).
    """
    rows = list(texts)[:MOST_TUPLES] if texts is not None else generated_tuples(student)
    found_vectors = [
        _encoding(student, exported, field, [row[field] for row in rows]) for field in range(student.field_count)
    ]
    rounded = np.any([one for _, one in found_vectors], axis=0)
    expected, found = student.score_texts(rows), exported.score_texts(rows)
    logits = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    logits[rounded] = 0
    worst = float(logits.max())
    if not worst <= TOLERANCE or rounded.mean() > MOST_ROUNDED:
        place = int(np.asarray(logits).max(axis=1).argmax())
        raise InputError(
            f"the logits of the exported student differ by {worst:.2e} from those in PyTorch (tuple {place}: "
            f"{found[place].tolist()}, not {expected[place].tolist()})", expected=f"at most {TOLERANCE:g} of max(1, |logit|)",
            fix="Nothing was written",
        )  # fmt: skip
    vectors = max(one for one, _ in found_vectors)
    return Differences(len(rows), worst, vectors, int(rounded.sum()), "given" if texts is not None else "generated")


def _encoding(student: Student, exported: RuntimeStudent, field: int, texts: Sequence[str]) -> tuple[float, np.ndarray]:
    """The largest difference, and which texts have a vector that was rounded to another level."""
    tokens, own = student.tokenize(field, texts), exported.tokenize(field, texts)
    same = np.array_equal(tokens.lengths, own.lengths)
    for row in range(len(texts) if same else 0):
        same = same and all(map(np.array_equal, tokens.padded(np.array([row])), own.padded(np.array([row]))))
    if not same:
        raise InputError(
            f"the exported tokenizer of field {field + 1} gives other token ids", expected="those of the student",
            fix="Nothing was written",
        )  # fmt: skip
    wanted, found = student.encode(field, tokens), exported.encode(field, own)
    if not np.array_equal(wanted.lengths, found.lengths):
        raise InputError(
            f"the exported encoder of field {field + 1} keeps other numbers of vectors", fix="Nothing was written"
        )
    valid = np.arange(wanted.vectors.shape[1]) < wanted.lengths[:, None]
    size = float(np.abs(wanted.vectors[valid]).max(initial=1e-6))
    apart = np.abs(wanted.vectors - found.vectors[:, : valid.shape[1]])
    apart[~valid] = 0
    rounded = np.zeros(len(texts), bool)
    if getattr(student.config, "eight_bit", "none") != "none":
        rounded = (apart > LEVEL / 2).any(axis=(1, 2))
    return float(apart[~rounded].max(initial=0)) / size, rounded


def generated_tuples(student: Student, count: int = 48, seed: int = 0) -> list[tuple[str, ...]]:
    """Tuples of random words of the student's vocabulary, some empty, some longer than what is read."""
    generator = np.random.default_rng(seed)
    known = sorted(one for one in student.tokenizer.get_vocab() if one.isalnum() and " " not in one)
    words = known or [f"word{number}" for number in range(1000)]

    def text(field: int) -> str:
        length = int(generator.integers(0, min(int(student.max_lengths[field] * 1.3), 400) + 1))
        short = int(generator.integers(0, 12))
        return " ".join(generator.choice(words, length if generator.random() < 0.3 else short))

    return [tuple(text(field) for field in range(student.field_count)) for _ in range(count)]
