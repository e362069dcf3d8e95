"""Where the time of a training step goes: each part alone, medians, as a Markdown table.

Usage: python tools/figures/profile_step.py [--batch N] [--expanded]

The four parts of a step run as in training, on all threads, and so does a step whose second half
sees the noise mirrored, as those of the default preset do; what the network consists of runs on
one thread, over one shard of 64 images, with the rate of its products beside it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import numpy as np

from refmiracle.engines.numba_engine import convolution, matrix, shard_kernels
from refmiracle.nn.network import kernels, network_pass
from refmiracle.posterior.sharing import unit_copies
from refmiracle.training.data import default_folder, load_split, split_validation
from refmiracle.training.settings import Settings
from refmiracle.training.trainer import Trainer

SHARD = 64
ROUNDS = 60


def medians(calls):
    """Return the median time of each call in milliseconds, measured in turns."""
    for call in calls.values():
        call()
    times = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: statistics.median(t) for name, t in times.items()}


def parts_of_step(trainer):
    """Return calls of the four parts of `Trainer.train_step`, and of the whole."""
    state, rho = trainer.state, trainer.rho()
    images, labels = trainer.batches.batch(0)
    return {
        "noise and sample": lambda: trainer._draw(rho, 0, trainer.w, trainer.eps),
        "gather the images": lambda: trainer.batches.batch(0),
        "network, forward and backward": lambda: trainer.variable_pass.loss_and_grads(
            trainer.w, images, labels, trainer.g
        ),
        "posterior backward and Adam": lambda: trainer.parameterization.update(
            state.parameters, state.moments, rho, trainer.eps, trainer.g, 1, (1e-6, 1e-6),
            trainer.dlog_rho,
        ),
        "whole step": trainer.train_step,
    }  # fmt: skip


def parts_of_network(trainer, shared):
    """Return calls of the network's parts for one shard, and each one's multiply-adds."""
    layout = trainer.layout
    copies = unit_copies(layout) if shared else (1,) * len(kernels(layout.network))
    whole = network_pass(layout.network, trainer.engine, copies).inner
    gradients = np.zeros(whole.edges[-1], dtype=np.float32)
    slices, convs, denses = whole.stages(whole.packed(), SHARD, gradients)
    pixels, labels = trainer.batches.batch(0)
    scale = np.float32(1 / SHARD)
    shard_kernels.shard_gradients(convs, denses, pixels, labels, 0, SHARD, slices, scale)
    calls = {"images": lambda: shard_kernels.load_images(pixels, 0, SHARD, slices, convs[0].x)}
    work = {"images": 0}

    def add(name, call, products):
        calls[name], work[name] = call, products

    for i, c in enumerate(convs):
        places = (c.size - c.kernel + 1) ** 2
        products = SHARD * places * c.kernel**2 * c.channels * c.units
        name = f"conv{i + 1}, bias, pool, ReLU"
        add(name, lambda c=c: convolution.conv_forward(c, slices), products)
        back = "back" if i else "back (weights only)"
        add(
            f"{name}: {back}",
            lambda c=c, i=i: convolution.conv_backward(c, slices, i > 0),
            products * (2 if i else 1),
        )
    for i, d in enumerate(denses):
        products = SHARD * d.inputs * d.units
        add(f"dense{i + 1}", lambda d=d: matrix.dense_forward(d, slices), products)
        add(f"dense{i + 1}: back", lambda d=d: matrix.dense_backward(d, slices), 2 * products)
    return calls, work


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--expanded", action="store_true", help="compute all weights")
    arguments = parser.parse_args()
    if arguments.batch < SHARD:
        parser.error(f"--batch {arguments.batch}: expected {SHARD} or more, the images of a shard")
    train, _ = split_validation(load_split(default_folder(), "train"))
    settings = replace(Settings(), batch_size=arguments.batch)
    trainer = Trainer(settings, train, share=not arguments.expanded)
    print(f"| part of a step, batch {arguments.batch} | ms |\n|---|---|")
    mirrored = Trainer(replace(settings, antithetic=1), train, share=not arguments.expanded)
    calls = {**parts_of_step(trainer), "whole step, mirrored noise": mirrored.train_step}
    for name, ms in medians(calls).items():
        print(f"| {name} | {ms:.2f} |")
    calls, work = parts_of_network(trainer, not arguments.expanded)
    print(f"\n| part of the network, {SHARD} images, one thread | ms | GFLOP/s |\n|---|---|---|")
    for name, ms in medians(calls).items():
        rate = f"{2 * work[name] / ms / 1e6:.0f}" if work[name] else ""
        print(f"| {name} | {ms:.3f} | {rate} |")


if __name__ == "__main__":
    main()
