"""The posterior's part of a training step, fused: noise and sample; gradient and Adam.

Blocks pass in groups of about PLACES places, whose buffers stay in the first-level cache.
"""

from __future__ import annotations

import numpy as np

from refmiracle.engines.numba_engine.adam import adam_update, adam_update_in_units, corrections
from refmiracle.engines.numba_engine.compiling import compiled
from refmiracle.engines.numba_engine.elementary import COMPILE
from refmiracle.engines.numba_engine.normals import fill_normals
from refmiracle.engines.numba_engine.posterior import (
    mean_kl_backward_blocks,
    mean_kl_forward_blocks,
    mean_var_backward_blocks,
    mean_var_forward_blocks,
)
from refmiracle.engines.numba_engine.threads import parallel_map, row_parts
from refmiracle.numerics.philox import Stream

PLACES = 512
NOISE = np.uint64(Stream.NOISE)


@compiled(**COMPILE)
def _add_by_tensor(values, tensor_of_place, sums):
    for i in range(values.size):
        sums[tensor_of_place[i]] += values[i]


@compiled(**COMPILE)
def _mean_kl_sample(tau, phi, rho, budget, seed, row, first, group, w, eps):
    size = tau.shape[1]
    for a in range(0, len(tau), group):
        b = min(a + group, len(tau))
        fill_normals(seed, NOISE, row, first + a * size, eps[a:b].reshape(-1))
        mean_kl_forward_blocks(tau[a:b], phi[a:b], rho[a:b], budget, eps[a:b], w[a:b])


@compiled(**COMPILE)
def _take_means(mine, others):
    """Replace gradients by the means of them and of others."""
    mine, others = mine.reshape(-1), others.reshape(-1)
    for i in range(mine.size):
        mine[i] = 0.5 * (np.float64(mine[i]) + others[i])


@compiled(**COMPILE)
def _mean_kl_step(
    tau,
    phi,
    rho,
    tensor_of_place,
    budget,
    eps,
    g,
    mirrored,
    moments,
    rates,
    corrections,
    group,
    sums,
):
    """Take a step on some blocks; `mirrored` is empty where one sample is all there is."""
    (m_tau, v_tau), (m_phi, v_phi) = moments
    for a in range(0, len(tau), group):
        b = min(a + group, len(tau))
        own, r = (tau[a:b], phi[a:b]), rho[a:b]
        d = np.empty((3, b - a, tau.shape[1]), np.float32)
        mean_kl_backward_blocks(*own, r, budget, eps[a:b], g[a:b], d[0], d[1], d[2])
        if len(mirrored):
            e, other = -eps[a:b], np.empty_like(d)
            mean_kl_backward_blocks(*own, r, budget, e, mirrored[a:b], other[0], other[1], other[2])
            _take_means(d, other)
        _update(tau[a:b], d[0], m_tau[a:b], v_tau[a:b], rates[0], corrections)
        _update(phi[a:b], d[1], m_phi[a:b], v_phi[a:b], rates[1], corrections)
        _add_by_tensor(d[2].reshape(-1), tensor_of_place[a:b].reshape(-1), sums[a // group])


@compiled(**COMPILE)
def _update(theta, g, m, v, rate, corrections):
    adam_update(theta.reshape(-1), g.reshape(-1), m.reshape(-1), v.reshape(-1), rate, *corrections)


@compiled(**COMPILE)
def _mean_var_sample(mu, log_sigma, seed, row, first, group, w, eps):
    size = mu.shape[1]
    for a in range(0, len(mu), group):
        b = min(a + group, len(mu))
        fill_normals(seed, NOISE, row, first + a * size, eps[a:b].reshape(-1))
        for i in range(a, b):
            mean_var_forward_blocks(mu[i], log_sigma[i], eps[i], w[i])


@compiled(**COMPILE)
def _mean_var_step(
    mu,
    log_sigma,
    rho,
    tensor_of_place,
    used,
    beta,
    eps,
    g,
    mirrored,
    moments,
    rates,
    corrections,
    group,
    sums,
):
    """Take a step on some blocks; `mirrored` is empty where one sample is all there is."""
    (m_mu, v_mu), (m_sigma, v_sigma) = moments
    for a in range(0, len(mu), group):
        b = min(a + group, len(mu))
        own, r, penalty = (mu[a:b], log_sigma[a:b]), rho[a:b], beta[a:b]
        d = np.empty((3, b - a, mu.shape[1]), np.float32)
        mean_var_backward_blocks(*own, r, penalty, eps[a:b], g[a:b], d[0], d[1], d[2])
        if len(mirrored):
            e, other = -eps[a:b], np.empty_like(d)
            mean_var_backward_blocks(
                *own, r, penalty, e, mirrored[a:b], other[0], other[1], other[2]
            )
            _take_means(d, other)
        for i in range(b - a):
            for j in range(mu.shape[1]):
                if not used[a + i, j]:
                    d[:, i, j] = np.float32(0)
        adam_update_in_units(
            mu[a:b].reshape(-1),
            d[0].reshape(-1),
            m_mu[a:b].reshape(-1),
            v_mu[a:b].reshape(-1),
            rates[0],
            r.reshape(-1),
            *corrections,
        )
        _update(log_sigma[a:b], d[1], m_sigma[a:b], v_sigma[a:b], rates[1], corrections)
        _add_by_tensor(d[2].reshape(-1), tensor_of_place[a:b].reshape(-1), sums[a // group])


def single_rates(rates):
    """Return two rates in float32."""
    return np.float32(rates[0]), np.float32(rates[1])


def _by_groups(run, blocks, size):
    """Run `run(part, group)` on parts of the blocks in threads; return all its results.

    Parts are whole groups of blocks; a group has a multiple of four, so that its noise begins
    with a whole Philox counter.  Groups do not depend on the number of threads.
    """
    group = 4 * max(1, PLACES // (4 * size))
    parts = row_parts(-(-blocks // group))
    return parallel_map(
        lambda p: run(slice(p.start * group, min(p.stop * group, blocks)), group), parts
    )


def mean_kl_sample(blocks, seed, row, w, eps):
    """See `numpy_engine.steps.mean_kl_sample`; float32 arrays."""
    tau, phi, rho, _, budget, nu = blocks
    key = np.uint64(seed), np.uint64(row)

    def run(part, group):
        first = part.start * tau.shape[1]
        _mean_kl_sample(
            tau[part], phi[part], rho[part], budget, *key, first, group, w[part], eps[part]
        )
        if nu is not None:
            np.add(w[part], nu[part], out=w[part])

    _by_groups(run, *tau.shape)


def mean_kl_step(blocks, eps, g, adam, dlog_rho, mirrored=None):
    """See `numpy_engine.steps.mean_kl_step`; float32 arrays."""
    tau, phi, rho, tensor_of_place, budget, _ = blocks
    rest = single_rates(adam.rates), corrections(adam.step)
    gradients = g, g[:0] if mirrored is None else mirrored

    def run(part, group):
        sums = np.zeros((-(-(part.stop - part.start) // group), len(dlog_rho)))
        arrays = [a[part] for a in (tau, phi, rho, tensor_of_place)]
        drawn = [a[part] for a in (eps, *gradients)]
        moments = tuple((m[part], v[part]) for m, v in adam.moments)
        _mean_kl_step(*arrays, budget, *drawn, moments, *rest, group, sums)
        return sums

    dlog_rho[:] = np.concatenate(_by_groups(run, *tau.shape)).sum(axis=0)


def mean_var_sample(blocks, seed, row, w, eps):
    """See `numpy_engine.steps.mean_var_sample`; float32 arrays."""
    mu, log_sigma = blocks.mu, blocks.log_sigma
    key = np.uint64(seed), np.uint64(row)

    def run(part, group):
        first = part.start * mu.shape[1]
        _mean_var_sample(mu[part], log_sigma[part], *key, first, group, w[part], eps[part])

    _by_groups(run, *mu.shape)


def mean_var_step(blocks, eps, g, adam, dlog_rho, mirrored=None):
    """See `numpy_engine.steps.mean_var_step`; float32 arrays."""
    mu, log_sigma, rho, tensor_of_place, beta, used, nu = blocks
    if nu is not None:  # the gradients, and so the steps, see mu - nu alone
        change = mu - nu
        mean_var_step(blocks._replace(mu=change, nu=None), eps, g, adam, dlog_rho, mirrored)
        np.add(nu, change, out=mu)
        return
    rest = single_rates(adam.rates), corrections(adam.step)
    gradients = g, g[:0] if mirrored is None else mirrored

    def run(part, group):
        sums = np.zeros((-(-(part.stop - part.start) // group), len(dlog_rho)))
        arrays = [
            a[part] for a in (mu, log_sigma, rho, tensor_of_place, used, beta, eps, *gradients)
        ]
        moments = tuple((m[part], v[part]) for m, v in adam.moments)
        _mean_var_step(*arrays, moments, *rest, group, sums)
        return sums

    dlog_rho[:] = np.concatenate(_by_groups(run, *mu.shape)).sum(axis=0)
