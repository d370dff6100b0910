"""Which columns of a table hold the content of items: a text, numbers or an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pairstill.tuples.collection import KINDS, Kind

NOUNS: dict[str, str] = {"text": "text", "numeric": "numbers", "image": "image"}
"""What messages call the content of an item of each kind."""


def as_list(value: object) -> object:
    """A single value as a list of one."""
    return [value] if isinstance(value, str | Path) else value


Columns = Annotated[list[str], BeforeValidator(as_list), Field(min_length=1)]


class ContentSource(BaseModel):
    """Which columns hold what the items of a field are; at most one of `text`, `numeric` and `image`.

    Attributes:
        text: Columns that hold the text, joined by `join`.
        numeric: Columns of one number each, or one column of lists of equal length.
        image: A column of paths, relative to the table's folder, or of encoded images (Parquet, datasets).
        join: What stands between joined columns of a text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: Columns | None = None
    numeric: Columns | None = None
    image: Annotated[list[str], BeforeValidator(as_list), Field(min_length=1, max_length=1)] | None = None
    join: str = " "

    @model_validator(mode="after")
    def _one_kind_of_content(self) -> Self:
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"'{given[0]}' and '{given[1]}' exclude each other: content is of one kind")
        return self

    @property
    def kind(self) -> Kind:
        """Of the content; a text where none is given."""
        return next((name for name in KINDS if getattr(self, name) is not None), "text")

    @property
    def content(self) -> list[str] | None:
        """The columns that hold it; None where it comes by id."""
        columns: list[str] | None = getattr(self, self.kind)
        return columns
