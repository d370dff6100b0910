"""A similarity as a logit: a learned scale and bias."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pairstill.errors import InputError


class Calibration(nn.Module):
    """logit = scale * similarity + bias.

    The published heads hand out the similarity itself: margins do not mind where it lies. A sigmoid does, and a student whose
    similarities are far larger than its teacher's logits spends its training on shrinking them. Both numbers are fitted to a
    sample before training begins.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.bias = nn.Parameter(torch.tensor(0.0))

    def forward(self, similarity: Tensor) -> Tensor:
        """`(tuples,)` similarities to logits."""
        return self.scale * similarity + self.bias

    def numbers(self) -> tuple[float, float]:
        """Scale and bias."""
        return float(self.scale.detach()), float(self.bias.detach())


def calibrated(calibration: Calibration | None, similarity: Tensor) -> Tensor:
    """`(tuples, 1)` logits of `(tuples,)` similarities; None leaves them as they are."""
    return (similarity if calibration is None else calibration(similarity))[:, None]


def refuse_classes(what: str, field_count: int, outputs: int) -> None:
    """Refuse fields and classes to a head that gives one number for two texts.

    Args:
        what: The head, as a sentence begins with it, such as "a dot product".
        field_count: Asked for.
        outputs: Asked for.

    Raises:
        InputError: There are not two fields, or more than one output.
    """
    if field_count != 2 or outputs != 1:
        raise InputError(
            f"{what} compares two texts and gives one number; {field_count} fields and {outputs} outputs were asked for",
            fix="Choose a student with a feed-forward or transformer head",
        )
