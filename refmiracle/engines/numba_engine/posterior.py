"""Gaussian posteriors over blocks: the contract of `numpy_engine.posterior`, compiled.

Parameters and results are float32; what stands between them is float64 in registers, because
the branch point (s near 1) eats half of the digits.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from refmiracle.engines.numba_engine.threads import parallel_map, row_parts

COMPILE: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
SQRT2 = math.sqrt(2.0)


@numba.njit(**COMPILE)
def _excess_series(y):
    """exp(-y) - 1 + y for small y, where the terms would cancel."""
    series = 1 / 120 - y * (1 / 720 - y * (1 / 5040 - y * (1 / 40320)))
    return y * y * (0.5 - y * (1 / 6 - y * (1 / 24 - y * series)))


@numba.njit(**COMPILE)
def _excess(y):
    """exp(-y) - 1 + y for every y."""
    return _excess_series(y) if abs(y) < 0.02 else math.expm1(-y) + y


@numba.njit(**COMPILE)
def _log_s(x):
    """Two steps of Halley's method on exp(-y) - 1 + y = x^2, for y = -log s.

    The start is right to the second order at x = 0 and has the right slope at infinity, within
    a few percent between; each step triples the digits.
    """
    y = SQRT2 * x + x * x * (1.0 - (2 / 3) / (1.0 + SQRT2 / 3.0 * x))
    if y < 1e-5:  # the next term is about y^3 / 36, and products of slopes might underflow below
        return -y
    for _ in range(2):
        slope = -math.expm1(-y)
        f = (_excess_series(y) if y < 0.02 else y - slope) - x * x
        y -= 2.0 * f * slope / (2.0 * slope * slope - f * (1.0 - slope))
    return -y


@numba.njit(**COMPILE)
def _log_s_many(x, out):
    for i in range(x.size):
        out[i] = _log_s(np.float64(x[i]))


@numba.njit(**COMPILE)
def _ds_dx_many(x, out):
    for i in range(x.size):
        log_s = _log_s(np.float64(x[i]))
        spent = -math.expm1(log_s)
        out[i] = -2.0 * math.exp(log_s) * (x[i] / spent if spent > 0.0 else 1.0 / SQRT2)


@numba.njit(**COMPILE)
def _gaussian_kl(delta, log_s, out):
    for i in range(delta.size):
        d = np.float64(delta[i])
        out[i] = 0.5 * (d * d + _excess(-np.float64(log_s[i])))


@numba.njit(**COMPILE)
def _shares(phi, share):
    """softmax(phi) of one block."""
    top = phi[0]
    for j in range(1, len(phi)):
        top = max(top, phi[j])
    total = 0.0
    for j in range(len(phi)):
        share[j] = math.exp(np.float64(phi[j]) - np.float64(top))
        total += share[j]
    for j in range(len(phi)):
        share[j] /= total


@numba.njit(**COMPILE)
def _tanh_sech(tau):
    e = math.exp(-abs(tau))
    h = 2.0 * e / (1.0 + e * e)
    t = -math.expm1(-2.0 * abs(tau)) / (1.0 + e * e)
    return (t if tau >= 0.0 else -t), h


@numba.njit(**COMPILE)
def _mean_kl(tau, phi, budget, delta, log_s):
    share = np.empty(tau.shape[1])
    for b in range(tau.shape[0]):
        _shares(phi[b], share)
        for j in range(tau.shape[1]):
            r = math.sqrt(2.0 * budget * share[j])
            t, h = _tanh_sech(np.float64(tau[b, j]))
            delta[b, j] = r * t
            log_s[b, j] = _log_s(r * h)


@numba.njit(**COMPILE)
def _mean_kl_forward(tau, phi, rho, budget, eps, w):
    share = np.empty(tau.shape[1])
    for b in range(tau.shape[0]):
        _shares(phi[b], share)
        for j in range(tau.shape[1]):
            r = math.sqrt(2.0 * budget * share[j])
            t, h = _tanh_sech(np.float64(tau[b, j]))
            w[b, j] = rho[b, j] * (r * t + math.exp(0.5 * _log_s(r * h)) * eps[b, j])


@numba.njit(**COMPILE)
def _mean_kl_backward(tau, phi, rho, budget, eps, g, dtau, dphi, dlog_rho):
    share = np.empty(tau.shape[1])
    half_rg = np.empty(tau.shape[1])
    for b in range(tau.shape[0]):
        _shares(phi[b], share)
        total = 0.0
        for j in range(tau.shape[1]):
            r = math.sqrt(2.0 * budget * share[j])
            t, h = _tanh_sech(np.float64(tau[b, j]))
            x = r * h
            log_s = _log_s(x)
            spent = -math.expm1(log_s)
            root_s = math.exp(0.5 * log_s)
            q = -eps[b, j] * root_s * (x / spent if spent > 0.0 else 1.0 / SQRT2)
            grho = np.float64(g[b, j]) * np.float64(rho[b, j])
            dtau[b, j] = grho * (r * h * h - q * x * t)
            dlog_rho[b, j] = grho * (r * t + root_s * eps[b, j])
            half_rg[j] = 0.5 * r * grho * (t + q * h)
            total += half_rg[j]
        for j in range(tau.shape[1]):
            dphi[b, j] = half_rg[j] - share[j] * total


@numba.njit(**COMPILE)
def _expand(variables, places, signs, w):
    for i in range(len(places)):
        w[i] = signs[i] * variables[places[i]]


@numba.njit(**COMPILE)
def _reduce(g, places, signs, out):
    for i in range(len(places)):
        out[places[i]] += signs[i] * g[i]


def _single(*arrays):
    return tuple(np.ascontiguousarray(a, dtype=np.float32) for a in arrays)


def _by_blocks(run, blocks):
    """Run `run` on parts of the blocks, in threads; blocks do not touch each other."""
    parallel_map(run, row_parts(blocks))


def log_s(x):
    """See `numerics.variance.log_s`; float32 in and out."""
    (x,) = _single(x)
    out = np.empty_like(x)
    _log_s_many(x.reshape(-1), out.reshape(-1))
    return out


def ds_dx(x):
    """See `numerics.variance.ds_dx`; float32 in and out."""
    (x,) = _single(x)
    out = np.empty_like(x)
    _ds_dx_many(x.reshape(-1), out.reshape(-1))
    return out


def gaussian_kl(delta, log_s):
    """See `numpy_engine.posterior.gaussian_kl`; float32 in, float64 out."""
    delta, log_s = _single(delta, log_s)
    out = np.empty(delta.shape)
    _gaussian_kl(delta.reshape(-1), log_s.reshape(-1), out.reshape(-1))
    return out


def mean_kl(tau, phi, budget):
    """See `numpy_engine.posterior.mean_kl`; float32."""
    tau, phi = _single(tau, phi)
    delta, log_s = np.empty_like(tau), np.empty_like(tau)

    def run(part):
        _mean_kl(tau[part], phi[part], float(budget), delta[part], log_s[part])

    _by_blocks(run, len(tau))
    return delta, log_s


def mean_kl_forward(tau, phi, rho, budget, eps):
    """See `numpy_engine.posterior.mean_kl_forward`; float32."""
    tau, phi, rho, eps = _single(tau, phi, rho, eps)
    w = np.empty_like(tau)

    def run(part):
        _mean_kl_forward(tau[part], phi[part], rho[part], float(budget), eps[part], w[part])

    _by_blocks(run, len(tau))
    return w


def mean_kl_backward(tau, phi, rho, budget, eps, g):
    """See `numpy_engine.posterior.mean_kl_backward`; float32."""
    tau, phi, rho, eps, g = _single(tau, phi, rho, eps, g)
    out = np.empty_like(tau), np.empty_like(tau), np.empty_like(tau)

    def run(part):
        _mean_kl_backward(
            tau[part],
            phi[part],
            rho[part],
            float(budget),
            eps[part],
            g[part],
            *[a[part] for a in out],
        )

    _by_blocks(run, len(tau))
    return out


def mean_var_forward(mu, log_sigma, eps):
    """See `numpy_engine.posterior.mean_var_forward`; float32."""
    mu, log_sigma, eps = _single(mu, log_sigma, eps)
    return mu + np.exp(log_sigma) * eps


def mean_var_backward(mu, log_sigma, rho, beta, eps, g):
    """See `numpy_engine.posterior.mean_var_backward`; float32."""
    mu, log_sigma, rho, beta, eps, g = _single(mu, log_sigma, rho, beta, eps, g)
    sigma = np.exp(log_sigma)
    delta, s = mu / rho, (sigma / rho) ** 2
    b = beta[:, None]
    return g + b * delta / rho, g * sigma * eps + b * (s - 1), b * (1 - s - delta**2)


def expand_hash(variables, places, signs):
    """See `numpy_engine.posterior.expand_hash`; float32."""
    variables, signs = _single(variables, signs)
    w = np.empty(len(places), dtype=np.float32)
    _expand(variables.reshape(-1), places, signs, w)
    return w


def expand_hash_backward(g, places, signs, count):
    """See `numpy_engine.posterior.expand_hash_backward`; summed in weight order, float32."""
    g, signs = _single(g, signs)
    out = np.zeros(count, dtype=np.float32)
    _reduce(g, places, signs, out)
    return out
