"""A recipe: a grid of students to train and compare, as a YAML file says it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pairstill.errors import InputError, did_you_mean
from pairstill.yaml_files import read_yaml

Scalar = str | int | float | bool | None
Option = Scalar | list[Scalar] | dict[str, Any]
Options = Mapping[str, Option]
OWN_OPTIONS = {
    "out": "Leave it out: --out of `pairstill run` has a folder for each cell",
    "seed": "Name it under 'seeds', such as seeds: [0, 1]",
}


@dataclass(frozen=True)
class Cell:
    """One student of a grid.

    Attributes:
        name: Its values of the axes, as the table and the folder call it.
        axes: Axis -> label of this cell's value.
        options: Of `pairstill distill`, by their long names.
    """

    name: str
    axes: Mapping[str, str]
    options: Options

    @property
    def folder(self) -> str:
        """The name as a folder's name."""
        return re.sub(r"[^A-Za-z0-9._+-]+", "-", self.name).strip("-.") or "cell"


@dataclass(frozen=True)
class Recipe:
    """What `pairstill run` trains and evaluates.

    Attributes:
        title: Heading of the table and the report.
        grid: Axis -> label -> options of `pairstill distill` that this value of the axis stands for; every combination is a
            cell.
        distill: Options that all cells share; a cell's own win.
        evaluate: Options of `pairstill evaluate`; its tuple set is that of `distill` unless another is named.
        seeds: Every cell is trained once with each.
        file: Where it was read from; None for one made in code.
    """

    title: str
    grid: Mapping[str, Mapping[str, Options]]
    distill: Options
    evaluate: Options = field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    file: Path | None = None

    def cells(self) -> list[Cell]:
        """Every combination, the last axis fastest.

        Raises:
            InputError: Two cells would share a folder, or an option is the grid's own to give.
        """
        found = []
        for labels in itertools.product(*self.grid.values()):
            axes = dict(zip(self.grid, labels, strict=True))
            options = dict(self.distill)
            for axis, label in axes.items():
                options = merged(options, self.grid[axis][label])
            for name, fix in OWN_OPTIONS.items():
                if name in options:
                    raise InputError(f"the recipe gives '{name}' to a student", file=self.file, fix=fix)
            found.append(Cell(", ".join(labels), axes, options))
        seen: dict[str, str] = {}
        for cell in found:
            other = seen.setdefault(cell.folder, cell.name)
            if other != cell.name:
                raise InputError(f"the cells '{other}' and '{cell.name}' would share a folder", file=self.file)
        return found

    def changed(self, options: Mapping[str, str]) -> Recipe:
        """With other options that all cells share, as the command line gives them; a cell's own still win.

        Args:
            options: Option of `pairstill distill`, or setting such as `set.projection` -> value.
        """
        more: dict[str, Option] = {}
        for name, value in options.items():
            option, _, setting = name.partition(".")
            more = merged(more, _plain({option: {setting: value} if setting else value}))
        return replace(self, distill=merged(self.distill, more))

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a recipe.

        Raises:
            InputError: It cannot be read, a key is unknown, or something is not of the form that docs/guides/recipes.md shows.
        """
        path = Path(path)
        return cls.from_dict(read_yaml(path, "recipe"), path)

    @classmethod
    def from_dict(cls, body: object, file: Path | None = None) -> Recipe:
        """A recipe from what YAML holds; raises as `load`."""
        from pydantic import BaseModel, ConfigDict, Field, ValidationError

        class Content(BaseModel):
            model_config = ConfigDict(extra="forbid", strict=True)

            title: str = Field(min_length=1)
            distill: dict[str, Any]
            grid: dict[str, list[Any] | dict[str, Any]] = Field(min_length=1)
            evaluate: dict[str, Any] = {}
            seeds: list[int] = Field(default=[0], min_length=1)

        try:
            content = Content.model_validate(body)
        except ValidationError as error:
            # A misspelt key says more than that the right one lacks.
            first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
            place = ".".join(str(part) for part in first["loc"])
            known = list(Content.model_fields)
            close = did_you_mean(place, known) if first["type"] == "extra_forbidden" else None
            raise InputError(
                f"the recipe's '{place}' is wrong: {first['msg']}" if place else "the file holds no recipe", file=file,
                expected=f"keys {', '.join(known)}", fix=close,
            ) from None  # fmt: skip
        if len(set(content.seeds)) < len(content.seeds):
            raise InputError("a seed comes twice", file=file, column="seeds")
        grid = {axis: _values(axis, values, file) for axis, values in content.grid.items()}
        evaluate = _plain(content.evaluate)
        several = next((axis for axis, values in grid.items() if any("tuples" in one for one in values.values())), None)
        if several is not None and "tuples" not in evaluate:
            raise InputError(
                f"the axis '{several}' trains on several tuple sets, and nothing says which one compares the students", file=file,
                column=f"grid.{several}", fix="Name it under 'evaluate', such as tuples: set",
            )  # fmt: skip
        return cls(content.title, grid, _plain(content.distill), evaluate, tuple(content.seeds), file)


def merged(options: Options, more: Options) -> dict[str, Option]:
    """`options` with `more` over them; the settings under `set` and `loss-set` are joined one by one."""
    result = dict(options)
    for name, value in more.items():
        before = result.get(name)
        result[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return result


def command_line(options: Options) -> list[str]:
    """Options as the command line takes them: a list repeats the option, a mapping repeats it as NAME=VALUE."""
    words: list[str] = []
    for name, value in options.items():
        flag = f"--{name}"
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{name}")
        elif isinstance(value, dict):
            for key, one in value.items():
                words += [flag, f"{key}={_text(one)}"]
        elif isinstance(value, list):
            for one in value:
                words += [flag, _text(one)]
        elif value is not None:
            words += [flag, _text(value)]
    return words


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(_text(one) for one in value)
    return "null" if value is None else str(value)


def _values(axis: str, values: list[Any] | dict[str, Any], file: Path | None) -> dict[str, Options]:
    """A list gives values of the option that the axis is named after; a mapping gives each label its options."""
    if not values:
        raise InputError(f"the axis '{axis}' has no values", file=file, column=f"grid.{axis}")
    if isinstance(values, list):
        option, _, setting = axis.partition(".")
        found: dict[str, Options] = {
            f"{setting or option} {_text(one)}": _plain({option: {setting: one}} if setting else {option: one})
            for one in values
        }
        if len(found) < len(values):
            raise InputError(f"a value of the axis '{axis}' comes twice", file=file, column=f"grid.{axis}")
        return found
    for label, options in values.items():
        if "=" in str(label):
            raise InputError(
                f"the label '{label}' has a '='", file=file, column=f"grid.{axis}", fix="Call it otherwise"
            )
        if not isinstance(options, dict):
            raise InputError(
                f"the value '{label}' of the axis '{axis}' is {options!r}", file=file, column=f"grid.{axis}.{label}",
                expected="options of `pairstill distill`, such as {student: de-ffnn}",
            )  # fmt: skip
    return {str(label): _plain(options) for label, options in values.items()}


def _plain(options: Mapping[str, Any]) -> dict[str, Option]:
    """Option names as the command line has them."""
    return {str(name).replace("_", "-"): value for name, value in options.items()}
