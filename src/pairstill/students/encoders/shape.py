"""The size of a BERT with random weights, by name or as numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from pairstill.errors import InputError

SHAPES = {"tiny": (2, 128), "mini": (4, 256), "small": (4, 512), "medium": (8, 512)}
"""The small BERT shapes of Turc et al.: layers and hidden size; heads = hidden / 64."""


@dataclass(frozen=True)
class Shape:
    """Layers, width, attention heads, and the width of the feed-forward part.

    Example:
        >>> Shape.parse("3x192x12")
        Shape(layers=3, hidden=192, heads=12, intermediate=768)
    """

    layers: int
    hidden: int
    heads: int
    intermediate: int

    def cut(self, layers: int | None) -> Shape:
        """Its first layers; None keeps all.

        Raises:
            InputError: It has not so many.
        """
        if layers is None:
            return self
        if not 1 <= layers <= self.layers:
            raise InputError(
                f"the shape has {self.layers} layers, {layers} were asked for", expected=f"1 to {self.layers}"
            )
        return replace(self, layers=layers)

    @classmethod
    def parse(cls, name: str) -> Shape:
        """A name of `SHAPES`, or LAYERSxHIDDENxHEADS such as `3x192x12`; LAYERSxHIDDENxHEADSxFEED-FORWARD such as `4x312x12x1200`.

        Without the fourth number the feed-forward part is four times as wide as the rest.

        Raises:
            InputError: It is neither, or the heads do not divide the width.
        """
        if name in SHAPES:
            layers, hidden = SHAPES[name]
            return cls(layers, hidden, hidden // 64, 4 * hidden)
        found = re.fullmatch(r"([1-9]\d{0,2})x([1-9]\d{0,4})x([1-9]\d{0,2})(?:x([1-9]\d{0,5}))?", name)
        if found is None:
            raise InputError(
                f"the shape '{name}' cannot be read",
                expected=f"{', '.join(SHAPES)}, or LAYERSxHIDDENxHEADS such as 3x192x12, with xFEED-FORWARD where that is not four times HIDDEN",
            )
        layers, hidden, heads, wide = (0 if one is None else int(one) for one in found.groups())
        if hidden % heads:
            raise InputError(
                f"{heads} attention heads do not divide a width of {hidden}",
                expected="LAYERSxHIDDENxHEADS with heads that divide the width",
            )
        return cls(layers, hidden, heads, wide or 4 * hidden)
