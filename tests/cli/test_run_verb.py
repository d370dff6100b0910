"""Grids through the real command line."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import command_line
from pairstill.tuples import TupleSet


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return command_line.pairstill("run", *arguments, cwd=folder)


@pytest.fixture(scope="module")
def body(base: Path) -> dict[str, Any]:
    return {
        "title": "Poolings",
        "distill": {
            "tuples": "tuples", "hard-weight": 1, "base": str(base), "max-length": 16, "set": {"encoder.layers": 1},
            "stages": "one", "pairs": 64, "batch-size": 32, "precision": "float32", "threads": 1, "looks": 1,
        },
        "grid": {"student": {"DE-Cos": {"student": "de-cos"}, "DE-FFNN": {"student": "de-ffnn"}}, "set.pooling": ["mean"]},
        "evaluate": {"floors": False, "cost": False, "resamples": 20},
    }  # fmt: skip


def test_a_cell_that_fails_is_said_and_trained_when_given_again(
    base: Path, tuple_set: TupleSet, body: dict[str, Any], tmp_path: Path
) -> None:
    def rows() -> list[dict[str, str]]:
        return list(csv.DictReader((tmp_path / "grid" / "grid.csv").read_text().splitlines()))

    tuple_set.save(tmp_path / "tuples")
    students = {"DE-Cos": {"student": "de-cos"}, "DE-FFNN": {"student": "de-ffnn", "base": "./later"}}
    grid = {**body["grid"], "student": students}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(sort_keys=False, data={**body, "grid": grid}))
    first = run(tmp_path, "recipe.yaml", "--out", "grid")
    assert first.returncode == 2
    assert "the folder of the base does not exist" in first.stderr
    assert "1 of 2 trainings failed: 'DE-FFNN, pooling mean' (seed 0)" in first.stderr
    assert [row["student"] for row in rows()] == ["DE-Cos"]

    shutil.copytree(base, tmp_path / "later")
    kept = tmp_path / "grid" / "cells" / "DE-Cos-pooling-mean-seed0" / "config.json"
    before = kept.stat().st_mtime_ns
    again = run(tmp_path, "recipe.yaml", "--out", "grid")
    assert again.returncode == 0, again.stderr
    assert "[1/2] DE-Cos, pooling mean, seed 0: reused" in again.stderr
    assert "[2/2] DE-FFNN, pooling mean, seed 0\n" in again.stderr
    assert kept.stat().st_mtime_ns == before
    assert [(row["student"], row["set.pooling"], row["pairs"]) for row in rows()] == [
        ("DE-Cos", "pooling mean", "64"), ("DE-FFNN", "pooling mean", "64"),
    ]  # fmt: skip
    results = json.loads((tmp_path / "grid" / "evaluation" / "results.json").read_text())
    measured = {one["name"]: one["metrics"][results["headline"]]["value"] for one in results["splits"][0]["systems"]}
    assert {f"{row['student']}, {row['set.pooling']}": float(row["value"]) for row in rows()} == measured
    markdown = (tmp_path / "grid" / "grid.md").read_text()
    assert markdown.startswith("## Poolings\n\ntest: ")
    assert markdown.count("\n| ") == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": {"piars": [1, 2]}}, "the cell 'piars 1' cannot be run: No such option: --piars"),
        ({"grid": {"pairs": ["many"]}}, "the cell 'pairs many' cannot be run: Invalid value for '--pairs'"),
        ({"grid": {"student": ["dipair-tfs"]}}, "the cell 'student dipair-tfs' cannot be run: there is no student"),
        ({"grid": {"set.pooling": ["mean", "max"]}}, "the cell 'pooling max' cannot be run"),
        ({"grid": {"loss": ["margin-mes"]}}, "the cell 'loss margin-mes' cannot be run: there is no loss 'margin-mes'"),
        ({"grid": {"loss-set.nu": [1]}}, "the cell 'nu 1' cannot be run: the loss 'cross-entropy' has no setting 'nu'"),
        ({"grid": {"stages": ["three"]}}, "the cell 'stages three' cannot be run: --stages is 'three'"),
        ({"grid": {"stage1-pairs": [64]}}, "cannot be run: --stage1-pairs has no effect here: --stages one leaves out"),
        (
            {"distill": {"out": "x"}},
            "the recipe gives 'out' to a student. Leave it out: --out of `pairstill run` has a",
        ),
        (
            {"grid": {"seed": [1, 2]}},
            "the recipe gives 'seed' to a student. Name it under 'seeds', such as seeds: [0, 1]",
        ),
        ({"grid": {"metric": ["acuracy"]}}, "the cell 'metric acuracy' cannot be run: there is no metric 'acuracy'"),
        ({"grid": {"metric": ["agreemnt"]}}, "Did you mean 'agreement'?"),
        (
            {"grid": {"tuples": ["a", "b"]}},
            "nothing says which one compares the students. Name it under 'evaluate'",
        ),
        ({"evaluate": {"metric": ["ndgc@10"]}}, "'evaluate' cannot be run: there is no metric 'ndgc@10'"),
        ({"evaluate": {"splits": "test"}}, "'evaluate' cannot be run: No such option: --splits"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_trained(
    body: dict[str, Any], change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    shared = {**body["distill"], "student": "de-cos"}
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump(sort_keys=False, data={**body, "distill": shared, "grid": {"pairs": [64]}, **change})
    )
    done = run(tmp_path, "recipe.yaml", "--out", "grid")
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "grid").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tuples": "nowhere"}, "nowhere: the folder does not exist"),
        ({"split": ["tset"]}, "the tuple set has no split 'tset'"),
        ({"by": ["colour"]}, "'evaluate' cannot be run: the tuple set has no slice column 'colour'"),
        ({"relevant-from": 7}, "'evaluate' cannot be run: --relevant-from is 7"),
        ({"teacher-scores": "nowhere"}, "nowhere"),
        ({"teacher": "teacher=./nowhere"}, "nowhere: there is no teacher in this folder"),
        ({"teacher": "teacher=teecher"}, "teecher: there is no teacher in this folder"),
        ({"scores": ["nowhere"]}, "--scores 'nowhere' cannot be read"),
        ({"precision": "float16"}, "the precision 'float16' is unknown"),
        ({"qrels": "qrels.txt"}, "--qrels is given without --run"),
        ({"run": ["bm25=bm25.trec"]}, "--run measures runs, and a grid compares students"),
        ({"analysis": ["slots"], "against": "teacher"}, "--against has no effect here"),
        ({"analysis": ["slotz"]}, "slotz"),
    ],
)
def test_an_evaluation_that_cannot_be_is_refused_before_anything_is_trained(
    tuple_set: TupleSet, body: dict[str, Any], change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    tuple_set.save(tmp_path / "tuples")
    recipe = {**body, "evaluate": {**body["evaluate"], **change}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(sort_keys=False, data=recipe))
    done = run(tmp_path, "recipe.yaml", "--out", "grid")
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "recipe.yaml: 'evaluate' cannot be run: " in done.stderr
    assert not (tmp_path / "grid").exists()


def test_students_of_several_tuple_sets_are_compared_on_the_one_that_evaluate_names(
    tuple_set: TupleSet, body: dict[str, Any], tmp_path: Path
) -> None:
    for name in ("one", "two"):
        tuple_set.save(tmp_path / name)
    shared = {key: value for key, value in body["distill"].items() if key != "tuples"} | {"student": "de-cos"}
    recipe = {
        **body,
        "title": "A title longer than any file's name. " * 10,
        "distill": shared,
        "grid": {"tuples": ["one", "two"]},
        "evaluate": {**body["evaluate"], "tuples": "two"},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(sort_keys=False, data=recipe))
    done = run(tmp_path, "recipe.yaml", "--out", "grid")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "grid" / "grid.csv").read_text().splitlines()))
    assert [row["tuples"] for row in rows] == ["tuples one", "tuples two"]


def test_cells_and_evaluation_of_inputs_that_changed_are_not_reused(
    tuple_set: TupleSet, body: dict[str, Any], tmp_path: Path
) -> None:
    shared = {**body["distill"], "student": "de-cos"}
    recipe = {**body, "distill": shared, "grid": {"pairs": [64]}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(sort_keys=False, data=recipe))
    tuple_set.save(tmp_path / "tuples")
    flags = ["recipe.yaml", "--out", "grid"]
    assert run(tmp_path, *flags).returncode == 0
    results = tmp_path / "grid" / "evaluation" / "results.json"
    before = results.stat().st_mtime_ns
    assert "reused" in run(tmp_path, *flags).stderr
    assert results.stat().st_mtime_ns == before

    # The same contents, written again: the training finds that nothing is left to do.
    shutil.rmtree(tmp_path / "tuples")
    tuple_set.save(tmp_path / "tuples")
    touched = run(tmp_path, *flags)
    assert touched.returncode == 0, touched.stderr
    assert "reused" not in touched.stderr
    assert results.stat().st_mtime_ns > before

    shutil.rmtree(tmp_path / "tuples")
    replace(tuple_set, tuples=tuple_set.tuples.slice(0, len(tuple_set.tuples) - 1)).save(tmp_path / "tuples")
    changed = run(tmp_path, *flags)
    assert changed.returncode == 2
    assert "another" in changed.stderr, changed.stderr
    assert (tmp_path / "grid" / "cells" / "pairs-64-seed0" / "config.json").exists()


def test_a_grid_of_which_no_cell_can_be_trained(tuple_set: TupleSet, body: dict[str, Any], tmp_path: Path) -> None:
    tuple_set.save(tmp_path / "tuples")
    recipe = {**body, "grid": {"base": ["./nowhere"]}, "distill": {**body["distill"], "student": "de-cos"}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(sort_keys=False, data=recipe))
    done = run(tmp_path, "recipe.yaml", "--out", "grid")
    assert done.returncode == 2
    assert "the folder of the base does not exist" in done.stderr
    assert "error: recipe.yaml: no cell could be trained. The messages above say why." in done.stderr
    assert not (tmp_path / "grid" / "grid.csv").exists()


def test_students_that_cannot_be_compared_are_kept(tuple_set: TupleSet, body: dict[str, Any], tmp_path: Path) -> None:
    tuple_set.save(tmp_path / "tuples")
    distill = {**body["distill"], "student": "de-cos"}
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    evaluation = {**body["evaluate"], "teacher": "teacher=./broken"}
    recipe = {**body, "grid": {"pairs": [32]}, "distill": distill, "evaluate": evaluation}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(sort_keys=False, data=recipe))
    done = run(tmp_path, "recipe.yaml", "--out", "grid")
    assert done.returncode == 2
    assert "broken" in done.stderr
    assert "the students could not be compared. See the message above; trained students are kept." in done.stderr
    assert (tmp_path / "grid" / "cells" / "pairs-32-seed0" / "config.json").exists()
    assert not (tmp_path / "grid" / "grid.csv").exists()


def test_several_trainings_at_a_time(tuple_set: TupleSet, body: dict[str, Any], tmp_path: Path) -> None:
    tuple_set.save(tmp_path / "tuples")
    students = {**body["grid"]["student"], "none": {"student": "de-cos", "base": "./nowhere"}}
    recipe = {**body, "grid": {"student": students}, "distill": {**body["distill"], "pairs": 99_999}}
    del recipe["distill"]["threads"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(sort_keys=False, data=recipe))
    flags = ["recipe.yaml", "--out", "grid", "--distill", "pairs=64", "--distill", "set.pooling=mean"]
    done = run(tmp_path, *flags, "--jobs", "3")
    assert done.returncode == 2
    assert "1 of 3 trainings failed: 'none' (seed 0)" in done.stderr
    assert "[1/3] DE-Cos, seed 0: student: grid/cells/DE-Cos-seed0   de-cos, valid" in done.stderr
    assert "[3/3] none, seed 0: error: " in done.stderr
    assert "the folder of the base does not exist" in (tmp_path / "grid" / "cells" / "none-seed0.log").read_text()
    rows = list(csv.DictReader((tmp_path / "grid" / "grid.csv").read_text().splitlines()))
    assert [(row["student"], row["pairs"]) for row in rows] == [("DE-Cos", "64"), ("DE-FFNN", "64")]
    assert (
        json.loads((tmp_path / "grid" / "cells" / "DE-Cos-seed0" / "config.json").read_text())["config"]["pooling"]
        == "mean"
    )
    assert not (tmp_path / "grid" / "encoder-outputs").exists()
    # How many run at a time is no part of what was trained.
    again = run(tmp_path, *flags)
    assert "[2/3] DE-FFNN, seed 0: reused" in again.stderr


@pytest.mark.soak
@pytest.mark.parametrize(
    ("jobs", "sent", "code", "background"),
    [(2, signal.SIGINT, 130, False), (2, signal.SIGTERM, 143, True), (1, signal.SIGTERM, 143, True)],
)
def test_interrupted_trainings_end_together_and_go_on(
    jobs: int, sent: int, code: int, background: bool, tuple_set: TupleSet, body: dict[str, Any], tmp_path: Path
) -> None:
    tuple_set.save(tmp_path / "tuples")
    recipe = {**body, "distill": {**body["distill"], "pairs": 40_000, "checkpoint-every-s": 0.1}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(sort_keys=False, data=recipe))
    command = [sys.executable, "-m", "pairstill", "run", "recipe.yaml", "--out", "grid", "--jobs", str(jobs)]
    cells = [tmp_path / "grid" / "cells" / f"{name}-pooling-mean-seed0" for name in ("DE-Cos", "DE-FFNN")]
    # What a script starts with & ignores the terminal's interrupt, and all that it starts itself does.
    started = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command] if background else command
    process = subprocess.Popen(started, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not all((cell / "training" / "stage-2" / "checkpoint").exists() for cell in cells[:jobs]):
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.1)
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    left = subprocess.run(["pgrep", "-f", "grid/cells/DE-"], capture_output=True, text=True, check=False).stdout
    assert left == ""
    assert not any((cell / "config.json").exists() for cell in cells)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert all((cell / "config.json").exists() for cell in cells)


def test_a_folder_that_holds_something_else_is_refused(
    tuple_set: TupleSet, body: dict[str, Any], tmp_path: Path
) -> None:
    tuple_set.save(tmp_path / "tuples")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(sort_keys=False, data=body))
    done = run(tmp_path, "recipe.yaml", "--out", "tuples")
    assert done.returncode == 2
    assert "the folder holds a manifest.json of format 'pairstill/tuple-set'" in " ".join(done.stderr.split())
    assert not (tmp_path / "tuples" / "cells").exists()


def test_a_dry_run_prints_the_commands(body: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(sort_keys=False, data={**body, "seeds": [0, 1]}))
    lines = run(tmp_path, "recipe.yaml", "--out", "grid", "--dry-run").stdout.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("pairstill distill --tuples tuples") for line in lines)
    assert not (tmp_path / "grid").exists()
