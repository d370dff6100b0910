import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from pairstill.errors import InputError
from pairstill.metrics.base import Predictions, Relevance, sigmoid
from pairstill.metrics.binary import AucRoc, AveragePrecision, LogLoss
from pairstill.metrics.calibration import CalibrationError, reliability
from pairstill.metrics.catalogue import default_metrics, parse_metric
from pairstill.metrics.classes import Accuracy, MacroF1
from pairstill.metrics.graded import Kendall, Pearson, Spearman
from pairstill.metrics.ranking import RankingMetric
from pairstill.tuples.set_manifest import Labels


def binary(rows=300, seed=0, levels=40):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows).astype(float)
    logits = np.round((labels + rng.normal(0, 1.2, rows)) * levels) / levels
    return Predictions.of(logits, labels, rng.integers(0, rows // 6, rows), "binary")


def graded(rows=300, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, rows) / 4
    return Predictions.of(np.round(labels * 3 + rng.normal(0, 1, rows), 1), labels, rng.integers(0, 50, rows), "graded")


def classes(rows=300, count=4, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, count, rows).astype(float)
    logits = rng.normal(0, 1, (rows, count)) + 1.5 * (labels[:, None] == np.arange(count))
    return Predictions.of(logits, labels, np.arange(rows), "classes")


def test_binary_metrics_agree_with_scikit_learn():
    one = binary()
    assert AucRoc().measure(one).value == pytest.approx(reference.roc_auc_score(one.labels, one.scores))
    assert AveragePrecision().measure(one).value == pytest.approx(
        reference.average_precision_score(one.labels, one.scores)
    )
    assert LogLoss().measure(one).value == pytest.approx(reference.log_loss(one.labels, one.probabilities))
    assert Accuracy().measure(one).value == pytest.approx(reference.accuracy_score(one.labels, one.scores >= 0))


def test_class_metrics_agree_with_scikit_learn():
    one = classes()
    chosen = one.logits.argmax(axis=1)
    assert Accuracy().measure(one).value == pytest.approx(reference.accuracy_score(one.labels, chosen))
    assert MacroF1().measure(one).value == pytest.approx(reference.f1_score(one.labels, chosen, average="macro"))
    assert LogLoss().measure(one).value == pytest.approx(reference.log_loss(one.labels, one.probabilities))


def test_correlations_agree_with_scipy_and_pearson_is_after_the_sigmoid():
    one = graded()
    assert Pearson().measure(one).value == pytest.approx(stats.pearsonr(sigmoid(one.scores), one.labels).statistic)
    assert Pearson(raw=True).measure(one).value == pytest.approx(stats.pearsonr(one.scores, one.labels).statistic)
    assert Spearman().measure(one).value == pytest.approx(stats.spearmanr(one.scores, one.labels).statistic)
    assert Kendall().measure(one).value == pytest.approx(stats.kendalltau(one.scores, one.labels).statistic)


def test_calibration_error_by_hand_in_both_binnings():
    logits = np.log(np.array([0.1, 0.2, 0.6, 0.9]) / (1 - np.array([0.1, 0.2, 0.6, 0.9])))
    one = Predictions.of(logits, np.array([0, 1, 1, 1.0]), np.arange(4), "binary")
    by_mass = CalibrationError(bins=2).measure(one).value
    assert by_mass == pytest.approx(0.5 * abs(0.15 - 0.5) + 0.5 * abs(0.75 - 1.0))
    by_width = CalibrationError(bins=10, binning="equal-width").measure(one).value
    assert by_width == pytest.approx((0.1 + 0.8 + 0.4 + 0.1) / 4)
    assert sum(found.rows for found in reliability(one)) == 4


def plain_ranking(one, family, depth):
    """A transcription of the definitions, ties by row number downwards as trec_eval orders names."""
    values = []
    for group in np.unique(one.groups):
        rows = np.flatnonzero(one.groups == group)
        gains, relevant = one.relevance.gains(one.labels[rows]), one.relevance.relevant(one.labels[rows])
        order = sorted(range(len(rows)), key=lambda k: (one.scores[rows[k]], rows[k]), reverse=True)
        if family == "nDCG":
            if not gains.any():
                continue
            best = sorted(gains, reverse=True)[:depth]
            got = sum(gains[k] / math.log2(rank + 2) for rank, k in enumerate(order[:depth]))
            values.append(got / sum(gain / math.log2(rank + 2) for rank, gain in enumerate(best)))
            continue
        if not relevant.any():
            continue
        hits = [relevant[k] for k in order]
        if family == "MRR":
            values.append(next((1 / (rank + 1) for rank, hit in enumerate(hits[:depth]) if hit), 0.0))
        elif family == "Recall":
            values.append(sum(hits[:depth]) / sum(hits))
        else:
            values.append(np.mean([sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]))
    return float(np.mean(values))


@pytest.mark.parametrize(("family", "depth"), [("nDCG", 3), ("MRR", 3), ("MAP", None), ("Recall", 2)])
@pytest.mark.parametrize("make", [binary, graded])
def test_ranking_metrics_agree_with_their_definitions(make, family, depth):
    one = make()
    if one.kind == "graded":
        how = Relevance.of(Labels("graded", 1.0, 3.0))
        assert how.levels == 2
        one = Predictions.of(one.logits, one.labels, one.groups, "graded", relevance=how)
    found = RankingMetric(family, depth).measure(one).value
    assert found == pytest.approx(plain_ranking(one, family, depth or 10**6))


def test_groups_without_a_relevant_row_are_left_out():
    one = Predictions.of(np.array([2.0, 1, 2, 1]), np.array([0, 0, 0, 1.0]), np.array([0, 0, 1, 1]), "binary")
    assert RankingMetric("MRR", 10).measure(one).value == 0.5
    none = Predictions.of(np.array([2.0, 1]), np.zeros(2), np.zeros(2), "binary")
    found = RankingMetric("nDCG", 10).measure(none)
    assert (found.value, found.reason) == (None, "no group has a relevant row")


ALL = (AucRoc(), AveragePrecision(), LogLoss(), CalibrationError(), Pearson(), Spearman(), Kendall())


@pytest.mark.parametrize("metric", [*ALL, Accuracy(), MacroF1(), RankingMetric("nDCG", 10), RankingMetric("MAP")])
@pytest.mark.parametrize("labels", [np.zeros(6), np.ones(6), np.array([1.0]), np.array([])])
def test_degenerate_input_gives_a_value_or_a_reason(metric, labels):
    one = Predictions.of(np.zeros(len(labels)), labels, np.zeros(len(labels)), "binary")
    found = metric.measure(one)
    assert (found.value is None) == (found.reason is not None)
    if metric in (AucRoc(), AveragePrecision(), Pearson(), Spearman(), Kendall()):
        assert found.value is None


def test_similarities_have_no_log_loss_and_wrong_kinds_say_so():
    one = Predictions.of(np.array([5.0, 7.0]), np.array([0.0, 1.0]), np.arange(2), "binary", calibrated=False)
    assert LogLoss().measure(one).reason == "the score is a similarity, not a probability"
    assert AucRoc().measure(one).value == 1.0
    assert "not defined for classes" in str(AucRoc().measure(classes()).reason)


def test_predictions_refuse_nan_and_wrong_lengths():
    with pytest.raises(ValueError, match="finite"):
        Predictions.of(np.array([np.nan]), np.array([1.0]), np.array([0]), "binary")
    with pytest.raises(ValueError, match="shapes differ"):
        Predictions.of(np.zeros(3), np.zeros(2), np.zeros(2), "binary")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(8, 60))
def test_metrics_do_not_depend_on_row_order(seed, rows):
    rng = np.random.default_rng(seed)
    logits, labels = np.round(rng.normal(size=rows), 1), rng.integers(0, 2, rows).astype(float)
    groups, order = rng.integers(0, 5, rows), rng.permutation(rows)
    names = np.array([f"d{row}" for row in range(rows)])
    one = Predictions.of(logits, labels, groups, "binary", documents=names)
    other = Predictions.of(logits[order], labels[order], groups[order], "binary", documents=names[order])
    for metric in (*ALL, RankingMetric("nDCG", 5), RankingMetric("MAP")):
        assert metric.measure(one).value == pytest.approx(metric.measure(other).value, nan_ok=True), metric


def test_names_are_parsed_in_any_case_and_mistakes_get_the_nearest():
    assert parse_metric("ndcg@5", "graded") == RankingMetric("nDCG", 5)
    assert parse_metric("AUC", "binary") == AucRoc()
    assert parse_metric("map", "binary").name == "MAP"
    with pytest.raises(InputError, match="Did you mean 'spearman'"):
        parse_metric("speerman", "graded")
    with pytest.raises(InputError, match="not defined for graded"):
        parse_metric("auc-roc", "graded")
    with pytest.raises(InputError, match="no metric 'nDCG'"):
        parse_metric("nDCG", "binary")
    with pytest.raises(InputError, match="no labels"):
        default_metrics("none")
