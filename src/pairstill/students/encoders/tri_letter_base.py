"""Folders of tri-letter bases: a pre-trained tower over words of tri-letters, which a TwinBERT starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pairstill.errors import ArtefactError, InputError
from pairstill.files import read_json, refuse_newer
from pairstill.students.encoders.tri_letter import TriLetterEncoder
from pairstill.tokens.tri_letter import FILE

FORMAT, FORMAT_VERSION = "pairstill/tri-letter-base", 1
WEIGHTS = "model.safetensors"


def is_tri_letter_base(base: str) -> bool:
    """Whether `--base` names such a folder."""
    return (Path(base) / FILE).exists()


def load_tri_letter_base(
    folder: str, layers: int | None, dropout: float, similarity: bool = False, weighted: bool = False
) -> TriLetterEncoder:
    """A tower with the weights of a base.

    Args:
        folder: As `pairstill.students.base_folder.save_tri_letter_base` wrote it.
        layers: Keep the first so many; None keeps all.
        dropout: Of the transformer.
        similarity: See `TransformerEncoder`.
        weighted: See `TransformerEncoder`.

    Raises:
        ArtefactError: The folder is unfinished, newer or damaged.
        InputError: It has fewer layers.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder) / "config.json"
    body = read_json(path)
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise ArtefactError("the folder holds no tri-letter base", file=path, expected=f'"format": "{FORMAT}"')
    refuse_newer(path, body, FORMAT_VERSION)
    config: dict[str, Any] = dict(body["encoder"])
    known = int(config["num_hidden_layers"])
    if layers is not None and not 1 <= layers <= known:
        raise InputError(f"the base has {known} layers, {layers} were asked for", file=path, expected=f"1 to {known}")
    config |= {
        "num_hidden_layers": layers or known, "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout,
    }  # fmt: skip
    encoder = TriLetterEncoder.from_saved(config, similarity, weighted)
    try:
        found = load_file(path.parent / WEIGHTS)
        report = encoder.load_state_dict(found, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ArtefactError(f"the weights cannot be read: {error}", file=path.parent / WEIGHTS) from None
    # The pooling of a weighted mean is the student's own.
    missing = [one for one in report.missing_keys if one != "pool"]
    if missing:
        raise ArtefactError(f"the weights lack '{missing[0]}'", file=path.parent / WEIGHTS)
    return encoder
