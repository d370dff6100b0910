"""How far training has turned the kept vectors away from the base's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pairstill.errors import InputError
from pairstill.tokens.ragged import RaggedTokens, length_batches

if TYPE_CHECKING:
    from pairstill.students.dual_encoder import DualEncoder
    from pairstill.students.encoders.transformer import TransformerEncoder

TOKENS_PER_BATCH = 4096


def load_base(student: DualEncoder) -> TransformerEncoder | str:
    """The encoder that the student's started from, where stage 1 of training leaves it, or why it is not to be had."""
    from pairstill.students.encoders.pretrained import load_encoder
    from pairstill.students.encoders.transformer import TransformerEncoder

    config = student.config.encoder
    if config.shape is not None:
        return "the encoder started from random weights"
    try:
        base = TransformerEncoder(load_encoder(config.base, config.layers)).eval()
    except InputError as error:
        return f"the base '{config.base}' is not at hand ({error.found})"
    ours: Any = student.encoder(0).model.get_input_embeddings()
    theirs: Any = base.model.get_input_embeddings()  # type: ignore[operator]
    if ours.weight.shape != theirs.weight.shape:
        return f"the base '{config.base}' has another vocabulary or width by now"
    return base.to(student.device)


def drift(student: DualEncoder, base: TransformerEncoder, field: int, tokens: RaggedTokens) -> list[float | None]:
    """Mean cosine between the trained encoder's and the base's vector of each slot's token, before the projection.

    1 means that stage 2 has left the encoder as it was, or that there was none.

    Args:
        student: Whose slots of this field are tokens.
        base: From `load_base`.
        field: Position of the field.
        tokens: Texts.

    Returns:
        A slot each; None where no text fills it.
    """
    import torch

    keep = student.keeps[field]
    sums, counts = np.zeros(keep.tokens), np.zeros(keep.tokens, dtype=np.int64)
    for rows in length_batches(tokens.lengths, TOKENS_PER_BATCH, 128):
        ids, lengths = (torch.from_numpy(one).to(student.device) for one in tokens.padded(rows, student.padding))
        with torch.inference_mode():
            trained, before = student.encoder(field)(ids, lengths, keep), base(ids, lengths, keep)
            cosines = torch.nn.functional.cosine_similarity(trained.vectors, before.vectors, dim=-1)
        present = (torch.arange(keep.tokens, device=lengths.device) < trained.lengths[:, None]).cpu().numpy()
        sums += (cosines.double().cpu().numpy() * present).sum(axis=0)
        counts += present.sum(axis=0)
    return [float(one / count) if count else None for one, count in zip(sums, counts, strict=True)]
