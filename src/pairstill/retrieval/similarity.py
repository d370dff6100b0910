"""How a student compares single vectors, where it does."""

from __future__ import annotations

from pairstill.errors import InputError
from pairstill.representation import Similarity
from pairstill.students import Student


def similarity_of(student: Student) -> Similarity:
    """How a student compares two single vectors.

    Raises:
        InputError: Its score is no cosine and no dot product of one vector an item.
    """
    found = student.similarity()
    if found is None:
        raise InputError(
            f"the score of a {student.name} is no similarity of two vectors, so no index finds its best items",
            expected="a student that keeps one vector an item and compares by cosine or dot product, such as de-cos",
            fix="Search with such a student, then let this one score what it found: `pairstill search --candidates RUN`",
        )
    return found
