"""What verbs that write tuple sets have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pairstill.errors import ArtefactError, InputError
from pairstill.tuples import TupleSet


def refuse_other_set(out: Path, tuple_set: TupleSet) -> None:
    """Refuse to write a tuple set over another one; the same, or what is left of one, may be written again.

    Raises:
        InputError: The folder holds another set.
    """
    found = _set_in(out)
    if found is not None and found.fingerprint != tuple_set.fingerprint:
        raise _other(found, out, f"; this one has {len(tuple_set):,} rows")


def refuse_set_mined_otherwise(out: Path, tuple_set: TupleSet, settings: Mapping[str, Any]) -> None:
    """As `refuse_other_set`, before a set is mined: one that was mined from the same with the same settings may be there.

    Raises:
        InputError: The folder holds another set.
    """
    found = _set_in(out)
    if found is None:
        return
    mined = found.provenance.get("mining") or {}
    if mined.get("tuple_set") != tuple_set.fingerprint:
        raise _other(found, out, ", and was not mined from this one")
    unread = ("encoder", "max_length", "precision") if settings["by"] == "bm25" else ()
    for name, one in json.loads(json.dumps(settings)).items():
        if name not in unread and name in mined and mined[name] != one:
            raise _other(found, out, f", and was mined with {name} = {mined[name]}, where {one} is asked for")


def _set_in(out: Path) -> TupleSet | None:
    try:
        return TupleSet.load(out)
    except ArtefactError:
        return None


def _other(found: TupleSet, out: Path, why: str) -> InputError:
    return InputError(
        f"the folder holds another tuple set ({len(found):,} rows, fingerprint {found.fingerprint[:16]}), which scores and "
        f"students may be of{why}", file=out, fix="Choose another folder for --out, or remove this one",
    )  # fmt: skip
