from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from evaluation_samples import synthetic, tuple_set
from pairstill.errors import ArtefactError, InputError
from pairstill.evaluation.comparison import compare
from pairstill.evaluation.floors import floor_systems
from pairstill.evaluation.results import Comparison
from pairstill.evaluation.system import System, merge_seeds
from pairstill.files import write_json
from pairstill.metrics.base import sigmoid
from pairstill.metrics.catalogue import parse_metric
from pairstill.metrics.graded import pearson


def compared(kind="graded", noises=(0.5, 1.0), slices=("length",), **more):
    one = tuple_set(kind)
    rows = {split: one.split(split) for split in ("test", "valid")}
    outputs = one.labels.outputs
    teacher, student = (
        synthetic(rows, name, role, noise, outputs, seed=k)
        for k, (name, role, noise) in enumerate(zip(("big", "small"), ("teacher", "student"), noises, strict=True))
    )
    floors, _ = floor_systems(one, rows, None)
    return one, rows, compare(one, rows, [teacher, student, *floors], slices=slices, resamples=100, **more)


def test_graded_comparison_counts_ranks_and_retains():
    _, rows, found = compared()
    test = found.main
    assert (test.split, test.rows, test.labelled) == ("test", 60, 59)
    teacher, student = test.system("big"), test.system("small")
    assert student.retention == pytest.approx(student.compared / teacher.compared)
    assert teacher.retention is None
    assert teacher.agreement is None
    kept = ~np.isnan(rows["test"].labels)
    system = synthetic(rows, "small", "student", 1.0, seed=1)
    expected = pearson(sigmoid(system.logits["test"][0][kept, 0]), rows["test"].labels[kept]).value
    assert student.metrics["pearson"].value == pytest.approx(expected)
    # Agreement is over all rows, the unlabelled one too.
    big = synthetic(rows, "big", "teacher", 0.5, seed=0)
    agreement = pearson(sigmoid(system.logits["test"][0][:, 0]), sigmoid(big.logits["test"][0][:, 0])).value
    assert student.agreement.pearson.value == pytest.approx(agreement)
    values = [one.compared for one in test.systems if one.compared is not None]
    assert values == sorted(values, reverse=True)
    assert test.system("constant").metrics["pearson"].reason == "the system gives every row the same score"
    assert {one.value for one in test.slices} == {"long", "short"}
    assert sum(one.rows for one in test.slices) == 59
    assert found.settings["gain_levels"] == 3


def test_queries_that_training_rows_have_are_told_from_new_ones():
    one = tuple_set()
    groups = np.array(one.tuples["group"].to_pylist(), dtype=object)
    # Query 1 is of the test rows alone; queries 4 and 7 are made to be of training and of transfer rows, too.
    splits = one.tuples["split"].to_pylist()
    splits[0], splits[1] = "train", "transfer"
    groups[0], groups[1] = "q 4", "q 7"
    columns = {"group": pa.array(groups.tolist()), "split": pa.array(splits)}
    both = replace(
        one, tuples=pa.table({**dict(zip(one.tuples.column_names, one.tuples.columns, strict=True)), **columns})
    )
    rows = {"test": both.split("test")}
    systems = [synthetic(rows, "big", "teacher", 0.5), synthetic(rows, "small", "student", 1.0, seed=1)]
    found = {part.value: part for part in compare(both, rows, systems, slices=["seen"], resamples=50).main.slices}
    labelled = groups[rows["test"].rows][~np.isnan(rows["test"].labels)]
    assert {name: part.groups for name, part in found.items()} == {"seen": 2, "new": len(set(labelled)) - 2}
    assert found["seen"].rows == np.isin(labelled, ["q 4", "q 7"]).sum()
    assert sum(part.rows for part in found.values()) == len(labelled)


@pytest.mark.parametrize(("kind", "headline"), [("binary", "auc-roc"), ("graded", "pearson"), ("classes", "accuracy")])
def test_every_label_kind_compares_and_survives_json(tmp_path, kind, headline):
    _, _, found = compared(kind, noises=(0.1, 1.0))
    assert found.headline == headline
    assert found.main.systems[0].name == "big"
    found.save(tmp_path / "results.json")
    assert Comparison.load(tmp_path / "results.json") == found


def test_a_floor_is_compared_in_its_favour():
    one = tuple_set()
    rows = {"test": one.split("test")}
    labels = np.nan_to_num(rows["test"].labels)
    steep = System("similar", "floor", {"test": (100 + 20 * labels)[None, :, None].astype("float32")}, calibrated=False)
    found = compare(one, rows, [synthetic(rows, "big", "teacher", 1.0), steep], resamples=50).main.system("similar")
    assert found.metrics["pearson"].reason == "the system gives every row the same score"
    assert found.compared == pytest.approx(found.raw_pearson) == pytest.approx(1.0)
    assert found.reliability == ()


def test_similarities_have_no_log_loss_and_floors_of_classes_are_constant_alone():
    _, _, found = compared("binary")
    assert found.main.system("BM25").metrics["log-loss"].reason == "the score is a similarity, not a probability"
    assert found.main.system("constant").metrics["log-loss"].value is not None
    _, _, classes = compared("classes")
    assert [one.name for one in classes.systems] == ["big", "small", "constant"]
    assert classes.main.system("small").agreement.same_class.value <= 1


def test_the_verdict_says_when_retention_means_nothing():
    _, _, weak = compared(noises=(30.0, 40.0))
    sentences = " ".join(weak.main.verdict)
    assert "The teacher is not" in sentences
    assert "retention figures mean nothing here" in sentences
    _, _, bad = compared(noises=(0.3, 60.0))
    sentences = " ".join(bad.main.verdict)
    assert "small" in sentences
    assert "No student beats the floors." in sentences
    _, _, good = compared(noises=(0.2, 0.3))
    assert "not above" not in " ".join(good.main.verdict)
    assert good.main.system("big").ahead_of in (None, "small")


def test_seeds_give_mean_and_deviation():
    one = tuple_set()
    rows = {"test": one.split("test")}
    parts = [synthetic(rows, "small", "student", 1.0, seed=k) for k in range(3)]
    merged = merge_seeds(parts)
    assert [part.seeds for part in merged] == [3]
    alone = [compare(one, rows, [part], resamples=20).main.systems[0].metrics["pearson"].value for part in parts]
    found = compare(one, rows, merged, resamples=20).main.systems[0].metrics["pearson"]
    assert found.value == pytest.approx(np.mean(alone))
    assert found.deviation == pytest.approx(np.std(alone, ddof=1))
    with pytest.raises(InputError, match="given to a student and a teacher"):
        merge_seeds([parts[0], synthetic(rows, "small", "teacher", 1.0)])


def test_three_fields_and_no_labels():
    one = tuple_set(fields=3)
    rows = {"test": one.split("test")}
    floors, _ = floor_systems(one, rows, None)
    found = compare(one, rows, [synthetic(rows, "big", "teacher", 0.5), *floors], resamples=20)
    assert found.main.system("BM25").compared is not None
    none = tuple_set("none")
    with pytest.raises(InputError, match="has no labels"):
        compare(none, {"test": none.split("test")}, [floors[0]], metrics=[parse_metric("spearman", "graded")])


def test_bad_systems_are_refused():
    one = tuple_set()
    rows = {"test": one.split("test")}
    big = synthetic(rows, "big", "teacher", 1.0)
    with pytest.raises(InputError, match="two systems are called 'big'"):
        compare(one, rows, [big, big])
    with pytest.raises(InputError, match="2 teachers"):
        compare(one, rows, [big, synthetic(rows, "other", "teacher", 1.0)])
    with pytest.raises(InputError, match="Did you mean 'length'"):
        compare(one, rows, [big], slices=["lenght"])
    with pytest.raises(InputError, match="gives 3 outputs"):
        compare(one, rows, [System("big", "teacher", {"test": np.zeros((1, 60, 3), "float32")})])
    with pytest.raises(InputError, match="not a finite number"):
        System("big", "teacher", {"test": np.full((1, 60, 1), np.nan, "float32")})
    with pytest.raises(InputError, match="no system"):
        compare(one, rows, [])


def test_damaged_results_are_refused(tmp_path):
    _, _, found = compared(slices=())
    path = tmp_path / "results.json"
    for change, message in (
        ({"format": "other"}, "holds no evaluation"),
        ({"version": 99}, "format version is 99"),
        ({"splits": "none"}, "damaged"),
    ):
        write_json(path, {**found.to_dict(), **change})
        with pytest.raises(ArtefactError, match=message):
            Comparison.load(path)
