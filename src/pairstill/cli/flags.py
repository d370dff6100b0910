"""Flags such as `--field product=title,description`, parsed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pairstill.errors import InputError


def writable(out: Path | None) -> Path | None:
    """Callback of `--out`: a place that cannot be written is refused before any work.

    Raises:
        InputError: It is such a place.
    """
    if out is None:
        return None
    above = out.absolute().parents
    there = next(one for one in ([out, *above] if out.is_dir() else above) if one.exists())
    try:
        if there.is_dir():
            # Permissions do not tell: a file system may be read-only, or not keep files at all.
            Path(tempfile.mkdtemp(prefix=".pairstill-", dir=there)).rmdir()
            return out
        reason = "is a file"
    except OSError as error:
        reason = f"is a folder that takes none ({error.strerror})"
    raise InputError(
        f"nothing can be written there: '{there}' {reason}", file=out, fix="Choose another place for --out"
    )


def pairs_of(values: Sequence[str], option: str, *, bare: bool = False) -> dict[str, str]:
    """`NAME=VALUE` of a repeated option; with `bare` a NAME alone means NAME=NAME.

    Raises:
        InputError: A value is not of this form, or a name comes twice.
    """
    found: dict[str, str] = {}
    for one in values:
        name, equals, value = one.partition("=")
        if bare and not equals:
            value = name
        if not name or not value:
            raise InputError(f"{option} {one!r} cannot be read", expected=f"{option} NAME=VALUE")
        if name in found:
            raise InputError(f"{option} gives '{name}' twice")
        found[name] = value
    return found


def slices_of(values: Sequence[str] | None, option: str) -> dict[str, list[str]]:
    """`SLICE=VALUE` of a repeated option, which may name several values of a slice: slice -> values.

    Raises:
        InputError: A value is not of this form.
    """
    slices: dict[str, list[str]] = {}
    for one in values or ():
        for name, value in pairs_of([one], option).items():
            slices.setdefault(name, []).append(value)
    return slices


def fractions_of(text: str) -> dict[str, float]:
    """`train=0.8,valid=0.1,test=0.1` as numbers.

    Raises:
        InputError: A part is not NAME=NUMBER.
    """
    found = {}
    for name, value in pairs_of(text.split(","), "--split").items():
        try:
            found[name] = float(value)
        except ValueError:
            raise InputError(
                f"--split has '{value}' for '{name}'", expected="numbers, such as train=0.8,valid=0.1,test=0.1"
            ) from None
    return found


def refuse_flags(flags: Mapping[str, object], reason: str) -> None:
    """Refuse flags that would be ignored.

    Raises:
        InputError: Naming the first flag that was given.
    """
    for name, value in flags.items():
        if value:
            raise InputError(f"{name} has no effect here: {reason}", fix=f"Leave out {name}")
