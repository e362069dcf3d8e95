"""Scores of a classifier's predictive probabilities: how right it is, and how well it knows it.

Throughout, p_k(n) is the predictive probability of class k for image n, and y(n) its label.
Probabilities come as their logarithms, so that none is lost to rounding and none is clipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from refmiracle.nn.evaluation import classes

BINS = 15  # as Guo et al. 2017 have
Array = NDArray[np.float64]


def log_probabilities(logits: ArrayLike) -> Array:
    """Return log p, shape (classes, images), of logits of that shape."""
    return np.asarray(scipy.special.log_softmax(np.asarray(logits, dtype=np.float64), axis=0))


def averages(log_p: Iterable[Array], counts: Sequence[int]) -> Iterator[Array]:
    """Yield the logarithm of the mean probability of the first `counts` predictions.

    log p(n) = log (1 / S) sum_s p^s(n), the Monte-Carlo predictive distribution of S samples.

    Parameters
    ----------
    log_p : iterable of ndarray, shape (classes, images)
        One a sample, each asked for once and not kept.
    counts : sequence of int
        Ascending; the last is how many samples there are.

    Yields
    ------
    ndarray, shape (classes, images)
    """
    total: Array | float = -np.inf
    for number, one in enumerate(log_p, 1):
        total = np.logaddexp(total, one)
        if number in counts:
            yield total - np.log(number)


def error(log_p: Array, labels: NDArray[np.integer]) -> float:
    """Return the share of images whose most probable class is not the label, in [0, 1]."""
    return float(np.mean(classes(log_p) != labels))


def log_likelihood(log_p: Array, labels: NDArray[np.integer]) -> float:
    """Return mean_n log p_y(n), nats per image, at most 0."""
    return float(np.mean(log_p[labels, np.arange(len(labels))]))


def brier(log_p: Array, labels: NDArray[np.integer]) -> float:
    """Return mean_n sum_k (p_k(n) - [k = y(n)])^2, in [0, 2]: Brier 1950, as he defines it."""
    p = np.exp(log_p)
    p[labels, np.arange(len(labels))] -= 1
    return float(np.mean((p**2).sum(axis=0)))


@dataclass(frozen=True)
class Reliability:
    """What images do whose confidence, the probability of the most probable class, is alike.

    Bin b of B holds the confidences in (b / B, (b + 1) / B].

    Attributes
    ----------
    images : ndarray of int, shape (bins,)
        How many each bin holds.
    confidence, accuracy : ndarray of float, shape (bins,)
        Mean confidence, and share of them that are right, in [0, 1]; nan in an empty bin.
    """

    images: NDArray[np.int64]
    confidence: Array
    accuracy: Array

    def calibration_error(self) -> float:
        """Return sum_b images_b / N abs(accuracy_b - confidence_b), in [0, 1].

        The expected calibration error, ECE (Naeini et al. 2015; Guo et al. 2017, equation 3).
        """
        gaps = self.images * np.abs(self.accuracy - self.confidence)
        return float(np.nansum(gaps) / self.images.sum())


def reliability(log_p: Array, labels: NDArray[np.integer], bins: int = BINS) -> Reliability:
    """Return the reliability in bins of equal width: Guo et al. 2017, section 2."""
    top = np.exp(log_p.max(axis=0))
    right = classes(log_p) == labels
    # Rounding may leave a probability just above 1.
    of_image = np.clip(np.ceil(bins * top).astype(np.int64) - 1, 0, bins - 1)
    images = np.bincount(of_image, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(of_image, top, bins) / images
        accuracy = np.bincount(of_image, right, bins) / images
    return Reliability(images, confidence, accuracy)


def entropy(log_p: Array) -> Array:
    """Return -sum_k p_k(n) log p_k(n), nats, shape (images,): the predictive entropy."""
    return np.asarray(-(np.exp(log_p) * log_p).sum(axis=0))


def auroc(plain: ArrayLike, changed: ArrayLike) -> float:
    """Return how well a figure tells changed images from plain ones, in [0, 1].

    The area under the receiver operating characteristic is the probability that a changed image
    has the larger figure, a tie counting half: U / (C P) with the Mann-Whitney statistic
    U = R - C (C + 1) / 2, where R is the sum of the ranks of the C changed images among all
    C + P, and equal figures share their mean rank (Hanley and McNeil 1982).  0.5 is chance.

    Parameters
    ----------
    plain, changed : array_like of float, shape (images,)
    """
    plain, changed = np.asarray(plain), np.asarray(changed)
    count = len(changed)
    ranks = scipy.stats.rankdata(np.concatenate([changed, plain]))[:count]
    return float((ranks.sum() - count * (count + 1) / 2) / (count * len(plain)))
