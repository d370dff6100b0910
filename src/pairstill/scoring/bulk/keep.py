"""What a bulk job keeps of its scores."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pairstill.errors import InputError


@dataclass(frozen=True)
class Keep:
    """What is worth keeping.

    Attributes:
        kind: `all`; `top`, the best of each item of the first field; or `above`, what is above a threshold.
        count: Of `top`; None for the others.
        threshold: Of `above`, a raw logit; scores equal to it are not kept. None for the others.
    """

    kind: Literal["all", "top", "above"] = "all"
    count: int | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.kind == "top" and (self.count is None or self.count < 1):
            raise InputError(f"the number to keep is {self.count}", expected="at least 1")
        if self.kind == "above" and (self.threshold is None or not math.isfinite(self.threshold)):
            raise InputError(f"the threshold is {self.threshold}", expected="a finite number")

    @classmethod
    def of(cls, top: int | None = None, above: float | None = None) -> Keep:
        """From two options, of which at most one is given.

        Raises:
            InputError: Both are given, or one is out of range.
        """
        if top is not None and above is not None:
            raise InputError("--top and --above are both given", expected="one of them, or neither to keep everything")
        if top is not None:
            return cls("top", count=top)
        return cls("all") if above is None else cls("above", threshold=above)

    def settings(self) -> dict[str, Any]:
        """As JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def said(self) -> str:
        """For people."""
        if self.kind == "top":
            return f"the best {self.count} of each left item"
        return "everything" if self.kind == "all" else f"what is above {self.threshold:g}"
