"""The posteriors of docs/derivations.md in mpmath; gradients by differentiating numerically.

Nothing here is a hand-derived gradient: a case is right if the forward pass is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mpmath
from golden.sources import oracles
from mpmath import mpf

Number = Any
Rows = list[list[Number]]


def numbers(array: Any) -> Rows:
    """Return a matrix of floats as lists of mpmath numbers."""
    return [[mpf(float(x)) for x in row] for row in array]


def log_s(x: Number) -> Number:
    """Return log s(x) to the working precision; its series where two terms are enough."""
    if x < mpf(10) ** -mpmath.mp.dps:
        return -mpmath.sqrt(2) * x - x * x / 3
    return oracles.mp_log_s(x, mpmath.mp.dps)


def slope(x: Number) -> Number:
    """Return ds/dx = s d(log s)/dx, by central differences; at 0 the limit.

    log s keeps its relative precision where s itself is 1 to all digits.
    """
    if x == 0:
        return -mpmath.sqrt(2)
    digits = mpmath.mp.dps
    with mpmath.workdps(2 * digits):
        h = x * mpf(10) ** -(digits // 2)
        return mpmath.exp(log_s(x)) * (log_s(x + h) - log_s(x - h)) / (2 * h)


def kl(delta: Number, log_variance: Number) -> Number:
    """Return KL[N(delta, s) || N(0, 1)] in nats."""
    return (delta**2 + mpmath.exp(log_variance) - 1 - log_variance) / 2


def softmax(phi: Sequence[Number]) -> list[Number]:
    """Return the shares of a block; -inf has none."""
    powers = [mpf(0) if mpmath.isinf(x) else mpmath.exp(x) for x in phi]
    total = mpmath.fsum(powers)
    return [p / total for p in powers]


def whitened(tau: Number, share: Number, budget: Number) -> tuple[Number, Number]:
    """Return delta and log s of one weight."""
    r = mpmath.sqrt(2 * budget * share)
    return r * mpmath.tanh(tau), log_s(r * mpmath.sech(tau))


def sample(tau: Number, share: Number, budget: Number, eps: Number) -> Number:
    """Return w / rho of one weight."""
    delta, log_variance = whitened(tau, share, budget)
    return delta + mpmath.exp(log_variance / 2) * eps


def derivative(f: Callable[[Number], Number], x: Number) -> Number:
    """Return f'(x) by central differences: right to about the working precision."""
    return mpmath.diff(f, x)


def mean_kl(tau: Rows, phi: Rows, budget: Number) -> tuple[Rows, Rows]:
    """Return delta and log s of all blocks."""
    pairs = [
        [whitened(t, p, budget) for t, p in zip(ts, softmax(ps), strict=True)]
        for ts, ps in zip(tau, phi, strict=True)
    ]
    return [[d for d, _ in row] for row in pairs], [[ls for _, ls in row] for row in pairs]


def mean_kl_forward(tau: Rows, phi: Rows, rho: Rows, budget: Number, eps: Rows) -> Rows:
    """Return w of all blocks."""
    return [
        [
            rho_i * sample(tau_i, share_i, budget, eps_i)
            for tau_i, share_i, rho_i, eps_i in zip(ts, softmax(ps), rhos, es, strict=True)
        ]
        for ts, ps, rhos, es in zip(tau, phi, rho, eps, strict=True)
    ]


def mean_kl_backward(
    tau: Rows, phi: Rows, rho: Rows, budget: Number, eps: Rows, g: Rows
) -> tuple[Rows, Rows, Rows]:
    """Return the derivatives of L = sum g w by tau, phi and log rho, block by block."""
    blocks = [_block_gradients(*rows, budget) for rows in zip(tau, phi, rho, eps, g, strict=True)]
    dtau, dphi, dlog_rho = (list(rows) for rows in zip(*blocks, strict=True))
    return dtau, dphi, dlog_rho


def _block_gradients(
    tau: list[Number],
    phi: list[Number],
    rho: list[Number],
    eps: list[Number],
    g: list[Number],
    budget: Number,
) -> tuple[list[Number], list[Number], list[Number]]:
    weights = range(len(tau))
    share = softmax(phi)

    def loss(shares: list[Number]) -> Number:
        terms = (g[i] * rho[i] * sample(tau[i], shares[i], budget, eps[i]) for i in weights)
        return mpmath.fsum(terms)

    def loss_by_phi(j: int, value: Number) -> Number:
        return loss(softmax([value if i == j else phi[i] for i in weights]))

    def loss_by_tau(j: int, value: Number) -> Number:
        return g[j] * rho[j] * sample(value, share[j], budget, eps[j])

    dtau = [derivative(lambda t, j=j: loss_by_tau(j, t), tau[j]) for j in weights]
    dphi = [
        mpf(0) if mpmath.isinf(phi[j]) else derivative(lambda t, j=j: loss_by_phi(j, t), phi[j])
        for j in weights
    ]
    log_rho = [mpmath.log(x) for x in rho]
    dlog_rho = [
        derivative(
            lambda t, j=j: g[j] * mpmath.exp(t) * sample(tau[j], share[j], budget, eps[j]),
            log_rho[j],
        )
        for j in weights
    ]
    return dtau, dphi, dlog_rho


def mean_var_forward(mu: Rows, log_sigma: Rows, eps: Rows) -> Rows:
    """Return mu + sigma eps."""
    return [
        [m + mpmath.exp(ls) * e for m, ls, e in zip(*rows, strict=True)]
        for rows in zip(mu, log_sigma, eps, strict=True)
    ]


def mean_var_backward(
    mu: Rows, log_sigma: Rows, rho: Rows, beta: list[Number], eps: Rows, g: Rows
) -> tuple[Rows, Rows, Rows]:
    """Return the derivatives of sum g w + sum beta KL by mu, log sigma and log rho."""
    out: tuple[Rows, Rows, Rows] = ([], [], [])
    for b, *rows in zip(beta, mu, log_sigma, rho, eps, g, strict=True):
        triples = [_mean_var_gradients(b, *weight) for weight in zip(*rows, strict=True)]
        for part, column in zip(out, zip(*triples, strict=True), strict=True):
            part.append(list(column))
    return out


def _mean_var_gradients(
    beta: Number, mu: Number, log_sigma: Number, rho: Number, eps: Number, g: Number
) -> tuple[Number, Number, Number]:
    def loss(m: Number, ls: Number, lr: Number) -> Number:
        return g * (m + mpmath.exp(ls) * eps) + beta * kl(m * mpmath.exp(-lr), 2 * (ls - lr))

    log_rho = mpmath.log(rho)
    point = (mu, log_sigma, log_rho)
    return tuple(  # type: ignore[return-value]
        derivative(
            lambda t, i=i: loss(*[t if i == k else x for k, x in enumerate(point)]), point[i]
        )
        for i in range(3)
    )
