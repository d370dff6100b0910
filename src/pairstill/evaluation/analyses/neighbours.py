"""The nearest input embeddings of terms: what a student takes for similar before it reads a text (BERT2DNN's analysis)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pairstill.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from pairstill.students.base import Student

TERMS = 12
NEIGHBOURS = 10
FREQUENT = 5000
"""N-grams of a learned vocabulary that can be neighbours: rarer ones mostly lie where they started, at random."""
WORD = re.compile(r"[^\W\d_]{3,}")
UNTRAINED = re.compile(r"\[unused\d+\]")


@dataclass(frozen=True)
class Neighbour:
    """An entry of the vocabulary.

    Attributes:
        entry: A token or an n-gram.
        similarity: Cosine of its embedding and the term's.
    """

    entry: str
    similarity: float


@dataclass(frozen=True)
class TermNeighbours:
    """The nearest entries of one term, nearest first; none where the term is not in the student's vocabulary.

    Attributes:
        term: As asked for.
        neighbours: Without the term itself and without special tokens.
    """

    term: str
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class StudentNeighbours:
    """The terms in one student.

    Attributes:
        system: Its name.
        entries: Size of its vocabulary.
        candidates: Entries that can be neighbours.
        terms: In the order of `Neighbours.terms`.
    """

    system: str
    entries: int
    candidates: int
    terms: tuple[TermNeighbours, ...]


@dataclass(frozen=True)
class Neighbours:
    """Neighbours of the same terms in every student.

    Attributes:
        terms: As given, or the most frequent words of the split's texts.
        systems: One entry a student that has named input embeddings.
    """

    terms: tuple[str, ...]
    systems: tuple[StudentNeighbours, ...]


@dataclass(frozen=True)
class EmbeddingTable:
    """A student's vocabulary and its embeddings.

    Attributes:
        ids: Entry -> row of `vectors`.
        special: Entries that stand for no text.
        vectors: `(entries, dim)` float32.
        first: Only the first so many can be neighbours; None means all.
    """

    ids: Mapping[str, int]
    special: frozenset[str]
    vectors: np.ndarray
    first: int | None = None

    @cached_property
    def candidates(self) -> list[tuple[int, str]]:
        """Rows and entries that can be neighbours."""
        return [
            (row, entry)
            for entry, row in sorted(self.ids.items(), key=lambda one: one[1])
            if (self.first is None or row < self.first) and entry not in self.special and not UNTRAINED.fullmatch(entry)
        ]

    def row(self, term: str) -> int | None:
        """Row of a term as it stands or in lower case; None where the vocabulary lacks it."""
        return next((self.ids[one] for one in (term, term.lower()) if one in self.ids), None)


def table_of(student: Student) -> EmbeddingTable | str:
    """The input embeddings of a student, or why there are none with names.

    They are its first table with a row for every entry of its tokenizer's vocabulary; where fields have tables of their own,
    the first field's. N-grams, which are numbered by frequency, have neighbours among the `FREQUENT` first.
    """
    from torch import nn

    from pairstill.tokens.ngrams import NGramTokenizer
    from pairstill.tokens.tri_letter import TriLetterTokenizer

    if isinstance(student.tokenizer, TriLetterTokenizer):
        return "its embeddings are those of three letters, not of words"
    ids: dict[str, int] = student.tokenizer.get_vocab()
    if not ids:
        return "its n-grams are hashed and have no names"
    most = max(ids.values())
    for module in student.modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.num_embeddings > most:
            special = frozenset(getattr(student.tokenizer, "all_special_tokens", ()))
            first = FREQUENT if isinstance(student.tokenizer, NGramTokenizer) else None
            return EmbeddingTable(ids, special, module.weight.detach().float().cpu().numpy(), first)
    return "it has no table of embeddings for its vocabulary"


def frequent_terms(texts: Iterable[str], tables: Sequence[EmbeddingTable], count: int = TERMS) -> tuple[str, ...]:
    """The words in most texts that every table has, or where there are none, any: of three letters or more, no stop words.

    They are in lower case; of those in equally many texts the first in the alphabet come first.
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    found: Counter[str] = Counter()
    for text in texts:
        found.update(set(WORD.findall(text.lower())))
    ranked = sorted((-times, word) for word, times in found.items() if word not in ENGLISH_STOP_WORDS)
    held = [(word, sum(one.row(word) is not None for one in tables)) for _, word in ranked]
    least = len(tables) if any(number == len(tables) for _, number in held) else 1
    return tuple(word for word, number in held if number >= least)[:count]


def check_terms(terms: Sequence[str], tables: Mapping[str, EmbeddingTable]) -> None:
    """Raise `InputError` where no student's vocabulary has a term."""
    for term in terms:
        if all(one.row(term) is None for one in tables.values()):
            entries: list[Any] = [entry for one in tables.values() for entry in one.ids]
            raise InputError(
                f"the term '{term}' is in no student's vocabulary",
                expected=f"an entry of the vocabulary of {', '.join(tables)}",
                fix=did_you_mean(term, entries),
            )


def neighbours(terms: Sequence[str], tables: Mapping[str, EmbeddingTable], count: int = NEIGHBOURS) -> Neighbours:
    """The nearest entries of each term in each student, by cosine of input embeddings.

    Args:
        terms: Tokens or n-grams; a table that lacks one gives it no neighbours.
        tables: Student -> `table_of` it.
        count: How many.
    """
    found = (
        StudentNeighbours(name, len(one.ids), len(one.candidates), _nearest(terms, one, count))
        for name, one in tables.items()
    )
    return Neighbours(tuple(terms), tuple(found))


def _nearest(terms: Sequence[str], table: EmbeddingTable, count: int) -> tuple[TermNeighbours, ...]:
    candidates = table.candidates
    rows = np.array([row for row, _ in candidates], dtype=np.int64)
    lengths = np.linalg.norm(table.vectors, axis=1)
    found = []
    for term in terms:
        row = table.row(term)
        if row is None or not lengths[row]:
            found.append(TermNeighbours(term, ()))
            continue
        cosines = table.vectors[rows] @ table.vectors[row] / np.maximum(lengths[rows] * lengths[row], 1e-12)
        order = [one for one in np.argsort(-cosines, kind="stable")[: count + 1] if rows[one] != row][:count]
        found.append(TermNeighbours(term, tuple(Neighbour(candidates[one][1], float(cosines[one])) for one in order)))
    return tuple(found)
