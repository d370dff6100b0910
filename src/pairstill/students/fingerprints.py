"""Fingerprints: which student, and what of it makes the representations of a field."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pairstill.files import fingerprint_json
from pairstill.students.base import Student
from pairstill.students.persistence import state_fingerprint


def student_fingerprint(student: Student) -> str:
    """SHA-256 over all weights, the configuration and the vocabulary."""
    return state_fingerprint(
        dict(student.state_dict()), [student.name, asdict(student.config), _vocabulary(student.tokenizer)]
    )


def representation_fingerprint(student: Student, field: int) -> str:
    """SHA-256 over what `encode` of a field depends on: equal ones make equal representations.

    Another head, or further training of the head alone, leaves it as it is; so does another field that shares encoder,
    projection, kept vectors and maximum length.
    """
    weights = {
        f"{part}.{name}": one
        for part, module in student.encoding_modules(field).items()
        for name, one in module.state_dict().items()
    }
    return state_fingerprint(weights, [*student.encoding_settings(field), _vocabulary(student.tokenizer)])


def _vocabulary(tokenizer: Any) -> str:
    return fingerprint_json(tokenizer.get_vocab())
