import math
import statistics

import numpy as np
import pytest

from analysis_samples import sample_inputs
from pairstill.errors import InputError
from pairstill.evaluation.analyses.magnitudes import magnitude_of
from pairstill.evaluation.analyses.wins import SHOWN, group_metric, wins
from pairstill.metrics.catalogue import parse_metric
from pairstill.metrics.ranking import RankingMetric


def test_magnitudes_are_plain_statistics():
    inputs = sample_inputs()
    scores = inputs.logits["small"][:, 0]
    found = magnitude_of("small", "student", True, scores, inputs.groups)
    assert found.scores.mean == pytest.approx(statistics.fmean(scores))
    assert found.scores.deviation == pytest.approx(statistics.pstdev(scores))
    assert (found.scores.minimum, found.scores.maximum) == (min(scores), max(scores))
    within = [statistics.pstdev(scores[inputs.groups == one]) for one in range(inputs.groups.max() + 1)]
    assert found.within_groups.count == len(within)
    assert found.within_groups.mean == pytest.approx(statistics.fmean(within))
    assert found.within_groups.quantiles[2] == pytest.approx(statistics.median(within))


def test_groups_of_one_row_have_no_spread():
    assert magnitude_of("s", "student", True, np.array([1.0, 2.0]), np.array([0, 1])).within_groups is None


def plain_ndcg(scores, gains, depth=10):
    order = sorted(range(len(scores)), key=lambda row: -scores[row])[:depth]
    found = sum(gains[row] / math.log2(place + 2) for place, row in enumerate(order))
    best = sum(gain / math.log2(place + 2) for place, gain in enumerate(sorted(gains, reverse=True)[:depth]))
    return found / best


def test_wins_count_groups_by_ndcg():
    inputs = sample_inputs()
    found = wins(inputs, parse_metric("pearson", "graded"), "big")
    assert (found.against, found.metric) == ("big", "nDCG@10")
    assert [one.system for one in found.systems] == ["small", "two", "alike"]
    gains = inputs.relevance.gains(inputs.labels)
    for one in found.systems:
        expected = {}
        for group in range(inputs.groups.max() + 1):
            rows = np.flatnonzero(inputs.groups == group)
            if gains[rows].any():
                ours, theirs = (plain_ndcg(inputs.logits[name][rows, 0], gains[rows]) for name in (one.system, "big"))
                expected[inputs.group_names[group]] = ours - theirs
        assert {outcome.group: pytest.approx(outcome.gain, abs=1e-6) for outcome in one.groups} == expected
        assert one.won == sum(gain > 1e-9 for gain in expected.values())
        assert one.lost == sum(gain < -1e-9 for gain in expected.values())
        assert one.won + one.tied + one.lost == len(expected)
        assert list(one.curve) == sorted(one.curve, reverse=True)
        assert one.greatest_wins[0].gain == pytest.approx(max(expected.values()), abs=1e-6)
        assert one.greatest_losses[0].gain == pytest.approx(min(expected.values()), abs=1e-6)
        assert len(one.greatest_wins) <= SHOWN
        query = one.groups[0].texts["query"]
        assert set(one.groups[0].texts) == {"query"}
        assert query in inputs.tuple_set.texts(0)


def test_a_ranking_headline_is_what_groups_are_compared_by():
    inputs = sample_inputs()
    assert wins(inputs, RankingMetric("MRR", 5), "floor").metric == "MRR@5"


def test_single_rows_are_compared_by_absolute_error():
    inputs = sample_inputs("binary", queries=90, per_query=1)
    found = wins(inputs, parse_metric("auc-roc", "binary"), "big")
    assert (found.metric, found.left_out) == ("absolute error", ("alike",))
    small = found.systems[0]
    rows = {name: 1 / (1 + np.exp(-inputs.logits[name][:, 0])) for name in ("small", "big")}
    expected = np.abs(rows["big"] - inputs.labels) - np.abs(rows["small"] - inputs.labels)
    assert [one.gain for one in small.groups] == pytest.approx(list(expected))
    assert set(small.groups[0].texts) == {"query", "product"}
    with pytest.raises(InputError, match="the scores of 'alike' are similarities"):
        wins(inputs, parse_metric("auc-roc", "binary"), "alike")


def test_classes_are_compared_by_the_right_classs_probability():
    inputs = sample_inputs("classes")
    found = wins(inputs, parse_metric("accuracy", "classes"), "big")
    logits = {name: inputs.logits[name] for name in ("small", "big")}
    shares = {name: np.exp(one) / np.exp(one).sum(axis=1, keepdims=True) for name, one in logits.items()}
    right = [int(one) for one in inputs.labels]
    expected = [shares["small"][row, label] - shares["big"][row, label] for row, label in enumerate(right)]
    assert [one.gain for one in found.systems[0].groups] == pytest.approx(expected)


def test_a_system_without_scores_or_alone_is_refused():
    inputs = sample_inputs()
    with pytest.raises(InputError, match="the system 'nobody' gave no scores"):
        wins(inputs, RankingMetric("MRR", 5), "nobody")


def test_groups_that_mostly_share_no_rows_are_not_ranked():
    headline = RankingMetric("MAP")
    assert group_metric(headline, "graded", np.array([0, 0, 1, 2])) is headline
    assert group_metric(headline, "graded", np.array([0, 0, 1, 2, 3])) is None
    assert group_metric(headline, "classes", np.array([0, 0])) is None
