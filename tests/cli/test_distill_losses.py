"""Losses through the real command line: one artefact of teacher scores, both stages, and what is refused."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from command_line import works, works_in_two_processes
from pairstill.cli.app import main
from pairstill.students import load_student
from pairstill.teachers.import_scores import import_scores
from pairstill.training.validation import Validation
from pairstill.tuples import TupleSet


def declare(folder: Path, kind: str) -> None:
    """Say that scores are of another kind."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["score_kind"] = kind
    for shard in manifest["shards"]:
        path = folder / shard["file"]
        pq.write_table(pq.read_table(path).replace_schema_metadata({"score_kind": kind}), path)
        shard.update(bytes=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def folder(tuple_set: TupleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuple set with a split of lonely queries, and scores of three kinds."""
    out = tmp_path_factory.mktemp("losses")
    table = tuple_set.tuples
    first = {str(query): row for row, query in reversed(list(enumerate(table["query"].to_pylist())))}
    split = ["transfer" if query in ("query26", "query27") else old for query, old in zip(table["query"].to_pylist(), table["split"].to_pylist(), strict=True)]  # fmt: skip
    keep = [row for row, one in enumerate(split) if one != "transfer" or first[table["query"][row].as_py()] == row]
    table = table.set_column(table.column_names.index("split"), "split", pa.array(split)).take(pa.array(keep))
    grouped = replace(tuple_set, tuples=table)
    grouped.save(out / "tuples")
    grouped = TupleSet.load(out / "tuples")
    labels = np.asarray(table["label"].to_pylist())
    noise = np.random.default_rng(0).standard_normal(len(labels))
    lines = [
        f"{row}\t{4 * label - 2 + 0.3 * extra}" for row, (label, extra) in enumerate(zip(labels, noise, strict=True))
    ]
    (out / "scores.tsv").write_text("row\tscore\n" + "\n".join(lines) + "\n")
    import_scores(out / "scores.tsv", grouped, out / "logit", kind="logit")
    for kind in ("other", "probability"):
        import_scores(out / "scores.tsv", grouped, out / kind, kind="other")
        declare(out / kind, kind)
    return out


def command(folder: Path, base: Path, out: Path, *more: object) -> list[str]:
    given = [
        "distill", "--tuples", folder / "tuples", "--scores", folder / "logit", "--base", base, "--out", out, "--max-length", 16,
        "--set", "encoder.layers=1", "--pairs", 128, "--batch-size", 32, *([] if "one" in more else ["--stage1-pairs", 256, "--stage1-batch-size", 32]),
        "--precision", "float32", "--threads", 1, "--looks", 2, "--split", "train", *more,
    ]  # fmt: skip
    return [str(one) for one in given]


def test_margins_in_two_stages_and_again_the_same(folder: Path, base: Path, tmp_path: Path) -> None:
    arguments = ["--student", "dipair-tsf", "--set", "keep=2,4", "--set", "projection=8", "--set", "head.intermediate=16", "--loss", "margin-mse", "--hard-weight", "0.1"]  # fmt: skip
    said = works(*command(folder, base, tmp_path / "one", *arguments))
    assert "valid auc-roc" in said
    card = (tmp_path / "one" / "README.md").read_text()
    assert "Loss: name mixture, soft {'name': 'margin-mse'}" in card
    result = json.loads((tmp_path / "one" / "training" / "distillation.json").read_text())
    assert (result["stage1"]["pairs"], result["stage2"]["pairs"]) == (256, 128)
    again = works(*command(folder, base, tmp_path / "one", *arguments))
    assert again.split("valid")[1].split(",")[0] == said.split("valid")[1].split(",")[0]


def test_two_processes_train_on_whole_groups_as_one(folder: Path, base: Path, tmp_path: Path) -> None:
    more = ["--student", "de-ffnn", "--loss", "in-batch-margin-mse", "--stages", "one"]
    works(*command(folder, base, tmp_path / "one", *more))
    works_in_two_processes(command(folder, base, tmp_path / "two", *more))
    one, two = load_student(tmp_path / "one").state_dict(), load_student(tmp_path / "two").state_dict()
    for name in one:
        np.testing.assert_allclose(one[name].numpy(), two[name].numpy(), atol=2e-4, err_msg=name)


def call(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["pairstill", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out + captured.err


MISTAKES = {
    "an unknown loss": (["--loss", "margin-mes"], "Did you mean 'margin-mse'?"),
    "a temperature of margins": (["--loss", "margin-mse", "--temperature", "2"], "has no temperature"),
    "no key and value": (["--loss", "lambdaloss", "--loss-set", "mu"], "--loss-set is given 'mu'"),
    "an unknown setting": (["--loss", "lambdaloss", "--loss-set", "nu=1"], "has no setting 'nu'"),
    "margins of probabilities": (["--loss", "margin-mse", "--scores", "probability"], "a sigmoid presses sure scores together"),
    "soft labels of other scores": (["--scores", "other"], "is no logit and has no soft label"),
    "gains of other scores": (["--loss", "lambdaloss", "--scores", "other"], "Expected: scores of kind logit or probability"),
    "lonely queries": (["--loss", "ranknet", "--split", "transfer"], "and no two rows do"),
    "one split of lonely queries": (["--loss", "ranknet", "--split", "train", "--split", "transfer"], "no two rows of the split 'transfer'"),
    "a weight without end": (["--loss", "lambdaloss", "--loss-set", "mu=.inf"], "sigma above 0, mu 0 or more, both finite"),
    "an in-batch weight without end": (["--loss", "in-batch-margin-mse", "--loss-set", "weight=.inf"], "Expected: 0 or more, and finite"),
    "a scale without end": (["--loss", "in-batch-cross-entropy", "--loss-set", "scale=.inf"], "Expected: a finite number above 0"),
    "labels, and a teacher's loss without scores": (["--loss", "margin-mse", "--scores", "none"], "Give --scores FOLDER, or --hard-weight 1"),
    "a cross-encoder against the batch": (["--loss", "in-batch-cross-entropy", "--student", "cross-encoder", "--stages", "one"], "pays a whole transformer"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(
    folder: Path, base: Path, tmp_path: Path, mistake: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    extra, message = MISTAKES[mistake]
    given = [
        "distill",
        "--tuples",
        "tuples",
        "--base",
        str(base),
        "--out",
        str(tmp_path),
        "--threads",
        "1",
        "--precision",
        "float32",
    ]
    given += [] if "--student" in extra else ["--student", "de-cos"]
    given += [] if "--scores" in extra else ["--scores", "logit"]
    given += [] if "--split" in extra else ["--split", "train"]
    arguments = [*given, *extra]
    if "none" in arguments:
        del arguments[arguments.index("none") - 1 : arguments.index("none") + 1]
    code, said = call(arguments, capsys, monkeypatch)
    assert code == 2
    assert said.count("\n") == 1
    assert message in said


@pytest.mark.parametrize(
    ("loss", "scores"), [("listwise-kl", "other"), ("lambdaloss", "probability"), ("mse-logit", "other")]
)
def test_scores_of_other_kinds_train_the_losses_that_take_them(
    folder: Path, base: Path, tmp_path: Path, loss: str, scores: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    arguments = command(folder, base, tmp_path, "--student", "de-ffnn", "--loss", loss, "--stages", "first")
    arguments[arguments.index(str(folder / "logit"))] = str(folder / scores)
    code, said = call(arguments, capsys, monkeypatch)
    if scores == "probability":  # the file's numbers are none
        assert (code, "outside 0 to 1" in said) == (2, True)
    else:
        assert (code, "valid auc-roc" in said) == (0, True), said


def without_scores(arguments: list[str]) -> list[str]:
    place = arguments.index("--scores")
    return arguments[:place] + arguments[place + 2 :]


@pytest.mark.parametrize(
    ("more", "learnt"),
    [
        (["--loss", "lambdaloss", "--loss-set", "order=labels"], "name lambdaloss"),
        (["--loss", "listnet", "--hard-weight", "1"], "name listnet"),
        (["--loss", "in-batch-cross-entropy", "--loss-set", "scale=2"], "name in-batch-cross-entropy"),
    ],
)
def test_losses_of_labels_need_no_scores(
    folder: Path, base: Path, tmp_path: Path, more: list[str], learnt: str
) -> None:
    arguments = without_scores(command(folder, base, tmp_path, "--student", "de-cos", "--stages", "one", *more))
    assert "valid auc-roc" in works(*arguments)
    assert f"Loss: {learnt}" in (tmp_path / "README.md").read_text()


@pytest.fixture
def pairs(tuple_set: TupleSet, tmp_path: Path) -> TupleSet:
    """A query and what is relevant to it, one row a query."""
    table = tuple_set.tuples
    first = {str(query): row for row, query in reversed(list(enumerate(table["query"].to_pylist())))}
    table = table.take(pa.array(sorted(first.values())))
    ones = pa.array([1.0] * len(table))
    return replace(tuple_set, tuples=table.set_column(table.column_names.index("label"), "label", ones))


def test_pairs_of_which_no_query_has_two_train_against_the_batch(pairs: TupleSet, base: Path, tmp_path: Path) -> None:
    pairs.save(tmp_path / "tuples")
    more = ["--student", "twinbert-cos", "--loss", "in-batch-cross-entropy", "--loss-set", "scale=20"]
    said = works(*without_scores(command(tmp_path, base, tmp_path / "out", *more)))
    assert "valid MRR@10" in said
    assert "left out" not in said
    result = json.loads((tmp_path / "out" / "training" / "distillation.json").read_text())
    assert (result["stage1"]["pairs"], result["stage2"]["pairs"]) == (256, 128)


def test_pairs_that_teach_nothing_against_the_batch_are_refused(
    pairs: TupleSet, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for column, values, message in (
        ("item", pa.array(["item3"] * len(pairs.tuples)), "all rows have the same one"),
        ("label", pa.array([0.0] * len(pairs.tuples)), "no row is labelled relevant"),
    ):
        table = pairs.tuples.set_column(pairs.tuples.column_names.index(column), column, values)
        replace(pairs, tuples=table).save(tmp_path / column / "tuples")
        more = ["--student", "de-cos", "--loss", "in-batch-cross-entropy"]
        arguments = without_scores(command(tmp_path / column, base, tmp_path / "out", *more))
        code, said = call(arguments, capsys, monkeypatch)
        assert (code, message in said) == (2, True), said


def test_validation_among_other_queries_passages(pairs: TupleSet) -> None:
    made = Validation.among_others(pairs, "train")
    assert made is not None
    count = len(pairs.split("train"))
    assert len(made.tuples) == count * count
    assert np.bincount(made.tuples.groups).tolist() == [count] * count
    own = {tuple(row) for row in pairs.split("train").index.tolist()}
    passages = {row[0]: row[1] for row in own}
    for row, label in zip(made.tuples.index.tolist(), made.tuples.labels.tolist(), strict=True):  # type: ignore[union-attr]
        assert label == (passages[row[0]] == row[1])
    assert Validation.among_others(pairs, "train", limit=5) is not None


def with_scores(arguments: list[str], scores: Path) -> list[str]:
    place = arguments.index("--scores") + 1
    return [*arguments[:place], str(scores), *arguments[place + 1 :]]


@pytest.fixture(scope="module")
def half(folder: Path, tuple_set: TupleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which only every second has a label, scored by one logit and by the two of a classifier."""
    out = tmp_path_factory.mktemp("half")
    table = TupleSet.load(folder / "tuples").tuples
    labels = [label if row % 2 else None for row, label in enumerate(table["label"].to_pylist())]
    column = pa.array(labels, table["label"].type)
    changed = replace(tuple_set, tuples=table.set_column(table.column_names.index("label"), "label", column))
    changed.save(out / "tuples")
    changed = TupleSet.load(out / "tuples")
    rows = np.arange(len(labels))
    # Of sixty-fourths, so that differences are exact.
    one = np.round(64 * np.random.default_rng(1).standard_normal(len(labels))) / 64
    written = {"row": rows, "score": one, "z0": np.full(len(rows), 3.0), "z1": one + 3, "share": 1 / (1 + np.exp(-one))}
    pq.write_table(pa.table(written), out / "scores.parquet")
    import_scores(out / "scores.parquet", changed, out / "logit", kind="logit")
    import_scores(out / "scores.parquet", changed, out / "two", kind="logit", score_columns=("z0", "z1"))
    import_scores(out / "scores.parquet", changed, out / "share", kind="other", score_columns=("share",))
    return out


def test_two_logits_of_a_classifier_teach_students_of_one_number(half: Path, base: Path, tmp_path: Path) -> None:
    more = ["--student", "de-ffnn", "--loss", "margin-mse", "--stages", "first", "--metric", "agreement"]
    said = works(*with_scores(command(half, base, tmp_path / "two", *more), half / "two"))
    assert "the teacher gives two logits a row: their difference, logit_1 - logit_0, is learnt" in said
    works(*command(half, base, tmp_path / "one", *more))
    one, two = load_student(tmp_path / "one"), load_student(tmp_path / "two")
    assert two.outputs == 1
    for name, tensor in one.state_dict().items():
        np.testing.assert_allclose(two.state_dict()[name].numpy(), tensor.numpy(), atol=1e-5, err_msg=name)


def test_a_student_with_two_logits_is_measured_by_their_difference(
    half: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Validation.on_labels(TupleSet.load(half / "tuples"), "valid")
    labels = made.tuples.labels
    assert labels is not None
    # The greater of the two logits would say the opposite.
    logits = np.stack([-9 + 10 * (1 - labels), -9 + 2 * labels], axis=1)
    assert made.metric is not None
    assert made.metric.measure(made.predictions(logits)).value == 1.0
    more = ["--student", "de-ffnn", "--stages", "first", "--set", "outputs=2"]
    code, said = call(with_scores(command(half, base, tmp_path, *more), half / "two"), capsys, monkeypatch)
    assert (code, "difference" in said) == (0, False), said
    assert load_student(tmp_path).outputs == 2
    more = ["--student", "de-ffnn", "--stages", "first", "--set", "outputs=3"]
    code, said = call(command(half, base, tmp_path / "three", *more), capsys, monkeypatch)
    assert (code, "the student gives 3 outputs, the teacher gives 1" in said) == (2, True), said


@pytest.mark.parametrize(
    "loss",
    [
        ["--loss", "weighted-ranknet", "--loss-set", "order=labels"],
        ["--loss", "ranknet", "--loss-set", "order=labels"],
        ["--hard-weight", "1"],
    ],
)
def test_rows_without_a_label_are_left_out_where_labels_are_learnt(
    half: Path, base: Path, tmp_path: Path, loss: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    arguments = command(half, base, tmp_path / "out", "--student", "de-ffnn", "--stages", "first", *loss)
    code, said = call(arguments, capsys, monkeypatch)
    assert code == 0, said
    tuples = TupleSet.load(half / "tuples").split("train")
    assert tuples.labels is not None
    missing = int(np.isnan(tuples.labels).sum())
    assert f"{missing:,} of {len(tuples):,} scored rows have no label, which is what" in said

    table = TupleSet.load(half / "tuples").tuples
    splits = [
        "transfer" if one == "train" and label is None else "valid" if one == "transfer" else one
        for one, label in zip(table["split"].to_pylist(), table["label"].to_pylist(), strict=True)
    ]
    whole = TupleSet.load(half / "tuples")
    table = table.set_column(table.column_names.index("split"), "split", pa.array(splits, table["split"].type))
    replace(whole, tuples=table).save(tmp_path / "tuples")
    import_scores(half / "scores.parquet", TupleSet.load(tmp_path / "tuples"), tmp_path / "logit", kind="logit")
    arguments = command(tmp_path, base, tmp_path / "none", "--student", "de-ffnn", "--stages", "first", *loss)
    arguments[arguments.index("train")] = "transfer"
    code, said = call(arguments, capsys, monkeypatch)
    assert (code, "no scored row of transfer has a label" in said) == (2, True), said


def test_numbers_that_look_like_sigmoids_are_pointed_out(
    half: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["--student", "de-ffnn", "--stages", "first", "--metric", "auc-roc"]
    warned = "scores, which were imported as 'other', lie between 0 and 1. If they are probabilities: the loss 'margin-mse' does not"
    for loss, scores, expected in (("margin-mse", "share", True), ("ranknet", "share", False), ("margin-mse", "logit", False)):  # fmt: skip
        arguments = with_scores(
            command(half, base, tmp_path / f"{loss}-{scores}", *common, "--loss", loss), half / scores
        )
        code, said = call(arguments, capsys, monkeypatch)
        assert (code, warned in said) == (0, expected), said


def test_weights_that_a_frozen_tower_would_keep_are_refused(
    folder: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["--student", "twinbert-cos", "--stages", "first", "--set", "pooling=weighted"]
    code, said = call(command(folder, base, tmp_path, *more), capsys, monkeypatch)
    assert (code, "stage 1 freezes the encoders, and with them the weights of the weighted average" in said) == (
        2,
        True,
    )
