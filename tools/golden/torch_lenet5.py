"""LeNet-5 and Mean-KL in float64 PyTorch, to be differentiated by its autograd.

The only derivative given by hand is that of log s(x), the implicit one of its equation; its
values come from mpmath.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath
import numpy as np
import torch
from golden.torch_layout import Layout, Shapes
from numpy.typing import NDArray
from torch.nn import functional

# Maxima and signs that are closer than this are taken for equal in exact arithmetic.
SAME = 1e-12
DIGITS = 50


def log_s(x: float) -> tuple[float, float]:
    """Return log s and x / (1 - s) for s - log s = 1 + x^2, s <= 1, to float64.

    Newton's method for y = -log s on exp(-y) - 1 + y = x^2, from above: first in float64, where
    it stops some digits short, then in mpmath.
    """
    if x == 0.0:
        return 0.0, math.sqrt(0.5)
    if x < 1e-8:  # the next term is below x^3
        return -(math.sqrt(2.0) * x + x * x / 3.0), (1.0 + math.sqrt(2.0) / 3.0 * x) / math.sqrt(2)
    y = math.sqrt(2.0) * x + x * x
    for _ in range(8):
        y -= (math.expm1(-y) + y - x * x) / -math.expm1(-y)
    with mpmath.workdps(DIGITS):
        y, square = mpmath.mpf(y), mpmath.mpf(x) ** 2
        for _ in range(2):
            e = mpmath.exp(-y)
            y -= (e - 1 + y - square) / (1 - e)
        return float(-y), float(x / (1 - mpmath.exp(-y)))


class LogS(torch.autograd.Function):
    """log s(x), with d log s / dx = -2 x / (1 - s) from the equation s - log s = 1 + x^2."""

    @staticmethod
    def forward(ctx, x):
        """Return log s."""
        pairs = [log_s(v) for v in x.detach().ravel().tolist()]
        values, ratios = torch.tensor(pairs, dtype=torch.float64).T
        ctx.save_for_backward(ratios.reshape(x.shape))
        return values.reshape(x.shape)

    @staticmethod
    def backward(ctx, g):
        """Return the gradient by x."""
        (ratio,) = ctx.saved_tensors
        return -2.0 * ratio * g


def sample(
    tau: torch.Tensor, phi: torch.Tensor, rho: torch.Tensor, budget: float, eps: torch.Tensor
) -> torch.Tensor:
    """Return w = rho (r tanh tau + sqrt(s(r sech tau)) eps), r = sqrt(2 C softmax(phi))."""
    # exp of half the logarithm: a share of 0 (phi = -inf) has a gradient of 0, not NaN.
    r = torch.exp(0.5 * (math.log(2.0 * budget) + torch.log_softmax(phi, dim=1)))
    half_log_s = 0.5 * LogS.apply(r / torch.cosh(tau))
    return rho * (r * torch.tanh(tau) + torch.exp(half_log_s) * eps)


class Kinks:
    """How near the network comes to a point where its gradient jumps.

    Attributes
    ----------
    gap : float
        The smallest distance of a ReLU from 0 and of the two largest values of a window, as
        parts of the largest activation of the layer.
    """

    def __init__(self) -> None:
        self.gap = math.inf

    def see(self, distances: torch.Tensor, scale: torch.Tensor) -> None:
        """Take note of distances; those of 0 are ties in exact arithmetic too."""
        parts = (distances / scale.abs().max()).detach()
        apart = parts[parts > SAME]
        self.gap = min([self.gap, *apart.min().reshape(1).tolist()] if len(apart) else [self.gap])


def pool_relu(x: torch.Tensor, kinks: Kinks) -> torch.Tensor:
    """Return the positive part of the maximum of each 2x2 window."""
    windows = functional.unfold(x.reshape(-1, 1, *x.shape[2:]), 2, stride=2)
    best = windows.topk(2, dim=1).values
    kinks.see((best[:, 0] - best[:, 1])[best[:, 0] > 0.0], x)
    kinks.see(best[:, 0].abs(), x)
    return torch.relu(functional.max_pool2d(x, 2))


def logits(
    weights: list[torch.Tensor], pixels: NDArray[np.uint8], kinks: Kinks | None = None
) -> torch.Tensor:
    """Return the logits (images, 10); weights in the shapes of docs/SPEC.md, section 3."""
    kinks = kinks or Kinks()
    kernels = [w.permute(3, 2, 0, 1) if w.ndim == 4 else w for w in weights]
    x = torch.tensor(pixels, dtype=torch.float64)[:, None] / 255.0 - 0.5
    x = pool_relu(functional.conv2d(x, kernels[0], kernels[1]), kinks)
    x = pool_relu(functional.conv2d(x, kernels[2], kernels[3]), kinks)
    x = functional.linear(x.flatten(1), weights[4].T, weights[5])
    kinks.see(x.abs(), x)
    return functional.linear(torch.relu(x), weights[6].T, weights[7])


# Weights, pixels and kinks to logits (images, classes).
Forward = Callable[[list[torch.Tensor], NDArray[np.uint8], Kinks], torch.Tensor]


def split(flat: torch.Tensor, shapes: Shapes) -> list[torch.Tensor]:
    """Return the tensors of a network from all weights in one row."""
    sizes = [math.prod(shape) for shape in shapes]
    return [t.reshape(s) for t, s in zip(flat.split(sizes), shapes, strict=True)]


class Model:
    """The loss of a network as a function of the parameters of Mean-KL."""

    def __init__(self, layout: Layout, bits: int, forward: Forward = logits) -> None:
        self.shapes, self.forward = layout.shapes, forward
        self.budget = bits * math.log(2.0)
        self.tensors = torch.tensor(layout.tensors())
        places, signs = layout.weights()
        self.places, self.signs = torch.tensor(places), torch.tensor(signs)

    def loss(
        self,
        tau: torch.Tensor,
        phi: torch.Tensor,
        rho: torch.Tensor,
        eps: NDArray[np.float64],
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        kinks: Kinks,
    ) -> torch.Tensor:
        """Return the mean cross-entropy in nats; rho has one number for each tensor."""
        noise = torch.tensor(eps, dtype=torch.float64)
        w = sample(tau, phi, rho[self.tensors], self.budget, noise)
        weights = split(self.signs * w.ravel()[self.places], self.shapes)
        z = self.forward(weights, images, kinks)
        return functional.cross_entropy(z, torch.tensor(labels))
