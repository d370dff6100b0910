"""TinyBERT's hidden-state and embedding losses, which share one projection."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.losses.layer_map import LayerMap, check_batches
from pairstill.losses.layer_outputs import LayerOutputs


class HiddenLoss(nn.Module):
    """Sum over student layers i of the mean squared error between H_i W + b and the hidden states of teacher layer g(i).

    Jiao et al. 2020 (TinyBERT), section 3.1, equations 8 (hidden states) and 9 (embeddings, i = 0). As in the authors' code
    one projection serves all layers and the embeddings, and is there even where both models are equally wide. It is trained
    with the student and thrown away afterwards: pass `parameters()` to the optimiser.

    Takes: two `LayerOutputs` of the same tokens; hidden states `(batch, tokens, width)`.

    Args:
        layer_map: g.
        student_width: Of the student's hidden states.
        teacher_width: Of the teacher's.
        hidden: Whether layers 1 and up are learnt.
        embeddings: Whether the embedding layer's output is.
        mean_over_padding: True means over all tokens, padding too, as the authors' code does; False over real tokens.
    """

    def __init__(
        self,
        layer_map: LayerMap,
        student_width: int,
        teacher_width: int,
        *,
        hidden: bool = True,
        embeddings: bool = True,
        mean_over_padding: bool = False,
    ) -> None:
        super().__init__()
        if not hidden and not embeddings:
            raise InputError("neither hidden states nor embeddings are to be learnt", expected="at least one of them")
        self.layer_map, self.mean_over_padding = layer_map, mean_over_padding
        self.hidden, self.embeddings = hidden, embeddings
        self.projection = nn.Linear(student_width, teacher_width)

    def forward(self, student: LayerOutputs, teacher: LayerOutputs) -> Tensor:
        """The loss, a scalar.

        Raises:
            InputError: The numbers of layers, the widths or the tokens are other ones.
        """
        self.layer_map.check(student.layers, teacher.layers)
        pairs = [(0, 0)] if self.embeddings else []
        if self.hidden:
            pairs += list(enumerate(self.layer_map.teacher_layers, start=1))
        terms = []
        for mine, place in pairs:
            states, wanted = student.hidden[mine], teacher.hidden[place]
            if states.shape[-1] != self.projection.in_features or wanted.shape[-1] != self.projection.out_features:
                raise InputError(
                    f"the hidden states are {states.shape[-1]} and {wanted.shape[-1]} wide",
                    expected=f"{self.projection.in_features} and {self.projection.out_features}, as the projection",
                )
            check_batches(states.shape[:2], wanted.shape[:2], "hidden states")
            terms.append(self._error(self.projection(states), wanted, None if student.packed else student.mask))
        return torch.stack(terms).sum()

    def _error(self, mine: Tensor, wanted: Tensor, mask: Tensor | None) -> Tensor:
        if mine.dtype != torch.float64:
            mine, wanted = mine.float(), wanted.float()
        squares = (mine - wanted).square()
        if mask is None or self.mean_over_padding:
            return squares.mean()
        return squares[mask].sum() / max(int(mask.sum()) * squares.shape[-1], 1)
