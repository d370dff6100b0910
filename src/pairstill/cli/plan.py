"""`pairstill plan`: hours, storage and money of a bulk job, before it is begun."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer


def plan(
    items: Annotated[
        list[str], typer.Option(help="Items of a field, such as 50000000 or 5e7; once a field, in order.")
    ],
    pairs: Annotated[
        str | None, typer.Option(help="Pairs to score, such as 1e12; the cross product of two fields if left out.")
    ] = None,
    student: Annotated[
        Path | None, typer.Option(help="Student folder: its rates are measured here, in a minute or two.")
    ] = None,
    job: Annotated[Path | None, typer.Option(help="Or a finished job of `pairstill score`: its rates.")] = None,
    tuples: Annotated[Path | None, typer.Option(help="With --student: tuple set whose texts are encoded.")] = None,
    length: Annotated[
        list[int] | None, typer.Option(help="With --student: or tokens of a text; once a field, in order.")
    ] = None,
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "int8"], typer.Option(help="With --student: of the head.")
    ] = "auto",
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16", "int8", "uint8"], typer.Option(help="With --student: of the stores.")
    ] = "bfloat16",
    top: Annotated[int | None, typer.Option(help="Kept of each item of the first field.")] = None,
    kept_share: Annotated[float, typer.Option(help="Share of the pairs that is kept, without --top.")] = 1.0,
    encoded: Annotated[bool, typer.Option("--encoded", help="The items are encoded already.")] = False,
    machines: Annotated[int, typer.Option(help="Equal machines.")] = 1,
    cores: Annotated[int | None, typer.Option(help="Cores of each; those of this machine if left out.")] = None,
    price: Annotated[float | None, typer.Option(help="Of a machine-hour, in any currency.")] = None,
    efficiency: Annotated[
        float, typer.Option(help="Of a core beside busy ones, as a share of the one measured.")
    ] = 1.0,
    memory: Annotated[int, typer.Option(help="MiB of prepared items of a worker, as for `score`.")] = 256,
    shard_pairs: Annotated[int | None, typer.Option(help="As for `score`.")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON alone.")] = False,
) -> None:
    """Say what a bulk job will take: hours, storage and money, from rates measured with this student."""
    import json
    from dataclasses import asdict

    from pairstill.errors import InputError
    from pairstill.machine import set_threads, usable_cores

    counts = tuple(_count(one, "--items") for one in items)
    wanted = None if pairs is None else _count(pairs, "--pairs")
    if (student is None) == (job is None):
        raise InputError("give one of --student and --job", expected="a student to measure, or a finished job")
    if student is not None and (tuples is None) == (not length):
        raise InputError("--student needs one of --tuples and --length", expected="texts, or how long they are")

    from pairstill.scoring.forecast import Work, forecast, rates_of_job

    if job is not None:
        rates = rates_of_job(job)
    else:
        set_threads()
        rates = _measured(
            str(student), tuples, length or [], "cross" if wanted is None else "pairs", top, precision, dtype
        )
    work = Work(
        counts, wanted, top, kept_share, not encoded, machines, usable_cores() if cores is None else cores, price,
        efficiency, memory << 20, shard_pairs,
    )  # fmt: skip
    found = forecast(rates, work)
    if json_output:
        print(json.dumps({"forecast": found.body(), "rates": asdict(rates), "work": asdict(work)}, indent=2))
        return
    _show(found, rates, work)


def _measured(
    student: str, tuples: Path | None, lengths: list[int], kind: Any, top: int | None, precision: str, dtype: str
) -> Any:
    from pairstill.machine import best_precision
    from pairstill.scoring.measure import measure_rates

    texts = None
    if tuples is not None:
        from pairstill.tuples import TupleSet

        tuple_set = TupleSet.load(tuples)
        texts = [tuple_set.values(field) for field in range(len(tuple_set.fields))]
    return measure_rates(
        student, kind, texts=texts, lengths=lengths, top=top, precision=precision, encoder_precision=best_precision(),
        dtype=dtype,
    )  # fmt: skip


def _count(text: str, option: str) -> int:
    from pairstill.errors import InputError

    try:
        value = float(text.replace("_", "").replace(",", ""))
    except ValueError:
        value = 0.0
    if not 1 <= value < 1e18 or value != int(value):
        raise InputError(f"{option} is {text!r}", expected="a whole number from 1 on, such as 1000000 or 1e6")
    return int(value)


def _show(found: Any, rates: Any, work: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{found.pairs:,} pairs on {work.machines} x {work.cores} cores; rates of {rates.source}")
    for name in ("", "takes"):
        table.add_column(name, justify="right" if name else "left")
    for field, (count, bytes_per_item) in enumerate(zip(work.items, rates.bytes_per_item, strict=True), start=1):
        table.add_row(
            f"store of field {field}: {count:,} items of {bytes_per_item:,.0f} bytes", _bytes(count * bytes_per_item)
        )
    if work.encode:
        rate = [None if one is None else 1 / one for one in rates.encode_s]
        said = ", ".join("not known" if one is None else f"{one:,.0f}" for one in rate)
        table.add_row(
            f"encoding ({said} items/s a core)",
            "not known" if found.encode_hours is None else _hours(found.encode_hours),
        )
    table.add_row(
        f"scoring ({found.pairs_per_s / work.machines / work.cores:,.0f} pairs/s a core, the head alone {1 / rates.head_s:,.0f})",
        _hours(found.score_hours),
    )
    table.add_row(f"result: {found.kept_rows:,} rows", _bytes(found.result_bytes))
    if found.partial_bytes:
        table.add_row("partial results, until they are merged", _bytes(found.partial_bytes))
    table.add_row("together, with the start", _hours(found.hours))
    if found.money is not None:
        table.add_row(f"at {work.price:g} a machine-hour", f"{found.money:,.2f}")
    Console().print(table)


def _hours(value: float) -> str:
    if value < 1 / 60:
        return f"{value * 3600:,.0f} s"
    return f"{value * 60:,.1f} min" if value < 2 else f"{value:,.1f} h"


def _bytes(value: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"
