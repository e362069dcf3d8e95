"""A second source for whole networks that are described: plain loops and complex steps."""

from __future__ import annotations

import math

import numpy as np
import spec_decoder
import spec_networks
from conformance.test_golden_general_layers import convolve, means, normalise
from conformance.test_golden_layers import (
    STEP,
    Layout,
    cases_of,
    dense,
    losses,
    maxpool2d,
    mean_kl_sample,
    relu,
)

from refmiracle.conformance.vectors import default_golden, load_file


def read(description):
    """The network of a description; see spec_networks."""
    return spec_decoder.read_network(0, bytes(8) + description.tobytes())[0]


def through(layers, weights, x):
    """Pass x (channels, height, width, batch) through a list; takes complex numbers."""
    for opcode, *numbers in layers:
        if opcode == spec_networks.CONV:
            _, _, stride, padding, groups, _ = numbers
            x = convolve(x, next(weights), next(weights), stride, padding, groups)
        elif opcode == spec_networks.DENSE:
            x = dense(x, next(weights), next(weights))
        elif opcode == spec_networks.FLATTEN:
            x = x.reshape(-1, x.shape[-1])
        elif opcode == spec_networks.MAX_POOL:
            x = maxpool2d(x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2])
        elif opcode == spec_networks.MEAN_POOL:
            x = means(x, *(numbers if any(numbers) else x.shape[1:3]))
        elif opcode == spec_networks.NORM:
            x = normalise(x, next(weights), next(weights), *numbers)
        elif opcode == spec_networks.RELU:
            x = relu(x)
        else:
            body = through(numbers[0], weights, x)
            x = body + through(numbers[1], weights, x)
    return x


class Loss:
    """The loss of a case as a function of tau, phi and log rho; takes complex numbers."""

    def __init__(self, inputs):
        self.inputs, self.network = inputs, read(inputs["description"])
        numbers = (int(inputs[name]) for name in ("grouping", "signs"))
        size, seed = int(inputs["block_size"]), int(inputs["seed"])
        shapes = tuple(shape for _, shape in self.network.tensors)
        self.layout = Layout(size, seed, tuple(inputs["factors"].tolist()), *numbers, shapes)
        self.places, self.signs = self.layout.weights()
        self.tensors = self.layout.tensors()

    def __call__(self, tau, phi, change):
        rho = (self.inputs["rho"] * np.exp(change))[self.tensors]
        budget = int(self.inputs["bits"]) * math.log(2.0)
        w = mean_kl_sample(tau + 0j, phi + 0j, rho, budget, self.inputs["eps"])
        shapes = self.layout.shapes
        ends = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
        parts = np.split(self.signs * w.ravel()[self.places], ends)
        weights = (part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
        x = np.moveaxis(self.inputs["images"], 0, -1) / 255.0 - 0.5
        return losses(through(self.network.layers, weights, x), self.inputs["labels"]).mean()


@cases_of("loss_and_grads_general")
def test_loss_and_gradients(case):
    loss, inputs = Loss(case.inputs), case.inputs
    at = [inputs["tau"], inputs["phi"], np.zeros(len(inputs["rho"]))]
    assert abs(loss(*at).real / case.outputs["loss"] - 1.0) < 1e-13
    rng = np.random.default_rng(2)
    for number, name in enumerate(("dtau", "dphi", "dlog_rho")):
        gradient = case.outputs[name]
        top = np.zeros(gradient.shape)
        top[np.unravel_index(np.argmax(np.abs(gradient)), gradient.shape)] = 1.0
        for v in (top, rng.standard_normal(gradient.shape), rng.standard_normal(gradient.shape)):
            slope = loss(*[a + 1j * STEP * v if i == number else a for i, a in enumerate(at)]).imag
            scale = np.max(np.abs(gradient)) * np.sum(np.abs(v))
            assert abs(slope / STEP - np.sum(gradient * v)) <= 1e-12 * scale


@cases_of("loss_and_grads_general")
def test_unused_places_have_no_gradient(case):
    unused = np.isneginf(case.inputs["phi"])
    blocks, size = case.inputs["phi"].shape
    assert unused.sum() == blocks * size - Loss(case.inputs).layout.variables()
    assert not case.outputs["dtau"][unused].any()
    assert not case.outputs["dphi"][unused].any()
    dphi = case.outputs["dphi"]
    assert np.max(np.abs(dphi.sum(axis=1))) <= 1e-13 * np.max(np.abs(dphi))


def test_every_kind_of_layer_is_posed():
    """In gradients and predictions, with residuals of each kind."""

    def kinds(layers):
        for opcode, *numbers in layers:
            yield opcode, *(bool(part) for part in numbers if opcode == spec_networks.RESIDUAL)
            if opcode == spec_networks.RESIDUAL:
                for part in numbers:
                    yield from kinds(part)

    golden = default_golden()
    cases = load_file(golden / "network" / "loss_and_grads_general.json").cases
    posed = [read(c.inputs["description"]) for c in cases if c.fault is None]
    cases = load_file(golden / "predictions" / "predict.json").cases
    files = [spec_decoder.parse(c.inputs["data"].tobytes()) for c in cases if c.fault is None]
    predicted = [file.described for file in files if file.described]
    residuals = {(spec_networks.RESIDUAL, *sides) for sides in ((True, False), (False, True))}
    for networks in (posed, predicted):
        found = {kind for network in networks for kind in kinds(network.layers)}
        assert {kind[0] for kind in found} == set(range(1, 9))
        assert residuals <= found
