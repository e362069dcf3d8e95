"""One training step of the Mean-KL LeNet-5 in JAX: a peer of ``python -m refmiracle.bench``.

The same work as a step of refmiracle in one jitted function, float32, with a few lines of Adam.
It stands alone and imports nothing of refmiracle.  Threads are XLA's own choice: all cores.

What was tried on a Zen 5 with AVX-512 (2 cores, JAX 0.10), and what is kept:

- Convolutions as patches times a matrix: kept; `lax.conv_general_dilated`, in NHWC or NCHW,
  takes 1.3 times as long at batch 64, and inside `lax.scan` ten times.
- The batch in parts of 32 by `lax.scan`, gradients summed: kept; at batch 256 half the time of
  the whole batch at once, whose patches leave the caches and are mapped anew at every step.
- Prediction in batches of 500 with `lax.conv_general_dilated`: there it is faster than patches.
- Max-pooling by reshape: kept; `lax.reduce_window` is slower by half, maxima of slices and a
  gradient of its own that goes to the first of equals a little slower.
- Donated buffers: within the noise, as parameters are small; kept, as one would.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

SHAPES = ((5, 5, 1, 20), (20,), (5, 5, 20, 50), (50,), (800, 500), (500,), (500, 10), (10,))
TENSORS = [f"{layer}.{part}" for layer in ("conv1", "conv2", "dense1", "dense2")
           for part in ("weight", "bias")]  # fmt: skip
SMALLEST_X = 1e-6
PART = 32
PREDICTION_BATCH = 500
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

Weights = list[jax.Array]
Parameters = dict[str, jax.Array]


def prepare(threads: int) -> None:
    """Compute on the CPU; the threads are XLA's choice."""
    jax.config.update("jax_platforms", "cpu")


def root_and_slope(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return sqrt(s(x)) and its slope -sqrt(s) x / (1 - s).

    Solves exp(-y) - 1 + y = x^2 for y = -log s; from this start one step of Halley's method
    reaches float32's precision.
    """
    x = jnp.maximum(x, SMALLEST_X)
    square = x * x
    y = square - jnp.expm1(-(math.sqrt(2.0) * x + square / 3.0))
    slope = jnp.expm1(-y)
    excess = slope + y - square
    y = y + 2.0 * excess * slope / (2.0 * slope * slope - excess * (slope + 1.0))
    root = jnp.exp(-0.5 * y)
    return root, root * x / jnp.expm1(-y)


@jax.custom_vjp
def root_s(x: jax.Array) -> jax.Array:
    """Return sqrt(s(x)) = sigma / rho; autodiff would differentiate the solver."""
    return root_and_slope(x)[0]


root_s.defvjp(root_and_slope, lambda slope, grad: (grad * slope,))


def maxpool(x: jax.Array) -> jax.Array:
    """Return the maximum of each 2x2 window; equals share its gradient."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))


def convolve_patches(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the valid cross-correlation in NHWC as a product of patches and the kernel."""
    batch, height, _, _ = x.shape
    side, _, inputs, outputs = kernel.shape
    size = height - side + 1
    patches = jnp.concatenate(
        [x[:, i : i + size, j : j + size] for i in range(side) for j in range(side)], axis=-1
    )
    flat = patches.reshape(-1, side * side * inputs) @ kernel.reshape(-1, outputs)
    return flat.reshape(batch, size, size, outputs)


def repeat_units(y: jax.Array, signs: jax.Array) -> jax.Array:
    """Return each distinct unit (last axis) once for every unit that shares it, signed."""
    return (y[..., None] * signs.reshape(y.shape[-1], -1)).reshape(*y.shape[:-1], -1)


def convolve_whole(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the same by XLA's own convolution."""
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def logits(
    weights: Weights,
    pixels: jax.Array,
    shared: list[Any] | None = None,
    convolve: Callable[[jax.Array, jax.Array], jax.Array] = convolve_patches,
) -> jax.Array:
    """Return LeNet-5's logits; with `shared` signs, conv2 and dense1 hold distinct units only."""
    k1, b1, k2, b2, w3, b3, w4, b4 = weights
    x = (pixels.astype(jnp.float32) * (1.0 / 255.0) - 0.5)[..., None]
    x = jax.nn.relu(maxpool(convolve(x, k1) + b1))
    y = convolve(x, k2)
    y = y if shared is None else repeat_units(y, shared[2])
    x = jax.nn.relu(maxpool(y + b2))
    h = x.transpose(0, 3, 1, 2).reshape(len(x), -1) @ w3
    h = h if shared is None else repeat_units(h, shared[4])
    return jax.nn.relu(h + b3) @ w4 + b4


class Step:
    """A training run that takes one step at a time.

    Parameters
    ----------
    problem : mapping of str to ndarray
        What `refmiracle.bench.problem.make_problem` returns.
    batch : int
    shared : bool
        Compute units that share their weights once, instead of expanding the weights.
    """

    def __init__(self, problem: Any, batch: int, shared: bool = False) -> None:
        self.batch, self.shared = batch, shared
        self.pixels = jnp.asarray(problem["pixels"])
        self.labels = jnp.asarray(problem["labels"], dtype=jnp.int32)
        self.place = np.asarray(problem["place"])
        self.sizes = problem["sizes"].tolist()
        self.factors = problem["factors"].tolist()
        self.signs = np.split(problem["signs"], np.cumsum([s[-1] for s in SHAPES])[:-1])
        self.log_twice_budget = math.log(2.0 * float(problem["budget"]))
        rate = float(problem["rate"])
        self.rates = {"tau": rate, "phi": rate, "log_rho": rate * float(problem["scale_rate"])}
        parameters = {n: jnp.asarray(problem[n]) for n in self.rates}
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        moments = (zeros, jax.tree.map(jnp.copy, zeros))
        self.state = (parameters, moments, jnp.float32(0), jax.random.key(0))
        self.gather = self._permutation()
        self.compiled = jax.jit(self._step, donate_argnums=0)
        self.random = np.random.default_rng(0)
        self.order = self.random.permutation(len(self.pixels))
        self.first = 0

    def _permutation(self) -> Callable[[jax.Array], jax.Array]:
        """Return x[place], whose gradient is a gather too where each place is used once."""
        place = jnp.asarray(self.place)
        size = len(self.place)
        if not np.array_equal(np.sort(self.place), np.arange(size)):
            return lambda x: x[place]
        inverse = jnp.asarray(np.argsort(self.place))
        permute = jax.custom_vjp(lambda x: x[place])
        permute.defvjp(lambda x: (x[place], None), lambda _, grad: (grad[inverse],))
        return permute

    def _weights(self, parameters: Parameters, eps: jax.Array) -> Weights:
        tau, phi, log_rho = (parameters[n] for n in ("tau", "phi", "log_rho"))
        r = jnp.exp(0.5 * (jax.nn.log_softmax(phi, axis=1) + self.log_twice_budget))
        white = r * jnp.tanh(tau) + root_s(r / jnp.cosh(tau)) * eps
        variables = jnp.split(self.gather(white.ravel()), np.cumsum(self.sizes)[:-1])
        rho = jnp.exp(log_rho)
        # As sent: rounded to float16, with the slope of rho itself.
        rho = rho * lax.stop_gradient(lax.reduce_precision(rho, 5, 10) / rho)
        weights = []
        for number, (v, factor, shape) in enumerate(
            zip(variables, self.factors, SHAPES, strict=True)
        ):
            w = v * rho[number]
            if factor > 1 and self.shared:
                w = w.reshape(*shape[:-1], -1)
            elif factor > 1:
                w = repeat_units(w.reshape(-1, shape[-1] // factor), self.signs[number])
            weights.append(w if factor > 1 and self.shared else w.reshape(shape))
        return weights

    def _loss_of_part(self, weights: Weights, rows: jax.Array) -> jax.Array:
        z = logits(weights, self.pixels[rows], self.signs if self.shared else None)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(z), self.labels[rows][:, None], 1)
        return -chosen.sum()

    def _loss_and_grads(
        self, parameters: Parameters, eps: jax.Array, rows: jax.Array
    ) -> tuple[jax.Array, Parameters]:
        weights, pull_back = jax.vjp(lambda p: self._weights(p, eps), parameters)

        def add_part(total: Any, part: jax.Array) -> tuple[Any, None]:
            found = jax.value_and_grad(self._loss_of_part)(weights, part)
            return jax.tree.map(jnp.add, total, found), None

        nothing = (jnp.float32(0), jax.tree.map(jnp.zeros_like, weights))
        part = math.gcd(PART, len(rows))
        total, _ = lax.scan(add_part, nothing, rows.reshape(-1, part))
        loss, grads = jax.tree.map(lambda a: a / len(rows), total)
        return loss, pull_back(grads)[0]

    def _step(self, state: Any, rows: jax.Array) -> tuple[Any, jax.Array]:
        parameters, (m, v), count, key = state
        key, own = jax.random.split(key)
        eps = jax.random.normal(own, parameters["tau"].shape)
        loss, grads = self._loss_and_grads(parameters, eps, rows)
        count = count + 1.0
        m = jax.tree.map(lambda a, g: BETA1 * a + (1.0 - BETA1) * g, m, grads)
        v = jax.tree.map(lambda a, g: BETA2 * a + (1.0 - BETA2) * g * g, v, grads)
        m_scale, v_scale = 1.0 / (1.0 - BETA1**count), 1.0 / (1.0 - BETA2**count)
        new = {
            n: parameters[n] - rate * (m[n] * m_scale) / (jnp.sqrt(v[n] * v_scale) + EPSILON)
            for n, rate in self.rates.items()
        }
        return (new, (m, v), count, key), loss

    def loss_and_grads(
        self, eps: np.ndarray, rows: np.ndarray
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Return loss and gradients for given noise and images, to hold them against others."""
        loss, grads = jax.jit(self._loss_and_grads)(self.state[0], jnp.asarray(eps), rows)
        return float(loss), {n: np.asarray(g) for n, g in grads.items()}

    def step(self) -> float:
        """Take one step of Adam on the next batch; return its loss."""
        if self.first + self.batch > len(self.order):
            self.order, self.first = self.random.permutation(len(self.pixels)), 0
        rows = self.order[self.first : self.first + self.batch]
        self.first += self.batch
        self.state, loss = self.compiled(self.state, rows)
        return float(loss)


def make_predictor(weights: dict[str, np.ndarray], pixels: np.ndarray) -> Callable[[], np.ndarray]:
    """Return a function that classifies all images with given float32 weights."""
    tensors = [jnp.asarray(weights[name]) for name in TENSORS]
    edges = range(PREDICTION_BATCH, len(pixels), PREDICTION_BATCH)
    parts = [jnp.asarray(p) for p in np.split(pixels, edges)]

    @jax.jit
    def classify(tensors: Weights, images: jax.Array) -> jax.Array:
        return logits(tensors, images, convolve=convolve_whole).argmax(1)

    return lambda: np.concatenate([classify(tensors, p) for p in parts])


def make_normals(rows: int, dimension: int) -> Callable[[], jax.Array]:
    """Return a function that draws standard normals."""
    draw = jax.jit(partial(jax.random.normal, shape=(rows, dimension)))
    return lambda: draw(jax.random.key(0)).block_until_ready()
