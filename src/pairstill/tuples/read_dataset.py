"""Tables of the Hugging Face `datasets` library, from the hub or from a folder written by `save_to_disk`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pairstill.errors import InputError, MissingExtraError, did_you_mean
from pairstill.tuples.read_parquet import check_valid_text
from pairstill.tuples.source_table import Part, check_columns, plain_table


def is_saved_dataset(folder: Path) -> bool:
    """Whether `save_to_disk` of a Dataset or DatasetDict wrote this folder."""
    return any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))


def read_dataset(
    name: str, columns: Sequence[str], *, config: str | None = None, revision: str | None = None,
    splits: Sequence[str] | None = None,
) -> list[Part]:  # fmt: skip
    """Read columns of every split asked for, one part a split; row numbers count from 1.

    Args:
        name: Name on the hub, or a folder written by `save_to_disk`.
        columns: Columns to read.
        config: Configuration of a hub dataset; None means its default.
        revision: Revision of a hub dataset; None means the newest.
        splits: The dataset's own splits to read, in order; None means all.

    Raises:
        MissingExtraError: The package `datasets` is not installed.
        InputError: The dataset cannot be loaded, or lacks a split or column.
    """
    found = _load(name, config, revision)
    named = _by_split(found)
    own_splits = isinstance(found, dict) or found.split is not None
    for split in splits or ():
        if split not in named:
            raise InputError(
                f"the dataset has no split '{split}'", file=name, expected=f"one of {', '.join(named)}",
                fix=did_you_mean(split, named),
            )  # fmt: skip
    return [
        _part(f"{name} ({split})", named[split], columns, split if own_splits else None) for split in splits or named
    ]


def dataset_columns(name: str, *, config: str | None = None, revision: str | None = None) -> list[str]:
    """Columns that all splits of a dataset have."""
    named = _by_split(_load(name, config, revision))
    first = next(iter(named.values()))
    return [column for column in first.column_names if all(column in one.column_names for one in named.values())]


def _by_split(found: Any) -> dict[str, Any]:
    return dict(found) if isinstance(found, dict) else {str(found.split or "all"): found}


def _load(name: str, config: str | None, revision: str | None) -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "datasets") from None
    local = Path(name).is_dir()
    try:
        if local and is_saved_dataset(Path(name)):
            return datasets.load_from_disk(name)
        return datasets.load_dataset(name, config, revision=revision)
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [""])[0]
        raise InputError(
            f"the dataset cannot be loaded ({type(error).__name__}: {first_line})", file=name,
            fix="Check the folder" if local else "Check the name and the network, or give a folder of `save_to_disk`",
        ) from None  # fmt: skip


def _part(name: str, dataset: Any, columns: Sequence[str], split: str | None) -> Part:
    check_columns(columns, dataset.column_names, name)
    table = dataset.select_columns(list(columns)).with_format("arrow")[:].select(list(columns))
    for column in columns:
        check_valid_text(table.column(column), column, name)
    features = {column: dataset.features[column] for column in columns}
    names = {column: tuple(one.names) for column, one in features.items() if hasattr(one, "names")}
    return Part(name, plain_table(table), lambda row: row + 1, split, names)
