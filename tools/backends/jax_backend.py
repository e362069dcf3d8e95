"""MIRACLE with Mean-KL in JAX, as a backend of the conformance suite.

Layers come from `jax.lax` in the contract's own order of axes, gradients from `jax.grad` and
`jax.vjp`; log s(x) and tanh with sech bring their derivatives as `jax.custom_jvp`.  Run it with
this folder on the path:

    PYTHONPATH=tools/backends python -m refmiracle.conformance --backend jax_backend:BACKEND

Four things that XLA does decide how this file is written:

- It compiles anew for every shape, and nearly all that a case costs is that.  So arrays are filled
  up to few sizes, and what was filled up is cut off again; by NumPy, which compiles nothing.
- Under jit it contracts a product and a sum into one fused multiply-add.  What must be right to
  the last bit, the quantile, is therefore left eager, where each operation is compiled alone.
- On the CPU it flushes subnormal numbers to zero, of arguments and of results.
- Indices out of range are clamped, so they are checked before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import spec_description as net
import spec_layout as spec
import spec_operations
from jax import lax
from spec_layout import ratio, require

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")
# What is asked here is asked once or twice: what counts is how long XLA takes to compile it.
jax.config.update("jax_disable_most_optimizations", True)

Array = Any
Results = tuple[Any, ...]

SQRT2 = math.sqrt(2.0)
NEWTON_STEPS = 9
SERIES_TERMS = 17
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
NORM_EPSILON = 1e-5
# Larger networks are optimized after all: XLA would convolve them in float64 for a second.
MANY_WEIGHTS = 10_000
OPTIMIZED = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
AXES = ("CHWN", "HWIO", "CHWN")


def double(a: Array) -> jax.Array:
    """Return float64: what stands between arguments and results here, but for layers."""
    return jnp.asarray(np.asarray(a, dtype=np.float64))


def room(count: int) -> int:
    """Return the power of four that so many are filled up to, at least 4."""
    return 4 ** max((max(count, 1) - 1).bit_length() + 1 >> 1, 1)


def padded(a: Array, fill: Any = 0, axes: tuple[int, ...] = (0,)) -> Array:
    """Return an array with some axes filled up at their ends."""
    a = np.asarray(a)
    more = [(0, room(n) - n if i in axes else 0) for i, n in enumerate(a.shape)]
    return np.pad(a, more, constant_values=fill)


def wide(a: Array, fill: Any = 0.0) -> Array:
    """Return float64, with all axes filled up."""
    return padded(np.asarray(a, dtype=np.float64), fill, tuple(range(np.ndim(a))))


def like(a: Array, *results: Array) -> Results:
    """Return results in the precision of an argument, and no longer than it along its axes."""
    return tuple(cut(r, a.shape).astype(a.dtype) for r in results)


def cut(a: Array, shape: tuple[int, ...]) -> Array:
    """Return what comes first, so many along each axis."""
    return np.asarray(a)[tuple(map(slice, shape))]


def integers(a: Array, limit: int) -> Array:
    """Return int64 that are known to lie in [0, limit)."""
    a = np.asarray(a, dtype=np.int64)
    require(np.all((a >= 0) & (a < limit)), f"a number is not in [0, {limit})")
    return a


# --- bits


@jax.jit
def rounds(counter: jax.Array, key: jax.Array) -> jax.Array:
    """Return Philox4x32-10 of counters (n, 4); all in uint64."""

    def one_round(_: int, state: Any) -> Any:
        c0, c1, c2, c3, k0, k1 = state
        p0, p1 = spec.MULTIPLIERS[0] * c0, spec.MULTIPLIERS[1] * c2
        c = p1 >> 32 ^ c1 ^ k0, p1 & spec.LOW, p0 >> 32 ^ c3 ^ k1, p0 & spec.LOW
        k = k0 + spec.KEY_INCREMENTS[0] & spec.LOW, k1 + spec.KEY_INCREMENTS[1] & spec.LOW
        return *c, *k

    state = lax.fori_loop(0, spec.ROUNDS, one_round, (*counter.T, *key))
    return jnp.stack(state[:4], axis=-1).astype(jnp.uint32)


def philox4x32(counter: Array, key: Array) -> Array:
    """Return Philox4x32-10 of counters (..., 4)."""
    flat = np.asarray(counter, dtype=np.uint64).reshape(-1, 4)
    out = rounds(padded(flat), np.asarray(key, dtype=np.uint64))
    return np.asarray(out)[: len(flat)].reshape(np.shape(counter))


def words(seed: int, stream: int, rows: Array, count: int, first: int = 0) -> Array:
    """Return words first, first + 1, ... of rows of a stream."""
    spec.check_range(first, count)
    spec.word(seed)
    spec.word(stream)
    spec.check_words(rows)
    blocks = np.arange(first // 4, -(-(first + count) // 4), dtype=np.uint64)
    counter = np.zeros((len(rows), len(blocks), 4), dtype=np.uint64)
    counter[..., 0], counter[..., 1] = blocks, np.asarray(rows, dtype=np.uint64)[:, None]
    out = philox4x32(counter, (seed, stream)).reshape(len(rows), 4 * len(blocks))
    return out[:, first % 4 : first % 4 + count]


def stream_words(seed: Array, stream: Array, row: Array, first: Array, count: Array) -> Array:
    """Return words of one row of a stream."""
    return words(int(seed), int(stream), [int(row)], int(count), int(first))[0]


def stream_permutation(seed: Array, stream: Array, row: Array, count: Array) -> Array:
    """Return the order that sorts words of a stream; what fills them up comes behind them all."""
    own = padded(stream_words(seed, stream, row, 0, count), spec.LOW)
    return np.asarray(jnp.argsort(own, stable=True))[: int(count)]


# --- numerics


def exact_log(m: jax.Array, e: jax.Array) -> jax.Array:
    """Return the logarithm of m 2^e by section 6.2 of docs/SPEC.md, for 1/2 <= m < 1."""
    low = m < spec.SQRT_HALF
    m, e = jnp.where(low, m + m, m), jnp.where(low, e - 1, e).astype(jnp.float64)
    f = (m - 1.0) / (m + 1.0)
    return 2.0 * f * spec.polynomial(spec.LOG_SERIES, f * f) + e * spec.LN2


def normal_quantile(p: Array) -> Array:
    """Return the standard normal quantile, in float64 and to the last bit."""
    shape, p = np.shape(p), np.asarray(p, dtype=np.float64).ravel()
    p = padded(np.where((p > 0.0) & (p < 1.0), p, np.nan), 0.5)
    # NumPy takes p apart, because XLA would flush a subnormal p to zero.
    m, e = (jnp.asarray(a) for a in np.frexp(np.where(p < 0.5, p, 1.0 - p)))
    q = jnp.asarray(p) - 0.5
    centre = q * ratio(spec.CENTRAL, 0.180625 - q * q)
    r = jnp.sqrt(-exact_log(m, e))
    tail = jnp.where(r <= 5.0, ratio(spec.MIDDLE, r - 1.6), ratio(spec.FAR, r - 5.0))
    z = jnp.where(jnp.abs(q) <= 0.425, centre, jnp.where(q < 0.0, -tail, tail))
    return np.asarray(z)[: math.prod(shape)].reshape(shape)


def uniform(words: Array) -> Array:
    """Return (word + 1/2) / 2^32."""
    return (np.asarray(words, dtype=np.float64) + 0.5) * 2.0**-32


def codebook(seed: Array, indices: Array, dimension: Array) -> Array:
    """Return rows of the codebook in float32."""
    w = words(int(seed), spec.CODEBOOK, integers(indices, 2**32), int(dimension))
    return normal_quantile(uniform(w)).astype(np.float32)


def partition_rows(
    seed: Array, bits: Array, blocks: Array, messages: Array, dimension: Array
) -> Array:
    """Return the normals of candidate n of bin j of each block in float32: section 7.4."""
    bits, dimension, messages = int(bits), int(dimension), np.asarray(messages, dtype=np.int64)
    spec.check_bins(messages, spec.check_bits(bits, 0))
    seed = spec.word(seed)
    spec.check_words(blocks)
    counter = np.zeros((len(messages), -(-dimension // 4), 4), dtype=np.uint64)
    head = (messages >> bits, np.asarray(blocks), messages % (1 << bits))
    counter[..., :3] = np.stack(head, axis=-1)[:, None]
    counter[..., 3] = np.arange(counter.shape[1])
    w = philox4x32(counter, (int(seed), spec.PARTITION)).reshape(len(messages), -1)
    own = spec.intervals(messages, bits, dimension)
    u = (own + uniform(w[:, :dimension])) / 2.0 ** spec.bits_of_places(bits, dimension)
    return normal_quantile(np.minimum(u, spec.LARGEST_U)).astype(np.float32)


def place_sample(seed: int, rows: Array, nodes: Array, a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the u of nodes in their regions (a, b): not to be jitted."""
    counter = np.stack([nodes & spec.LOW, rows, nodes >> 32, np.zeros_like(rows)], axis=-1)
    w = philox4x32(counter, (seed, spec.CANDIDATES)).astype(np.int64)
    u = ((w[:, 0] << 20 | w[:, 1] >> 12).astype(np.float64) + 0.5) * 2.0**-52
    return jnp.minimum(a + (b - a) * u, spec.LARGEST_U)


def variable_samples(code: Array, seed: Array, rows: Array, messages: Array) -> Array:
    """Return the normals of nodes in float32: section 7.5, from the root downwards."""
    code, seed, nodes = int(code), int(seed), np.asarray(messages, dtype=np.int64)
    spec.word(seed)
    spec.check_words(rows)
    spec.check_nodes(code, nodes)
    nodes, rows = padded(nodes, 1), padded(np.asarray(rows, dtype=np.int64))
    a, b = jnp.zeros(len(nodes)), jnp.ones(len(nodes))
    left = spec.depths(code, nodes)
    while np.any(left > 0):
        dyadic = code in spec.DYADIC
        c = (a + b) / 2.0 if dyadic else place_sample(seed, rows, nodes >> left, a, b)
        on, right = left > 0, (nodes >> np.maximum(left - 1, 0) & 1) == 1
        a, b = jnp.where(on & right, c, a), jnp.where(on & ~right, c, b)
        left = np.maximum(left - 1, 0)
    z = normal_quantile(place_sample(seed, rows, nodes, a, b)).astype(np.float32)
    return z[: len(messages)]


def excess(y: jax.Array) -> jax.Array:
    """Return exp(-y) - 1 + y; by its series where its terms cancel."""
    near = jnp.where(jnp.abs(y) < 0.5, y, 0.0)
    series = jnp.zeros_like(y)
    for k in range(SERIES_TERMS, 1, -1):
        series = 1.0 / math.factorial(k) - near * series
    return jnp.where(jnp.abs(y) < 0.5, near * near * series, jnp.expm1(-y) + y)


@jax.custom_jvp
def solve_log_s(x: jax.Array) -> jax.Array:
    """Solve exp(-y) - 1 + y = x^2 for y = -log s by Newton's method from above."""

    def newton(_: int, y: jax.Array) -> jax.Array:
        return y - (excess(y) - x * x) / jnp.where(y > 0.0, -jnp.expm1(-y), 1.0)

    y = lax.fori_loop(0, NEWTON_STEPS, newton, SQRT2 * x + x * x)
    # x^2 would underflow where two terms of the series are all that float64 can hold.
    return -jnp.where(x < 1e-8, SQRT2 * x + x * x / 3.0, y)


@solve_log_s.defjvp
def _(primals: Any, tangents: Any) -> Any:
    """Slope d log s / dx = -2 x / (1 - s); x / (1 - s) by its series where 1 - s has few bits."""
    (x,), (dx,) = primals, tangents
    log_s = solve_log_s(x)
    spent = jnp.where(x < 1e-8, 1.0, -jnp.expm1(log_s))
    h = jnp.where(x < 1e-8, (1.0 + SQRT2 / 3.0 * x) / SQRT2, x / spent)
    return log_s, -2.0 * h * dx


@jax.custom_jvp
def tanh_sech(tau: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return tanh and 1 / cosh; nothing overflows."""
    e = jnp.exp(-jnp.abs(tau))
    return jnp.tanh(tau), 2.0 * e / (1.0 + e * e)


@tanh_sech.defjvp
def _(primals: Any, tangents: Any) -> Any:
    """Slopes sech^2, where 1 - tanh^2 would lose its digits, and -sech tanh."""
    (tau,), (dtau,) = primals, tangents
    tanh, sech = tanh_sech(tau)
    return (tanh, sech), (sech * sech * dtau, -sech * tanh * dtau)


def others(x: jax.Array) -> jax.Array:
    """Return the sum of the other elements of its row for each, never taking one out of a sum."""
    none = jnp.zeros((len(x), 1))
    before = jnp.cumsum(jnp.hstack([none, x[:, :-1]]), axis=1)
    behind = jnp.cumsum(jnp.hstack([none, x[:, :0:-1]]), axis=1)[:, ::-1]
    return before + behind


@jax.custom_vjp
def softmax(phi: jax.Array) -> jax.Array:
    """Return the shares of each row; JAX's gradient cancels where one takes nearly all."""
    return jax.nn.softmax(phi, axis=1)


def softmax_backward(share: jax.Array, grad: jax.Array) -> tuple[jax.Array]:
    """Return p_j grad_j sum_(i != j) p_i - p_j sum_(i != j) p_i grad_i."""
    h = share * grad
    return (h * others(share) - share * others(h),)


softmax.defvjp(lambda phi: (softmax(phi),) * 2, softmax_backward)


@jax.jit
def slope(x: jax.Array) -> jax.Array:
    """Return ds/dx."""
    return jax.grad(lambda x: jnp.exp(solve_log_s(x)).sum())(x)


def log_s(x: Array) -> Array:
    """Return log s(x); the first term of its series where XLA would flush it to zero."""
    exact = np.asarray(x, dtype=np.float64)
    solved = cut(jax.jit(solve_log_s)(wide(x)), x.shape)
    return np.where(exact < 1e-300, -SQRT2 * exact, solved).astype(x.dtype)


def ds_dx(x: Array) -> Array:
    """Return the slope of s(x)."""
    return like(x, slope(wide(x)))[0]


@jax.jit
def divergence(delta: jax.Array, log_s: jax.Array) -> jax.Array:
    """Return the whitened KL."""
    return 0.5 * (delta * delta + excess(-log_s))


def gaussian_kl(delta: Array, log_s: Array) -> Array:
    """Return the whitened KL in nats."""
    return like(delta, divergence(wide(delta), wide(log_s)))[0]


# --- posterior


def whitened(tau: jax.Array, phi: jax.Array, budget: Any) -> tuple[jax.Array, jax.Array]:
    """Return delta and log s; the root of a share of 0 has no slope that JAX could take."""
    share = softmax(phi)
    none = share == 0.0  # what is NaN is not
    r = jnp.where(none, 0.0, jnp.sqrt(2.0 * budget) * jnp.sqrt(jnp.where(none, 1.0, share)))
    tanh, sech = tanh_sech(tau)
    return r * tanh, solve_log_s(r * sech)


@jax.jit
def sample(tau: Any, phi: Any, rho: Any, budget: Any, eps: Any) -> jax.Array:
    """Return w = rho (delta + sqrt(s) eps)."""
    delta, log_s = whitened(tau, phi, budget)
    return rho * (delta + jnp.exp(0.5 * log_s) * eps)


@jax.jit
def sample_gradients(tau: Any, phi: Any, rho: Any, budget: Any, eps: Any, g: Any) -> Results:
    """Return the gradients of g w by tau, phi and log rho."""

    def scaled(tau: Any, phi: Any, log_scale: Any) -> jax.Array:
        return sample(tau, phi, rho * jnp.exp(log_scale), budget, eps)

    return jax.vjp(scaled, tau, phi, jnp.zeros_like(rho))[1](g)


def mean_kl(tau: Array, phi: Array, budget: Array) -> Results:
    """Return delta and log s; what is filled up has no share."""
    return like(tau, *jax.jit(whitened)(wide(tau), wide(phi, -np.inf), float(budget)))


def mean_kl_forward(tau: Array, phi: Array, rho: Array, budget: Array, eps: Array) -> Array:
    """Return the sample."""
    return mean_kl_forward_around(tau, phi, np.zeros_like(tau), rho, budget, eps)


def mean_kl_backward(
    tau: Array, phi: Array, rho: Array, budget: Array, eps: Array, g: Array
) -> Results:
    """Return the gradients by tau, phi and log rho, the last for each weight."""
    arguments = wide(tau), wide(phi, -np.inf), wide(rho), float(budget), wide(eps), wide(g)
    return like(tau, *sample_gradients(*arguments))


@jax.jit
def scaled_noise(mu: jax.Array, log_sigma: jax.Array, eps: jax.Array) -> jax.Array:
    """Return mu + sigma eps."""
    return mu + jnp.exp(log_sigma) * eps


def mean_var_forward(mu: Array, log_sigma: Array, eps: Array) -> Array:
    """Return mu + sigma eps."""
    return like(mu, scaled_noise(wide(mu), wide(log_sigma), wide(eps)))[0]


@jax.jit
def mean_var_gradients(
    mu: Any, log_sigma: Any, nu: Any, rho: Any, beta: Any, eps: Any, g: Any
) -> Results:
    """Return the gradients of g w + beta KL[Q || N(nu, rho^2)] by mu, log sigma and log rho."""

    def objective(mu: Any, log_sigma: Any, log_scale: Any) -> jax.Array:
        sigma, scale = jnp.exp(log_sigma), rho * jnp.exp(log_scale)
        delta, log_s = (mu - nu) / scale, 2.0 * (log_sigma - jnp.log(scale))
        kl = 0.5 * (delta**2 + (sigma / scale) ** 2 - 1.0 - log_s)
        return (g * (mu + sigma * eps) + beta[:, None] * kl).sum()

    return jax.grad(objective, (0, 1, 2))(mu, log_sigma, jnp.zeros_like(rho))


def mean_var_backward_around(
    mu: Array, log_sigma: Array, nu: Array, rho: Array, beta: Array, eps: Array, g: Array
) -> Results:
    """Return the gradients of g w + beta KL where P is around nu."""
    arguments = wide(mu), wide(log_sigma), wide(nu), wide(rho, 1.0), *map(wide, (beta, eps, g))
    return like(mu, *mean_var_gradients(*arguments))


def mean_kl_forward_around(
    tau: Array, phi: Array, nu: Array, rho: Array, budget: Array, eps: Array
) -> Array:
    """Return the sample of a posterior around nu."""
    w = sample(wide(tau), wide(phi, -np.inf), wide(rho), float(budget), wide(eps))
    return like(tau, wide(nu) + np.asarray(w))[0]


@jax.jit
def expansion(variables: jax.Array, places: jax.Array, signs: jax.Array) -> jax.Array:
    """Return sign times variable for each weight."""
    return signs.astype(variables.dtype) * variables[places]


@partial(jax.jit, static_argnums=3)
def contraction(g: jax.Array, places: jax.Array, signs: jax.Array, count: int) -> jax.Array:
    """Return the gradient by the variables."""
    nought = jnp.zeros(count, dtype=g.dtype)
    return jax.vjp(lambda v: expansion(v, places, signs), nought)[1](g)[0]


def expand(variables: Array, places: Array, signs: Array) -> Array:
    """Return sign times variable for each weight."""
    arguments = (padded(np.asarray(a).ravel()) for a in (variables, places, signs))
    return cut(expansion(*arguments), places.shape)


def contract(g: Array, places: Array, signs: Array, count: int) -> Array:
    """Return the gradient by the variables; nought comes to the first from what is filled up."""
    arguments = (padded(np.asarray(a).ravel()) for a in (g, places, signs))
    return cut(contraction(*arguments, room(count)), (count,))


def expand_hash(variables: Array, places: Array, signs: Array) -> Array:
    """Return sign times variable for each weight."""
    return expand(variables, integers(places, variables.size), signs)


def expand_hash_backward(g: Array, places: Array, signs: Array, count: Array) -> Array:
    """Return the gradient by the variables."""
    return contract(g, integers(places, int(count)), signs, int(count))


# --- layers


def correlate(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
    """Return the valid cross-correlation."""
    y = lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=AXES)
    return y + b[:, None, None, None]


@cache
def general(stride: int, padding: int, groups: int) -> Any:
    """Return the cross-correlation with these numbers as a function of x, w, b.

    Group by group: by `feature_group_count` a NaN passes from one to another in float32.
    """
    strides, sides = (stride, stride), ((padding, padding),) * 2

    def function(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
        pairs = zip(jnp.split(x, groups), jnp.split(w, groups, axis=3), strict=True)
        parts = [
            lax.conv_general_dilated(a, k, strides, sides, dimension_numbers=AXES) for a, k in pairs
        ]
        return jnp.concatenate(parts) + b[:, None, None, None]

    return jax.jit(function)


@cache
def windows(height: int, width: int) -> Any:
    """Return the means of windows of this size as a function of maps."""

    def function(x: jax.Array) -> jax.Array:
        rows, columns = x.shape[1] // height, x.shape[2] // width
        parts = x[:, : rows * height, : columns * width]
        parts = parts.reshape(len(x), rows, height, columns, width, x.shape[3])
        return parts.mean(axis=(2, 4))

    return jax.jit(function)


@cache
def normalised(groups: int) -> Any:
    """Return group normalisation as a function of x, gain, bias."""

    def function(x: jax.Array, gain: jax.Array, bias: jax.Array) -> jax.Array:
        spec.check_groups(groups, len(x))
        parts = x.reshape(groups, -1, x.shape[3])
        centred = parts - parts.mean(axis=1, keepdims=True)
        deviation = jnp.sqrt((centred**2).mean(axis=1, keepdims=True) + NORM_EPSILON)
        deviation = jnp.where(jnp.isfinite(deviation), deviation, jnp.nan)  # no class
        xhat = (centred / deviation).reshape(x.shape)
        return (1.0 + gain)[:, None, None, None] * xhat + bias[:, None, None, None]

    return jax.jit(function)


def pool(x: jax.Array) -> jax.Array:
    """Return the maximum of each 2x2 window; `lax.reduce_window` would lose a NaN."""
    rows, columns = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    top, *others = (x[:, u:rows:2, v:columns:2] for u in (0, 1) for v in (0, 1))
    for other in others:
        top = jnp.where((other > top) | jnp.isnan(other), other, top)
    return top


def rectify(x: jax.Array) -> jax.Array:
    """Return max(x, 0); behind a NaN the gradient of `jax.nn.relu` would be 0."""
    return jnp.where(x <= 0.0, 0.0, x)


def affine(x: jax.Array, w: jax.Array, b: jax.Array) -> jax.Array:
    """Return W^T x + b."""
    return w.T @ x + b[:, None]


@jax.custom_vjp
def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Return log(1 + sum of exp(z_k - z_top) over the others) + z_top - z_label of each sample."""
    samples = jnp.arange(len(labels))
    top = logits.argmax(axis=0)
    z = logits - logits[top, samples]
    rest = jnp.exp(z).at[top, samples].set(0.0).sum(axis=0)
    return jnp.log1p(rest) - z[labels, samples]


def cross_entropy_backward(kept: Any, grad: jax.Array) -> tuple[jax.Array, None]:
    """Return grad p_k; at the label p - 1 as minus the sum of the others."""
    p, labels = kept
    at = labels, jnp.arange(len(labels))
    wrong = p.at[at].set(0.0)
    return grad * wrong.at[at].set(-wrong.sum(axis=0)), None


cross_entropy.defvjp(
    lambda z, labels: (cross_entropy(z, labels), (jax.nn.softmax(z, axis=0), labels)),
    cross_entropy_backward,
)


@partial(jax.jit, static_argnums=0)
def backward(function: Any, arguments: Any, dy: jax.Array) -> Results:
    """Return the gradients of a layer by its arguments."""
    return jax.vjp(function, *arguments)[1](dy)


def images(pixels: Array) -> Array:
    """Return pixel / 255 - 1/2; no argument tells the precision, so float64."""
    maps = double(padded(pixels)).transpose(1, 2, 0)[None] / 255.0 - 0.5
    return np.asarray(maps)[..., : len(pixels)]


def conv2d(x: Array, w: Array, b: Array) -> jax.Array:
    """Return the valid cross-correlation."""
    return jax.jit(correlate)(x, w, b)


def conv2d_backward(x: Array, w: Array, dy: Array) -> Results:
    """Return dx, dw, db."""
    return backward(correlate, (x, w, np.zeros(w.shape[3], dtype=w.dtype)), dy)


def conv2d_general(
    x: Array, w: Array, b: Array, stride: Array, padding: Array, groups: Array
) -> jax.Array:
    """Return the cross-correlation with zeros around the maps, channels in groups."""
    spec.check_convolution(x, w, stride, padding, groups)
    return general(int(stride), int(padding), int(groups))(x, w, b)


def conv2d_general_backward(
    x: Array, w: Array, dy: Array, stride: Array, padding: Array, groups: Array
) -> Results:
    """Return dx, dw, db."""
    spec.check_convolution(x, w, stride, padding, groups)
    convolve = general(int(stride), int(padding), int(groups))
    return backward(convolve, (x, w, np.zeros(w.shape[3], dtype=w.dtype)), dy)


def every(a: Array) -> Array:
    """Return an array with all axes filled up."""
    return padded(a, axes=tuple(range(np.ndim(a))))


def check_shape(a: Array, *shape: int) -> None:
    """Refuse an array of another shape, which would not show once it is filled up."""
    require(a.shape == shape, f"an array has the shape {a.shape}; expected {shape}")


def maxpool2d(x: Array) -> Array:
    """Return the maximum of each 2x2 window."""
    channels, height, width, batch = x.shape
    return cut(jax.jit(pool)(every(x)), (channels, height // 2, width // 2, batch))


def maxpool2d_backward(x: Array, dy: Array) -> Array:
    """Return dx."""
    channels, height, width, batch = x.shape
    check_shape(dy, channels, height // 2, width // 2, batch)
    maps = every(x)
    channels, height, width, batch = maps.shape
    filled = np.zeros((channels, height // 2, width // 2, batch), dtype=dy.dtype)
    filled[tuple(map(slice, dy.shape))] = dy
    return like(x, backward(pool, (maps,), filled)[0])[0]


def mean_pool2d(x: Array, height: Array, width: Array) -> jax.Array:
    """Return the mean of each window; what is left over is dropped."""
    spec.check_windows(x.shape, height, width)
    return windows(int(height), int(width))(x)


def mean_pool2d_backward(dy: Array, height: Array, width: Array, shape: Array) -> jax.Array:
    """Return dx."""
    spec.check_windows(shape, height, width)
    maps = np.zeros(shape, dtype=dy.dtype)
    return backward(windows(int(height), int(width)), (maps,), dy)[0]


def group_norm(x: Array, gain: Array, bias: Array, groups: Array) -> Array:
    """Return normalised maps, computed in float64."""
    maps = double(padded(x, axes=(3,)))
    return like(x, normalised(int(groups))(maps, double(gain), double(bias)))[0]


def group_norm_backward(x: Array, gain: Array, groups: Array, dy: Array) -> Results:
    """Return dx, dgain, dbias."""
    check_shape(dy, *x.shape)
    arguments = double(padded(x, axes=(3,))), double(gain), np.zeros(gain.shape)
    found = backward(normalised(int(groups)), arguments, double(padded(dy, axes=(3,))))
    return tuple(np.asarray(d).astype(x.dtype) for d in (cut(found[0], x.shape), *found[1:]))


def relu(x: Array) -> Array:
    """Return max(x, 0)."""
    return like(x, jax.jit(rectify)(every(x)))[0]


def relu_backward(x: Array, dy: Array) -> Array:
    """Return dx; of `jnp.maximum` it would be dy / 2 at 0."""
    check_shape(dy, *x.shape)
    return like(x, backward(rectify, (every(x),), every(dy))[0])[0]


def dense(x: Array, w: Array, b: Array) -> Array:
    """Return W^T x + b."""
    check_shape(x, len(w), x.shape[1])
    check_shape(b, w.shape[1])
    return cut(jax.jit(affine)(every(x), every(w), every(b)), (w.shape[1], x.shape[1]))


def dense_backward(x: Array, w: Array, dy: Array) -> Results:
    """Return dx, dw, db."""
    check_shape(x, len(w), x.shape[1])
    check_shape(dy, w.shape[1], x.shape[1])
    b = np.zeros(w.shape[1], dtype=w.dtype)
    found = backward(affine, (every(x), every(w), every(b)), every(dy))
    return tuple(cut(d, a.shape) for d, a in zip(found, (x, w, b), strict=True))


@jax.jit
def losses_and_gradient(logits: jax.Array, labels: jax.Array) -> Results:
    """Return the loss of each sample, and the gradient of their sum."""
    losses, gradient = jax.vjp(lambda z: cross_entropy(z, labels), logits)
    return losses, gradient(jnp.ones_like(losses))[0]


def softmax_cross_entropy(logits: Array, labels: Array) -> Results:
    """Return the loss of each sample, and the gradient of their sum."""
    labels = integers(labels, len(logits))
    # A class of -inf has no part in anything; nor have samples any in each other.
    filled = padded(padded(logits, -np.inf), axes=(1,))
    check_shape(labels, logits.shape[1])
    losses, gradient = losses_and_gradient(filled, padded(labels))
    return cut(losses, labels.shape), cut(gradient, logits.shape)


# --- coding


@jax.jit
def ratios(z: jax.Array, delta: jax.Array, log_s: jax.Array) -> jax.Array:
    """Return log q(z) / p(z) of each candidate for each block."""
    z, delta, log_s = z[None], delta[:, None], log_s[:, None]
    y = z - delta
    terms = 0.5 * delta**2 + y * (delta - 0.5 * y * jnp.expm1(-log_s)) - 0.5 * log_s
    return terms.sum(axis=2)


def log_weights(candidates: Array, delta: Array, log_s: Array) -> Array:
    """Return log q(z) / p(z) in nats, (blocks, K), summed in float64."""
    found = ratios(wide(candidates), wide(delta), wide(log_s))
    return cut(found, (len(delta), len(candidates)))


def gumbel(u: Array) -> Array:
    """Return the noise that uniform numbers stand for."""
    return cut(noise(wide(u, 0.5)), u.shape)


@jax.jit
def noise(u: jax.Array) -> jax.Array:
    """Return -log(-log u)."""
    return -jnp.log(-jnp.log(u))


def decode_blocks(seed: Array, indices: Array, dimension: Array, rho: Array) -> Array:
    """Return rho z in float32."""
    return spec.scales(rho).astype(np.float32) * codebook(seed, indices, dimension)


# --- the whole network


def through(layers: Any, weights: Iterator[jax.Array], x: jax.Array) -> jax.Array:
    """Pass x (channels, height, width, batch) through a list of layers: section 3.2 of SPEC.md."""
    for opcode, numbers in layers:
        if opcode == net.CONV:
            _, _, *sliding, _ = numbers
            x = general(*sliding)(x, next(weights), next(weights))
        elif opcode == net.DENSE:
            x = affine(x, next(weights), next(weights))
        elif opcode == net.FLATTEN:
            x = x.reshape(-1, x.shape[-1])
        elif opcode == net.MAXIMUM:
            x = pool(x)
        elif opcode == net.MEAN:
            x = windows(*(numbers if any(numbers) else x.shape[1:3]))(x)
        elif opcode == net.NORM:
            x = normalised(*numbers)(x, next(weights), next(weights))
        elif opcode == net.RELU:
            x = rectify(x)
        else:
            body = through(numbers[0], weights, x)
            x = body + through(numbers[1], weights, x)
    return x


def forward(flat: jax.Array, pixels: jax.Array, network: net.Network) -> jax.Array:
    """Return the logits (classes, batch) from all weights in a row."""
    parts = jnp.split(flat, np.cumsum([math.prod(shape) for shape in network.shapes])[:-1])
    pairs = zip(parts, network.shapes, strict=True)
    x = pixels.astype(flat.dtype).transpose(1, 2, 3, 0) / 255.0 - 0.5
    return through(network.layers, (part.reshape(shape) for part, shape in pairs), x)


def mean_loss(
    flat: jax.Array, pixels: jax.Array, labels: jax.Array, shares: jax.Array, network: net.Network
) -> jax.Array:
    """Return the mean loss of a batch."""
    losses = cross_entropy(forward(flat, pixels, network), labels)
    return (losses * shares.astype(losses.dtype)).sum()


def compiled(function: Any, last: int) -> Any:
    """Return a compiled function of weights whose last argument is a network."""
    quickly = jax.jit(function, static_argnums=last)
    well = jax.jit(function, static_argnums=last, compiler_options=OPTIMIZED)
    return lambda flat, *rest: (well if flat.size > MANY_WEIGHTS else quickly)(flat, *rest)


predictions = compiled(forward, 2)
network_loss = compiled(jax.value_and_grad(mean_loss), 4)


def batch_of(pixels: Array, labels: Array) -> Results:
    """Return a batch filled up with its first image, whose copies have no share in the mean.

    They are not finite where the image itself is not, and nowhere else.
    """
    count = len(labels)
    number = np.arange(room(count))
    which = np.where(number < count, number, 0)
    return pixels[which], labels[which], (number < count) / count


def batch_gradients(
    layout: spec.Layout, places: spec.Places, bits: Array, tau: Array, phi: Array, rho: Array,
    eps: Array, images: Array, labels: Array,
) -> Results:  # fmt: skip
    """Return the mean loss of a batch and its gradients by tau, phi and log rho."""
    pixels = spec.check_images(images, layout)
    labels = integers(labels, layout.whole.classes)
    rho, ones = np.asarray(rho, dtype=np.float64), np.ones(tau.shape)
    scale = expand(rho, places.tensors.ravel(), ones).reshape(tau.shape)
    posterior = wide(tau), wide(phi, -np.inf), wide(scale), int(bits) * math.log(2.0), wide(eps)
    w = expand(cut(sample(*posterior), tau.shape), places.of_weights, places.signs)
    batch = batch_of(pixels, labels)
    loss, slopes = network_loss(w.astype(tau.dtype), *batch, layout.whole)
    # In float64, so that the gradients of up to 400,000 weights are summed in it.
    slopes = np.asarray(slopes, dtype=np.float64)
    g = contract(slopes, places.of_weights, places.signs, tau.size).reshape(tau.shape)
    *grads, by_place = (cut(a, tau.shape) for a in sample_gradients(*posterior, wide(g)))
    grads.append(contract(by_place, places.tensors, ones, rho.size))
    return loss, *(a.astype(tau.dtype) for a in grads)


@jax.jit
def adam(theta: Any, g: Any, m: Any, v: Any, step: Any, rate: Any) -> tuple[Any, Any, Any]:
    """Return theta, m and v after a step of Adam."""
    m = BETA1 * m + (1.0 - BETA1) * g
    v = BETA2 * v + (1.0 - BETA2) * g * g
    # The powers in float64: in float32, 1 - 0.999^1 would have four digits.
    first, second = (1.0 - jnp.float64(b) ** step for b in (BETA1, BETA2))
    divisor = jnp.sqrt(v / second.astype(v.dtype)) + EPSILON
    return theta - rate.astype(m.dtype) * (m / first.astype(m.dtype)) / divisor, m, v


def adam_step(theta: Array, g: Array, m: Array, v: Array, step: Array, rate: Array) -> Results:
    """Return theta, m and v after a step of Adam."""
    return like(theta, *adam(*map(every, (theta, g, m, v)), step, rate))


def round_scales(log_rho: Array) -> jax.Array:
    """Return exp(log rho) as float64, rounded to float16.

    Of two conversions in a row XLA may drop both; `reduce_precision` it must obey.
    """
    rho = jnp.clip(jnp.exp(double(log_rho)), spec.SMALLEST_SCALE, spec.LARGEST_SCALE)
    return lax.reduce_precision(rho, exponent_bits=5, mantissa_bits=10)


def logits(flat: Array, images: Array, layout: spec.Layout) -> Array:
    """Return the logits (classes, batch) from all weights in a row, in float64."""
    pixels = spec.check_images(images, layout)
    found = predictions(np.asarray(flat, dtype=np.float64), padded(pixels), layout.whole)
    return np.asarray(found)[:, : len(images)]


# Operations whose results may be subnormal numbers, and what the cases are called; those of `WIDE`
# are computed in float64, which has room for those of float32.
WIDE = ("mean_kl", "mean_var_forward", "group_norm", "group_norm_backward")
FLUSHED = {
    "posterior": ("expand_hash", "expand_hash_backward", "mean_kl", "mean_var_forward"),
    "layers": (
        *("conv2d", "conv2d_backward", "maxpool2d", "maxpool2d_backward"),
        *("conv2d_general", "conv2d_general_backward", "mean_pool2d", "mean_pool2d_backward"),
        *("group_norm", "group_norm_backward"),
        *("relu", "relu_backward", "dense", "dense_backward"),
    ),
    "optimiser": ("adam_step",),
}
BACKEND = spec_operations.assemble(
    globals(),
    name="JAX",
    version=jax.__version__,
    known_failures={
        f"{stage}/{operation}/{name}": "XLA flushes subnormal numbers to zero on the CPU"
        for stage, operations in FLUSHED.items()
        for operation in operations
        for name in ("denormal", "denormal-of-double")
        if name != "denormal" or operation not in WIDE
    },
)
