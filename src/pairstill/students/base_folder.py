"""Folders of bases, in the format of `transformers` where they are of word pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from pairstill.files import write_json, write_text
from pairstill.students.encoders.tri_letter import TriLetterEncoder
from pairstill.students.encoders.tri_letter_base import FORMAT, FORMAT_VERSION, WEIGHTS
from pairstill.students.persistence import write_weights
from pairstill.tokens.tri_letter import TriLetterTokenizer
from pairstill.tokens.wordpiece import FIRST, MASK, PADDING, SEPARATOR, UNKNOWN


def save_base(
    folder: Path, encoder: Any, tensors: dict[str, Tensor], architecture: str, tokenizer: Any, card: str
) -> None:
    """Write a base that `transformers`, and `--base`, load; config.json comes last, so a folder without it is unfinished.

    Args:
        folder: Made where it is missing.
        encoder: Its configuration is written.
        tensors: Weights under the names of `architecture`.
        architecture: A class of `transformers`: BertModel or BertForMaskedLM.
        tokenizer: A fast tokenizer.
        card: The model card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(str(folder))
    write_weights(folder / "model.safetensors", tensors)
    write_text(folder / "README.md", card)
    config = {name: value for name, value in encoder.config.to_dict().items() if name != "_name_or_path"}
    write_json(folder / "config.json", {**config, "architectures": [architecture], "dtype": "float32"})


def save_tri_letter_base(folder: Path, encoder: TriLetterEncoder, tokenizer: TriLetterTokenizer, card: str) -> None:
    """Write a tower over tri-letter words that `--base` of a TwinBERT loads; config.json comes last.

    Args:
        folder: Made where it is missing.
        encoder: The tower.
        tokenizer: Its tri-letters.
        card: The model card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    write_weights(folder / WEIGHTS, encoder.state_dict())
    write_text(folder / "README.md", card)
    write_json(folder / "config.json", {"format": FORMAT, "version": FORMAT_VERSION, "encoder": encoder.model_config()})


def wrap_tokenizer(tokenizer: Any, max_length: int) -> Any:
    """A `tokenizers` WordPiece tokenizer (`train_wordpiece`) as one of `transformers`.

    Args:
        tokenizer: With the special tokens of `pairstill.tokens.wordpiece`.
        max_length: Most tokens that its model reads.
    """
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PADDING, unk_token=UNKNOWN, cls_token=FIRST, sep_token=SEPARATOR, mask_token=MASK,
        model_max_length=max_length, model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip
