"""The name a user probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A sentence such as "Did you mean 'query'?", or None where no known name is close.

    Example:
        >>> did_you_mean("qeury", ["query", "product"])
        "Did you mean 'query'?"
    """
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.6)
    return f"Did you mean '{by_lower[close[0]]}'?" if close else None
