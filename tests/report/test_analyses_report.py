import csv
import io
import re
from dataclasses import replace

import pytest

from analysis_samples import sample_inputs
from evaluation_samples import tuple_set
from pairstill.evaluation.analyses.cases import cases
from pairstill.evaluation.analyses.magnitudes import magnitude_of
from pairstill.evaluation.analyses.margins import margins_of
from pairstill.evaluation.analyses.neighbours import Neighbour, Neighbours, StudentNeighbours, TermNeighbours
from pairstill.evaluation.analyses.results import Analyses
from pairstill.evaluation.analyses.slots import Slot, Slots, StudentSlots
from pairstill.evaluation.analyses.wins import wins
from pairstill.metrics.ranking import RankingMetric
from pairstill.report.analyses.slot_maps import slot_maps
from pairstill.report.analyses.table_files import analyses_to_csv
from pairstill.report.html import to_html
from report_samples import Page, comparison

BAD = "<b>&\"'"


def analyses():
    """Everything, with markup in every text that comes from outside."""
    inputs = sample_inputs()
    texts = inputs.tuple_set.texts(0)
    texts[:] = [f"{one} {BAD}" for one in texts]
    shares = {"[CLS]": None, "itself": 0.5, "other kept": 0.25, "beyond kept": 0.25, "[SEP]": 0.0}
    slot = Slot("query", 0, 30, 0.4, -0.02, 0.5, shares, 0.93)
    slots = [
        replace(slot, slot=number, attention={**shares, "[CLS]": 0.0}, change=0.001 * number) for number in range(1, 20)
    ]
    empty = Slot(BAD, 0, 0, None, None, None, None, None)
    terms = (TermNeighbours(BAD, (Neighbour("nail" + BAD, 0.8), Neighbour("screw", -0.1))), TermNeighbours("lamp", ()))
    return Analyses(
        "test", len(inputs.tuples), 0, ("a note " + BAD,),
        margins=margins_of("big" + BAD, inputs.logits["big"][:, 0], inputs.labels, inputs.groups),
        magnitudes=tuple(
            magnitude_of(one.name + BAD, one.role, one.calibrated, inputs.logits[one.name][:, 0], inputs.groups)
            for one in inputs.systems
        ),
        wins=wins(inputs, RankingMetric("nDCG", 10), "big"),
        slots=Slots("pearson", (StudentSlots("tsf" + BAD, 60, 0.42, {BAD: 0.3}, 0.2, 0.8, (slot, *slots, empty), ("none " + BAD,)),)),
        neighbours=Neighbours((BAD, "lamp"), (StudentNeighbours("bag" + BAD, 9000, 5000, terms),)),
        cases=cases(inputs, seed=1),
    )  # fmt: skip


def test_the_section_is_whole_escaped_and_fetches_nothing():
    source = to_html([comparison()], [analyses()])
    page = Page()
    page.feed(source)
    assert page.open == []
    assert page.references == []
    assert not re.search(r"https?:|url\(|@import|//[a-z]|<b>&", source)
    words = " ".join(page.words)
    for one in (
        f"Margins of big{BAD}", "below 0", "How large the scores are", "Wins and losses against big", "Greatest losses",
        "What kept vectors hold", "Nearest input embeddings", f"nail{BAD}", "not in its vocabulary", "Cases", "a note " + BAD,
        "slots 0 to 15", "slots 16 to 19", "attention, beyond kept", "cosine with base", "none " + BAD,
    ):  # fmt: skip
        assert one in words, one
    assert source.index("Calibration on test") < source.index("Seeing inside, test") < source.index("Facts")


def test_reports_of_several_comparisons_have_their_own_analyses():
    source = to_html([comparison(title="first"), comparison(title="second")], [None, analyses()])
    assert source.count("Seeing inside") == 1
    assert source.index("second</h1>") < source.index("Seeing inside")
    assert "Seeing inside" not in to_html([comparison()])


def test_a_slot_that_is_better_away_has_the_other_colour():
    student = analyses().slots.systems[0]
    drawn = dict(slot_maps(student, "Pearson"))["query, slots 0 to 15"]
    assert "var(--student) 55%" in re.search(r"<rect[^>]*><title>slot 0, Pearson[^<]*", drawn)[0]
    assert "var(--teacher)" in re.search(r"<rect[^>]*><title>slot 9, Pearson[^<]*", drawn)[0]
    loss = dict(slot_maps(student, "log loss", lower_is_better=True))["query, slots 0 to 15"]
    assert "var(--teacher)" in re.search(r"<rect[^>]*><title>slot 0, log loss[^<]*", loss)[0]
    assert ">−.0200<" in drawn  # noqa: RUF001


@pytest.mark.parametrize("name", ["margins", "magnitudes", "wins", "slots", "neighbours", "cases"])
def test_tables_hold_every_number(name):
    one = analyses()
    tables = analyses_to_csv(one, tuple_set().field_names)
    rows = list(csv.DictReader(io.StringIO(tables[name])))
    assert None not in {key for row in rows for key in row}
    if name == "margins":
        assert sum(int(row["pairs"]) for row in rows) == one.margins.pairs
    elif name == "magnitudes":
        assert len(rows) == 2 * len(one.magnitudes)
        assert float(rows[0]["quantile 0.5"]) == one.magnitudes[0].scores.quantiles[2]
    elif name == "wins":
        assert len(rows) == sum(len(system.groups) for system in one.wins.systems)
        assert float(rows[3]["gain"]) == one.wins.systems[0].groups[3].gain
        assert rows[0]["product"] == ""
    elif name == "slots":
        assert len(rows) == 21
        assert (float(rows[1]["attention itself"]), rows[0]["attention [CLS]"], rows[20]["probe"]) == (0.5, "", "")
    elif name == "neighbours":
        assert [row["entry"] for row in rows] == ["nail" + BAD, "screw"]
    else:
        assert len(rows) == sum(len(case.rows) for case in one.cases.cases)
        assert float(rows[0]["big probability"]) == one.cases.cases[0].rows[0].scores[0].probability
        assert rows[0]["alike probability"] == ""
    assert set(analyses_to_csv(Analyses("test", 1, 0), ("a",))) == set()
