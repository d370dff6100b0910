"""Which analyses are wanted, and which of them a tuple set and its systems admit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pairstill.errors import InputError, did_you_mean
from pairstill.evaluation.analyses.cases import check_cases
from pairstill.evaluation.analyses.kept import reason_against
from pairstill.evaluation.analyses.margins import NO_PAIRS
from pairstill.evaluation.analyses.neighbours import EmbeddingTable, check_terms, table_of
from pairstill.evaluation.analyses.slots import PAIRS
from pairstill.evaluation.system import Role
from pairstill.tuples.tuple_set import Tuples, TupleSet

if TYPE_CHECKING:
    from pairstill.students.base import Student
    from pairstill.students.dual_encoder import DualEncoder

NAMES = ("margins", "magnitudes", "wins", "slots", "neighbours", "cases")
"""Every analysis, in the order of the report."""


@dataclass(frozen=True)
class Request:
    """What is wanted.

    Attributes:
        names: Of `NAMES`. What does not apply is an error.
        every: All others, too; of them what does not apply is left out with a note.
        against: The system that wins are counted against; None means the teacher.
        terms: Whose neighbours are shown; none means frequent words of the split.
        cases: Groups that are laid open; none draws some.
        pairs: Rows that slots are measured on, at most.
        seed: Of samples and draws.

    Raises:
        InputError: A name is unknown.
    """

    names: tuple[str, ...] = ()
    every: bool = True
    against: str | None = None
    terms: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    pairs: int = PAIRS
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse unknown names."""
        for one in self.names:
            if one not in NAMES:
                raise InputError(
                    f"there is no analysis '{one}'", expected=f"one of {', '.join(NAMES)}",
                    fix=did_you_mean(one, NAMES, 0.4),
                )  # fmt: skip

    @property
    def wanted(self) -> tuple[str, ...]:
        """All names, in the order of the report."""
        return tuple(one for one in NAMES if self.every or one in self.names)


@dataclass(frozen=True)
class Plan:
    """What will be done, known before anything is scored.

    Attributes:
        request: What was wanted.
        names: The analyses that apply.
        against: The system that wins are counted against; None where they are not.
        kept: Students whose slots are looked into.
        tables: Student -> its named input embeddings.
        notes: What is left out, and why.
    """

    request: Request
    names: tuple[str, ...]
    against: str | None
    kept: tuple[tuple[str, DualEncoder], ...] = ()
    tables: Mapping[str, EmbeddingTable] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def plan(
    request: Request, tuple_set: TupleSet, tuples: Tuples, roles: Mapping[str, Role], students: Sequence[tuple[str, Student]]
) -> Plan:  # fmt: skip
    """Check a request.

    Args:
        request: What is wanted.
        tuple_set: Texts and label kind.
        tuples: Rows of the split that is analysed.
        roles: Name of every system that will be compared -> its part.
        students: Names and models; of equal names the first is looked into.

    Raises:
        InputError: An analysis that was named does not apply, or the other system, a case or a term is not there.
    """
    first: dict[str, Student] = {}
    for name, student in students:
        first.setdefault(name, student)
    teacher = next((name for name, role in roles.items() if role == "teacher"), None)
    against = request.against or teacher
    if request.against is not None and request.against not in roles:
        raise InputError(f"there is no system '{request.against}'", expected=f"one of {', '.join(roles)}")
    if request.cases and "cases" in request.wanted:
        check_cases(_labelled_groups(tuple_set, tuples), request.cases)
    notes: list[str] = []
    kept: list[tuple[str, DualEncoder]] = []
    if "slots" in request.wanted:
        kept, said = _kept(first)
        notes += said
    tables: dict[str, EmbeddingTable] = {}
    if "neighbours" in request.wanted:
        for name, student in first.items():
            found = table_of(student)
            if isinstance(found, str):
                notes.append(f"neighbours: '{name}' is left out, {found}.")
            else:
                tables[name] = found
        if tables:
            check_terms(request.terms, tables)
    names = []
    for one in request.wanted:
        reason = _reason(one, tuple_set, tuples, roles, against, bool(kept), bool(tables))
        if reason is None:
            names.append(one)
        elif one in request.names:
            raise InputError(f"the analysis '{one}' does not apply: {reason}", fix=f"Leave out --analysis {one}")
        else:
            notes.append(f"{one}: left out, {reason}.")
    return Plan(request, tuple(names), against if "wins" in names else None, tuple(kept), tables, tuple(notes))


def _kept(students: Mapping[str, Student]) -> tuple[list[tuple[str, DualEncoder]], list[str]]:
    from pairstill.students.dual_encoder import DualEncoder

    found, notes = [], []
    for name, student in students.items():
        reason = reason_against(student)
        if reason is None and isinstance(student, DualEncoder):
            found.append((name, student))
        else:
            notes.append(f"slots: '{name}' is left out, {reason}.")
    return found, notes


def _reason(
    name: str, tuple_set: TupleSet, tuples: Tuples, roles: Mapping[str, Role], against: str | None, kept: bool, tables: bool
) -> str | None:  # fmt: skip
    """Why an analysis does not apply; None where it does."""
    if name in ("margins", "magnitudes", "slots", "cases") and tuple_set.labels.kind == "classes":
        return "it reads one logit a tuple, and the labels are classes"
    if name == "margins" and "teacher" not in roles.values():
        return "there is no teacher"
    if name == "margins" and not _labels_differ(tuples):
        return NO_PAIRS
    if name == "wins":
        if against is None:
            return "there is no teacher, and --against names no other system"
        if all(role in ("teacher", "floor") or one == against for one, role in roles.items()):
            return f"there is no system to compare with '{against}'"
    if name == "slots" and not kept:
        return "no student keeps a fixed number of several vectors a text"
    if name == "neighbours" and not tables:
        return "no student has input embeddings with names"
    return None


def _labels_differ(tuples: Tuples) -> bool:
    assert tuples.labels is not None
    there = ~np.isnan(tuples.labels)
    distinct = np.unique(np.stack([tuples.groups[there], tuples.labels[there]], axis=1), axis=0)
    return len(np.unique(distinct[:, 0])) < len(distinct)


def _labelled_groups(tuple_set: TupleSet, tuples: Tuples) -> list[str]:
    assert tuples.labels is not None
    rows = tuples.rows[~np.isnan(tuples.labels)]
    return [str(one) for one in tuple_set.tuples.column("group").take(rows).unique().to_pylist()]
