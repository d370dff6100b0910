"""Where the tokens whose vectors are kept look in the encoder's last layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pairstill.tokens.ragged import RaggedTokens, length_batches

if TYPE_CHECKING:
    from pairstill.students.dual_encoder import DualEncoder

TARGETS = ("[CLS]", "itself", "other kept", "beyond kept", "[SEP]")
"""What attention is shared out to. A position counts once: for `itself` before all, for a special token before `other kept`."""

TOKENS_PER_BATCH = 2048


def attention_shares(student: DualEncoder, field: int, tokens: RaggedTokens) -> list[dict[str, float | None]] | None:
    """Mean attention of each slot's token in the last layer, over heads and over the texts that fill the slot.

    Args:
        student: Whose slots of this field are tokens.
        field: Position of the field.
        tokens: Texts.

    Returns:
        A slot each: target -> share of the weight, which sum to 1; None for `[CLS]` where the token is that itself, and for
        all where no text fills the slot. None where the encoder's attention does not go through Pairstill's.
    """
    import torch

    from pairstill.students.encoders.attention import recorded_scores

    keep, encoder = student.keeps[field], student.encoder(field)
    special = np.array(student.tokenizer.all_special_ids)
    sums, counts = np.zeros((keep.tokens, len(TARGETS))), np.zeros(keep.tokens, dtype=np.int64)
    for rows in length_batches(tokens.lengths, TOKENS_PER_BATCH, 64):
        ids, lengths = tokens.padded(rows, student.padding)
        with torch.inference_mode(), recorded_scores(encoder.model) as scores:
            encoder.hidden_states(
                torch.from_numpy(ids).to(student.device), torch.from_numpy(lengths).to(student.device)
            )
            if not scores:
                return None
            last = scores[-1].float()
            padding = (
                torch.arange(ids.shape[1], device=last.device) >= torch.from_numpy(lengths).to(last.device)[:, None]
            )
            weights = (
                torch.softmax(last.masked_fill(padding[:, None, None], -torch.inf), dim=-1).mean(dim=1).cpu().numpy()
            )
        columns = np.arange(ids.shape[1])
        kept = np.minimum(lengths, keep.tokens)
        start = lengths - kept if keep.take == "last" else np.zeros_like(lengths)
        first = (columns == 0) & np.isin(ids[:, :1], special)
        end = columns == lengths[:, None] - 1
        final = end & np.isin(ids, special) & ~first
        within = (columns >= start[:, None]) & (columns < (start + kept)[:, None])
        for slot in range(keep.tokens):
            there = np.flatnonzero(kept > slot)
            place = (start + slot)[there]
            own = columns == place[:, None]
            marked = first[there] | final[there] | own
            masks = (
                first[there] & ~own, own, within[there] & ~marked, ~within[there] & ~marked, final[there] & ~own,
            )  # fmt: skip
            read = weights[there, place]
            sums[slot] += [float((read * mask).sum()) for mask in masks]
            counts[slot] += len(there)
    found: list[dict[str, float | None]] = []
    for slot, (row, count) in enumerate(zip(sums, counts, strict=True)):
        is_first = keep.take == "first" and slot == 0
        found.append(
            {
                name: None if not count or (is_first and name == "[CLS]") else float(value / count)
                for name, value in zip(TARGETS, row, strict=True)
            }
        )
    return found
