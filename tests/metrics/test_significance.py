import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.metrics.base import Predictions
from pairstill.metrics.binary import AucRoc, AveragePrecision, LogLoss
from pairstill.metrics.classes import Accuracy, MacroF1
from pairstill.metrics.graded import Kendall, Pearson, Spearman
from pairstill.metrics.ranking import RankingMetric
from pairstill.metrics.significance import paired_bootstrap, resample_weights


def systems(kind="binary", noises=(1.5, 4.0), rows=80, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows).astype(float) if kind == "binary" else rng.integers(0, 4, rows) / 3
    groups = rng.integers(0, 12, rows)
    return [
        [Predictions.of(np.round(labels * 2 - 1 + rng.normal(0, noise, rows), 1), labels, groups, kind)]
        for noise in noises
    ]


def slow_p_value(metric, left, right, resamples, seed):
    """Figure 1 of Berg-Kirkpatrick et al. 2012, line by line, on the same draws of groups."""
    observed = metric.measure(left).value - metric.measure(right).value
    if not metric.higher_is_better:
        observed = -observed
    if observed < 0:
        left, right, observed = right, left, -observed
    exceeding = 0
    for piece in resample_weights(left.group_count, len(left), resamples, seed):
        for weights in piece:
            a, b = metric.measure(left.repeated(weights)).value, metric.measure(right.repeated(weights)).value
            if a is None or b is None:
                exceeding += 1
                continue
            lead = a - b if metric.higher_is_better else b - a
            if lead > 2 * observed + 1e-12:
                exceeding += 1
    return exceeding / resamples


BINARY = [AucRoc(), AveragePrecision(), LogLoss(), Accuracy(), MacroF1(), RankingMetric("MRR", 3), RankingMetric("MAP")]
GRADED = [Pearson(), Spearman(), Kendall(), Pearson(raw=True), RankingMetric("nDCG", 3)]


@pytest.mark.parametrize(
    ("metric", "kind"), [*((one, "binary") for one in BINARY), *((one, "graded") for one in GRADED)]
)
def test_the_fast_bootstrap_is_the_slow_one(metric, kind):
    (left,), (right,) = systems(kind)
    test = paired_bootstrap([metric, metric], [[left], [right]], resamples=60, seed=3)[0]
    assert test.p_value == pytest.approx(slow_p_value(metric, left, right, 60, 3))


@pytest.mark.parametrize(
    ("metric", "kind"), [*((one, "binary") for one in BINARY), *((one, "graded") for one in GRADED)]
)
def test_resampled_values_are_the_metric_on_repeated_rows(metric, kind):
    one = systems(kind)[0][0]
    weights = next(resample_weights(one.group_count, len(one), 5, 1))
    plain = [metric.measure(one.repeated(each)).value for each in weights]
    assert metric.resampled(one, weights) == pytest.approx(plain)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_equal_systems_are_never_significant(seed):
    one = systems(seed=seed)[0]
    for metric in (AucRoc(), LogLoss()):
        test = paired_bootstrap([metric, metric], [one, one], resamples=20, seed=seed)[0]
        assert (test.difference, test.p_value) == (0.0, 1.0)


def test_a_clear_lead_is_significant_and_a_seed_repeats():
    found = systems(noises=(0.3, 3.0), rows=300)
    first = paired_bootstrap([AucRoc()] * 2, found, resamples=200, seed=1)
    assert first[0].better == 0
    assert first[0].p_value == 0.0
    assert first == paired_bootstrap([AucRoc()] * 2, found, resamples=200, seed=1)


def test_losses_are_better_when_lower():
    found = systems(noises=(3.0, 0.3), rows=300)
    test = paired_bootstrap([LogLoss()] * 2, found, resamples=50)[0]
    assert (test.better, test.other) == (1, 0)
    assert test.difference is not None
    assert test.difference > 0


def test_seeds_are_averaged_and_missing_values_have_no_p_value():
    one, other = systems()
    test = paired_bootstrap([AucRoc()] * 2, [[one[0], one[0]], other], resamples=50)[0]
    assert test == paired_bootstrap([AucRoc()] * 2, [one, other], resamples=50)[0]
    constant = [Predictions.of(np.zeros(len(one[0])), one[0].labels, one[0].groups, "binary")]
    assert paired_bootstrap([Pearson()] * 2, [one, constant], resamples=20)[0].p_value is None


def test_draws_do_not_depend_on_the_chunk(monkeypatch):
    whole = np.concatenate(list(resample_weights(7, 20, 30, 5)))
    monkeypatch.setattr("pairstill.metrics.significance.CELLS_PER_CHUNK", 60)
    assert np.array_equal(whole, np.concatenate(list(resample_weights(7, 20, 30, 5))))
    assert (whole.sum(axis=1) == 7).all()
