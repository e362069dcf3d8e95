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
def _add_by_tensor(values, tensor, sums):
    for i in range(values.size):
        sums[tensor[i]] += values[i]


@compiled(**COMPILE)
def _mean_kl_sample(tau, phi, rho, budget, seed, row, first, group, w, eps):
    size = tau.shape[1]
    for a in range(0, len(tau), group):
        b = min(a + group, len(tau))
        fill_normals(seed, NOISE, row, first + a * size, eps[a:b].reshape(-1))
        mean_kl_forward_blocks(tau[a:b], phi[a:b], rho[a:b], budget, eps[a:b], w[a:b])


@compiled(**COMPILE)
def _mean_kl_step(tau, phi, rho, tensor, budget, eps, g, moments, rates, corrections, group, sums):
    (m_tau, v_tau), (m_phi, v_phi) = moments
    shape = (group, tau.shape[1])
    dtau, dphi = np.empty(shape, np.float32), np.empty(shape, np.float32)
    dlog_rho = np.empty(shape, np.float32)
    for a in range(0, len(tau), group):
        b = min(a + group, len(tau))
        n = b - a
        mean_kl_backward_blocks(
            tau[a:b], phi[a:b], rho[a:b], budget, eps[a:b], g[a:b], dtau[:n], dphi[:n], dlog_rho[:n]
        )
        _update(tau[a:b], dtau[:n], m_tau[a:b], v_tau[a:b], rates[0], corrections)
        _update(phi[a:b], dphi[:n], m_phi[a:b], v_phi[a:b], rates[1], corrections)
        _add_by_tensor(dlog_rho[:n].reshape(-1), tensor[a:b].reshape(-1), sums[a // group])


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
    mu, log_sigma, rho, tensor, used, beta, eps, g, moments, rates, corrections, group, sums
):
    (m_mu, v_mu), (m_sigma, v_sigma) = moments
    shape = (group, mu.shape[1])
    dmu, dlog_sigma = np.empty(shape, np.float32), np.empty(shape, np.float32)
    dlog_rho = np.empty(shape, np.float32)
    for a in range(0, len(mu), group):
        b = min(a + group, len(mu))
        n = b - a
        mean_var_backward_blocks(
            mu[a:b],
            log_sigma[a:b],
            rho[a:b],
            beta[a:b],
            eps[a:b],
            g[a:b],
            dmu[:n],
            dlog_sigma[:n],
            dlog_rho[:n],
        )
        for i in range(n):
            for j in range(shape[1]):
                if not used[a + i, j]:
                    dmu[i, j] = dlog_sigma[i, j] = dlog_rho[i, j] = np.float32(0)
        adam_update_in_units(
            mu[a:b].reshape(-1),
            dmu[:n].reshape(-1),
            m_mu[a:b].reshape(-1),
            v_mu[a:b].reshape(-1),
            rates[0],
            rho[a:b].reshape(-1),
            *corrections,
        )
        _update(log_sigma[a:b], dlog_sigma[:n], m_sigma[a:b], v_sigma[a:b], rates[1], corrections)
        _add_by_tensor(dlog_rho[:n].reshape(-1), tensor[a:b].reshape(-1), sums[a // group])


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


def mean_kl_step(blocks, eps, g, adam, dlog_rho):
    """See `numpy_engine.steps.mean_kl_step`; float32 arrays."""
    tau, phi, rho, tensor, budget, _ = blocks
    rest = single_rates(adam.rates), corrections(adam.step)

    def run(part, group):
        sums = np.zeros((-(-(part.stop - part.start) // group), len(dlog_rho)))
        arrays = [a[part] for a in (tau, phi, rho, tensor)]
        moments = tuple((m[part], v[part]) for m, v in adam.moments)
        _mean_kl_step(*arrays, budget, eps[part], g[part], moments, *rest, group, sums)
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


def mean_var_step(blocks, eps, g, adam, dlog_rho):
    """See `numpy_engine.steps.mean_var_step`; float32 arrays."""
    mu, log_sigma, rho, tensor, beta, used, nu = blocks
    if nu is not None:  # the gradients, and so the steps, see mu - nu alone
        change = mu - nu
        mean_var_step(blocks._replace(mu=change, nu=None), eps, g, adam, dlog_rho)
        np.add(nu, change, out=mu)
        return
    rest = single_rates(adam.rates), corrections(adam.step)

    def run(part, group):
        sums = np.zeros((-(-(part.stop - part.start) // group), len(dlog_rho)))
        arrays = [a[part] for a in (mu, log_sigma, rho, tensor, used, beta, eps, g)]
        moments = tuple((m[part], v[part]) for m, v in adam.moments)
        _mean_var_step(*arrays, moments, *rest, group, sums)
        return sums

    dlog_rho[:] = np.concatenate(_by_groups(run, *mu.shape)).sum(axis=0)
