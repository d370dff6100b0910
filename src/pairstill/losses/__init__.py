"""Training objectives, each stating the shapes and the kind of score that it takes."""

from pairstill.losses.pointwise import DistillationLoss, Targets

__all__ = ["DistillationLoss", "Targets"]
