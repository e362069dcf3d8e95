"""Operations that are made of others: layouts, files, steps, for backends in any array framework.

A framework has its own arithmetic: words, normals, layers, gradients.  What a layout, a file or a
training step makes of them is said once, here, in plain NumPy and from docs/SPEC.md; nothing is
imported of refmiracle.  `assemble` puts the two together to a backend.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import spec_layout as spec
import spec_update
from spec_layout import Header, Layout, Places, require

Array = Any
Results = tuple[Any, ...]

CANDIDATES_AT_ONCE = 1 << 14
# The arithmetic that a framework brings, by the names of the contract.
OF_FRAMEWORK = (
    *("philox4x32", "stream_words", "stream_permutation", "normal_quantile", "codebook"),
    *("log_s", "ds_dx", "gaussian_kl", "mean_kl", "mean_kl_forward", "mean_kl_backward"),
    *("mean_var_forward", "mean_var_backward_around", "mean_kl_forward_around"),
    *("expand_hash", "expand_hash_backward", "images", "conv2d", "conv2d_backward"),
    *("conv2d_general", "conv2d_general_backward", "maxpool2d", "maxpool2d_backward"),
    *("mean_pool2d", "mean_pool2d_backward", "group_norm", "group_norm_backward"),
    *("relu", "relu_backward", "dense", "dense_backward", "softmax_cross_entropy"),
    *("log_weights", "decode_blocks", "partition_rows", "variable_samples", "adam_step"),
)
# What it brings beside them: see the calls below.
BESIDE = ("words", "uniform", "gumbel", "batch_gradients", "round_scales", "logits")
OF_BYTES = (
    *("pack_indices", "unpack_indices", "read_integers", "write_integers"),
    *("read_container", "describe_file", "write_container"),
)
OF_THESE = (
    *("mean_var_backward", "mean_kl_backward_around"),
    *("block_layout", "select_indices", "loss_and_grads", "loss_and_grads_general"),
    *("train_steps", "encode_model", "decode_model", "decode_chain", "predict"),
)


def assemble(module: Mapping[str, Any], **about: Any) -> SimpleNamespace:
    """Return a backend: the arithmetic of a module, and all that is made of it.

    Parameters
    ----------
    module : mapping
        Its names; those of `OF_FRAMEWORK` and `BESIDE` are taken.
    **about
        What the backend says of itself: ``name``, ``version``, ``known_failures``.
    """
    own = {name: module[name] for name in OF_FRAMEWORK}
    made = Made(SimpleNamespace(**own, **{name: module[name] for name in BESIDE}))
    return SimpleNamespace(
        dtypes=("float64", "float32"),
        **about,
        **own,
        **{name: getattr(spec, name) for name in OF_BYTES},
        **{name: getattr(made, name) for name in OF_THESE},
    )


def digest_of(weights: Array) -> Results:
    """Return the SHA-256 of all weights, and some of them."""
    flat = np.asarray(weights).astype("<f4")
    digest = hashlib.sha256(flat.tobytes()).digest()
    return np.frombuffer(digest, np.uint8), flat[:: spec.SAMPLE_STRIDE]


class Made:
    """Operations of the contract on top of a framework's own."""

    def __init__(self, own: SimpleNamespace) -> None:
        self.own = own

    # --- layouts

    def words_under(self, seed: int) -> spec.Words:
        """Return what gives the first words of a row of a stream under a seed."""
        stream_words = self.own.stream_words
        return lambda stream, row, count: np.asarray(stream_words(seed, stream, row, 0, count))

    def find_places(self, layout: Layout) -> Places:
        """Spell out a layout with the framework's words."""
        count = sum(spec.variables(layout))
        order = self.own.stream_permutation(layout.seed, spec.PERMUTATION, 0, count)
        return spec.spell_out(layout, self.words_under(layout.seed), np.asarray(order))

    def block_layout(
        self, block_size: Array, seed: Array, factors: Array, grouping: Array, signs: Array,
        weights: Array,
    ) -> Results:  # fmt: skip
        """Return place and sign of some weights."""
        layout = spec.make_layout(block_size, seed, factors, grouping, signs)
        places = self.find_places(layout)
        weights = spec.check_weights(weights, layout)
        return places.of_weights[weights], places.signs[weights]

    # --- posterior

    def mean_kl_backward_around(
        self, tau: Array, phi: Array, nu: Array, rho: Array, budget: Array, eps: Array, g: Array
    ) -> Results:
        """Return the gradients by tau, phi and log rho: nu, a constant, has no part in them."""
        return self.own.mean_kl_backward(tau, phi, rho, budget, eps, g)

    def mean_var_backward(
        self, mu: Array, log_sigma: Array, rho: Array, beta: Array, eps: Array, g: Array
    ) -> Results:
        """Return the gradients of g w + beta KL by mu, log sigma and log rho."""
        nu = np.zeros_like(mu)
        return self.own.mean_var_backward_around(mu, log_sigma, nu, rho, beta, eps, g)

    # --- coding

    def select_indices(
        self, seed: Array, bits: Array, blocks: Array, delta: Array, log_s: Array
    ) -> Array:
        """Return one index for each block by Gumbel-max; the lowest of equals."""
        require(np.isfinite(delta).all() and np.isfinite(log_s).all(), "a target is not finite")
        spec.check_bits(int(bits))
        rows = spec.check_words(np.asarray(blocks, dtype=np.int64))
        best, index = np.full(rows.shape, -np.inf), np.zeros_like(rows)
        for start in range(0, 2 ** int(bits), CANDIDATES_AT_ONCE):
            candidates = np.arange(start, min(start + CANDIDATES_AT_ONCE, 2 ** int(bits)))
            words = self.own.words(int(seed), spec.SELECTION, rows, len(candidates), start)
            z = self.own.codebook(seed, candidates, delta.shape[1])
            scores = np.asarray(self.own.log_weights(z, delta, log_s))
            scores = scores + np.asarray(self.own.gumbel(self.own.uniform(words)))
            index = np.where(scores.max(axis=1) > best, start + scores.argmax(axis=1), index)
            best = np.maximum(scores.max(axis=1), best)
        return index

    # --- the whole network

    def loss_and_grads(
        self, block_size: Array, seed: Array, factors: Array, grouping: Array, signs: Array,
        *batch: Array,
    ) -> Results:  # fmt: skip
        """Return loss and gradients of LeNet-5; `batch` is bits, tau, phi, rho, eps and data."""
        layout = spec.make_layout(block_size, seed, factors, grouping, signs)
        return self.own.batch_gradients(layout, self.find_places(layout), *batch)

    def loss_and_grads_general(self, description: Array, *arguments: Array) -> Results:
        """Return loss and gradients of a described network; arguments as in `loss_and_grads`."""
        layout = spec.described_layout(description, *arguments[:5])
        return self.own.batch_gradients(layout, self.find_places(layout), *arguments[5:])

    def train_steps(
        self, block_size: Array, seed: Array, factors: Array, grouping: Array, signs: Array,
        bits: Array, tau: Array, phi: Array, log_rho: Array, eps: Array, images: Array,
        labels: Array, rates: Array, scale_rate: Array,
    ) -> Results:  # fmt: skip
        """Return the loss of each step of Adam, and the parameters behind the last."""
        layout = spec.make_layout(block_size, seed, factors, grouping, signs)
        places, losses = self.find_places(layout), []
        parameters = [tau, phi, log_rho]
        moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parameters]
        for t, rate in enumerate(rates):
            rho, data = self.own.round_scales(parameters[2]), (eps[t], images[t], labels[t])
            batch = bits, *parameters[:2], rho, *data
            loss, *grads = self.own.batch_gradients(layout, places, *batch)
            losses.append(np.asarray(loss))
            for i, g in enumerate(grads):
                own = np.float64(rate) * (float(scale_rate) if i == 2 else 1.0)
                step = self.own.adam_step(parameters[i], g, *moments[i], t + 1, own)
                parameters[i], *moments[i] = step
        return np.stack(losses), *parameters

    # --- files

    def encode_model(
        self, block_size: Array, seed: Array, factors: Array, grouping: Array, signs: Array,
        bits: Array, rho: Array, delta: Array, log_s: Array,
    ) -> Array:  # fmt: skip
        """Return the file of a posterior."""
        layout = spec.make_layout(block_size, seed, factors, grouping, signs)
        blocks = np.arange(spec.blocks(layout))
        indices = self.select_indices(seed, bits, blocks, delta, log_s)
        return spec.write_file(Header(layout, spec.MRC, int(bits), rho, indices))

    def normals(self, header: Header) -> Array:
        """Return the float32 normals at all places of a file, in a row."""
        layout, code, bits, _, messages, _ = header
        if code == spec.SP_PFR:
            own = bits, np.arange(len(messages)), messages, layout.block_size
            return np.asarray(self.own.partition_rows(layout.seed, *own)).ravel()
        if code > spec.SP_PFR:
            nodes = spec.at_all_places(messages, layout)
            rows = np.arange(len(nodes))
            return np.asarray(self.own.variable_samples(code, layout.seed, rows, nodes))
        return np.asarray(self.own.codebook(layout.seed, messages, layout.block_size)).ravel()

    def decode_weights(self, header: Header) -> Array:
        """Return all float32 weights of a file in a row."""
        places = self.find_places(header.layout)
        scales = spec.scales(header.rho[places.tensors.ravel()]).astype(np.float32)
        v = scales * self.normals(header)
        return self.own.expand_hash(v, places.of_weights, places.signs)

    def decode_model(self, data: Array) -> Results:
        """Return the SHA-256 of all weights, and some of them."""
        return digest_of(self.decode_weights(spec.read_file(data)))

    def normals_of_variables(self, header: Header) -> Array:
        """Return the float32 normals of the variables of a layout without hashing, in order."""
        return self.normals(header)[self.find_places(header.layout).of_weights]

    def decode_chain(self, data: Array, sizes: Array) -> Results:
        """Return the same of the weights behind the last of some files, of so many bytes each."""
        layout, variables = spec_update.variables_behind(data, sizes, self.normals_of_variables)
        places = spec_update.by_variable(layout, self.words_under(layout.seed))
        return digest_of(self.own.expand_hash(variables, places.of_weights, places.signs))

    def predict(self, data: Array, images: Array) -> Results:
        """Return logits (classes, images) and classes; no argument tells the precision: float64."""
        header = spec.read_file(data)
        flat = self.decode_weights(header)
        require(len(images), "there are no images to classify")
        logits = np.asarray(self.own.logits(flat, images, header.layout))
        require(np.isfinite(logits).all(), "a logit is not finite: no class")
        return logits, logits.argmax(axis=0)
