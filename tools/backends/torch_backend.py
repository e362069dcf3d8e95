"""MIRACLE with Mean-KL in PyTorch, as a backend of the conformance suite.

Layers come from `torch.nn.functional` and every gradient from autograd; only the functions that
autograd would get wrong at their edges, log s(x) and tanh with sech, bring their own derivative.
Run it with this folder on the path:

    PYTHONPATH=tools/backends python -m refmiracle.conformance --backend torch_backend:BACKEND
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import spec_description as net
import spec_layout as spec
import spec_update
import torch
import torch.nn.functional as F  # noqa: N812
from spec_layout import require

Array = Any
Results = tuple[Any, ...]

SQRT2 = math.sqrt(2.0)
NEWTON_STEPS = 9
SERIES_TERMS = 17
CANDIDATES_AT_ONCE = 1 << 14
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
NORM_EPSILON = 1e-5


def integers(a: Array) -> torch.Tensor:
    """Return int64: torch computes little with unsigned integers."""
    return torch.as_tensor(np.asarray(a).astype(np.int64))


def double(a: Array) -> torch.Tensor:
    """Return float64: what stands between arguments and results here, but for layers."""
    return torch.as_tensor(a).to(torch.float64)


def leaf(a: torch.Tensor) -> torch.Tensor:
    """Return a copy that autograd differentiates by."""
    return a.detach().clone().requires_grad_()


def no_scale(rho: Array) -> torch.Tensor:
    """Return zeros l to differentiate by: the slope by l of rho exp(l) is that by log rho."""
    return leaf(torch.zeros(rho.shape, dtype=torch.float64))


def like(a: Array, *results: torch.Tensor) -> Results:
    """Return results in the precision of an argument."""
    return tuple(r.detach().to(torch.as_tensor(a).dtype) for r in results)


# --- bits


def philox(c: list[torch.Tensor], key: tuple[int, int]) -> torch.Tensor:
    """Return Philox4x32-10 of four counter words; int64 holds 64-bit products modulo 2^64."""
    k0, k1 = key
    for _ in range(spec.ROUNDS):
        p0, p1 = spec.MULTIPLIERS[0] * c[0], spec.MULTIPLIERS[1] * c[2]
        # The shift of a negative number fills with ones, which the mask takes away.
        c = [
            (p1 >> 32 & spec.LOW) ^ c[1] ^ k0,
            p1 & spec.LOW,
            (p0 >> 32 & spec.LOW) ^ c[3] ^ k1,
            p0 & spec.LOW,
        ]
        k0 = k0 + spec.KEY_INCREMENTS[0] & spec.LOW
        k1 = k1 + spec.KEY_INCREMENTS[1] & spec.LOW
    return torch.stack(c, dim=-1)


def philox4x32(counter: Array, key: Array) -> torch.Tensor:
    """Return Philox4x32-10 of counters (..., 4)."""
    return philox(list(integers(counter).unbind(-1)), (int(key[0]), int(key[1])))


def words(seed: int, stream: int, rows: torch.Tensor, count: int, first: int = 0) -> torch.Tensor:
    """Return words first, first + 1, ... of rows of a stream."""
    spec.check_range(first, count)
    spec.word(seed)
    spec.check_words(rows.numpy())
    block = torch.arange(first // 4, -(-(first + count) // 4))
    counter = torch.broadcast_tensors(block[None], rows[:, None])
    nought = torch.zeros_like(counter[0])
    out = philox([*counter, nought, nought], (seed, stream)).flatten(1)
    return out[:, first % 4 : first % 4 + count]


def stream_words(seed: Array, stream: Array, row: Array, first: Array, count: Array) -> Array:
    """Return words of one row of a stream."""
    return words(int(seed), int(stream), integers([row]), int(count), int(first))[0]


def stream_permutation(seed: Array, stream: Array, row: Array, count: Array) -> torch.Tensor:
    """Return the order that sorts words of a stream."""
    return torch.argsort(stream_words(seed, stream, row, 0, count), stable=True)


def words_under(seed: int) -> spec.Words:
    """Return what gives the first words of a row of a stream under a seed."""
    return lambda stream, row, count: stream_words(seed, stream, row, 0, count).numpy()


def find_places(layout: spec.Layout) -> spec.Places:
    """Spell out a layout with words from here."""
    count = sum(spec.variables(layout))
    return spec.spell_out(
        layout,
        words_under(layout.seed),
        stream_permutation(layout.seed, spec.PERMUTATION, 0, count).numpy(),
    )


def block_layout(
    block_size: Array, seed: Array, factors: Array, grouping: Array, signs: Array, weights: Array
) -> Results:
    """Return place and sign of some weights."""
    layout = spec.make_layout(block_size, seed, factors, grouping, signs)
    places = find_places(layout)
    weights = spec.check_weights(weights, layout)
    return places.of_weights[weights], places.signs[weights]


# --- numerics


def uniform(words: torch.Tensor) -> torch.Tensor:
    """Return (word + 1/2) / 2^32; an integer tensor and 0.5 alone would make float32."""
    return (words.to(torch.float64) + 0.5) * 2.0**-32


def polynomial(coefficients: tuple[float, ...], x: torch.Tensor) -> torch.Tensor:
    """Return Horner's rule, each product and each sum rounded: eager torch fuses nothing."""
    value = torch.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        value = value * x + c
    return value


def ratio(parts: tuple[tuple[float, ...], ...], x: torch.Tensor) -> torch.Tensor:
    """Return a quotient of two polynomials."""
    return polynomial(parts[0], x) / polynomial(parts[1], x)


def exact_log(p: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of section 6.2 of docs/SPEC.md."""
    m, e = torch.frexp(p)
    low = m < spec.SQRT_HALF
    m, e = torch.where(low, m + m, m), torch.where(low, e - 1, e).to(torch.float64)
    f = (m - 1.0) / (m + 1.0)
    return 2.0 * f * polynomial(spec.LOG_SERIES, f * f) + e * spec.LN2


def normal_quantile(p: Array) -> torch.Tensor:
    """Return the standard normal quantile, in float64 and to the last bit."""
    p = double(p)
    p = torch.where((p > 0.0) & (p < 1.0), p, torch.nan)
    q = p - 0.5
    centre = q * ratio(spec.CENTRAL, 0.180625 - q * q)
    # Not torch.sqrt: on the CPU one root in a hundred came out one unit off.
    r = torch.as_tensor(np.sqrt(-exact_log(torch.where(q < 0.0, p, 1.0 - p)).numpy()))
    tail = torch.where(r <= 5.0, ratio(spec.MIDDLE, r - 1.6), ratio(spec.FAR, r - 5.0))
    return torch.where(q.abs() <= 0.425, centre, torch.where(q < 0.0, -tail, tail))


def codebook(seed: Array, indices: Array, dimension: Array) -> torch.Tensor:
    """Return rows of the codebook in float32."""
    w = words(int(seed), spec.CODEBOOK, integers(indices), int(dimension))
    return normal_quantile(uniform(w)).to(torch.float32)


def partition_rows(
    seed: Array, bits: Array, blocks: Array, messages: Array, dimension: Array
) -> torch.Tensor:
    """Return the normals of candidate n of bin j of each block in float32: section 7.4."""
    bits, dimension, messages = int(bits), int(dimension), np.asarray(messages, dtype=np.int64)
    spec.check_bins(messages, spec.check_bits(bits, 0))
    seed = spec.word(seed)
    spec.check_words(blocks)
    n, j = integers(messages >> bits), integers(messages & (1 << bits) - 1)
    group = torch.arange(-(-dimension // 4))
    counter = torch.broadcast_tensors(*(a[:, None] for a in (n, integers(blocks), j)), group[None])
    w = philox(list(counter), (int(seed), spec.PARTITION)).flatten(1)[:, :dimension]
    own = double(spec.intervals(messages, bits, dimension))
    u = (own + uniform(w)) / double(2.0 ** spec.bits_of_places(bits, dimension))
    return normal_quantile(u.clamp(max=spec.LARGEST_U)).to(torch.float32)


def place_sample(
    seed: int, rows: torch.Tensor, nodes: torch.Tensor, a: torch.Tensor, b: torch.Tensor
) -> torch.Tensor:
    """Return the u of nodes in their regions (a, b)."""
    counter = [nodes & spec.LOW, rows, nodes >> 32, torch.zeros_like(rows)]
    w = philox(counter, (seed, spec.CANDIDATES))
    u = ((w[:, 0] << 20 | w[:, 1] >> 12).to(torch.float64) + 0.5) * 2.0**-52
    return (a + (b - a) * u).clamp(max=spec.LARGEST_U)


def variable_samples(code: Array, seed: Array, rows: Array, messages: Array) -> torch.Tensor:
    """Return the normals of nodes in float32: section 7.5, from the root downwards."""
    code, seed, rows, nodes = int(code), int(seed), integers(rows), integers(messages)
    spec.word(seed)
    spec.check_words(rows)
    spec.check_nodes(code, nodes.numpy())
    a, b = torch.zeros(len(nodes), dtype=torch.float64), torch.ones(len(nodes), dtype=torch.float64)
    left = integers(spec.depths(code, nodes.numpy()))
    while torch.any(left > 0):
        dyadic = code in spec.DYADIC
        c = (a + b) / 2.0 if dyadic else place_sample(seed, rows, nodes >> left, a, b)
        on, right = left > 0, (nodes >> (left - 1).clamp(min=0) & 1) == 1
        a, b = torch.where(on & right, c, a), torch.where(on & ~right, c, b)
        left = (left - 1).clamp(min=0)
    return normal_quantile(place_sample(seed, rows, nodes, a, b)).to(torch.float32)


def excess(y: torch.Tensor) -> torch.Tensor:
    """Return exp(-y) - 1 + y; by its series where its terms cancel."""
    near = torch.where(y.abs() < 0.5, y, 0.0)
    series = torch.zeros_like(y)
    for k in range(SERIES_TERMS, 1, -1):
        series = 1.0 / math.factorial(k) - near * series
    return torch.where(y.abs() < 0.5, near * near * series, torch.expm1(-y) + y)


class LogS(torch.autograd.Function):
    """log s(x), the root s <= 1 of s - log s = 1 + x^2; d log s / dx = -2 x / (1 - s)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """Solve exp(-y) - 1 + y = x^2 for y = -log s by Newton's method from above."""
        y = SQRT2 * x + x * x
        for _ in range(NEWTON_STEPS):
            y = y - (excess(y) - x * x) / torch.where(y > 0.0, -torch.expm1(-y), 1.0)
        # x^2 would underflow where two terms of the series are all that float64 can hold.
        log_s = -torch.where(x < 1e-8, SQRT2 * x + x * x / 3.0, y)
        ctx.save_for_backward(x, log_s)
        return log_s

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        """Return grad times the slope; x / (1 - s) by its series where 1 - s has few bits."""
        x, log_s = ctx.saved_tensors
        small = x < 1e-8
        h = torch.where(small, (1.0 + SQRT2 / 3.0 * x) / SQRT2, x / -torch.expm1(log_s))
        return -2.0 * h * grad


class TanhSech(torch.autograd.Function):
    """tanh and 1 / cosh; 1 - tanh^2, as autograd has it, would lose the digits of sech^2."""

    @staticmethod
    def forward(ctx: Any, tau: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both; nothing overflows."""
        e = torch.exp(-tau.abs())
        tanh, sech = torch.tanh(tau), 2.0 * e / (1.0 + e * e)
        ctx.save_for_backward(tanh, sech)
        return tanh, sech

    @staticmethod
    def backward(ctx: Any, dtanh: torch.Tensor, dsech: torch.Tensor) -> torch.Tensor:
        """Return the gradient: tanh' = sech^2, sech' = -sech tanh."""
        tanh, sech = ctx.saved_tensors
        return sech * (sech * dtanh - tanh * dsech)


def others(x: torch.Tensor) -> torch.Tensor:
    """Return the sum of the other elements of its row for each, never taking one out of a sum."""
    none = x.new_zeros(len(x), 1)
    before = torch.cat([none, x[:, :-1]], dim=1).cumsum(dim=1)
    behind = torch.cat([none, x[:, 1:].flip(1)], dim=1).cumsum(dim=1).flip(1)
    return before + behind


class Softmax(torch.autograd.Function):
    """Shares of each row; autograd's gradient is a small difference where one takes nearly all."""

    @staticmethod
    def forward(ctx: Any, phi: torch.Tensor) -> torch.Tensor:
        """Return the shares."""
        share = torch.softmax(phi, dim=1)
        ctx.save_for_backward(share)
        return share

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        """Return p_j grad_j sum_(i != j) p_i - p_j sum_(i != j) p_i grad_i."""
        (share,) = ctx.saved_tensors
        h = share * grad
        return h * others(share) - share * others(h)


def log_s(x: Array) -> torch.Tensor:
    """Return log s(x)."""
    return like(x, LogS.apply(double(x)))[0]


def ds_dx(x: Array) -> torch.Tensor:
    """Return the slope of s(x)."""
    t = leaf(double(x))
    return like(x, *torch.autograd.grad(torch.exp(LogS.apply(t)).sum(), t))[0]


def gaussian_kl(delta: Array, log_s: Array) -> torch.Tensor:
    """Return the whitened KL in nats."""
    return like(delta, 0.5 * (double(delta) ** 2 + excess(-double(log_s))))[0]


# --- posterior


def whitened(tau: torch.Tensor, phi: torch.Tensor, budget: float) -> tuple[Any, Any]:
    """Return delta and log s; the root of a share of 0 has no slope that autograd could take."""
    share = Softmax.apply(phi)
    none = share == 0.0  # what is NaN is not
    r = torch.where(none, 0.0, math.sqrt(2.0 * budget) * torch.sqrt(torch.where(none, 1.0, share)))
    tanh, sech = TanhSech.apply(tau)
    return r * tanh, LogS.apply(r * sech)


def sample(tau: Any, phi: Any, rho: Any, budget: float, eps: Any) -> torch.Tensor:
    """Return w = rho (delta + sqrt(s) eps)."""
    delta, log_s = whitened(tau, phi, budget)
    return rho * (delta + torch.exp(0.5 * log_s) * eps)


def mean_kl(tau: Array, phi: Array, budget: Array) -> Results:
    """Return delta and log s."""
    return like(tau, *whitened(double(tau), double(phi), float(budget)))


def mean_kl_forward(tau: Array, phi: Array, rho: Array, budget: Array, eps: Array) -> torch.Tensor:
    """Return the sample."""
    w = sample(double(tau), double(phi), double(rho), float(budget), double(eps))
    return like(tau, w)[0]


def mean_kl_backward(
    tau: Array, phi: Array, rho: Array, budget: Array, eps: Array, g: Array
) -> Results:
    """Return the gradients by tau, phi and log rho, the last for each weight."""
    t, f, log_scale = leaf(double(tau)), leaf(double(phi)), no_scale(rho)
    w = sample(t, f, double(rho) * torch.exp(log_scale), float(budget), double(eps))
    return like(tau, *torch.autograd.grad(w, (t, f, log_scale), double(g)))


def mean_var_forward(mu: Array, log_sigma: Array, eps: Array) -> torch.Tensor:
    """Return mu + sigma eps."""
    return like(mu, double(mu) + torch.exp(double(log_sigma)) * double(eps))[0]


def mean_kl_forward_around(
    tau: Array, phi: Array, nu: Array, rho: Array, budget: Array, eps: Array
) -> torch.Tensor:
    """Return the sample of a posterior around nu."""
    w = sample(double(tau), double(phi), double(rho), float(budget), double(eps))
    return like(tau, double(nu) + w)[0]


def mean_kl_backward_around(
    tau: Array, phi: Array, nu: Array, rho: Array, budget: Array, eps: Array, g: Array
) -> Results:
    """Return the gradients by tau, phi and log rho: nu, a constant, has no part in them."""
    return mean_kl_backward(tau, phi, rho, budget, eps, g)


def mean_var_backward(
    mu: Array, log_sigma: Array, rho: Array, beta: Array, eps: Array, g: Array
) -> Results:
    """Return the gradients of g w + beta KL by mu, log sigma and log rho."""
    return mean_var_backward_around(mu, log_sigma, np.zeros_like(mu), rho, beta, eps, g)


def mean_var_backward_around(
    mu: Array, log_sigma: Array, nu: Array, rho: Array, beta: Array, eps: Array, g: Array
) -> Results:
    """Return the gradients of g w + beta KL[Q || N(nu, rho^2)] by mu, log sigma and log rho."""
    m, ls, log_scale = (
        leaf(double(mu)),
        leaf(double(log_sigma)),
        leaf(torch.zeros(rho.shape).double()),
    )
    sigma, scale = torch.exp(ls), double(rho) * torch.exp(log_scale)
    delta = (m - double(nu)) / scale
    divergence = 0.5 * (delta**2 + (sigma / scale) ** 2 - 1.0) - (ls - torch.log(scale))
    penalty = double(beta)[:, None] * divergence
    objective = (double(g) * (m + sigma * double(eps)) + penalty).sum()
    return like(mu, *torch.autograd.grad(objective, (m, ls, log_scale)))


def expand(variables: torch.Tensor, places: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
    """Return sign times variable for each weight."""
    return signs.to(variables.dtype) * variables.flatten()[places]


def expand_hash(variables: Array, places: Array, signs: Array) -> torch.Tensor:
    """Return sign times variable for each weight."""
    return expand(torch.as_tensor(variables), integers(places), torch.as_tensor(signs))


def expand_hash_backward(g: Array, places: Array, signs: Array, count: Array) -> torch.Tensor:
    """Return the gradient by the variables."""
    g = torch.as_tensor(g)
    v = leaf(g.new_zeros(int(count)))
    return torch.autograd.grad(expand(v, integers(places), torch.as_tensor(signs)), v, g)[0]


# --- layers: torch has (batch, channels, height, width) and (batch, features)


def nchw(x: Array) -> torch.Tensor:
    """Return activations as torch orders them."""
    return torch.as_tensor(x).permute(3, 0, 1, 2).contiguous()


def chwn(x: torch.Tensor) -> torch.Tensor:
    """Return activations as the contract orders them."""
    return x.detach().permute(1, 2, 3, 0)


def oihw(w: torch.Tensor) -> torch.Tensor:
    """Return a kernel as torch orders it."""
    return w.permute(3, 2, 0, 1)


def images(pixels: Array) -> torch.Tensor:
    """Return pixel / 255 - 1/2; no argument tells the precision, so float64."""
    return double(pixels).permute(1, 2, 0)[None] / 255.0 - 0.5


def conv2d(x: Array, w: Array, b: Array) -> torch.Tensor:
    """Return the valid cross-correlation."""
    return chwn(F.conv2d(nchw(x), oihw(torch.as_tensor(w)), torch.as_tensor(b)))


def conv2d_backward(x: Array, w: Array, dy: Array) -> Results:
    """Return dx, dw, db."""
    x, w = leaf(nchw(x)), leaf(torch.as_tensor(w))
    b = leaf(w.new_zeros(w.shape[3]))
    dx, dw, db = torch.autograd.grad(F.conv2d(x, oihw(w), b), (x, w, b), nchw(dy))
    return chwn(dx), dw, db


def general(x: Any, w: Any, b: Any, stride: Array, padding: Array, groups: Array) -> torch.Tensor:
    """Return a convolution of torch's maps with the contract's kernel."""
    return F.conv2d(x, oihw(w), b, int(stride), int(padding), groups=int(groups))


def conv2d_general(
    x: Array, w: Array, b: Array, stride: Array, padding: Array, groups: Array
) -> torch.Tensor:
    """Return the cross-correlation with zeros around the maps, channels in groups."""
    spec.check_convolution(x, w, stride, padding, groups)
    return chwn(general(nchw(x), torch.as_tensor(w), torch.as_tensor(b), stride, padding, groups))


def conv2d_general_backward(
    x: Array, w: Array, dy: Array, stride: Array, padding: Array, groups: Array
) -> Results:
    """Return dx, dw, db."""
    spec.check_convolution(x, w, stride, padding, groups)
    x, w = leaf(nchw(x)), leaf(torch.as_tensor(w))
    b = leaf(w.new_zeros(w.shape[3]))
    y = general(x, w, b, stride, padding, groups)
    dx, dw, db = torch.autograd.grad(y, (x, w, b), nchw(dy))
    return chwn(dx), dw, db


def maxpool2d(x: Array) -> torch.Tensor:
    """Return the maximum of each 2x2 window."""
    return chwn(F.max_pool2d(nchw(x), 2))


def maxpool2d_backward(x: Array, dy: Array) -> torch.Tensor:
    """Return dx; torch too lets the first of equals win."""
    x = leaf(nchw(x))
    return chwn(torch.autograd.grad(F.max_pool2d(x, 2), x, nchw(dy))[0])


def mean_pool2d(x: Array, height: Array, width: Array) -> torch.Tensor:
    """Return the mean of each window; what is left over is dropped."""
    spec.check_windows(x.shape, height, width)
    return chwn(F.avg_pool2d(nchw(x), (int(height), int(width))))


def mean_pool2d_backward(dy: Array, height: Array, width: Array, shape: Array) -> torch.Tensor:
    """Return dx."""
    spec.check_windows(shape, height, width)
    x = leaf(nchw(torch.as_tensor(dy).new_zeros(tuple(shape.tolist()))))
    y = F.avg_pool2d(x, (int(height), int(width)))
    return chwn(torch.autograd.grad(y, x, nchw(dy))[0])


def normalised(x: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor, groups: int) -> Any:
    """Return (1 + gain) (x - mean) / sqrt(var + 1e-5) + bias; F.group_norm loses digits of x."""
    spec.check_groups(groups, x.shape[1])
    parts = x.unflatten(1, (groups, -1)).flatten(2)
    centred = parts - parts.mean(dim=2, keepdim=True)
    deviation = torch.sqrt((centred**2).mean(dim=2, keepdim=True) + NORM_EPSILON)
    xhat = (centred / deviation).reshape(x.shape)
    return (1.0 + gain)[:, None, None] * xhat + bias[:, None, None]


def group_norm(x: Array, gain: Array, bias: Array, groups: Array) -> torch.Tensor:
    """Return normalised maps, computed in float64."""
    y = normalised(nchw(double(x)), double(gain), double(bias), int(groups))
    return like(x, chwn(y))[0]


def group_norm_backward(x: Array, gain: Array, groups: Array, dy: Array) -> Results:
    """Return dx, dgain, dbias."""
    leaves = leaf(nchw(double(x))), leaf(double(gain)), leaf(torch.zeros_like(double(gain)))
    y = normalised(*leaves, int(groups))
    dx, dgain, dbias = torch.autograd.grad(y, leaves, nchw(double(dy)))
    return like(x, chwn(dx), dgain, dbias)


def relu(x: Array) -> torch.Tensor:
    """Return max(x, 0)."""
    return F.relu(torch.as_tensor(x))


def relu_backward(x: Array, dy: Array) -> torch.Tensor:
    """Return dx."""
    x = leaf(torch.as_tensor(x))
    return torch.autograd.grad(F.relu(x), x, torch.as_tensor(dy))[0]


def dense(x: Array, w: Array, b: Array) -> torch.Tensor:
    """Return W^T x + b."""
    x, w, b = (torch.as_tensor(a) for a in (x, w, b))
    return F.linear(x.T, w.T, b).T


def dense_backward(x: Array, w: Array, dy: Array) -> Results:
    """Return dx, dw, db."""
    x, w = leaf(torch.as_tensor(x)), leaf(torch.as_tensor(w))
    b = leaf(w.new_zeros(w.shape[1]))
    return torch.autograd.grad(F.linear(x.T, w.T, b).T, (x, w, b), torch.as_tensor(dy))


def softmax_cross_entropy(logits: Array, labels: Array) -> Results:
    """Return the loss of each sample, and the gradient of their sum."""
    z = leaf(torch.as_tensor(logits))
    losses = CrossEntropy.apply(z, integers(labels))
    return losses.detach(), torch.autograd.grad(losses.sum(), z)[0]


class CrossEntropy(torch.autograd.Function):
    """The loss of each column; F.cross_entropy loses log of a sum near 1, and p - 1."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return log(1 + sum of exp(z_k - z_top) over the others) + z_top - z_label."""
        top = logits.argmax(dim=0, keepdim=True)
        z = logits - logits.gather(0, top)
        e = torch.exp(z)
        ctx.save_for_backward(e / e.sum(dim=0), labels)
        return torch.log1p(e.scatter(0, top, 0.0).sum(dim=0)) - z.gather(0, labels[None])[0]

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Return grad p_k; at the label p - 1 as minus the sum of the others."""
        p, labels = ctx.saved_tensors
        wrong = p.scatter(0, labels[None], 0.0)
        return grad * wrong.scatter(0, labels[None], -wrong.sum(dim=0, keepdim=True)), None


# --- coding


def log_weights(candidates: Array, delta: Array, log_s: Array) -> torch.Tensor:
    """Return log q(z) / p(z) in nats, (blocks, K), summed in float64."""
    z = torch.as_tensor(candidates).to(torch.float64)
    delta, log_s = double(delta), double(log_s)
    constant = 0.5 * (delta**2 - log_s).sum(dim=1, keepdim=True)
    total = constant.expand(-1, len(z)).contiguous()
    half = 0.5 * torch.expm1(-log_s)
    for j in range(z.shape[1]):
        y = z[:, j] - delta[:, j, None]
        total += y * (delta[:, j, None] - y * half[:, j, None])
    return total


def select_indices(seed: Array, bits: Array, blocks: Array, delta: Array, log_s: Array) -> Array:
    """Return one index for each block by Gumbel-max; the lowest of equals."""
    require(np.isfinite(delta).all() and np.isfinite(log_s).all(), "a target is not finite")
    spec.check_bits(int(bits))
    rows = integers(blocks)
    best = torch.full(rows.shape, -math.inf, dtype=torch.float64)
    index = torch.zeros_like(rows)
    for start in range(0, 2 ** int(bits), CANDIDATES_AT_ONCE):
        candidates = torch.arange(start, min(start + CANDIDATES_AT_ONCE, 2 ** int(bits)))
        u = uniform(words(int(seed), spec.SELECTION, rows, len(candidates), start))
        scores = log_weights(codebook(seed, candidates, delta.shape[1]), delta, log_s)
        top, place = (scores - torch.log(-torch.log(u))).max(dim=1)
        index = torch.where(top > best, candidates[place], index)
        best = torch.maximum(top, best)
    return index


def decode_blocks(seed: Array, indices: Array, dimension: Array, rho: Array) -> torch.Tensor:
    """Return rho z in float32."""
    return torch.as_tensor(spec.scales(rho)).to(torch.float32) * codebook(seed, indices, dimension)


# --- the whole network


def through(layers: Any, weights: Iterator[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Pass x (batch, channels, height, width) through a list of layers: section 3.2 of SPEC.md."""
    for opcode, numbers in layers:
        if opcode == net.CONV:
            _, _, *sliding, _ = numbers
            x = general(x, next(weights), next(weights), *sliding)
        elif opcode == net.DENSE:
            x = F.linear(x, next(weights).T, next(weights))
        elif opcode == net.FLATTEN:
            x = x.flatten(1)
        elif opcode == net.MAXIMUM:
            x = F.max_pool2d(x, 2)
        elif opcode == net.MEAN:
            x = F.avg_pool2d(x, numbers if any(numbers) else x.shape[2:])
        elif opcode == net.NORM:
            x = normalised(x, next(weights), next(weights), *numbers)
        elif opcode == net.RELU:
            x = F.relu(x)
        else:
            body = through(numbers[0], weights, x)
            x = body + through(numbers[1], weights, x)
    return x


def forward(flat: torch.Tensor, pixels: Array, layout: spec.Layout) -> torch.Tensor:
    """Return the logits (batch, classes) from all weights in a row."""
    parts = zip(torch.split(flat, layout.sizes), layout.shapes, strict=True)
    weights = (part.reshape(shape) for part, shape in parts)
    x = torch.as_tensor(spec.check_images(pixels, layout)).to(flat.dtype) / 255.0 - 0.5
    return through(layout.whole.layers, weights, x)


def gradients(
    layout: spec.Layout, places: spec.Places, budget: float, parameters: list[torch.Tensor],
    rho: torch.Tensor, data: Any,
) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:  # fmt: skip
    """Return the loss and its gradients by tau, phi and log rho; rho by tensor in float64."""
    tau, phi = (leaf(p) for p in parameters[:2])
    log_scale = no_scale(rho)
    eps, pixels, labels = data
    scale = (rho * torch.exp(log_scale))[integers(places.tensors)]
    w = sample(tau.double(), phi.double(), scale, budget, double(eps))
    # In float64, so that the gradients of up to 400,000 weights are summed in it.
    flat = expand(w, integers(places.of_weights), integers(places.signs)).to(tau.dtype)
    labels = integers(spec.check_labels(labels, layout))
    loss = F.cross_entropy(forward(flat, pixels, layout), labels)
    return loss.detach(), torch.autograd.grad(loss, (tau, phi, log_scale))


def batch_gradients(
    layout: spec.Layout, bits: Array, tau: Array, phi: Array, rho: Array, *data: Array
) -> Results:
    """Return the mean loss of a batch and its gradients by tau, phi and log rho."""
    parameters = [torch.as_tensor(tau), torch.as_tensor(phi)]
    budget = int(bits) * math.log(2.0)
    places = find_places(layout)
    loss, grads = gradients(layout, places, budget, parameters, double(rho), data)
    return loss, *like(tau, *grads)


def loss_and_grads(
    block_size: Array, seed: Array, factors: Array, grouping: Array, signs: Array, *batch: Array
) -> Results:
    """Return loss and gradients of LeNet-5; `batch` as in `batch_gradients`."""
    layout = spec.make_layout(block_size, seed, factors, grouping, signs)
    return batch_gradients(layout, *batch)


def loss_and_grads_general(description: Array, *arguments: Array) -> Results:
    """Return loss and gradients of a described network; arguments as in `loss_and_grads`."""
    layout = spec.described_layout(description, *arguments[:5])
    return batch_gradients(layout, *arguments[5:])


def adam(theta: Any, g: Any, m: Any, v: Any, step: int, rate: float) -> tuple[Any, Any, Any]:
    """Return theta, m and v after a step of Adam."""
    m = BETA1 * m + (1.0 - BETA1) * g
    v = BETA2 * v + (1.0 - BETA2) * g * g
    divisor = torch.sqrt(v / (1.0 - BETA2**step)) + EPSILON
    return theta - rate * (m / (1.0 - BETA1**step)) / divisor, m, v


def adam_step(theta: Array, g: Array, m: Array, v: Array, step: Array, rate: Array) -> Results:
    """Return theta, m and v after a step of Adam."""
    return adam(*(torch.as_tensor(a) for a in (theta, g, m, v)), int(step), float(rate))


def round_scales(log_rho: torch.Tensor) -> torch.Tensor:
    """Return exp(log rho) as float64, rounded to the 11 bits of a normal float16.

    `Tensor.half` rounds float64 to float32 first, and so twice.
    """
    rho = torch.exp(log_rho.double()).clamp(spec.SMALLEST_SCALE, spec.LARGEST_SCALE)
    m, e = torch.frexp(rho)
    return torch.ldexp(torch.round(m * 2.0**11), (e - 11).double())


def train_steps(
    block_size: Array, seed: Array, factors: Array, grouping: Array, signs: Array, bits: Array,
    tau: Array, phi: Array, log_rho: Array, eps: Array, images: Array, labels: Array,
    rates: Array, scale_rate: Array,
) -> Results:  # fmt: skip
    """Return the loss of each step of Adam, and the parameters behind the last."""
    layout = spec.make_layout(block_size, seed, factors, grouping, signs)
    places = find_places(layout)
    parameters = [torch.as_tensor(p) for p in (tau, phi, log_rho)]
    moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
    budget, losses = int(bits) * math.log(2.0), []
    for t, rate in enumerate(rates):
        data = (eps[t], images[t], labels[t])
        rho = round_scales(parameters[2])
        loss, grads = gradients(layout, places, budget, parameters, rho, data)
        losses.append(loss)
        for i, g in enumerate(like(tau, *grads)):
            own = float(rate) * (float(scale_rate) if i == 2 else 1.0)
            parameters[i], *moments[i] = adam(parameters[i], g, *moments[i], t + 1, own)
    return torch.stack(losses), *parameters


# --- files


def encode_model(
    block_size: Array, seed: Array, factors: Array, grouping: Array, signs: Array, bits: Array,
    rho: Array, delta: Array, log_s: Array,
) -> Array:  # fmt: skip
    """Return the file of a posterior."""
    layout = spec.make_layout(block_size, seed, factors, grouping, signs)
    indices = select_indices(seed, bits, np.arange(spec.blocks(layout)), delta, log_s)
    return spec.write_file(spec.Header(layout, spec.MRC, int(bits), rho, indices.numpy()))


def normals(header: spec.Header) -> torch.Tensor:
    """Return the float32 normals at all places of a file, in a row."""
    layout, code, bits, _, messages, _ = header
    if code == spec.SP_PFR:
        blocks = np.arange(len(messages))
        return partition_rows(layout.seed, bits, blocks, messages, layout.block_size).flatten()
    if code > spec.SP_PFR:
        nodes = spec.at_all_places(messages, layout)
        return variable_samples(code, layout.seed, np.arange(len(nodes)), nodes)
    return codebook(layout.seed, messages, layout.block_size).flatten()


def decode_weights(header: spec.Header) -> torch.Tensor:
    """Return all float32 weights of a file in a row."""
    places = find_places(header.layout)
    scales = torch.as_tensor(spec.scales(header.rho[places.tensors.ravel()])).to(torch.float32)
    v = scales * normals(header)
    return expand(v, integers(places.of_weights), integers(places.signs))


def decode_model(data: Array) -> Results:
    """Return the SHA-256 of all weights, and some of them."""
    return digest_of(decode_weights(spec.read_file(data)))


def digest_of(weights: torch.Tensor) -> Results:
    """Return the SHA-256 of all weights, and some of them."""
    flat = weights.numpy().astype("<f4")
    digest = hashlib.sha256(flat.tobytes()).digest()
    return np.frombuffer(digest, np.uint8), flat[:: spec.SAMPLE_STRIDE]


def normals_of_variables(header: spec.Header) -> Array:
    """Return the float32 normals of the variables of a layout without hashing, in order."""
    return normals(header).numpy()[find_places(header.layout).of_weights]


def decode_chain(data: Array, sizes: Array) -> Results:
    """Return the same of the weights behind the last of some files, of so many bytes each."""
    layout, variables = spec_update.variables_behind(data, sizes, normals_of_variables)
    places = spec_update.by_variable(layout, words_under(layout.seed))
    v = torch.as_tensor(variables)
    return digest_of(expand(v, integers(places.of_weights), integers(places.signs)))


def predict(data: Array, images: Array) -> Results:
    """Return logits (classes, images) and classes; no argument tells the precision, so float64."""
    header = spec.read_file(data)
    flat = decode_weights(header).double()
    require(len(images), "there are no images to classify")
    logits = forward(flat, images, header.layout).T
    require(torch.isfinite(logits).all(), "a logit is not finite: no class")
    return logits, logits.argmax(dim=0)


BACKEND = SimpleNamespace(
    name="PyTorch",
    version=torch.__version__,
    dtypes=("float64", "float32"),
    pack_indices=spec.pack_indices,
    unpack_indices=spec.unpack_indices,
    read_integers=spec.read_integers,
    write_integers=spec.write_integers,
    read_container=spec.read_container,
    describe_file=spec.describe_file,
    write_container=spec.write_container,
    **{
        f.__name__: f
        for f in (
            philox4x32,
            stream_words,
            stream_permutation,
            block_layout,
            normal_quantile,
            codebook,
            log_s,
            ds_dx,
            gaussian_kl,
            mean_kl,
            mean_kl_forward,
            mean_kl_backward,
            mean_var_forward,
            mean_var_backward,
            mean_kl_forward_around,
            mean_kl_backward_around,
            mean_var_backward_around,
            expand_hash,
            expand_hash_backward,
            images,
            conv2d,
            conv2d_backward,
            conv2d_general,
            conv2d_general_backward,
            maxpool2d,
            maxpool2d_backward,
            mean_pool2d,
            mean_pool2d_backward,
            group_norm,
            group_norm_backward,
            relu,
            relu_backward,
            dense,
            dense_backward,
            softmax_cross_entropy,
            log_weights,
            select_indices,
            decode_blocks,
            partition_rows,
            variable_samples,
            loss_and_grads,
            loss_and_grads_general,
            adam_step,
            train_steps,
            encode_model,
            decode_model,
            decode_chain,
            predict,
        )
    },
)
