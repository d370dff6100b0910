"""What the verbs that learn from plain texts have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pairstill.errors import InputError
from pairstill.files import refuse_other_artefact

if TYPE_CHECKING:
    from pairstill.training.text_batches import TextBatches
    from pairstill.training.tri_letter_modelling import WordTexts


def refuse_other_base(folder: Path, work: str) -> None:
    """Refuse to write a base over something else, before work is spent on it.

    Args:
        folder: Where the base is to go; it need not exist.
        work: Folder inside it that a training of ours leaves: its base may be finished again.

    Raises:
        InputError: The path is a file, or the folder holds a model or an artefact.
    """
    if not (folder / work / "identity.json").exists():
        refuse_other_artefact(folder, "base")


def presented(epochs: float, sequences: int | None, per_pass: int) -> int:
    """Sequences presented in all.

    Raises:
        InputError: The number of passes is none.
    """
    if sequences is not None:
        return sequences
    if not 0 < epochs < float("inf"):
        raise InputError(f"--epochs is {epochs:g}", expected="more than 0")
    return max(1, round(epochs * per_pass))


def said_texts(
    texts: Sequence[str],
    blank: int,
    batches: TextBatches | WordTexts,
    held: TextBatches | WordTexts,
    unit: str = "tokens",
) -> str:
    """One line: how many texts there are, how many are held out, and what is not read of them."""
    line = f"texts: {len(texts):,}, {len(held.tokens):,} of them held out"
    line += f"; {blank:,} blank ones left out" if blank else ""
    cut = batches.cut() + held.cut()
    return line + (f"; {cut:,} are longer than a sequence of {batches.max_length} {unit} and are cut" if cut else "")
