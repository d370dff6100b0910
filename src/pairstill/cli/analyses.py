"""The options of `pairstill evaluate` that look inside students."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pairstill.errors import InputError

if TYPE_CHECKING:
    from pairstill.evaluation.analyses.request import Plan, Request
    from pairstill.evaluation.system import Role, System
    from pairstill.students.base import Student
    from pairstill.tuples import Tuples, TupleSet


def analysis_request(
    every: bool, names: Sequence[str] | None, against: str | None, terms: Sequence[str] | None,
    cases: Sequence[str] | None, pairs: int, seed: int,
) -> Request | None:  # fmt: skip
    """What is wanted; None where no analysis is.

    Raises:
        InputError: A name is unknown, or an option would have no effect.
    """
    from pairstill.cli.flags import refuse_flags
    from pairstill.evaluation.analyses.request import Request

    options: dict[str, tuple[str, object]] = {
        "--against": ("wins", against), "--term": ("neighbours", terms), "--case": ("cases", cases),
    }  # fmt: skip
    for option, (needed, value) in options.items():
        if not every and needed not in (names or ()):
            refuse_flags({option: value}, f"the analysis '{needed}' is not asked for (--analysis {needed})")
    for option, values in (("--term", terms or ()), ("--case", cases or ())):
        if "" in values:
            raise InputError(f"{option} is empty", expected=f"{option} TEXT")
    if not every and not names:
        return None
    return Request(tuple(names or ()), every, against, tuple(terms or ()), tuple(cases or ()), pairs, seed)


def plan_analyses(
    request: Request, tuple_set: TupleSet, tuples: Tuples, teacher: tuple[str, Student] | System | None,
    students: Sequence[tuple[str, Student]], others: Sequence[System], floors: Sequence[str],
) -> Plan:  # fmt: skip
    """Check what is wanted against what will be compared, before anything is scored.

    Raises:
        InputError: An analysis that was named does not apply, or the other system, a case or a term is not there.
    """
    from pairstill.evaluation.analyses.request import plan

    roles: dict[str, Role] = dict.fromkeys(floors, "floor")
    roles |= dict.fromkeys((one.name for one in others), "other")
    roles |= dict.fromkeys((name for name, _ in students), "student")
    if teacher is not None:
        roles[teacher[0] if isinstance(teacher, tuple) else teacher.name] = "teacher"
    return plan(request, tuple_set, tuples, roles, students)
