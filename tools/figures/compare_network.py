"""A network's loss and gradients beside PyTorch's and a matrix product, in alternation.

Usage: python tools/figures/compare_network.py [--network NAME] [--batch N] [--rounds N]

The same layers on images of noise, float32.  PyTorch runs eager, in channels_last and in NCHW.
Printed are medians of the processor's time and of the clock's, as a Markdown table: on a machine
that others use, the first says more, with one thread (NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1
OPENBLAS_NUM_THREADS=1), since threads that wait by spinning spend it too.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from torch import nn

from refmiracle.bench.problem import step_flops
from refmiracle.engines import get_engine
from refmiracle.engines.numba_engine.threads import THREADS
from refmiracle.nn.networks import find_network
from refmiracle.nn.unshared import unshared_pass

MATRIX, PRODUCTS = 1024, 4


class GroupNorm(nn.Module):
    """PyTorch's, with a factor of 1 + gain."""

    def __init__(self, channels, groups):
        super().__init__()
        self.groups = groups
        self.gain, self.bias = (nn.Parameter(torch.zeros(channels)) for _ in range(2))

    def forward(self, x):
        """Return the normalised maps."""
        return nn.functional.group_norm(x, self.groups, 1 + self.gain, self.bias)


class Residual(nn.Module):
    """The sum of two lists."""

    def __init__(self, body, shortcut):
        super().__init__()
        self.body, self.shortcut = modules(body), modules(shortcut)

    def forward(self, x):
        """Return the sum."""
        return self.body(x) + self.shortcut(x)


KINDS = {
    "conv2d": lambda kernel, inputs, outputs, stride, padding, groups: nn.Conv2d(
        inputs, outputs, kernel, stride, padding, groups=groups
    ),
    "dense": nn.Linear,
    "flatten": nn.Flatten,
    "groupnorm": GroupNorm,
    "maxpool2d": lambda: nn.MaxPool2d(2),
    "meanpool2d": lambda *window: nn.AvgPool2d(window),
    "relu": nn.ReLU,
    "residual": Residual,
}


def modules(specs):
    """Return PyTorch's modules of layers that tell their kind and sizes."""
    return nn.Sequential(*(KINDS[kind](*sizes) for kind, *sizes in specs))


def of_torch(network, pixels, labels, memory_format):
    """Return a call of PyTorch's loss and gradients."""
    model = modules(network.specs()).to(memory_format=memory_format)
    x = torch.tensor(pixels.reshape(-1, *network.input)) / 255 - 0.5
    x, y = x.contiguous(memory_format=memory_format), torch.tensor(labels)

    def call():
        model.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(x), y).backward()

    return call


def of_ours(network, pixels, labels):
    """Return a call of the engine's loss and gradients."""
    rng = np.random.default_rng(0)
    weights = {t.name: rng.normal(size=t.shape) / t.fan_in**0.5 for t in network.tensors()}
    whole = unshared_pass(network, get_engine("numba"), weights)
    return lambda: whole.loss_and_grads(pixels, labels)


def products():
    """Return a call of NumPy's float32 matrix product, a few times."""
    a, b = np.random.default_rng(0).standard_normal((2, MATRIX, MATRIX)).astype(np.float32)
    out = np.empty_like(a)

    def call():
        for _ in range(PRODUCTS):
            np.matmul(a, b, out=out)

    return call


def measure(calls, rounds):
    """Return the medians of processor time and clock of each call, in turns."""
    times = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.process_time(), time.perf_counter()
            call()
            times[name].append((time.process_time() - begin[0], time.perf_counter() - begin[1]))
    return {
        name: tuple(statistics.median(t) for t in zip(*found, strict=True))
        for name, found in times.items()
    }


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet8")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    network, batch = find_network(arguments.network), arguments.batch
    torch.set_num_threads(THREADS)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (batch, *network.image_shape()), dtype=np.uint8)
    labels = rng.integers(0, network.classes, batch)
    found = measure(
        {
            "refmiracle": of_ours(network, pixels, labels),
            "sgemm": products(),
            "PyTorch, channels_last": of_torch(network, pixels, labels, torch.channels_last),
            "PyTorch, NCHW": of_torch(network, pixels, labels, torch.contiguous_format),
        },
        arguments.rounds,
    )
    peak = [2 * PRODUCTS * MATRIX**3 / seconds for seconds in found.pop("sgemm")]
    flops = step_flops(network) * batch
    print(f"{network.name}, batch {batch}, {THREADS} threads: {flops / 1e9:.2f} GFLOP")
    print(
        "| | processor, ms | share of sgemm | clock, ms | share of sgemm |\n|---|---|---|---|---|"
    )
    for name, seconds in found.items():
        cells = [
            f"{1e3 * s:.1f} | {100 * flops / s / top:.0f} %"
            for s, top in zip(seconds, peak, strict=True)
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
