"""`pairstill bench`: speeds on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

bench = typer.Typer(help="Measure speeds on this machine.", no_args_is_help=True)


@bench.callback()
def _bench() -> None:
    """Measure speeds on this machine."""


@bench.command("head")
def head(
    setting: Annotated[
        str | None,
        typer.Argument(
            help="p2t, q2p, dipair-ffnn, de-ffnn, de-cos, twinbert-res, bert-dot, bert2dnn, poly-encoder, colbert or tk: a published shape, random weights."
        ),
    ] = None,
    student: Annotated[Path | None, typer.Option(help="A trained student's head instead.")] = None,
    tuples: Annotated[
        Path | None, typer.Option(help="With --student: tuple set whose texts are encoded and paired.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of --tuples.")] = "test",
    items: Annotated[int, typer.Option(min=1, help="Most items a field.")] = 4096,
    pairs: Annotated[int, typer.Option(min=1024, help="Pairs of one repetition.")] = 65_536,
    seconds: Annotated[float, typer.Option(min=0.1, help="About how long to measure each precision.")] = 20.0,
    bert_base: Annotated[
        Literal["full", "pytorch", "none"], typer.Option(help="Forms of BERT-base to time beside it.")
    ] = "full",
    threads: Annotated[
        int | None, typer.Option(help="Threads; OMP_NUM_THREADS or all cores that are ours if left out.")
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON alone.")] = False,
) -> None:
    """Pairs per second of a head, beside its plain form, the machine's matrix peak and BERT-base."""
    import json

    from pairstill.errors import InputError

    names = (
        "p2t", "q2p", "dipair-ffnn", "de-ffnn", "de-cos", "twinbert-res", "bert-dot", "bert2dnn", "poly-encoder", "colbert", "tk",
    )  # fmt: skip
    if (setting is None) == (student is None):
        raise InputError("give one of a setting and --student", expected=f"{', '.join(names)}, or a student's folder")
    if setting is not None and setting not in names:
        raise InputError(f"the setting '{setting}' is unknown", expected=", ".join(names))
    if student is not None and tuples is None:
        raise InputError("--student is given without --tuples", expected="a tuple set whose texts are encoded")
    tuple_set = None
    if tuples is not None:
        from pairstill.tuples import TupleSet

        tuple_set = TupleSet.load(tuples)
        tuple_set.split(split)

    from pairstill.evaluation.head_benchmark import benchmark_head, named_setting
    from pairstill.machine import set_threads

    set_threads(threads)
    chosen = (
        named_setting(str(setting), items) if student is None else _student_setting(student, tuple_set, split, items)
    )
    result = benchmark_head(chosen, pairs=pairs, seconds=seconds, bert_base=bert_base)
    if json_output:
        print(json.dumps(result, indent=2))
    else:
        _show(result)


def _student_setting(folder: Path, tuple_set: Any, split: str, most: int) -> Any:
    """The head of a student and items of a split, encoded."""
    import numpy as np

    from pairstill.evaluation.head_benchmark import HeadSetting
    from pairstill.students import load_student

    student = load_student(folder)
    head, skip = student.eval().scoring_head() or (None, None)
    student.check_fields(tuple_set)
    index = tuple_set.split(split).index
    blocks = []
    for field in range(student.field_count):
        rows = np.unique(index[:, field])[:most]
        blocks.append(student.encode(field, tuple_set.values(field, rows)))
    counted = student.multiply_adds_per_pair([float(one.lengths.mean()) for one in blocks])
    return HeadSetting(str(folder), head, tuple(blocks), counted, skip, student)


def _show(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{result['setting']}: {result['multiply_adds_per_pair'] / 1e6:.2f} M multiply-adds a pair, {result['threads']} threads"
    )
    for name in (
        "precision",
        "pairs/s",
        "of the peak",
        "x plain head",
        "x BERT-base float32",
        "x fastest BERT-base",
        "tau",
    ):
        table.add_column(name, justify="left" if name == "precision" else "right")
    for name, one in result["precisions"].items():
        table.add_row(
            name, f"{one['pairs_per_s']:,.0f}", f"{one['fraction_of_peak']:.1%}", f"{one['speedup_vs_plain_head']:.1f}",
            _number(one["speedup_vs_bert_base_float32"]), _number(one["speedup_vs_fastest_bert_base"]),
            f"{one['kendall_tau_vs_float32']:.4f}",
        )  # fmt: skip
    console = Console()
    console.print(table)
    bert = ", ".join(f"{name} {rate:.1f}" for name, rate in result["bert_base_pairs_per_s"].items())
    console.print(
        f"plain head {result['plain_head_pairs_per_s']:,.0f} pairs/s; BERT-base at 128 tokens, pairs/s: {bert or 'not measured'}"
    )
    peaks = ", ".join(f"{name} {one['peak_flops'] / 1e9:,.0f}" for name, one in result["precisions"].items())
    console.print(f"peak in GFLOP/s: {peaks}; {result['machine']['processor']}")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
