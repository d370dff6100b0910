import csv
import json

import pytest
from typer.testing import CliRunner

from analysis_samples import bag_student, kept_students, start_head
from evaluation_samples import tiny_base, tiny_student, tuple_set
from pairstill.cli.app import app
from pairstill.errors import PairstillError
from pairstill.evaluation.analyses.results import Analyses


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tuple set, a teacher, a student of several vectors and one of a bag."""
    root = tmp_path_factory.mktemp("inside")
    base = tiny_base(root / "base")
    tuple_set().save(root / "set")
    start_head(kept_students(base)["tsf"]).save_pretrained(root / "tsf")
    bag_student().save_pretrained(root / "bag")
    tiny_student("cross-encoder", base, max_lengths=(24,)).save_pretrained(root / "teacher")
    return root


def call(folder, out, *arguments):
    return CliRunner().invoke(
        app,
        [
            "evaluate", "--tuples", str(folder / "set"), "--out", str(out), "--no-cost", "--base", "none", "--resamples", "20",
            "--student", str(folder / "tsf"), "--student", str(folder / "bag"), "--threads", "1", *arguments,
        ],
    )  # fmt: skip


def test_analyses_are_written_shown_and_taken_away_again(folder, tmp_path):
    out = tmp_path / "out"
    done = call(
        folder, out, "--teacher", str(folder / "teacher"), "--analyses", "--term", "lamp", "--analysis-pairs", "100"
    )
    assert done.exit_code == 0, done.output
    found = Analyses.load(out / "analyses.json")
    assert [one.system for one in found.wins.systems] == ["tsf", "bag"]
    assert found.neighbours.terms == ("lamp",)
    assert {one.name for one in (out / "analyses").iterdir()} == {
        f"{name}.csv" for name in ("margins", "magnitudes", "wins", "slots", "neighbours", "cases")
    }
    with (out / "analyses" / "wins.csv").open() as file:
        assert {row["group"] for row in csv.DictReader(file)} >= {"q 1", "q 4"}
    assert "Seeing inside, test" in (out / "report.html").read_text()
    again = CliRunner().invoke(app, ["report", str(out), "--out", str(tmp_path / "again.html")])
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again.html").read_text() == (out / "report.html").read_text()
    assert call(folder, out).exit_code == 0
    assert not (out / "analyses.json").exists()
    assert list((out / "analyses").iterdir()) == []
    assert "Seeing inside" not in (out / "report.html").read_text()


def test_named_analyses_and_another_system(folder, tmp_path):
    done = call(
        folder, tmp_path / "out", "--analysis", "wins", "--analysis", "cases", "--against", "BM25", "--case", "q 4"
    )
    assert done.exit_code == 0, done.output
    body = json.loads((tmp_path / "out" / "analyses.json").read_text())
    assert (body["wins"]["against"], body["cases"]["cases"][0]["group"]) == ("BM25", "q 4")
    assert body["margins"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--analysis", "margin"], "there is no analysis 'margin'. Expected: one of margins, magnitudes, wins"),
        (["--against", "BM25"], "--against has no effect here: the analysis 'wins' is not asked for"),
        (
            ["--analysis", "wins", "--term", "lamp"],
            "--term has no effect here: the analysis 'neighbours' is not asked for",
        ),
        (["--analyses", "--term", ""], "--term is empty"),
        (["--analysis", "margins"], "the analysis 'margins' does not apply: there is no teacher"),
        (["--analyses", "--against", "untrained cosine"], "there is no system 'untrained cosine'"),
        (["--analyses", "--case", "q 0"], "the split has no labelled group 'q 0'"),
        (["--analyses", "--term", "xylophone"], "the term 'xylophone' is in no student's vocabulary"),
    ],
)
def test_bad_options_get_one_error(folder, tmp_path, arguments, message):
    result = call(folder, tmp_path / "out", *arguments)
    assert isinstance(result.exception, PairstillError), (result.output, result.exception)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_rows_of_their_own_are_not_compared_with_a_similarity(folder, tmp_path):
    tuple_set("binary", queries=90, per_query=1).save(tmp_path / "set")
    result = call(
        folder, tmp_path / "out", "--tuples", str(tmp_path / "set"), "--analysis", "wins", "--against", "BM25"
    )
    assert isinstance(result.exception, PairstillError), (result.output, result.exception)
    message = "the scores of 'BM25' are similarities, and rows of their own are compared by probability. Choose another"
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_runs_have_no_analyses(folder, tmp_path):
    result = CliRunner().invoke(
        app, ["evaluate", "--run", "a=b", "--tuples", str(folder / "set"), "--out", str(tmp_path / "o"), "--analyses"]
    )
    assert "--analyses has no effect here" in str(result.exception)
