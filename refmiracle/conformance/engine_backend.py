"""Our engines as backends of the suite; also the shortest full example of one."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np

import refmiracle
from refmiracle.codes import minimal_random_coding
from refmiracle.codes.table import CODES_BY_NUMBER
from refmiracle.conformance.arguments import (
    as_bytes,
    as_files,
    as_uint8,
    bits_of,
    layout_of,
    lenet5_layout,
    sum_by_tensor,
)
from refmiracle.conformance.file_backend import FileBackend, Results
from refmiracle.engines import get_engine
from refmiracle.engines.contract import Array, Engine
from refmiracle.errors import InputError
from refmiracle.fileformat.chain import decode_chain
from refmiracle.fileformat.container import CompressedModel, parse_model
from refmiracle.fileformat.model import Float32Weights, decode_model
from refmiracle.nn.arguments import check_images
from refmiracle.nn.description import from_description
from refmiracle.nn.evaluation import classes, forward
from refmiracle.nn.gradients import loss_and_grads
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET5
from refmiracle.numerics.limits import LARGEST_SEARCH_BITS
from refmiracle.posterior.blocks import (
    find_places,
    to_variable_gradients,
    to_weights,
)
from refmiracle.posterior.scales import quantise_scales

# Operations that are functions of an engine.
SAME = (
    *("philox4x32", "normal_quantile", "log_s", "ds_dx"),
    *("gaussian_kl", "mean_kl_forward", "mean_kl_backward", "mean_var_forward"),
    *("mean_var_backward", "expand_hash", "images", "conv2d"),
    *("mean_pool2d", "mean_pool2d_backward", "group_norm", "group_norm_backward"),
    *("relu", "dense", "softmax_cross_entropy", "log_weights"),
)
SAMPLE_STRIDE = 997


class EngineBackend(FileBackend):
    """An engine behind the names of `refmiracle.conformance.operations`."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name = f"refmiracle {engine.name} engine"
        self.version = refmiracle.__version__
        self.dtypes: Sequence[str] = (str(engine.dtype),)
        for same in SAME:
            setattr(self, same, getattr(engine, same))

    # --- numerics and posterior

    def codebook(self, seed: Array, indices: Array, dimension: Array) -> Array:
        """Return rows of the codebook."""
        return self.engine.codebook_rows(int(seed), indices, int(dimension))

    def mean_kl(self, tau: Array, phi: Array, budget: Array) -> Results:
        """Return the whitened posterior."""
        return self.engine.mean_kl(tau, phi, float(budget))

    def mean_kl_forward_around(
        self, tau: Array, phi: Array, nu: Array, rho: Array, budget: Array, eps: Array
    ) -> Array:
        """Return a sample of a posterior around nu."""
        return self.engine.mean_kl_forward(tau, phi, rho, float(budget), eps, nu)

    def mean_kl_backward_around(
        self, tau: Array, phi: Array, nu: Array, rho: Array, budget: Array, eps: Array, g: Array
    ) -> Results:
        """Return the gradients of a posterior around nu, which does not move them."""
        return self.engine.mean_kl_backward(tau, phi, rho, float(budget), eps, g)

    def mean_var_backward_around(
        self,
        mu: Array,
        log_sigma: Array,
        nu: Array,
        rho: Array,
        beta: Array,
        eps: Array,
        g: Array,
    ) -> Results:
        """Return the gradients of a posterior whose penalty is around nu."""
        return self.engine.mean_var_backward(mu, log_sigma, rho, beta, eps, g, nu)

    def expand_hash_backward(self, g: Array, places: Array, signs: Array, count: Array) -> Array:
        """Return the gradient of the coded variables."""
        return self.engine.expand_hash_backward(g, places, signs, int(count))

    # --- layers

    def conv2d_backward(self, x: Array, w: Array, dy: Array) -> Results:
        """Return dx, dw, db."""
        return self.engine.conv2d_backward(x, w, dy, True)

    def conv2d_general(
        self, x: Array, w: Array, b: Array, stride: Array, padding: Array, groups: Array
    ) -> Array:
        """Return y, by any stride, padding and groups."""
        return self.engine.conv2d(x, w, b, int(stride), int(padding), int(groups))

    def conv2d_general_backward(
        self, x: Array, w: Array, dy: Array, stride: Array, padding: Array, groups: Array
    ) -> Results:
        """Return dx, dw, db."""
        return self.engine.conv2d_backward(x, w, dy, True, int(stride), int(padding), int(groups))

    def dense_backward(self, x: Array, w: Array, dy: Array) -> Results:
        """Return dx, dw, db."""
        return self.engine.dense_backward(x, w, dy, True)

    def maxpool2d(self, x: Array) -> Array:
        """Return the maxima."""
        return self.engine.maxpool2d(x)[0]

    def maxpool2d_backward(self, x: Array, dy: Array) -> Array:
        """Return dx."""
        return self.engine.maxpool2d_backward(dy, self.engine.maxpool2d(x)[1], x.shape)

    def relu_backward(self, x: Array, dy: Array) -> Array:
        """Return dx."""
        return self.engine.relu_backward(self.engine.relu(x), dy)

    # --- coding

    def select_indices(
        self, seed: Array, bits: Array, blocks: Array, delta: Array, log_s: Array
    ) -> Array:
        """Return one index for each block."""
        number = bits_of(bits)
        return minimal_random_coding.encode(self.engine, int(seed), number, blocks, delta, log_s)

    def best_indices(self, seed: Array, bits: Array, delta: Array, log_s: Array) -> Array:
        """Return for each block the candidate with the largest q / p."""
        blocks, number = np.arange(len(delta)), bits_of(bits)
        return minimal_random_coding.encode(
            self.engine, int(seed), number, blocks, delta, log_s, "best"
        )

    def decode_blocks(self, seed: Array, indices: Array, dimension: Array, rho: Array) -> Array:
        """Return rho z for the rows that indices name; rho as float16 bits, one a place."""
        rows = minimal_random_coding.decode(self.engine, int(seed), indices, int(dimension))
        return np.asarray(rho, dtype=np.uint16).view(np.float16).astype(np.float32) * rows

    def ordered_indices(
        self, seed: Array, bits: Array, blocks: Array, delta: Array, log_s: Array
    ) -> Array:
        """Return the indices of ordered random coding."""
        number = bits_of(bits, 0, LARGEST_SEARCH_BITS)
        return self.engine.ordered_indices(int(seed), number, blocks, delta, log_s)

    def poisson_indices(self, seed: Array, blocks: Array, delta: Array, log_s: Array) -> Array:
        """Return the indices of the Poisson functional representation."""
        return self.engine.poisson_indices(int(seed), blocks, delta, log_s)

    def partition_messages(
        self, seed: Array, bits: Array, blocks: Array, delta: Array, log_s: Array
    ) -> Array:
        """Return the messages of space partitioning."""
        number = bits_of(bits, 0)
        return self.engine.partition_messages(int(seed), number, blocks, delta, log_s)

    def partition_rows(
        self, seed: Array, bits: Array, blocks: Array, messages: Array, dimension: Array
    ) -> Array:
        """Return the samples that messages of space partitioning name."""
        number = bits_of(bits, 0)
        return self.engine.partition_rows(int(seed), number, blocks, messages, int(dimension))

    def variable_messages(
        self, code: Array, seed: Array, rows: Array, delta: Array, log_s: Array
    ) -> Array:
        """Return one node number for each variable; the code by its number."""
        name = CODES_BY_NUMBER[int(code)].name
        return self.engine.variable_messages(name, int(seed), rows, delta, log_s)

    def variable_samples(self, code: Array, seed: Array, rows: Array, messages: Array) -> Array:
        """Return the samples that node numbers name."""
        name = CODES_BY_NUMBER[int(code)].name
        return self.engine.variable_samples(name, int(seed), rows, messages)

    # --- the whole network

    def loss_and_grads(self, *arguments: Array) -> Results:
        """Return the loss of one sample of the posterior and its gradients, of LeNet-5."""
        return self.gradients(LENET5, *arguments)

    def loss_and_grads_general(self, description: Array, *arguments: Array) -> Results:
        """Return the same of a network that is described."""
        return self.gradients(from_description(as_bytes(description)), *arguments)

    def gradients(
        self, network: Network, block_size: Array, seed: Array, factors: Array, grouping: Array,
        signs: Array, bits: Array, tau: Array, phi: Array, rho: Array, eps: Array, images: Array,
        labels: Array,
    ) -> Results:  # fmt: skip
        """Return the loss of one sample of the posterior and its gradients; rho by tensor."""
        places = find_places(layout_of(network, block_size, seed, factors, grouping, signs))
        budget = bits_of(bits) * math.log(2)
        scales = np.asarray(rho, dtype=self.engine.dtype)[places.tensor_of_place]
        w = self.engine.mean_kl_forward(tau, phi, scales, budget, eps)
        weights = to_weights(network, self.engine, places, w)
        loss, grads = loss_and_grads(network, self.engine, weights, images, labels)
        g = to_variable_gradients(network, self.engine, places, grads)
        g = g.reshape(places.tensor_of_place.shape)
        dtau, dphi, dlog_rho = self.engine.mean_kl_backward(tau, phi, scales, budget, eps, g)
        return loss, dtau, dphi, sum_by_tensor(places, dlog_rho, len(network.tensors()))

    def adam_step(
        self, theta: Array, g: Array, m: Array, v: Array, step: Array, rate: Array
    ) -> Results:
        """Return theta, m and v after a step of Adam."""
        return self.engine.adam_step(theta, g, m, v, int(step), float(rate))

    def train_steps(
        self, block_size: Array, seed: Array, factors: Array, grouping: Array, signs: Array,
        bits: Array, tau: Array, phi: Array, log_rho: Array, eps: Array, images: Array,
        labels: Array, rates: Array, scale_rate: Array,
    ) -> Results:  # fmt: skip
        """Return the loss of each step, and the parameters behind the last."""
        parameters = {"tau": tau, "phi": phi, "log_rho": log_rho}
        moments = {n: (np.zeros_like(p), np.zeros_like(p)) for n, p in parameters.items()}
        losses = []
        for step, rate in enumerate(rates):
            loss, *grads = self.loss_and_grads(
                block_size, seed, factors, grouping, signs, bits,
                parameters["tau"], parameters["phi"], quantise_scales(parameters["log_rho"]),
                eps[step], images[step], labels[step],
            )  # fmt: skip
            losses.append(loss)
            for name, g in zip(parameters, grads, strict=True):
                m, v = moments[name]
                own = float(rate) * (float(scale_rate) if name == "log_rho" else 1.0)
                parameters[name], m, v = self.engine.adam_step(
                    parameters[name], g, m, v, step + 1, own
                )
                moments[name] = m, v
        return (np.array(losses), *parameters.values())

    # --- files

    def encode_model(
        self,
        block_size: Array,
        seed: Array,
        factors: Array,
        grouping: Array,
        signs: Array,
        bits: Array,
        rho: Array,
        delta: Array,
        log_s: Array,
    ) -> Array:
        """Return the file of a posterior, its blocks encoded all at once; rho as float16 bits."""
        layout = lenet5_layout(block_size, seed, factors, grouping, signs)
        indices = self.select_indices(seed, bits, np.arange(layout.blocks()), delta, log_s)
        scales = np.asarray(rho, dtype=np.uint16).view(np.float16)
        return as_uint8(CompressedModel(layout, bits_of(bits), scales, indices[:, None]).to_bytes())

    def decode_model(self, data: Array) -> Results:
        """Return the SHA-256 of all weights, and every 997th of them.

        The digest is over little-endian float32, tensor after tensor, each in C order.
        """
        return digest_of(decode_model(parse_model(as_bytes(data)), self.engine))

    def decode_chain(self, data: Array, sizes: Array) -> Results:
        """Return the same of the last file of a chain, whose files have so many bytes each."""
        return digest_of(decode_chain(as_files(data, sizes), self.engine).weights())

    def predict(self, data: Array, images: Array) -> Results:
        """Return the logits of a file's network, shape (classes, images), and the classes."""
        model = parse_model(as_bytes(data))
        if not len(images):
            raise InputError("there are no images to classify")
        network, weights = model.layout.network, decode_model(model, self.engine)
        x = self.engine.images(check_images(network, images))
        logits = forward(network, self.engine, weights, x)
        return logits, classes(logits)


def digest_of(weights: Float32Weights) -> Results:
    """Return the SHA-256 of all weights, and every 997th of them."""
    flat = np.concatenate([w.ravel() for w in weights.values()]).astype("<f4")
    return as_uint8(hashlib.sha256(flat.tobytes()).digest()), flat[::SAMPLE_STRIDE]


def numba_backend() -> EngineBackend:
    """Return the fast engine."""
    return EngineBackend(get_engine("numba"))


def numpy_backend() -> EngineBackend:
    """Return the reference engine."""
    return EngineBackend(get_engine("numpy"))
