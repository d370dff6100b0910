"""Encoders as graphs: a transformer that fields may share, and what a field keeps of its vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pairstill.representation import Representation
from pairstill.students import TK, ColBERT, PreTTR, Student
from pairstill.students.dual_encoder import DualEncoder
from pairstill.students.encoders.tri_letter import TriLetterEncoder


@dataclass(frozen=True)
class EncoderPlan:
    """How a field is encoded.

    Attributes:
        encoder: From ids `(items, tokens)` (tri-letters: `(items, words, letters)`), lengths and constants to hidden states.
        constants: Other inputs of `encoder`, whole numbers of this field.
        project: From hidden states, ids and lengths to `vectors`, `lengths` and possibly `similarity`.
        width: Of the hidden states.
        letters: Whether ids are tri-letters.
        attended_until: The token id after whose last occurrence nothing is attended to; None where all tokens are.
    """

    encoder: nn.Module
    project: Project
    width: int
    constants: Mapping[str, int] = field(default_factory=dict)
    letters: bool = False
    attended_until: int | None = None


def plan_encoder(student: Student, field: int) -> EncoderPlan:
    """How a student's field is encoded."""
    project = Project(student, field)
    if isinstance(student, PreTTR):
        offset = sum(student.max_lengths[:field])
        return EncoderPlan(student.lower, project, student.hidden_size, {"offset": offset, "later": int(field > 0)})
    if isinstance(student, TK):
        offset = student.config.second_offset if field else 0
        return EncoderPlan(student.encoder, project, student.encoder.words.embedding_dim, {"offset": offset})
    assert isinstance(student, DualEncoder)
    encoder = student.encoder(field)
    if isinstance(encoder, TriLetterEncoder):
        return EncoderPlan(encoder, project, encoder.hidden_size, letters=True)
    until = None
    if isinstance(student, ColBERT) and student.masks_of(field) and not student.config.attend_to_masks:
        until = int(student.tokenizer.sep_token_id)
    return EncoderPlan(encoder, project, encoder.hidden_size, attended_until=until)


class Hidden(nn.Module):
    """An encoder up to its last hidden states.

    Args:
        encoder: See `EncoderPlan.encoder`.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, lengths: Tensor, *constants: Tensor) -> Any:
        """`(items, tokens, hidden)`."""
        if constants:
            return self.encoder(ids, lengths, *constants)
        if isinstance(self.encoder, TriLetterEncoder):
            # Padding counts as zero, as it does where known tri-letters alone are summed.
            known = (ids != 0)[..., None].float()
            return self.encoder.words_in_context((self.encoder.letters(ids) * known).sum(dim=2), lengths)
        return self.encoder.hidden_states(ids, lengths)


class Project(nn.Module):
    """What follows the hidden states of a field.

    Args:
        student: The student.
        field: Position of the field.
    """

    def __init__(self, student: Any, field: int) -> None:
        super().__init__()
        self.student, self.field = student, field

    def forward(self, hidden: Tensor, ids: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        """The arrays of a representation, in the order of `names`."""
        return tuple(self._kept(hidden, ids, lengths).arrays().values())

    def names(self, width: int) -> list[str]:
        """Which arrays there are, of hidden states of this width; `kept` are the lengths, for an input has that name."""
        ids, lengths = torch.ones(2, 3, dtype=torch.int64), torch.tensor([3, 2])
        with torch.no_grad():
            found = self._kept(torch.zeros(2, 3, width), ids, lengths).arrays()
        return ["kept" if name == "lengths" else name for name in found]

    def _kept(self, hidden: Tensor, ids: Tensor, lengths: Tensor) -> Representation[Tensor]:
        student, found = self.student, Representation(hidden, lengths)
        if isinstance(student, DualEncoder):
            found = student.encoder(self.field).keep_vectors(hidden, lengths, student.keeps[self.field])
        if isinstance(student, ColBERT):
            found = student.without_punctuation(self.field, ids, found)
        projected: Representation[Tensor] = student.project(self.field, found)
        return projected
