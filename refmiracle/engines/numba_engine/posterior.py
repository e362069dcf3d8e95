"""Gaussian posteriors over blocks: the contract of `numpy_engine.posterior`, compiled.

Parameters and results are float32; what stands between them is float64 in registers, because
the branch point (s near 1) eats half of the digits.  Loops
run over the places of many blocks at a time, so that they vectorise whatever the size of a block.
"""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.numba_engine.compiling import compiled
from refmiracle.engines.numba_engine.elementary import (
    COMPILE,
    excess_of,
    exp,
    half_slope_ratio,
    log_s_start,
    log_s_step,
    minus_log_s,
    spent_of,
    tanh_sech,
)
from refmiracle.engines.numba_engine.threads import parallel_map, row_parts

REDUCTION_PARTS = 4


@compiled(**COMPILE)
def _log_s_many(x, out):
    for i in range(x.size):
        out[i] = -minus_log_s(np.float64(x[i]))


@compiled(**COMPILE)
def _ds_dx_many(x, out):
    for i in range(x.size):
        y = minus_log_s(np.float64(x[i]))
        out[i] = -2.0 * exp(-y) * half_slope_ratio(np.float64(x[i]), spent_of(y))


@compiled(**COMPILE)
def _gaussian_kl(delta, log_s, out):
    for i in range(delta.size):
        d = np.float64(delta[i])
        out[i] = 0.5 * (d * d + excess_of(-np.float64(log_s[i])))


@compiled(**COMPILE)
def _shares(phi, share):
    """Fill share with softmax(phi) of some blocks, (blocks, size); it lies flat in `share`."""
    blocks, size = phi.shape
    for b in range(blocks):
        top = phi[b, 0]
        for j in range(1, size):
            top = max(top, phi[b, j])
        for j in range(size):
            share[b * size + j] = np.float64(phi[b, j]) - np.float64(top)
    for i in range(blocks * size):
        share[i] = exp(share[i])
    for b in range(blocks):
        total = 0.0
        for j in range(size):
            total += share[b * size + j]
        for j in range(size):
            share[b * size + j] /= total


@compiled(**COMPILE)
def _spend(tau, phi, budget, share, r, t, h, y):
    """Fill share, r, t = tanh tau, h = sech tau and y = -log s(r h); flat, for some blocks.

    In several loops: the steps for one place wait for each other, and a processor works on
    many places at once only where the body of a loop is short.
    """
    _shares(phi, share)
    tau = tau.reshape(-1)
    for i in range(len(share)):
        r[i] = math.sqrt(2.0 * budget * share[i])
        t[i], h[i] = tanh_sech(np.float64(tau[i]))
        y[i] = log_s_start(r[i] * h[i])
    for i in range(len(share)):
        y[i] = log_s_step(y[i], r[i] * h[i])
    for i in range(len(share)):
        y[i] = log_s_step(y[i], r[i] * h[i])


@compiled(**COMPILE)
def _mean_kl(tau, phi, budget, delta, log_s):
    buffer = np.empty((5, tau.size))
    share, r, t, h, y = buffer[0], buffer[1], buffer[2], buffer[3], buffer[4]
    _spend(tau, phi, budget, share, r, t, h, y)
    delta, log_s = delta.reshape(-1), log_s.reshape(-1)
    for i in range(len(y)):
        delta[i], log_s[i] = r[i] * t[i], -y[i]


@compiled(**COMPILE)
def mean_kl_forward_blocks(tau, phi, rho, budget, eps, w):
    """Fill w with samples of some blocks; arrays of shape (blocks, size)."""
    buffer = np.empty((5, tau.size))
    share, r, t, h, y = buffer[0], buffer[1], buffer[2], buffer[3], buffer[4]
    _spend(tau, phi, budget, share, r, t, h, y)
    rho, eps, w = rho.reshape(-1), eps.reshape(-1), w.reshape(-1)
    for i in range(len(y)):
        w[i] = rho[i] * (r[i] * t[i] + exp(-0.5 * y[i]) * eps[i])


@compiled(**COMPILE)
def _through_softmax(share, half_rg, dphi):
    """Fill dphi of a block.

    Only a share above 1/2, which one weight can have, cancels with the sums that hold its own
    terms; it gets those of the others.
    """
    total, others, rest = 0.0, 0.0, 0.0
    for j in range(len(share)):
        few = share[j] <= 0.5
        total += half_rg[j]
        others += half_rg[j] if few else 0.0
        rest += share[j] if few else 0.0
    for j in range(len(share)):
        few = share[j] <= 0.5
        kept, lost = (1.0, total) if few else (rest, others)
        dphi[j] = half_rg[j] * kept - share[j] * lost


@compiled(**COMPILE)
def mean_kl_backward_blocks(tau, phi, rho, budget, eps, g, dtau, dphi, dlog_rho):
    """Fill the gradients of some blocks; arrays of shape (blocks, size)."""
    blocks, size = tau.shape
    buffer = np.empty((5, tau.size))
    share, r, t, h, y = buffer[0], buffer[1], buffer[2], buffer[3], buffer[4]
    _spend(tau, phi, budget, share, r, t, h, y)
    rho, eps, g = rho.reshape(-1), eps.reshape(-1), g.reshape(-1)
    dtau, dlog_rho = dtau.reshape(-1), dlog_rho.reshape(-1)
    for i in range(len(y)):
        x, root_s = r[i] * h[i], exp(-0.5 * y[i])
        q = -eps[i] * root_s * half_slope_ratio(x, spent_of(y[i]))
        grho = np.float64(g[i]) * np.float64(rho[i])
        dtau[i] = grho * (r[i] * h[i] * h[i] - q * x * t[i])
        dlog_rho[i] = grho * (r[i] * t[i] + root_s * eps[i])
        y[i] = 0.5 * r[i] * grho * (t[i] + q * h[i])
    for b in range(blocks):
        half_rg, own = y[b * size : (b + 1) * size], share[b * size : (b + 1) * size]
        _through_softmax(own, half_rg, dphi[b])


@compiled(**COMPILE)
def mean_var_forward_blocks(mu, log_sigma, eps, w):
    """Fill w with samples; flat arrays."""
    for i in range(mu.size):
        w[i] = mu[i] + exp(np.float64(log_sigma[i])) * eps[i]


@compiled(**COMPILE)
def mean_var_backward_blocks(mu, log_sigma, rho, beta, eps, g, dmu, dlog_sigma, dlog_rho):
    """Fill the gradients of some blocks; arrays of shape (blocks, size)."""
    blocks, size = mu.shape
    for b in range(blocks):
        for j in range(size):
            sigma = exp(np.float64(log_sigma[b, j]))
            delta, ratio = np.float64(mu[b, j]) / rho[b, j], sigma / rho[b, j]
            s = ratio * ratio
            dmu[b, j] = g[b, j] + beta[b] * delta / rho[b, j]
            dlog_sigma[b, j] = g[b, j] * sigma * eps[b, j] + beta[b] * (s - 1.0)
            dlog_rho[b, j] = beta[b] * (1.0 - s - delta * delta)


@compiled(**COMPILE)
def _expand(variables, places, signs, w):
    for i in range(len(places)):
        w[i] = signs[i] * variables[places[i]]


@compiled(**COMPILE)
def _reduce(g, places, signs, out):
    if not len(places):
        return
    # Neighbours that share a place are summed in a register.
    place, total = places[0], 0.0
    for i in range(len(places)):
        if places[i] != place:
            out[place] += total
            place, total = places[i], 0.0
        total += signs[i] * np.float64(g[i])
    out[place] += total


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


def mean_kl_forward(tau, phi, rho, budget, eps, nu=None):
    """See `numpy_engine.posterior.mean_kl_forward`; float32."""
    tau, phi, rho, eps = _single(tau, phi, rho, eps)
    w = np.empty_like(tau)

    def run(part):
        mean_kl_forward_blocks(tau[part], phi[part], rho[part], float(budget), eps[part], w[part])

    _by_blocks(run, len(tau))
    return w if nu is None else np.add(w, nu, out=w)


def mean_kl_backward(tau, phi, rho, budget, eps, g):
    """See `numpy_engine.posterior.mean_kl_backward`; float32."""
    tau, phi, rho, eps, g = _single(tau, phi, rho, eps, g)
    out = np.empty_like(tau), np.empty_like(tau), np.empty_like(tau)

    def run(part):
        mean_kl_backward_blocks(
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
    w = np.empty_like(mu)
    mean_var_forward_blocks(mu.reshape(-1), log_sigma.reshape(-1), eps.reshape(-1), w.reshape(-1))
    return w


def mean_var_backward(mu, log_sigma, rho, beta, eps, g, nu=None):
    """See `numpy_engine.posterior.mean_var_backward`; float32."""
    mu = mu if nu is None else mu - nu
    out = tuple(np.empty(mu.shape, dtype=np.float32) for _ in range(3))
    mean_var_backward_blocks(*_single(mu, log_sigma, rho, beta, eps, g), *out)
    return out


def expand_hash(variables, places, signs):
    """See `numpy_engine.posterior.expand_hash`; float32."""
    variables, signs = _single(variables, signs)
    w, flat = np.empty(len(places), dtype=np.float32), variables.reshape(-1)
    parallel_map(
        lambda part: _expand(flat, places[part], signs[part], w[part]), row_parts(len(places))
    )
    return w


def expand_hash_backward(g, places, signs, count):
    """See `numpy_engine.posterior.expand_hash_backward`; summed in float64."""
    g, signs = _single(g, signs)
    # Parts have sums of their own, as many whatever the number of threads.
    parts = row_parts(len(places), REDUCTION_PARTS)
    sums = np.zeros((len(parts), count))
    parallel_map(
        lambda p: _reduce(g[parts[p]], places[parts[p]], signs[parts[p]], sums[p]),
        range(len(parts)),
    )
    return sums.sum(axis=0).astype(np.float32)
