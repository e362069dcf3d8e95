"""One training step of the Mean-KL LeNet-5 in PyTorch: a peer of ``python -m refmiracle.bench``.

The same work as a step of refmiracle, written as PyTorch is best used on a CPU: autograd, oneDNN
convolutions, fused Adam, float32.  It stands alone and imports nothing of refmiracle.

What was tried on a Zen 5 with AVX-512 (2 cores, PyTorch 2.13), and what is kept:

- channels_last activations and kernels: kept, a step takes two thirds of the time in NCHW.
- Expanding hashed weights by broadcasting over a view: kept; the same step by indexing with
  the place of each of the 431,080 weights has a slow scatter for a gradient.
- Adam: ``fused=True``; ``foreach`` and the plain loop are equal within the noise.
- The batch in parts of 32, 64 or 128 with gradients summed: no faster than the whole batch.
- Prediction in batches of 100: 500 and more are slower by a tenth and more.
- torch.compile: what lies before the network (softmax, tanh, s(x), expansion) is compiled with
  its backward pass; the network stays eager.  Compiling the whole loss, in NCHW or
  channels_last, by default or by ``max-autotune-no-cudagraphs``, took 1.2 times as long as
  eager: its generated pools and layout changes lose more than its fusion gains.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

SHAPES = ((5, 5, 1, 20), (20,), (5, 5, 20, 50), (50,), (800, 500), (500,), (500, 10), (10,))
TENSORS = [f"{layer}.{part}" for layer in ("conv1", "conv2", "dense1", "dense2")
           for part in ("weight", "bias")]  # fmt: skip
SMALLEST_X = 1e-6
PREDICTION_BATCH = 100


class RootS(torch.autograd.Function):
    """sqrt(s(x)) = sigma / rho with its closed slope; autograd would differentiate the solver."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        """Solve exp(-y) - 1 + y = x^2 for y = -log s.

        The start is right to second order at x = 0 and exact as x grows; one step of Halley's
        method from there reaches float32's precision.
        """
        x = x.clamp_min(SMALLEST_X)
        square = x * x
        y = square - torch.expm1(-(math.sqrt(2.0) * x + square / 3.0))
        slope = torch.expm1(-y)
        excess = slope + y - square
        y = y + 2.0 * excess * slope / (2.0 * slope * slope - excess * (slope + 1.0))
        root = torch.exp(-0.5 * y)
        ctx.save_for_backward(root * x / torch.expm1(-y))
        return root

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        """Return grad times -sqrt(s) x / (1 - s)."""
        return grad * ctx.saved_tensors[0]


def prepare(threads: int) -> None:
    """Let PyTorch use as many threads as refmiracle does."""
    torch.set_num_threads(threads)


def to_nhwc(kernel: torch.Tensor) -> torch.Tensor:
    """Return a kernel (height, width, in, out) as conv2d takes it, in channels_last."""
    return kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)


def to_input(pixels: torch.Tensor) -> torch.Tensor:
    """Return pixel / 255 - 1/2, shape (batch, 1, 28, 28), in channels_last."""
    x = pixels.float().mul_(1.0 / 255.0).sub_(0.5)
    return x[:, None].contiguous(memory_format=torch.channels_last)


def repeat_units(y: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
    """Return each distinct unit (last axis) once for every unit that shares it, signed."""
    distinct = y.shape[-1]
    return (y[..., None] * signs.view(distinct, -1)).flatten(-2)


def logits(
    weights: list[torch.Tensor], x: torch.Tensor, shared: list[torch.Tensor] | None = None
) -> torch.Tensor:
    """Return LeNet-5's logits; with `shared` signs, conv2 and dense1 hold distinct units only."""
    k1, b1, k2, b2, w3, b3, w4, b4 = weights
    x = F.relu(F.max_pool2d(F.conv2d(x, to_nhwc(k1), b1), 2))
    if shared is None:
        y = F.conv2d(x, to_nhwc(k2), b2)
    else:
        distinct = F.conv2d(x, to_nhwc(k2)).permute(0, 2, 3, 1)
        y = (repeat_units(distinct, shared[2]) + b2).permute(0, 3, 1, 2)
    x = F.relu(F.max_pool2d(y, 2)).flatten(1)
    h = torch.addmm(b3, x, w3) if shared is None else repeat_units(x @ w3, shared[4]) + b3
    return torch.addmm(b4, F.relu(h), w4)


class Step:
    """A training run that takes one step at a time.

    Parameters
    ----------
    problem : mapping of str to ndarray
        What `refmiracle.bench.problem.make_problem` returns.
    batch : int
    shared : bool
        Compute units that share their weights once, instead of expanding the weights.
    compiled : bool
        Compile what lies before the network.
    """

    def __init__(
        self, problem: Any, batch: int, shared: bool = False, compiled: bool = False
    ) -> None:
        torch.manual_seed(0)
        self.batch, self.shared = batch, shared
        self.pixels = torch.tensor(problem["pixels"])
        self.labels = torch.tensor(problem["labels"].astype(np.int64))
        self.place = torch.tensor(problem["place"])
        self.sizes = problem["sizes"].tolist()
        self.factors = problem["factors"].tolist()
        self.signs = list(torch.tensor(problem["signs"]).split([s[-1] for s in SHAPES]))
        self.log_twice_budget = math.log(2.0 * float(problem["budget"]))
        self.tau, self.phi, self.log_rho = (
            torch.tensor(problem[name]).requires_grad_() for name in ("tau", "phi", "log_rho")
        )
        rate = float(problem["rate"])
        scales = {"params": [self.log_rho], "lr": rate * float(problem["scale_rate"])}
        blocks = {"params": [self.tau, self.phi], "lr": rate}
        self.adam = torch.optim.Adam([blocks, scales], fused=True)
        self.weights: Callable[[torch.Tensor], list[torch.Tensor]] = self._weights
        if compiled:
            # One shape for each instance; without a reset a limit on recompilation falls back
            # to eager in silence.
            torch.compiler.reset()
            self.weights = torch.compile(self._weights, dynamic=False)
        self.order = torch.randperm(len(self.pixels))
        self.first = 0

    def _weights(self, eps: torch.Tensor) -> list[torch.Tensor]:
        # The root of the softmax as exp(log / 2): it has no infinite slope at a share of 0.
        r = torch.exp(0.5 * (torch.log_softmax(self.phi, 1) + self.log_twice_budget))
        white = r * torch.tanh(self.tau) + RootS.apply(r / torch.cosh(self.tau)) * eps
        variables = white.flatten().index_select(0, self.place).split(self.sizes)
        rho = self.log_rho.exp()
        # As sent: rounded to float16, with the slope of rho itself.
        rho = rho * (rho.detach().half().float() / rho.detach())
        weights = []
        for v, scale, factor, signs, shape in zip(
            variables, rho.unbind(), self.factors, self.signs, SHAPES, strict=True
        ):
            w = v * scale
            if factor > 1 and self.shared:
                w = w.view(*shape[:-1], -1)
            elif factor > 1:
                distinct = shape[-1] // factor
                w = w.view(-1, distinct, 1) * signs.view(distinct, factor)
            weights.append(w if factor > 1 and self.shared else w.reshape(shape))
        return weights

    def loss(self, eps: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Return the mean cross-entropy of some training images, in nats."""
        x = to_input(self.pixels[rows])
        out = logits(self.weights(eps), x, self.signs if self.shared else None)
        return F.cross_entropy(out, self.labels[rows])

    def loss_and_grads(
        self, eps: np.ndarray, rows: np.ndarray
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Return loss and gradients for given noise and images, to hold them against others."""
        loss = self.loss(torch.tensor(eps), torch.tensor(rows))
        grads = torch.autograd.grad(loss, (self.tau, self.phi, self.log_rho))
        names = ("tau", "phi", "log_rho")
        return loss.item(), {n: g.numpy() for n, g in zip(names, grads, strict=True)}

    def step(self) -> float:
        """Take one step of Adam on the next batch; return its loss."""
        if self.first + self.batch > len(self.order):
            self.order, self.first = torch.randperm(len(self.pixels)), 0
        rows = self.order[self.first : self.first + self.batch]
        self.first += self.batch
        loss = self.loss(torch.randn_like(self.tau), rows)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return loss.item()


def make_predictor(weights: dict[str, np.ndarray], pixels: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a function that classifies all images with given float32 weights."""
    tensors = [torch.tensor(weights[name]) for name in TENSORS]
    images = torch.tensor(pixels)

    @torch.inference_mode()
    def predict() -> np.ndarray:
        parts = [logits(tensors, to_input(p)).argmax(1) for p in images.split(PREDICTION_BATCH)]
        return torch.cat(parts).numpy()

    return predict
