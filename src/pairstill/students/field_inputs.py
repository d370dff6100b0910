"""Fields that hold numbers or images beside texts (DiPair's open question): their settings, encoders and readers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import nn

from pairstill.errors import ArtefactError, InputError
from pairstill.files import read_json, write_json
from pairstill.students.base import per_field
from pairstill.students.encoders.image import ImageConfig, load_processor
from pairstill.students.encoders.numeric import NumericConfig
from pairstill.students.encoders.pretrained import load_tokenizer

FILE, FORMAT, FORMAT_VERSION = "inputs.json", "pairstill/inputs", 1


@dataclass(frozen=True)
class InputsConfig:
    """What the fields of a student hold.

    Attributes:
        kinds: Per field `text`, `numeric` or `image`; one serves all fields. `pairstill distill` takes them from the tuple set.
        numeric: How numbers are read.
        image: How images are read.
    """

    kinds: tuple[Literal["text", "numeric", "image"], ...] = field(default=("text",), metadata={"checked": True})
    numeric: NumericConfig = field(default_factory=NumericConfig)
    image: ImageConfig = field(default_factory=ImageConfig)


def kinds_of(config: Any) -> tuple[str, ...]:
    """Per field the kind of its content; students whose configuration has no `inputs` read texts alone."""
    inputs: InputsConfig | None = getattr(config, "inputs", None)
    kinds = ("text",) if inputs is None else inputs.kinds
    return tuple(per_field(kinds, config.field_count, "inputs.kinds"))


def features_of(config: Any) -> dict[int, int]:
    """How many numbers an item has, by numeric field.

    Raises:
        InputError: There is not one number, of 1 or more, a numeric field.
    """
    fields = [place for place, kind in enumerate(kinds_of(config)) if kind == "numeric"]
    given = config.inputs.numeric.features if fields else ()
    if len(given) != len(fields) or any(one < 1 for one in given):
        raise InputError(
            f"the setting 'inputs.numeric.features' is {given!r}", expected=f"{len(fields)}, one a numeric field: how many numbers an item has"
        )  # fmt: skip
    return dict(zip(fields, given, strict=True))


@dataclass(frozen=True)
class FieldEncoders:
    """The encoders of a student, and which one each field has.

    Attributes:
        modules: Without repetition.
        places: Per field, position in `modules`.
    """

    modules: Sequence[nn.Module]
    places: Sequence[int]


class FieldReader:
    """Stands where a student of texts has its tokenizer: what reads each kind of field.

    Args:
        text: Tokenizer of the fields of texts; None where there are none.
        image: Processor of the fields of images; None where there are none.
    """

    def __init__(self, text: Any | None, image: Any | None = None) -> None:
        self.text, self.image = text, image

    @classmethod
    def new(cls, config: Any) -> FieldReader:
        """The bases' tokenizer and image processor, as far as there are texts and images.

        Raises:
            InputError: They cannot be loaded, or no encoder of images is named.
        """
        kinds, base = kinds_of(config), config.inputs.image.base
        if "image" in kinds and base is None:
            raise InputError(
                "a field holds images, and no encoder of images is named",
                fix="Set inputs.image.base to a folder or hub name, such as google/vit-base-patch16-224-in21k",
            )
        return cls(
            load_tokenizer(config.encoder.base) if "text" in kinds else None,
            load_processor(base) if "image" in kinds else None,
        )

    @classmethod
    def load(cls, folder: Path) -> FieldReader:
        """Read what `save_pretrained` wrote; raises `OSError` or `ValueError` where that cannot be."""
        from transformers import AutoTokenizer

        body = read_json(folder / FILE)
        if not isinstance(body, dict) or body.get("format") != FORMAT or body.get("version") != FORMAT_VERSION:
            raise ArtefactError(
                "the file does not say which fields the student reads", file=folder / FILE, expected=f'"format": "{FORMAT}", "version": {FORMAT_VERSION}'
            )  # fmt: skip
        return cls(
            AutoTokenizer.from_pretrained(str(folder)) if "text" in body["kinds"] else None,
            load_processor(str(folder)) if "image" in body["kinds"] else None,
        )

    def save_pretrained(self, folder: str) -> None:
        """Write the files of tokenizer and image processor, and which of them there are."""
        held = {kind: one for kind, one in (("text", self.text), ("image", self.image)) if one is not None}
        kinds = list(held)
        for one in held.values():
            one.save_pretrained(folder)
        write_json(Path(folder) / FILE, {"format": FORMAT, "version": FORMAT_VERSION, "kinds": kinds})

    def get_vocab(self) -> dict[str, int]:
        """Of the texts; empty where there are none."""
        return dict(self.text.get_vocab()) if self.text is not None else {}

    @property
    def pad_token_id(self) -> int:
        """Of the texts."""
        return int(self.text.pad_token_id or 0) if self.text is not None else 0
