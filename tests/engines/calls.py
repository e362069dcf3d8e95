"""Calls of every function of the engines and of what stands above them, each with random inputs.

A case takes an engine and random numbers, and returns a function without arguments that makes the
call, always the same one, and returns all that comes out: results, and arrays that were filled.
"""

from __future__ import annotations

import numpy as np
from nn.trees import NORMED

from refmiracle import codes
from refmiracle.codes.gaussians import Gaussian
from refmiracle.codes.table import CODES
from refmiracle.engines.contract import Adam, MeanKLBlocks, MeanVarBlocks
from refmiracle.fileformat.container import CompressedModel
from refmiracle.fileformat.model import decode_model
from refmiracle.nn import evaluation, gradients
from refmiracle.nn.layers import Conv2d, Dense, Flatten, MaxPool2d, Relu
from refmiracle.nn.network import Network
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs, find_places
from refmiracle.posterior.sharing import VariablePass

BLOCKS, SIZE, TENSORS, BUDGET, RATES = 9, 6, 3, 5.0, (0.01, 0.02)
NET = Network(
    "little",
    202,
    (1, 28, 28),
    10,
    (
        *(Conv2d(4, kernel=5), MaxPool2d(), Relu()),
        *(Conv2d(6, kernel=5), MaxPool2d(), Relu()),
        *(Flatten(), Dense(20), Relu(), Dense(10)),
    ),
    (1, 1, 2, 1, 5, 1, 1, 1),
)


def few(engine, slow, fast):
    """How much of something an engine gets: plain NumPy goes through the same lines with less."""
    return slow if engine.name == "numpy" else fast


def by_name(name, *shapes, **options):
    """A case of a function of an engine that takes any arrays of numbers above 0."""

    def case(engine, rng):
        arrays = [np.abs(rng.normal(size=shape)).astype(engine.dtype) for shape in shapes]
        return lambda: getattr(engine, name)(*arrays, **options)

    return case


def of_posterior(name, arrays, *more):
    """A case of a function of parameters; names of arrays stand for themselves."""

    def case(engine, rng):
        values = parameters(engine, rng)
        arguments = [values.get(a, a) for a in (*arrays, *more)]
        return lambda: getattr(engine, name)(*arguments)

    return case


def parameters(engine, rng):
    shape = (BLOCKS, SIZE)
    names = ("tau", "phi", "mu", "log_sigma", "eps", "g", "mirrored")
    values = {n: rng.normal(size=shape).astype(engine.dtype) for n in names}
    values["rho"] = rng.uniform(0.1, 2.0, shape).astype(engine.dtype)
    values["beta"] = rng.uniform(0.0, 1.0, BLOCKS).astype(engine.dtype)
    values["tensor_of_place"] = rng.integers(0, TENSORS, shape)
    values["used"] = rng.random(shape) < 0.9
    values["budget"] = BUDGET
    return values


BLOCKS_OF = {"mean_kl": MeanKLBlocks, "mean_var": MeanVarBlocks}


def blocks_of(kind, values):
    """The blocks of a posterior."""
    fields = BLOCKS_OF[kind]._fields
    return BLOCKS_OF[kind](**{n: values[n] for n in fields if n != "nu"})


def sample(kind):
    def case(engine, rng):
        v, row = parameters(engine, rng), int(rng.integers(1000))

        def call():
            w, eps = np.empty_like(v["rho"]), np.empty_like(v["rho"])
            getattr(engine, f"{kind}_sample")(blocks_of(kind, v), 5, row, w, eps)
            return w, eps

        return call

    return case


def step(kind, first, second):
    def case(engine, rng):
        v = parameters(engine, rng)
        before = [rng.uniform(0.1, 1.0, v["rho"].shape).astype(engine.dtype) for _ in range(4)]

        def call():
            a, b, (m, n, o, p) = v[first].copy(), v[second].copy(), (x.copy() for x in before)
            blocks, filled = blocks_of(kind, {**v, first: a, second: b}), np.empty(TENSORS)
            for mirrored in (None, v["mirrored"]):
                adam = Adam(((m, n), (o, p)), 7, RATES)
                getattr(engine, f"{kind}_step")(blocks, v["eps"], v["g"], adam, filled, mirrored)
            return a, b, m, n, o, p, filled

        return call

    return case


def targets(rng, blocks=4):
    """Whitened targets of a few bits, in float64."""
    return 0.5 * rng.normal(size=(blocks, SIZE)), -rng.uniform(0.1, 1.0, (blocks, SIZE))


def candidates_of(name, *before):
    def case(engine, rng):
        seed, (delta, log_s) = int(rng.integers(1000)), targets(rng)
        return lambda: getattr(engine, name)(seed, *before, np.arange(4), delta, log_s)

    return case


def variable_messages(engine, rng):
    seed, count = int(rng.integers(1000)), few(engine, 2, SIZE)
    delta, log_s = (a.ravel()[:count] for a in targets(rng, 1))
    return lambda: engine.variable_messages("gprs-d", seed, np.arange(count), delta, log_s)


def numbers(rng, count=4):
    return int(rng.integers(1000)), rng.integers(1, 60, count)


def code(name):
    """Send and receive by a code: what is received, and the integers that were sent."""

    def case(engine, rng):
        seed, count = int(rng.integers(1000)), few(engine, 1, 20)
        q = Gaussian(0.5 * rng.normal(size=(count, 2)), rng.uniform(0.4, 0.9, (count, 2)))
        p = Gaussian(np.zeros(2), np.ones(2))

        def call():
            message = codes.encode(q, p, seed, name, engine=engine.name)
            return codes.decode(message, p, seed, engine=engine.name), message.integers

        return call

    return case


def decoded(engine, rng):
    """The weights of a file."""
    layout = BlockLayout(NET, NET.hash_factors, Grouping.OUTPUTS, Signs.UNIT, 30, 7)
    indices = rng.integers(0, 2**12, (layout.blocks(), 1))
    rho = rng.uniform(0.1, 1.0, len(NET.tensors())).astype(np.float16)
    model = CompressedModel(layout, 12, rho, indices)
    return lambda: tuple(decode_model(model, engine).values())


def of_network(run):
    """A case of a function of weights."""

    def case(engine, rng):
        weights = {
            t.name: (rng.normal(size=t.shape) / t.fan_in**0.5).astype(engine.dtype)
            for t in NET.tensors()
        }
        count = few(engine, 2, 200)
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count)
        return lambda: run(engine, weights, pixels, labels)

    return case


def program_of_layers(engine, rng):
    """Loss, gradients and logits of a network that has a program."""
    weights = {t.name: rng.normal(size=t.shape) / t.fan_in**0.5 for t in NORMED.tensors()}
    count = few(engine, 2, 200)
    pixels = rng.integers(0, 256, (count, *NORMED.input), dtype=np.uint8)
    labels = rng.integers(0, NORMED.classes, count)

    def call():
        loss, grads = gradients.loss_and_grads(NORMED, engine, weights, pixels, labels)
        logits = evaluation.logits(NORMED, engine, weights, pixels)
        return np.float64(loss), *(grads[t.name] for t in NORMED.tensors()), logits

    return call


def loss_and_grads(engine, weights, pixels, labels):
    loss, grads = gradients.loss_and_grads(NET, engine, weights, pixels, labels)
    return np.float64(loss), *(grads[t.name] for t in NET.tensors())


def error_rate(engine, rng):
    """All classes are as labelled but for a few: those of other weights would not be."""
    call = of_network(lambda engine, *given: given)(engine, rng)
    weights, pixels, _ = call()
    labels, wrong = evaluation.predict(NET, engine, weights, pixels), int(rng.integers(1, 4))
    labels[:wrong] = (labels[:wrong] + 1) % 10
    return lambda: np.float64(evaluation.error_rate(NET, engine, weights, pixels, labels))


def of_variables(signs):
    """Both functions of one pass that all calls share, as `comparison.FinishedRun` keeps one."""
    passes = {}

    def case(engine, rng):
        layout = BlockLayout(NET, NET.hash_factors, Grouping.OUTPUTS, signs, 30, 7)
        places = find_places(layout)
        whole = passes.setdefault(engine.name, VariablePass(engine, layout, places))
        variables = rng.normal(size=places.used.shape).astype(engine.dtype) / 10
        count = few(engine, 2, 200)
        pixels = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, count)

        def call():
            out = np.empty_like(variables)
            loss = whole.loss_and_grads(variables, pixels, labels, out)
            return np.float64(loss), out, whole.logits(variables, pixels)

        return call

    return case


def words(engine, rng):
    counter, key = rng.integers(0, 2**32, (50, 4)), rng.integers(0, 2**32, 2)
    return lambda: engine.philox4x32(counter, key)


def quantiles(engine, rng):
    p = rng.random(300)
    return lambda: engine.normal_quantile(p)


def normals(engine, rng):
    seed, rows = numbers(rng, 40)
    return lambda: engine.normals(seed, 1, rows, 33)


def expanded(engine, rng):
    variables, places, signs = rng.normal(size=50), rng.integers(0, 50, 90), rng.normal(size=90)
    arrays = variables.astype(engine.dtype), places, np.sign(signs).astype(np.float32)
    return lambda: engine.expand_hash(*arrays)


def expanded_backward(engine, rng):
    g, places, signs = rng.normal(size=90), rng.integers(0, 50, 90), rng.normal(size=90)
    arrays = g.astype(engine.dtype), places, np.sign(signs).astype(np.float32)
    return lambda: engine.expand_hash_backward(*arrays, 50)


def images(engine, rng):
    pixels = rng.integers(0, 256, (5, 28, 28), dtype=np.uint8)
    return lambda: engine.images(pixels)


def pool_backward(engine, rng):
    dy = rng.normal(size=(3, 4, 4, 5)).astype(engine.dtype)
    winner = rng.integers(0, 4, dy.shape, dtype=np.uint8)
    return lambda: engine.maxpool2d_backward(dy, winner, (3, 8, 8, 5))


def mean_pool_backward(engine, rng):
    dy = rng.normal(size=(3, 4, 2, 5)).astype(engine.dtype)
    return lambda: engine.mean_pool2d_backward(dy, 2, 4, (3, 9, 8, 5))


def normalised_backward(engine, rng):
    x, dy = (rng.normal(size=(6, 4, 3, 5)).astype(engine.dtype) for _ in range(2))
    gain = rng.normal(size=6).astype(engine.dtype)
    return lambda: engine.group_norm_backward(x, gain, 2, dy)


def cross_entropy(engine, rng):
    logits, labels = rng.normal(size=(10, 33)).astype(engine.dtype), rng.integers(0, 10, 33)
    return lambda: engine.softmax_cross_entropy(logits, labels)


def codebook(engine, rng):
    seed, rows = numbers(rng)
    return lambda: engine.codebook_rows(seed, rows, 30)


def partition_rows(engine, rng):
    seed, n = numbers(rng)
    bits = 5 + seed % 3  # so that the intervals differ
    return lambda: engine.partition_rows(seed, bits, np.arange(4), (n << bits) + n % 32, SIZE)


def partition_messages(engine, rng):
    seed, (delta, log_s) = int(rng.integers(1000)), targets(rng)
    bits = 5 + seed % 3
    return lambda: engine.partition_messages(seed, bits, np.arange(4), delta, log_s)


def variable_samples(engine, rng):
    seed, sent = numbers(rng)
    return lambda: engine.variable_samples("gprs-s", seed, np.arange(4), sent)


def shards(engine, rng):
    batch = int(rng.integers(1, 300))
    return lambda: np.array([(part.start, part.stop) for part in engine.shards(batch)])


def mapped(engine, rng):
    items = rng.integers(0, 100, 50).tolist()
    return lambda: np.array(engine.map(lambda i: i * i, items))


PAIR = (BLOCKS, SIZE), (BLOCKS, SIZE)
MAPS, KERNEL = (3, 8, 8, 5), (3, 3, 3, 7)
# By the names of the contract.
FUNCTIONS = {
    "philox4x32": words,
    "normal_quantile": quantiles,
    "normals": normals,
    "log_s": by_name("log_s", 50),
    "ds_dx": by_name("ds_dx", 50),
    "gaussian_kl": by_name("gaussian_kl", *PAIR),
    "mean_kl": of_posterior("mean_kl", ("tau", "phi"), BUDGET),
    "mean_kl_forward": of_posterior("mean_kl_forward", ("tau", "phi", "rho"), BUDGET, "eps"),
    "mean_kl_backward": of_posterior("mean_kl_backward", ("tau", "phi", "rho"), BUDGET, "eps", "g"),
    "mean_var_forward": of_posterior("mean_var_forward", ("mu", "log_sigma", "eps")),
    "mean_var_backward": of_posterior(
        "mean_var_backward", ("mu", "log_sigma", "rho", "beta", "eps", "g")
    ),
    "expand_hash": expanded,
    "expand_hash_backward": expanded_backward,
    "mean_kl_sample": sample("mean_kl"),
    "mean_kl_step": step("mean_kl", "tau", "phi"),
    "mean_var_sample": sample("mean_var"),
    "mean_var_step": step("mean_var", "mu", "log_sigma"),
    "images": images,
    "conv2d": by_name("conv2d", MAPS, KERNEL, (7,)),
    "conv2d_backward": by_name("conv2d_backward", MAPS, KERNEL, (7, 6, 6, 5), need_dx=True),
    "maxpool2d": by_name("maxpool2d", MAPS),
    "maxpool2d_backward": pool_backward,
    "mean_pool2d": by_name("mean_pool2d", MAPS, height=2, width=3),
    "mean_pool2d_backward": mean_pool_backward,
    "group_norm": by_name("group_norm", (6, 4, 3, 5), (6,), (6,), groups=3),
    "group_norm_backward": normalised_backward,
    "relu": by_name("relu", MAPS),
    "relu_backward": by_name("relu_backward", MAPS, MAPS),
    "dense": by_name("dense", (12, 5), (12, 7), (7,)),
    "dense_backward": by_name("dense_backward", (12, 5), (12, 7), (7, 5), need_dx=True),
    "softmax_cross_entropy": cross_entropy,
    "adam_step": by_name("adam_step", (4, 5), (4, 5), (4, 5), (4, 5), step=3, rate=0.1),
    "network_pass": of_network(lambda engine, w, x, _: evaluation.logits(NET, engine, w, x)),
    "log_weights": by_name("log_weights", (40, SIZE), *PAIR),
    "select_indices": candidates_of("select_indices", 12),
    "codebook_rows": codebook,
    "ordered_indices": candidates_of("ordered_indices", 12),
    "poisson_indices": candidates_of("poisson_indices"),
    "partition_messages": partition_messages,
    "partition_rows": partition_rows,
    "variable_messages": variable_messages,
    "variable_samples": variable_samples,
    "shards": shards,
    "map": mapped,
}
# What is compiled apart from the call of the same name that FUNCTIONS has.
OTHERWISE = {
    "conv2d strided": by_name("conv2d", MAPS, KERNEL, (7,), stride=2, padding=1),
    "conv2d in groups": by_name("conv2d", MAPS, (3, 3, 1, 6), (6,), groups=3),
    "conv2d_backward strided": by_name(
        "conv2d_backward", MAPS, KERNEL, (7, 4, 4, 5), stride=2, padding=1
    ),
    "conv2d_backward in groups": by_name(
        "conv2d_backward", MAPS, (3, 3, 1, 6), (6, 6, 6, 5), groups=3
    ),
}
ABOVE = {
    "loss_and_grads": of_network(loss_and_grads),
    "program of layers": program_of_layers,
    "error_rate": error_rate,
    "shared units": of_variables(Signs.UNIT),
    "expanded units": of_variables(Signs.WEIGHT),
    "decode_model": decoded,
    **{f"code {name}": code(name) for name in CODES},
}
CALLS = FUNCTIONS | OTHERWISE | ABOVE
