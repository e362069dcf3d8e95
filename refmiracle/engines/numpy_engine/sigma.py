"""The stretch function sigma of greedy Poisson rejection sampling, by a table.

    sigma(h) = integral from 0 to h of dL / R(L)              (docs/CODES.md section 4)

R(L) is the mass of Q that remains above the level L.  Source: Flamich, arXiv 2305.15313.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.engines.numpy_engine.unimodal import Unimodal, residual
from refmiracle.numerics.arrays import read_only

Array = NDArray[np.float64]

NODES, WEIGHTS = (read_only(a) for a in np.polynomial.legendre.leggauss(16))
# Of a panel; and the rounding of log r - log L, whose relative size grows near the mode.
TOLERANCE, ROUNDING = 1e-11, 1e-15
FIRST_PANELS = 16
HALVINGS = 40
LEAST_REST = 1e-290  # in place of an R that has come to nothing
# Where the table begins and ends: sigma(e^-25) is e^-25, and from log r_max - e^-30 on sigma is
# above any time that arrives.
FIRST_LOG_LEVEL, LAST_V = -25.0, 30.0


class Sigma(NamedTuple):
    """sigma(h) of a target, tabulated at the edges of panels.

    Its variable is v: log L = log r_max - log(1 + e^-v) in nats, in which dL / R(L) is smooth both
    far below r_max, where v is -log(r_max / L), and near it, where R vanishes as (r_max - L)^1.5.
    """

    target: Unimodal
    log_top: float
    edges: Array
    values: Array


def _slope(target: Unimodal, log_top: float, v: Array) -> Array:
    """Return d sigma / dv = (L / R(L)) / (1 + e^v)."""
    log_level = log_top - np.logaddexp(0.0, -v)
    rest = np.maximum(residual(target, log_level), LEAST_REST)
    return np.exp(log_level - np.logaddexp(0.0, v)) / rest


def _integral(target: Unimodal, log_top: float, lo: Array, hi: Array) -> Array:
    """Integrate d sigma over panels (lo, hi), shape (n,), by Gauss and Legendre's rule."""
    half = 0.5 * (hi - lo)
    v = (lo + half)[:, None] + half[:, None] * NODES
    return half * (_slope(target, log_top, v.reshape(-1)).reshape(v.shape) @ WEIGHTS)


@lru_cache(maxsize=16)
def tabulate_sigma(target: Unimodal) -> Sigma:
    """Return the table of sigma, from panels that are halved until they are good to 1e-11.

    A panel is good if its integral is that of its halves, relative to itself or to sigma, which is
    at least L; or if they differ by rounding alone.
    """
    log_top = float(target.log_ratio(target.mode))
    edges = np.linspace(FIRST_LOG_LEVEL - max(log_top, 0.0), LAST_V, FIRST_PANELS + 1)
    lo, hi = edges[:-1], edges[1:]
    found = []
    for halving in range(HALVINGS + 1):
        middle = 0.5 * (lo + hi)
        whole = _integral(target, log_top, lo, hi)
        both = _integral(target, log_top, lo, middle) + _integral(target, log_top, middle, hi)
        least = np.exp(log_top - np.logaddexp(0.0, -lo))
        # A panel where R is lost to rounding has an infinite integral, and is left so.
        error = TOLERANCE + ROUNDING * (1.0 + log_top) * np.exp(hi)
        good = ~(np.abs(whole - both) > error * np.maximum(both, least))
        good |= halving == HALVINGS
        found.append(np.stack([lo, hi, both])[:, good])
        bad = ~good
        lo, hi = np.append(lo[bad], middle[bad]), np.append(middle[bad], hi[bad])
        if not len(lo):
            break
    panels = np.concatenate(found, axis=1)
    lo, hi, part = panels[:, np.argsort(panels[0])]
    start = math.exp(log_top - np.logaddexp(0.0, -lo[0]))
    values = start + np.append(0.0, np.cumsum(part))
    return Sigma(target, log_top, read_only(np.append(lo, hi[-1])), read_only(values))


def sigma(table: Sigma, log_h: ArrayLike) -> Array:
    """Return sigma(h) = integral from 0 to h of dL / R(L); infinite from r_max on.

    Parameters
    ----------
    table : Sigma
    log_h : array_like of float
        log h in nats.

    Returns
    -------
    ndarray of float64, same shape
        To about 10 digits.
    """
    log_h = np.asarray(log_h, dtype=np.float64)
    with np.errstate(divide="ignore"):
        v = -np.log(np.expm1(np.clip(table.log_top - log_h, 0.0, 700.0)))
    value = np.where(v < table.edges[0], np.exp(log_h), np.inf)
    known = (v >= table.edges[0]) & (v < table.edges[-1])
    panel = np.searchsorted(table.edges, v[known], side="right") - 1
    more = _integral(table.target, table.log_top, table.edges[panel], v[known])
    value[known] = table.values[panel] + more
    return value


def level_below(table: Sigma, time: float) -> float:
    """Return log of a level whose sigma is less than a time; -inf where the table begins."""
    edge = int(np.searchsorted(table.values, time, side="left")) - 1
    return table.log_top - np.logaddexp(0.0, -table.edges[edge]) if edge >= 0 else -math.inf
