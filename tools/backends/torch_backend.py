"""MIRACLE with Mean-KL in PyTorch, as a backend of the conformance suite.

Layers come from `torch.nn.functional` and every gradient from autograd; only the functions that
autograd would get wrong at their edges, log s(x) and tanh with sech, bring their own derivative.
Run it with this folder on the path:

    PYTHONPATH=tools/backends python -m refmiracle.conformance --backend torch_backend:BACKEND
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import spec_description as net
import spec_layout as spec
import spec_operations
import torch
import torch.nn.functional as F  # noqa: N812
from spec_layout import ratio

Array = Any
Results = tuple[Any, ...]

SQRT2 = math.sqrt(2.0)
NEWTON_STEPS = 9
SERIES_TERMS = 17
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


def words(seed: int, stream: int, rows: Array, count: int, first: int = 0) -> torch.Tensor:
    """Return words first, first + 1, ... of rows of a stream."""
    spec.check_range(first, count)
    spec.word(seed)
    spec.word(stream)
    rows = integers(spec.check_words(rows))
    block = torch.arange(first // 4, -(-(first + count) // 4))
    counter = torch.broadcast_tensors(block[None], rows[:, None])
    nought = torch.zeros_like(counter[0])
    out = philox([*counter, nought, nought], (seed, stream)).flatten(1)
    return out[:, first % 4 : first % 4 + count]


def stream_words(seed: Array, stream: Array, row: Array, first: Array, count: Array) -> Array:
    """Return words of one row of a stream."""
    return words(int(seed), int(stream), [int(row)], int(count), int(first))[0]


def stream_permutation(seed: Array, stream: Array, row: Array, count: Array) -> torch.Tensor:
    """Return the order that sorts words of a stream."""
    return torch.argsort(stream_words(seed, stream, row, 0, count), stable=True)


# --- numerics


def uniform(words: torch.Tensor) -> torch.Tensor:
    """Return (word + 1/2) / 2^32; an integer tensor and 0.5 alone would make float32."""
    return (words.to(torch.float64) + 0.5) * 2.0**-32


def exact_log(p: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of section 6.2 of docs/SPEC.md."""
    m, e = torch.frexp(p)
    low = m < spec.SQRT_HALF
    m, e = torch.where(low, m + m, m), torch.where(low, e - 1, e).to(torch.float64)
    f = (m - 1.0) / (m + 1.0)
    return 2.0 * f * spec.polynomial(spec.LOG_SERIES, f * f) + e * spec.LN2


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
    w = words(int(seed), spec.CODEBOOK, indices, int(dimension))
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
    deviation = torch.where(torch.isfinite(deviation), deviation, math.nan)  # no class
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


def gumbel(u: torch.Tensor) -> torch.Tensor:
    """Return the noise that uniform numbers stand for."""
    return -torch.log(-torch.log(u))


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


def batch_gradients(
    layout: spec.Layout, places: spec.Places, bits: Array, tau: Array, phi: Array, rho: Array,
    eps: Array, images: Array, labels: Array,
) -> Results:  # fmt: skip
    """Return the mean loss of a batch and its gradients by tau, phi and log rho."""
    budget, rho = int(bits) * math.log(2.0), double(rho)
    t, f, log_scale = leaf(torch.as_tensor(tau)), leaf(torch.as_tensor(phi)), no_scale(rho)
    scale = (rho * torch.exp(log_scale))[integers(places.tensors)]
    w = sample(t.double(), f.double(), scale, budget, double(eps))
    # In float64, so that the gradients of up to 400,000 weights are summed in it.
    flat = expand(w, integers(places.of_weights), integers(places.signs)).to(t.dtype)
    labels = integers(spec.check_labels(labels, layout))
    loss = F.cross_entropy(forward(flat, images, layout), labels)
    return loss.detach(), *like(tau, *torch.autograd.grad(loss, (t, f, log_scale)))


def adam(theta: Any, g: Any, m: Any, v: Any, step: int, rate: float) -> tuple[Any, Any, Any]:
    """Return theta, m and v after a step of Adam."""
    m = BETA1 * m + (1.0 - BETA1) * g
    v = BETA2 * v + (1.0 - BETA2) * g * g
    divisor = torch.sqrt(v / (1.0 - BETA2**step)) + EPSILON
    return theta - rate * (m / (1.0 - BETA1**step)) / divisor, m, v


def adam_step(theta: Array, g: Array, m: Array, v: Array, step: Array, rate: Array) -> Results:
    """Return theta, m and v after a step of Adam."""
    return adam(*(torch.as_tensor(a) for a in (theta, g, m, v)), int(step), float(rate))


def round_scales(log_rho: Array) -> torch.Tensor:
    """Return exp(log rho) as float64, rounded to the 11 bits of a normal float16.

    `Tensor.half` rounds float64 to float32 first, and so twice.
    """
    rho = torch.exp(double(log_rho)).clamp(spec.SMALLEST_SCALE, spec.LARGEST_SCALE)
    m, e = torch.frexp(rho)
    return torch.ldexp(torch.round(m * 2.0**11), (e - 11).double())


def logits(flat: Array, images: Array, layout: spec.Layout) -> torch.Tensor:
    """Return the logits (classes, batch) from all weights in a row, in float64."""
    return forward(double(flat), images, layout).T


BACKEND = spec_operations.assemble(globals(), name="PyTorch", version=torch.__version__)
