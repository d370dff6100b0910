import json
from dataclasses import replace

import numpy as np
import pytest

from analysis_samples import bag_student, kept_students
from evaluation_samples import synthetic, tiny_base, tiny_student, tuple_set
from pairstill.errors import ArtefactError, InputError
from pairstill.evaluation.analyses.analyse import analyse
from pairstill.evaluation.analyses.request import NAMES, Request, plan
from pairstill.evaluation.analyses.results import Analyses
from pairstill.evaluation.comparison import compare
from pairstill.evaluation.evaluate import Evaluation
from pairstill.metrics.base import Relevance


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    base = tiny_base(tmp_path_factory.mktemp("plan") / "base")
    return [("tsf", kept_students(base)["tsf"]), ("bag", bag_student()), ("one", tiny_student("de-cos", base))]


def evaluation(one, systems):
    rows = {"test": one.split("test")}
    found = [
        synthetic(rows, name, role, 1.0, one.labels.outputs, seed=seed)
        for seed, (name, role) in enumerate(systems.items())
    ]
    how = Relevance.of(one.labels)
    return Evaluation(compare(one, rows, found, relevance=how, resamples=20), tuple(found), rows, how)


ROLES = {"tsf": "student", "bag": "student", "one": "student", "big": "teacher", "BM25": "floor"}


def planned(one, students, roles=ROLES, **wanted):
    return plan(Request(**{"pairs": 100, **wanted}), one, one.split("test"), roles, students)


def test_everything_is_done_saved_and_read(students, tmp_path):
    one = tuple_set()
    made = planned(one, students)
    assert made.names == NAMES
    assert made.notes == ("slots: 'bag' is left out, a bert2dnn keeps no fixed number of vectors a text.",
                          "slots: 'one' is left out, a de-cos keeps one vector a text.")  # fmt: skip
    found = analyse(made, evaluation(one, ROLES), one)
    assert all(getattr(found, name) is not None for name in NAMES)
    assert found.rows == int((~np.isnan(one.split("test").labels)).sum())
    assert [system.system for system in found.neighbours.systems] == ["tsf", "bag", "one"]
    assert len(found.neighbours.terms) == 12
    assert [system.system for system in found.slots.systems] == ["tsf"]
    assert {row.system for row in found.magnitudes} == set(ROLES)
    assert found == analyse(made, evaluation(one, ROLES), one)
    found.save(tmp_path / "analyses.json")
    without = replace(found.wins, systems=tuple(replace(system, groups=()) for system in found.wins.systems))
    assert Analyses.load(tmp_path / "analyses.json") == replace(found, wins=without)


def test_what_does_not_apply_is_left_out_with_the_reason_or_refused_where_it_was_named(students):
    classes = tuple_set("classes")
    made = planned(classes, students[1:], {"bag": "student", "one": "student"})
    assert made.names == ("neighbours",)
    assert "margins: left out, it reads one logit a tuple, and the labels are classes." in made.notes
    assert "wins: left out, there is no teacher, and --against names no other system." in made.notes
    with pytest.raises(InputError, match=r"the analysis 'slots' does not apply: it reads one logit a tuple"):
        planned(classes, students, names=("slots",))
    graded = tuple_set()
    for name, roles, models, reason in (
        ("margins", {"tsf": "student"}, students, "there is no teacher"),
        ("wins", {"big": "teacher", "BM25": "floor"}, [], "there is no system to compare with 'big'"),
        ("slots", ROLES, students[1:], "no student keeps a fixed number of several vectors"),
        ("neighbours", ROLES, [], "no student has input embeddings with names"),
    ):
        with pytest.raises(InputError, match=reason):
            planned(graded, models, roles, names=(name,), every=False)
    flat = tuple_set("binary", per_query=1)
    with pytest.raises(InputError, match="no group has two items with different labels"):
        planned(flat, students, names=("margins",), every=False)


def test_only_what_was_named_is_done(students):
    one = tuple_set()
    made = planned(one, students, names=("wins", "cases"), every=False, against="BM25", cases=("q 1",))
    assert made.names == ("wins", "cases")
    found = analyse(made, evaluation(one, ROLES), one)
    assert found.wins.against == "BM25"
    assert [case.group for case in found.cases.cases] == ["q 1"]
    assert found.margins is found.slots is None


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"against": "BM26"}, "there is no system 'BM26'. Expected: one of tsf, bag, one, big, BM25"),
        ({"cases": ("q 99",)}, "the split has no labelled group 'q 99'"),
        ({"terms": ("lamp", "lampe")}, "the term 'lampe' is in no student's vocabulary"),
    ],
)
def test_names_that_are_not_there_are_refused(students, wanted, message):
    with pytest.raises(InputError) as caught:
        planned(tuple_set(), students, **wanted)
    assert message in str(caught.value)


def test_an_unknown_analysis_is_refused():
    with pytest.raises(
        InputError, match=r"no analysis 'margin'\. Expected: one of margins, .* Did you mean 'margins'\?"
    ):
        Request(("margin",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "pairstill/evaluation"}, "the file holds no analyses"),
        ({"version": 2}, "the format version is 2. Expected: at most 1"),
        (
            {"margins": {"pairs": "many"}},
            r"'margins.system': the file of analyses is damaged: Field required",
        ),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, change, message):
    path = tmp_path / "analyses.json"
    path.write_text(json.dumps({**Analyses("test", 1, 0).to_dict(), **change}))
    with pytest.raises(ArtefactError) as caught:
        Analyses.load(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
