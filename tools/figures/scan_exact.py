"""The formulas of both engines in mpmath, as they are written on paper, for `scan_formulas.py`.

Each takes lists of numbers, one for each argument of the operation, and returns a list for each
result.  Nothing is rearranged: the digits that cancel are paid for by working with more of them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mpmath
from mpmath import mpf

sys.path.append(str(Path(__file__).resolve().parents[1]))

from golden import gaussians

Number = Any
Numbers = list[Number]
Lists = tuple[Numbers, ...]


def log_s(x: Numbers) -> Lists:
    """Return log s(x)."""
    return ([gaussians.log_s(v) for v in x],)


def slope_of(x: Number, log_variance: Number) -> Number:
    """Return ds/dx = -2 x s / (1 - s)."""
    if x == 0:
        return -mpmath.sqrt(2)
    with mpmath.workdps(mpmath.mp.dps + 2 * max(0, -int(mpmath.log10(x)))):
        s = mpmath.exp(log_variance)
        return -2 * x * s / (1 - s)


def ds_dx(x: Numbers) -> Lists:
    """Return the slope of s(x)."""
    return ([slope_of(v, gaussians.log_s(v)) for v in x],)


def gaussian_kl(delta: Numbers, log_s: Numbers) -> Lists:
    """Return KL in nats."""
    return ([gaussians.kl(d, v) for d, v in zip(delta, log_s, strict=True)],)


def mean_kl(tau: Numbers, phi: Numbers, budget: Numbers) -> Lists:
    """Return delta and log s of one block."""
    pairs = [
        gaussians.whitened(t, p, budget[0])
        for t, p in zip(tau, gaussians.softmax(phi), strict=True)
    ]
    return [d for d, _ in pairs], [v for _, v in pairs]


def mean_kl_forward(
    tau: Numbers, phi: Numbers, rho: Numbers, budget: Numbers, eps: Numbers
) -> Lists:
    """Return w of one block."""
    delta, log_variance = mean_kl(tau, phi, budget)
    rows = zip(rho, delta, log_variance, eps, strict=True)
    return ([r * (d + mpmath.exp(v / 2) * e) for r, d, v, e in rows],)


def mean_kl_backward(
    tau: Numbers, phi: Numbers, rho: Numbers, budget: Numbers, eps: Numbers, g: Numbers
) -> Lists:
    """Return dtau, dphi and dlog rho of one block, dphi by (21) of docs/derivations.md."""
    with mpmath.workdps(mpmath.mp.dps + int(max(phi) - min(phi))):  # (21) cancels
        return gradients(tau, phi, rho, budget, eps, g)


def gradients(
    tau: Numbers, phi: Numbers, rho: Numbers, budget: Numbers, eps: Numbers, g: Numbers
) -> Lists:
    """Return the same to the digits that are left of the working precision."""
    share = gaussians.softmax(phi)
    dtau, half, dlog_rho = [], [], []
    for t, p, scale, e, slope in zip(tau, share, rho, eps, g, strict=True):
        r, tanh, sech = mpmath.sqrt(2 * budget[0] * p), mpmath.tanh(t), mpmath.sech(t)
        x = r * sech
        log_variance = gaussians.log_s(x)
        root = mpmath.exp(log_variance / 2)
        q = e * slope_of(x, log_variance) / (2 * root)
        dtau.append(slope * scale * (r * sech**2 - q * x * tanh))
        half.append(slope * scale * r / 2 * (tanh + q * sech))
        dlog_rho.append(slope * scale * (r * tanh + root * e))
    total = mpmath.fsum(half)
    return dtau, [h - p * total for h, p in zip(half, share, strict=True)], dlog_rho


def mean_var_forward(mu: Numbers, log_sigma: Numbers, eps: Numbers) -> Lists:
    """Return mu + sigma eps."""
    return ([m + mpmath.exp(v) * e for m, v, e in zip(mu, log_sigma, eps, strict=True)],)


def mean_var_backward(
    mu: Numbers, log_sigma: Numbers, rho: Numbers, beta: Numbers, eps: Numbers, g: Numbers
) -> Lists:
    """Return dmu, dlog sigma and dlog rho of one block."""
    out: Lists = ([], [], [])
    for m, v, r, e, slope in zip(mu, log_sigma, rho, eps, g, strict=True):
        sigma, delta = mpmath.exp(v), m / r
        s = (sigma / r) ** 2
        out[0].append(slope + beta[0] * delta / r)
        out[1].append(slope * sigma * e + beta[0] * (s - 1))
        out[2].append(beta[0] * (1 - s - delta**2))
    return out


def softmax_cross_entropy(logits: Numbers, labels: Numbers) -> Lists:
    """Return the loss of one sample and its gradient."""
    label, p = int(labels[0]), gaussians.softmax(logits)
    return [-mpmath.log(p[label])], [v - (k == label) for k, v in enumerate(p)]


def normalised(x: Numbers) -> tuple[Numbers, Number]:
    """Return (x - mean) / sqrt(var + 1e-5) of one group, and its divisor."""
    mean = mpmath.fsum(x) / len(x)
    variance = mpmath.fsum((v - mean) ** 2 for v in x) / len(x)
    deviation = mpmath.sqrt(variance + mpf(10) ** -5)
    return [(v - mean) / deviation for v in x], deviation


def of_places(values: Numbers, x: Numbers) -> Numbers:
    """Return the value of each place's channel."""
    return [values[k * len(values) // len(x)] for k in range(len(x))]


def group_norm(x: Numbers, gain: Numbers, bias: Numbers, groups: Numbers) -> Lists:
    """Return one group of one image."""
    rows = zip(normalised(x)[0], of_places(gain, x), of_places(bias, x), strict=True)
    return ([(1 + g) * v + b for v, g, b in rows],)


def group_norm_backward(x: Numbers, gain: Numbers, groups: Numbers, dy: Numbers) -> Lists:
    """Return dx, dgain and dbias of one group of one image."""
    xhat, deviation = normalised(x)
    d = [(1 + g) * v for g, v in zip(of_places(gain, x), dy, strict=True)]
    mean = mpmath.fsum(d) / len(d)
    along = mpmath.fsum(a * b for a, b in zip(d, xhat, strict=True)) / len(d)
    dx = [(a - mean - b * along) / deviation for a, b in zip(d, xhat, strict=True)]
    size = len(x) // len(gain)
    own = [slice(c * size, (c + 1) * size) for c in range(len(gain))]
    products = [a * b for a, b in zip(dy, xhat, strict=True)]
    return dx, [mpmath.fsum(products[c]) for c in own], [mpmath.fsum(dy[c]) for c in own]


def adam_step(
    theta: Numbers, g: Numbers, m: Numbers, v: Numbers, step: Numbers, rate: Numbers
) -> Lists:
    """Return theta, m and v after a step."""
    b1, b2 = mpf(0.9), mpf(0.999)  # as float64 has them
    out: Lists = ([], [], [])
    for own, slope, old_m, old_v in zip(theta, g, m, v, strict=True):
        first, second = b1 * old_m + (1 - b1) * slope, b2 * old_v + (1 - b2) * slope**2
        root = mpmath.sqrt(second / (1 - b2 ** int(step[0])))
        part = first / (1 - b1 ** int(step[0])) / (root + mpf(1e-8))
        for kept, value in zip(out, (own - rate[0] * part, first, second), strict=True):
            kept.append(value)
    return out


def log_weights(candidates: Numbers, delta: Numbers, log_s: Numbers) -> Lists:
    """Return log q(z) / p(z) of one candidate for one block."""
    rows = zip(candidates, delta, log_s, strict=True)
    terms = [(z**2 - (z - d) ** 2 * mpmath.exp(-v) - v) / 2 for z, d, v in rows]
    return ([mpmath.fsum(terms)],)


def normal_quantile(p: Numbers) -> Lists:
    """Return z with P(z) = p, by Newton's method on log P(z) in the lower half."""
    return ([lower_quantile(u) if u <= 0.5 else -lower_quantile(1 - u) for u in p],)


def lower_quantile(u: Number) -> Number:
    """Return the quantile of u <= 1/2."""
    if u == 0.5:
        return mpf(0)
    z = -mpmath.sqrt(-2 * mpmath.log(u)) if u < 0.1 else (u - mpf(1) / 2) * mpf("2.5")
    for _ in range(60):
        mass = mpmath.ncdf(z)
        step = mpmath.log(mass / u) * mass / mpmath.npdf(z)
        z -= step
        if abs(step) < abs(z) * mpf(10) ** (-mpmath.mp.dps // 2 - 2):
            return z
    raise ValueError(f"the quantile of {mpmath.nstr(u)} was not found")


# --- the encoders' masses (docs/CODES.md section 4), and lengths


def exponentials(words: Numbers) -> Lists:
    """Return -log((word + 1/2) / 2^32)."""
    return ([-mpmath.log((w + mpf(1) / 2) / mpf(2) ** 32) for w in words],)


def log_suprema(delta: Numbers, log_s: Numbers, low: Numbers, high: Numbers) -> Lists:
    """Return the largest log r over low <= z <= high, of each place."""
    out = []
    for d, v, a, b in zip(delta, log_s, low, high, strict=True):
        s = mpmath.exp(v)
        mode = (b if d > 0 else a) if s == 1 else d / (1 - s)
        out.append(log_weights([min(max(mode, a), b)], [d], [v])[0][0])
    return (out,)


def log_mass_within(delta: Numbers, log_s: Numbers, reach: Numbers) -> Lists:
    """Return log of the mass of Q up to the nearer end; what is beyond the other is nothing."""
    rows = zip(delta, log_s, reach, strict=True)
    return ([mpmath.log(mpmath.ncdf((b - abs(d)) * mpmath.exp(-v / 2))) for d, v, b in rows],)


def residual(delta: Numbers, log_s: Numbers, log_level: Numbers) -> Lists:
    """Return R(L) = Q(S(L)) - L P(S(L)) of one target, s < 1."""
    d, s, level = delta[0], mpmath.exp(log_s[0]), log_level[0]
    centre = d / (1 - s)
    top = log_weights([centre], [d], [log_s[0]])[0][0]
    half = mpmath.sqrt(2 * (top - level) * s / (1 - s)) if top > level else mpf(0)
    lo, hi = centre - half, centre + half
    sigma = mpmath.sqrt(s)
    q = mass_between((lo - d) / sigma, (hi - d) / sigma)
    return ([q - mpmath.exp(level) * mass_between(lo, hi)],)


def mass_between(lo: Number, hi: Number) -> Number:
    """Return the mass of N(0, 1) in (lo, hi)."""
    return mpmath.ncdf(hi) - mpmath.ncdf(lo)


def log_geometric_bits(n: Numbers, theta: Numbers) -> Lists:
    """Return e (1 - log2 theta) - log2(1 - theta)."""
    e = int(n[0]).bit_length() - 1
    return ([e * (1 - mpmath.log(theta[0], 2)) - mpmath.log(1 - theta[0], 2)],)


def log_geometric_mean_bits(mean_exponent: Numbers) -> Lists:
    """Return m + log2(m + 1) + m log2(1 + 1/m)."""
    m = mean_exponent[0]
    return ([m + mpmath.log(m + 1, 2) + m * mpmath.log(1 + 1 / m, 2)],)


def zipf_bits(n: Numbers, exponent: Numbers) -> Lists:
    """Return lambda log2 n + log2 zeta(lambda)."""
    return ([exponent[0] * mpmath.log(n[0], 2) + mpmath.log(mpmath.zeta(exponent[0]), 2)],)
