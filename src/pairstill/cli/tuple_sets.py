"""What verbs that write tuple sets have in common."""

from __future__ import annotations

from pathlib import Path

from pairstill.errors import ArtefactError, InputError
from pairstill.tuples import TupleSet


def refuse_other_set(out: Path, tuple_set: TupleSet) -> None:
    """Refuse to write a tuple set over another one; the same, or what is left of one, may be written again.

    Raises:
        InputError: The folder holds another set.
    """
    try:
        found = TupleSet.load(out)
    except ArtefactError:
        return
    if found.fingerprint != tuple_set.fingerprint:
        raise InputError(
            f"the folder holds another tuple set ({len(found):,} rows, fingerprint {found.fingerprint[:16]}), which scores and "
            f"students may be of; this one has {len(tuple_set):,} rows", file=out, fix="Choose another folder for --out, or remove this one",
        )  # fmt: skip
