from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from refmiracle.studies.scores import (
    auroc,
    averages,
    brier,
    entropy,
    error,
    log_likelihood,
    log_probabilities,
    reliability,
)

# Three images, three classes; an image a column.
P = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.3, 0.6]])
LABELS = np.array([0, 2, 2], dtype=np.uint8)


def test_scores_by_hand():
    log_p = np.log(P)
    assert error(log_p, LABELS) == pytest.approx(1 / 3)
    assert log_likelihood(log_p, LABELS) == pytest.approx(np.log(0.7 * 0.3 * 0.6) / 3)
    first, second, third = 0.09 + 0.04 + 0.01, 0.04 + 0.25 + 0.49, 0.01 + 0.09 + 0.16
    assert brier(log_p, LABELS) == pytest.approx((first + second + third) / 3)
    assert entropy(log_p) == pytest.approx(-(P * np.log(P)).sum(axis=0))


def test_calibration_by_hand():
    found = reliability(np.log(P), LABELS, bins=2)
    # 0.5 is the upper end of the first bin, which holds it.
    assert found.images.tolist() == [1, 2]
    assert found.confidence == pytest.approx([0.5, 0.65])
    assert found.accuracy == pytest.approx([0.0, 1.0])
    assert found.calibration_error() == pytest.approx(0.5 / 3 + 0.35 * 2 / 3)


def test_an_empty_bin_costs_nothing():
    found = reliability(np.log(P), LABELS, bins=4)
    assert found.images.tolist() == [0, 1, 2, 0]
    assert np.isnan(found.accuracy[[0, 3]]).all()
    assert found.calibration_error() == pytest.approx(0.5 / 3 + 0.35 * 2 / 3)


def test_a_perfect_predictor(rng):
    labels = rng.integers(0, 10, 50)
    logits = np.where(np.arange(10)[:, None] == labels, 2000.0, 0.0).astype(np.float32)
    log_p = log_probabilities(logits)
    assert error(log_p, labels) == log_likelihood(log_p, labels) == brier(log_p, labels) == 0
    assert reliability(log_p, labels).calibration_error() == 0
    assert entropy(log_p).tolist() == [0.0] * 50
    # A certain and wrong answer costs what its logits say, however many nats.
    assert log_likelihood(log_p, (labels + 1) % 10) == -2000


def test_a_uniform_predictor(rng):
    labels = rng.integers(0, 10, 50)
    log_p = log_probabilities(np.zeros((10, 50)))
    assert log_likelihood(log_p, labels) == pytest.approx(-np.log(10))
    assert brier(log_p, labels) == pytest.approx(0.9)
    assert entropy(log_p) == pytest.approx(np.log(10))


def test_a_calibrated_predictor_has_no_calibration_error(rng):
    p = rng.dirichlet(np.ones(4), 200_000).T
    labels = (rng.random(p.shape[1]) > p.cumsum(axis=0)).sum(axis=0)
    found = reliability(np.log(p), labels)
    assert found.images.sum() == p.shape[1]
    assert found.calibration_error() < 0.005
    # One that is as sure of all its answers as can be is off by its error.
    sure = np.log(np.where(p == p.max(axis=0), 1 - 3e-9, 1e-9))
    assert reliability(sure, labels).calibration_error() == pytest.approx(error(sure, labels))


def test_averages_are_of_probabilities(rng):
    logits = rng.normal(scale=300, size=(6, 10, 7))
    each = [log_probabilities(x) for x in logits]
    found = list(averages(iter(each), (1, 2, 6)))
    assert len(found) == 3
    for count, average in zip((1, 2, 6), found, strict=True):
        assert np.allclose(average, logsumexp(each[:count], axis=0) - np.log(count), atol=1e-12)
        assert np.allclose(np.exp(average).sum(axis=0), 1)


@pytest.mark.parametrize("levels", [3, 1000])  # with many ties, and with few
def test_auroc_is_the_share_of_pairs_in_order(rng, levels):
    plain, changed = rng.integers(0, levels, 60), rng.integers(1, levels + 1, 35)
    pairs = np.sign(changed[:, None] - plain[None, :])
    assert auroc(plain, changed) == pytest.approx(np.mean((pairs + 1) / 2))
    assert auroc(changed, plain) == pytest.approx(1 - auroc(plain, changed))


def test_the_ends_of_auroc():
    assert auroc([0, 1], [2, 3, 4]) == 1
    assert auroc([2, 3, 4], [0, 1]) == 0
    assert auroc([1, 1, 1], [1, 1]) == 0.5
