"""Every error that Pairstill raises on purpose.

A message says what was found, where, what was expected and what to do about it. The command line prints it without a
traceback and exits with code 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class PairstillError(Exception):
    """Root of all errors that a user can act on."""


class InputError(PairstillError):
    """Something that the user gave is not what it should be.

    Args:
        found: What is wrong, as one sentence.
        file: The file it was found in; None where no file is involved.
        row: Row of that file, counted from 1 (for text files a header line is line 1, so this is the line number).
        column: Column or JSON field.
        expected: What would have been right; None where `found` says it.
        fix: What to do; None where `expected` says it.

    Example:
        >>> print(InputError("the label is nan", file="train.csv", row=7, column="label", expected="a finite number"))
        train.csv, row 7, column 'label': the label is nan. Expected: a finite number.
    """

    def __init__(
        self,
        found: str,
        *,
        file: str | Path | None = None,
        row: int | None = None,
        column: str | None = None,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.found, self.file, self.row, self.column = found, file, row, column
        self.expected, self.fix = expected, fix
        place = ", ".join(
            part
            for part in (
                str(file) if file is not None else "",
                f"row {row}" if row is not None else "",
                f"column '{column}'" if column is not None else "",
            )
            if part
        )
        message = f"{place}: {found}" if place else found
        message = _sentence(message)
        if expected is not None:
            message += f" Expected: {_sentence(expected)}"
        if fix is not None:
            message += f" {_sentence(fix)}"
        super().__init__(message)


def _sentence(text: str) -> str:
    return text if text.endswith(("?", "!")) else text.rstrip(".") + "."


class ArtefactError(InputError):
    """A file or folder that Pairstill wrote is damaged, of an unknown version, or does not belong to the other one."""


class LockedError(ArtefactError):
    """Another process, or another part of this one, writes to a folder."""


class UnavailableError(InputError):
    """What is asked for is right and cannot be done now: a disk is full, or a store or database is closed or busy."""


class MissingExtraError(PairstillError):
    """An optional dependency is not installed.

    Args:
        package: The package that could not be imported.
        extra: The extra of Pairstill that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"This needs the package '{package}', which is not installed. Run: pip install 'pairstill[{extra}]'"
        )


def did_you_mean(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """A sentence such as "Did you mean 'query'?" for an error's `fix`, or None where no known name is close.

    Args:
        name: What was given, in any letter case.
        known: What could have been meant.
        cutoff: Least similarity, from 0 to 1.

    Example:
        >>> did_you_mean("qeury", ["query", "product"])
        "Did you mean 'query'?"
    """
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=cutoff)
    return f"Did you mean '{by_lower[close[0]]}'?" if close else None
