import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest
from typer.testing import CliRunner

from command_line import pairstill
from evaluation_samples import tiny_base, tiny_student, tuple_set
from pairstill.cli.app import app
from pairstill.errors import PairstillError
from pairstill.evaluation.results import Comparison


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tuple set, one without labels, two seeds of a student, a teacher, students that do not fit, and score files."""
    root = tmp_path_factory.mktemp("evaluate")
    base = tiny_base(root / "base")
    one = tuple_set()
    one.save(root / "set")
    tuple_set("none").save(root / "unlabelled")
    for name, architecture, more in (
        ("tsf-0", "dipair-tsf", {}), ("tsf-1", "dipair-tsf", {}), ("teacher", "cross-encoder", {"max_lengths": (24,)}),
        ("three", "de-ffnn", {"field_count": 3}), ("many", "de-ffnn", {"outputs": 3}),
    ):  # fmt: skip
        tiny_student(architecture, base, **more).save_pretrained(root / name)
    rows = one.split("test", "valid")
    labels = np.nan_to_num(rows.labels)
    table = pa.table({"row": rows.rows, "score": labels * 7, "probability": labels * 0.8 + 0.1})
    pacsv.write_csv(table.select(["row", "score"]), root / "similar.csv")
    pacsv.write_csv(table.select(["row", "probability"]), root / "sure.csv")
    pacsv.write_csv(table.select(["row", "score"]).slice(5), root / "short.csv")
    pacsv.write_csv(table.select(["row"]), root / "empty.csv")
    return root


def test_evaluate_and_report_from_the_command_line(folder, tmp_path):
    out = tmp_path / "evaluation"
    done = pairstill(
        "evaluate", "--tuples", folder / "set", "--out", out, "--split", "test", "--split", "valid", "--by", "length",
        "--student", f"tsf={folder / 'tsf-0'}", "--student", f"tsf={folder / 'tsf-1'}", "--teacher", folder / "teacher",
        "--scores", f"similar={folder / 'similar.csv'}", "--scores", f"sure={folder / 'sure.csv'}",
        "--metric", "spearman", "--base", folder / "base", "--cost-seconds", 1, "--bert-base", "none",
        "--resamples", 50, "--relevant-from", 2.5, "--gain-levels", 2, "--threads", 1, "--title", "Nails",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = Comparison.load(out / "results.json")
    assert (found.title, found.headline) == ("Nails", "spearman")
    assert found.facts("tsf").seeds == 2
    assert found.facts("similar").calibrated is False
    assert found.facts("sure").calibrated is True
    assert found.main.system("similar").metrics["spearman"].value == pytest.approx(1.0)
    assert found.settings["relevant_from"] == pytest.approx(0.5)
    assert found.references.teacher is not None
    for name in ("tsf", "BM25", "untrained cosine", "Spearman", "Cost on this machine"):
        assert name in done.stdout, name
    assert (out / "table.tex").read_text().startswith(r"\begin{table}")
    assert (out / "table.csv").read_text().count("\n") == 1 + 2 * len(found.systems)
    assert {one.name for one in (out / "runs").iterdir()} >= {
        "qrels-test-gains.trec", "qrels-valid-relevant.trec", "test-tsf-seed1.trec", "valid-BM25.trec",
    }  # fmt: skip
    assert "<svg" in (out / "report.html").read_text()
    again = CliRunner().invoke(
        app, ["report", str(out), str(out / "results.json"), "--out", str(tmp_path / "two.html")]
    )
    assert again.exit_code == 0, again.output
    assert (tmp_path / "two.html").read_text().count('class="comparison"') == 2


def test_quality_in_bfloat16_is_nearly_that_in_float32_and_said(folder, tmp_path):
    found = {}
    for precision in ("float32", "bfloat16"):
        out = tmp_path / precision
        command = [
            "evaluate",
            "--tuples",
            folder / "set",
            "--student",
            folder / "tsf-0",
            "--no-cost",
            "--no-floors",
            "--resamples",
            "10",
        ]
        done = CliRunner().invoke(app, [*map(str, command), "--precision", precision, "--out", str(out)])
        assert done.exit_code == 0, done.output
        found[precision] = Comparison.load(out / "results.json")
    exact, near = (one.splits[0].systems[0].compared for one in found.values())
    assert exact != near
    assert exact == pytest.approx(near, abs=0.05)
    assert "Models were scored in bfloat16." in found["bfloat16"].warnings


def evaluate_error(folder, tmp_path, *arguments, tuples="set"):
    result = CliRunner().invoke(
        app, ["evaluate", "--tuples", str(folder / tuples), "--out", str(tmp_path / "out"), *map(str, arguments)]
    )
    assert isinstance(result.exception, PairstillError), (result.output, result.exception)
    assert not (tmp_path / "out").exists()
    return str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to evaluate"),
        (["--student", "{}/nothing"], "the folder of student 'nothing' does not exist"),
        (["--student", "{}/base/.."], "has no config.json"),
        (["--student", "{}/three"], "'three' takes 3 fields. Expected: 2 (query, product)"),
        (["--student", "{}/many"], "'many' gives 3 outputs. Expected: 1, as graded labels need"),
        (["--student", "=x"], "--student '=x' cannot be read. Expected: --student NAME=PATH"),
        (["--scores", "{}/similar.csv"], "Expected: --scores NAME=PATH"),
        (["--scores", "a={}/short.csv"], "lack 5 of the 60 rows of split 'test', the first is row"),
        (["--scores", "a={}/empty.csv"], "there is no column of scores"),
        (["--scores", "a={}/nothing.csv"], "the scores of 'a' do not exist"),
        (["--teacher", "{}/nothing"], "there is no teacher in this folder"),
        (["--teacher", "{}/base"], "which has no classification layer"),
        (["--teacher", "{}/teacher", "--student", "teacher={}/tsf-0"], "'teacher' is given to a teacher and a student"),
        (["--student", "BM25={}/tsf-0"], "the name 'BM25' is given to a floor and a student"),
        (["--teacher", "{}/three"], "'the teacher' takes 3 fields"),
        (["--teacher", "{}/teacher", "--teacher-scores", "{}/similar.csv"], "both --teacher and --teacher-scores"),
        (["--scores", "a={}/similar.csv", "--split", "tests"], "no split 'tests'. Expected: one of test, train, valid"),
        (["--scores", "a={}/similar.csv", "--by", "lenght"], "Did you mean 'length'?"),
        (["--scores", "a={}/similar.csv", "--metric", "persson"], "Did you mean 'pearson'?"),
        (["--scores", "a={}/similar.csv", "--metric", "auc-roc"], "AUC-ROC is not defined for graded labels"),
        (["--scores", "a={}/similar.csv", "--relevant-from", "9"], "--relevant-from is 9"),
        (["--student", "{}/tsf-0", "--precision", "half"], "the precision 'half' is unknown"),
    ],
)
def test_bad_input_gets_one_error(folder, tmp_path, arguments, message):
    filled = [one.replace("{}", str(folder)) for one in arguments]
    assert message in evaluate_error(folder, tmp_path, *filled)


def test_a_set_without_labels_is_refused(folder, tmp_path):
    message = evaluate_error(folder, tmp_path, "--student", folder / "tsf-0", tuples="unlabelled")
    assert "the split 'test' has no labels" in message


def test_errors_leave_no_traceback(folder, tmp_path):
    done = pairstill("evaluate", "--tuples", folder / "set", "--out", tmp_path / "o", "--student", folder / "three")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    damaged = tmp_path / "results.json"
    damaged.write_text(json.dumps({"format": "pairstill/evaluation", "version": 1, "title": "x"}))
    done = pairstill("report", damaged, "--out", tmp_path / "r.html")
    assert done.returncode == 2
    assert "the evaluation is damaged" in done.stderr
