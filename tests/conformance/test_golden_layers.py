"""A second source for the golden values that come from PyTorch.

Here the forward pass is written again in NumPy, so that it takes complex numbers, and gradients
come from the complex step: f(x + i h v) / h has the imaginary part <gradient, v> to all digits.
Losses and Adam are computed again in mpmath.  Nothing needs PyTorch but the tests that run the
tools again.
"""

import math
import re
import sys
from pathlib import Path

import mpmath
import numpy as np
import pytest
import spec_decoder
import spec_networks

from refmiracle.conformance.operations import OPERATIONS
from refmiracle.conformance.vectors import default_golden, load_file

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))
from golden.torch_layout import SHAPES, Layout

GOLDEN = default_golden()
STEP = 1e-30


def cases_of(operation):
    """The positive cases of an operation as parameters of a test.

    Complex steps are of no use where a number is not finite or has few digits: those cases are in
    test_golden_nonfinite.py.
    """
    path = GOLDEN / OPERATIONS[operation].stage / f"{operation}.json"
    left_out = {"not-finite", "denormal"}
    cases = [c for c in load_file(path).cases if c.fault is None and not left_out & set(c.flags)]
    return pytest.mark.parametrize("case", cases, ids=lambda c: c.id.rpartition("/")[2])


def assert_close(got, want, relative, scale=None):
    """Whether all differences are within a part of the largest number."""
    want = np.asarray(want)
    scale = np.max(np.abs(want), initial=0.0) if scale is None else scale
    assert np.shape(got) == want.shape
    assert np.max(np.abs(got - want), initial=0.0) <= relative * scale


# --- forward passes that take complex numbers; maxima and signs are those of the real parts


def conv2d(x, w, b):
    kh, kw, _, outputs = w.shape
    rows, columns = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    y = np.zeros((outputs, rows, columns, x.shape[3]), dtype=np.result_type(x, w, b))
    for u in range(kh):
        for v in range(kw):
            y += np.einsum("cijn,co->oijn", x[:, u : u + rows, v : v + columns], w[u, v])
    return y + b[:, None, None, None]


def maxpool2d(x):
    rows, columns = x.shape[1] // 2, x.shape[2] // 2
    corners = [x[:, u : 2 * rows : 2, v : 2 * columns : 2] for u in (0, 1) for v in (0, 1)]
    best = corners[0]
    for other in corners[1:]:  # only a larger one takes over, so the first of equals stays
        best = np.where(other.real > best.real, other, best)
    return best


def relu(x):
    return np.where(x.real > 0.0, x, 0.0)


def dense(x, w, b):
    return np.einsum("an,ao->on", x, w) + b[:, None]


def losses(logits, labels):
    z = logits - logits.real.max(axis=0)
    return np.log(np.exp(z).sum(axis=0)) - z[labels, np.arange(len(labels))]


def log_s(x):
    """log s of s - log s = 1 + x^2 by Newton's method; the last step may be complex."""
    y = math.sqrt(2.0) * x.real + x.real**2
    for _ in range(8):
        y = y - (excess(y) - x.real**2) / np.where(y > 0.0, -np.expm1(-y), 1.0)
    # From the root, Newton's step along the imaginary axis is right to first order.
    slope = np.where(y > 0.0, x.real / np.where(y > 0.0, -np.expm1(-y), 1.0), math.sqrt(0.5))
    return -(y + 2j * slope * x.imag)


def excess(y):
    """exp(-y) - 1 + y, as a series where the terms cancel."""
    small = np.where(y < 0.5, y, 0.0)
    series = sum((-small) ** k / math.factorial(k) for k in range(18, 1, -1))
    return np.where(y < 0.5, series, np.expm1(-y) + y)


def mean_kl_sample(tau, phi, rho, budget, eps):
    e = np.exp(phi - phi.real.max(axis=1, keepdims=True))
    e = np.where(np.isneginf(phi.real), 0.0, e)
    share = e / e.sum(axis=1, keepdims=True)
    # The root of 0 has no slope, but a share of 0 stays 0.
    used = share.real > 0.0
    r = np.where(used, np.sqrt(2.0 * budget * np.where(used, share, 1.0)), 0.0)
    return rho * (r * np.tanh(tau) + np.exp(0.5 * log_s(r / np.cosh(tau))) * eps)


class Network:
    """The loss of LeNet-5 as a function of tau, phi and log rho; takes complex numbers."""

    def __init__(self, inputs):
        self.layout = Layout(
            int(inputs["block_size"]),
            int(inputs["seed"]),
            tuple(inputs["factors"].tolist()),
            int(inputs["grouping"]),
            int(inputs["signs"]),
        )
        self.places, self.signs = self.layout.weights()
        self.tensors = self.layout.tensors()
        self.budget = int(inputs["bits"]) * math.log(2.0)

    def loss(self, tau, phi, rho, eps, images, labels):
        w = mean_kl_sample(tau + 0j, phi + 0j, rho[self.tensors], self.budget, eps)
        flat = self.signs * w.ravel()[self.places]
        ends = np.cumsum([math.prod(s) for s in SHAPES])[:-1]
        tensors = [t.reshape(s) for t, s in zip(np.split(flat, ends), SHAPES, strict=True)]
        x = images.transpose(1, 2, 0)[None] / 255.0 - 0.5
        x = relu(maxpool2d(conv2d(x, *tensors[0:2])))
        x = relu(maxpool2d(conv2d(x, *tensors[2:4])))
        x = relu(dense(x.reshape(800, -1), *tensors[4:6]))
        return losses(dense(x, *tensors[6:8]), labels).mean()


def directions(shape, count=4, largest=24):
    """Every axis of a small array, and some directions at random of any."""
    rng = np.random.default_rng(1)
    size = math.prod(shape)
    axes = np.eye(size) if size <= largest else np.eye(size)[[0, size // 2, size - 1]]
    return np.concatenate([axes, rng.standard_normal((count, size))]).reshape(-1, *shape)


def assert_gradients(f, arguments, gradients, relative=1e-13):
    """Hold gradients by each argument against complex steps of f(*arguments)."""
    for number, gradient in enumerate(gradients):
        for v in directions(gradient.shape):
            stepped = [a + 1j * STEP * v if i == number else a for i, a in enumerate(arguments)]
            slope = f(*stepped).imag / STEP
            bound = np.sum(np.abs(gradient * v)) + np.max(np.abs(gradient), initial=1e-300)
            assert abs(slope - np.sum(gradient * v)) <= relative * bound


# --- layers


@cases_of("images")
def test_images(case):
    pixels = case.inputs["pixels"]
    for (n, i, j), pixel in np.ndenumerate(pixels):
        exact = mpmath.mpf(int(pixel)) / 255 - mpmath.mpf(1) / 2
        assert abs(case.outputs["x"][0, i, j, n] - exact) < 1e-16


@cases_of("conv2d")
def test_conv2d(case):
    assert_close(case.outputs["y"], conv2d(*case.inputs.values()), 1e-15)


@cases_of("conv2d_backward")
def test_conv2d_backward(case):
    x, w, dy = case.inputs.values()
    b = np.zeros(w.shape[3])
    outputs = case.outputs.values()
    assert_gradients(lambda x, w, b: np.sum(conv2d(x, w, b) * dy), (x, w, b), outputs)


@cases_of("maxpool2d")
def test_maxpool2d(case):
    assert np.array_equal(case.outputs["y"], maxpool2d(case.inputs["x"]))


@cases_of("maxpool2d_backward")
def test_maxpool2d_backward(case):
    x, dy = case.inputs.values()
    v = np.arange(1.0, x.size + 1).reshape(x.shape)  # all elements at once: none is added twice
    slope = maxpool2d(x + 1j * STEP * v).imag / STEP
    assert_close(np.sum(case.outputs["dx"] * v), np.sum(slope * dy), 1e-13)
    assert_gradients(lambda x: np.sum(maxpool2d(x) * dy), (x,), case.outputs.values())


@cases_of("relu")
def test_relu(case):
    assert np.array_equal(case.outputs["y"], relu(case.inputs["x"]))


@cases_of("relu_backward")
def test_relu_backward(case):
    x, dy = case.inputs.values()
    assert_gradients(lambda x: np.sum(relu(x) * dy), (x,), case.outputs.values())


@cases_of("dense")
def test_dense(case):
    assert_close(case.outputs["y"], dense(*case.inputs.values()), 1e-15)


@cases_of("dense_backward")
def test_dense_backward(case):
    x, w, dy = case.inputs.values()
    b = np.zeros(w.shape[1])
    outputs = case.outputs.values()
    assert_gradients(lambda x, w, b: np.sum(dense(x, w, b) * dy), (x, w, b), outputs)


@cases_of("softmax_cross_entropy")
def test_softmax_cross_entropy_is_that_of_mpmath(case):
    logits, labels = case.inputs.values()
    want_losses, want_slopes = np.empty(len(labels)), np.empty(logits.shape)
    with mpmath.workdps(50):
        for n, label in enumerate(labels.tolist()):
            z = [mpmath.mpf(v) for v in logits[:, n].tolist()]
            total = mpmath.fsum(mpmath.exp(v - max(z)) for v in z)
            want_losses[n] = float(max(z) + mpmath.log(total) - z[label])
            for k, v in enumerate(z):
                want_slopes[k, n] = float(mpmath.exp(v - max(z)) / total - (k == label))
    np.testing.assert_allclose(case.outputs["losses"], want_losses, rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose(case.outputs["dlogits"], want_slopes, rtol=1e-14, atol=1e-15)


# --- the whole network


@cases_of("loss_and_grads")
def test_loss_and_grads(case):
    inputs = case.inputs
    network = Network(inputs)
    eps, images, labels = inputs["eps"], inputs["images"], inputs["labels"]

    def loss(tau, phi, change):
        return network.loss(tau, phi, inputs["rho"] * np.exp(change), eps, images, labels)

    at = [inputs["tau"].astype(float), inputs["phi"].astype(float), np.zeros(len(SHAPES))]
    assert abs(loss(*at).real / case.outputs["loss"] - 1.0) < 1e-13
    gradients = [case.outputs[name] for name in ("dtau", "dphi", "dlog_rho")]
    for number, gradient in enumerate(gradients):
        scale = np.max(np.abs(gradient))
        top = np.zeros(gradient.shape)
        top[np.unravel_index(np.argmax(np.abs(gradient)), gradient.shape)] = 1.0
        rng = np.random.default_rng(2)
        for v in (top, rng.standard_normal(gradient.shape)):
            slope = loss(*[a + 1j * STEP * v if i == number else a for i, a in enumerate(at)]).imag
            assert abs(slope / STEP - np.sum(gradient * v)) <= 1e-11 * scale * np.sum(np.abs(v))


@cases_of("loss_and_grads")
def test_unused_places_have_no_gradient(case):
    unused = np.isneginf(case.inputs["phi"])
    assert unused.sum() == (-Network(case.inputs).layout.variables()) % case.inputs["block_size"]
    assert not case.outputs["dtau"][unused].any()
    assert not case.outputs["dphi"][unused].any()
    # Adding a constant to phi changes nothing, so each block's gradients sum to 0.
    dphi = case.outputs["dphi"]
    assert np.max(np.abs(dphi.sum(axis=1))) <= 1e-13 * np.max(np.abs(dphi))


# --- Adam and some steps of it


def mp_adam(theta, g, m, v, step, rate):
    """One step for numbers, at the current precision of mpmath."""
    b1, b2 = mpmath.mpf(9) / 10, mpmath.mpf(999) / 1000
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * g**2
    root = mpmath.sqrt(v / (1 - b2**step))
    return theta - rate * (m / (1 - b1**step)) / (root + mpmath.mpf(10) ** -8), m, v


@cases_of("adam_step")
def test_adam_step_is_that_of_mpmath(case):
    *arrays, step, rate = case.inputs.values()
    with mpmath.workdps(50):
        for i in np.ndindex(arrays[0].shape):
            numbers = [mpmath.mpf(float(a[i])) for a in arrays]
            want = mp_adam(*numbers, int(step), mpmath.mpf(float(rate)))
            for value, exact in zip(case.outputs.values(), want, strict=True):
                # In float64 the divisor 1 - 0.999^2 is 1e-14 off.
                assert abs(mpmath.mpf(float(value[i])) - exact) <= 1e-14 * abs(exact)


def half(log_rho):
    return np.exp(log_rho).astype(np.float16).astype(np.float64)


@cases_of("train_steps")
def test_the_first_loss_of_a_trajectory(case):
    inputs = case.inputs
    want = Network(inputs).loss(
        inputs["tau"].astype(float),
        inputs["phi"].astype(float),
        half(inputs["log_rho"]),
        *(inputs[name][0] for name in ("eps", "images", "labels")),
    )
    assert abs(want.real / case.outputs["losses"][0] - 1.0) < 1e-13


@pytest.mark.slow
def test_a_trajectory_whose_gradients_are_complex_steps():
    """All numbers of the smallest one: 111 variables, 8 scales, each step of each."""
    path = GOLDEN / "trajectory" / "train_steps.json"
    (case,) = (c for c in load_file(path).cases if c.id.endswith("/hundred-variables"))
    inputs, network = case.inputs, Network(case.inputs)
    parameters = [inputs[name].astype(float) for name in ("tau", "phi", "log_rho")]
    moments = [(np.zeros(p.shape), np.zeros(p.shape)) for p in parameters]
    rates = [1.0, 1.0, float(inputs["scale_rate"])]
    for step, rate in enumerate(inputs["rates"].tolist()):
        batch = [inputs[name][step] for name in ("eps", "images", "labels")]
        rho = half(parameters[2])

        def loss(tau, phi, change, rho=rho, batch=batch):
            return network.loss(tau, phi, rho * np.exp(change), *batch)

        at = [*parameters[:2], np.zeros(len(SHAPES))]
        assert abs(loss(*at).real / case.outputs["losses"][step] - 1.0) < 1e-12
        for number, parameter in enumerate(parameters):
            g = np.zeros(parameter.shape)
            for i in np.ndindex(parameter.shape):
                if np.isfinite(parameter[i]):
                    v = np.zeros(parameter.shape)
                    v[i] = STEP
                    moved = [a + 1j * v if k == number else a for k, a in enumerate(at)]
                    g[i] = loss(*moved).imag / STEP
            m, v = moments[number]
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            moments[number] = m, v
            root = np.sqrt(v / (1.0 - 0.999 ** (step + 1)))
            change = (m / (1.0 - 0.9 ** (step + 1))) / (root + 1e-8)
            parameters[number] = parameter - rate * rates[number] * change
    for got, name in zip(parameters, ("new_tau", "new_phi", "new_log_rho"), strict=True):
        np.testing.assert_allclose(got, case.outputs[name], rtol=1e-10, atol=1e-11)


# --- predictions


def test_the_shipped_model_is_the_one_that_is_predicted_with():
    shipped = GOLDEN.parents[1] / "models" / "lenet5-1551.rmc"
    case = load_file(GOLDEN / "predictions" / "predict.json").cases[0]
    assert case.inputs["data"].tobytes() == shipped.read_bytes()


@cases_of("predict")
def test_predictions_are_those_of_plain_python(case):
    data = case.inputs["data"].tobytes()
    weights, described = spec_decoder.decode(data), spec_decoder.parse(data).described
    for n in (0, len(case.inputs["images"]) - 1):
        image = case.inputs["images"][n].tolist()
        if described:
            want = spec_networks.logits(described, weights.values(), image)
        else:
            want = spec_decoder.logits(weights, image)
        assert_close(case.outputs["logits"][:, n], want, 1e-13)


@cases_of("predict")
def test_classes_are_clear(case):
    """Ahead of all others, or equal to some of them: then the first of these."""
    logits = case.outputs["logits"]
    best = logits.max(axis=0)
    assert np.array_equal(case.outputs["classes"], logits.argmax(axis=0))
    assert (best - np.where(logits < best, logits, -np.inf).max(axis=0)).min() == case.gap


# --- the tools


OF_LAYERS = {path.stem for path in (GOLDEN / "layers").glob("*.json")}
GENERAL = {name for name in OF_LAYERS if re.match("conv2d_general|group_norm|mean_pool2d", name)}
WRITTEN = {
    "layers": OF_LAYERS - GENERAL,
    "general_layers": GENERAL,
    "described_networks": {"loss_and_grads_general"},
    "network": {"loss_and_grads", "predict", "train_steps", "adam_step"},
}


@pytest.mark.parametrize(
    "part",
    [
        *("layers", "general_layers", "described_networks"),
        pytest.param("network", marks=pytest.mark.slow),
    ],
)
def test_the_tools_write_the_same_again(part, tmp_path):
    """The same cases and inputs; outputs may differ in the last digits on another processor."""
    pytest.importorskip("torch")
    import importlib  # noqa: PLC0415 - only where torch is

    import make_golden  # noqa: PLC0415

    for module in make_golden.LATER + make_golden.LATER_BY_TORCH:
        importlib.import_module(f"golden.{module}")
    importlib.import_module(f"golden.{part}").write(tmp_path)
    paths = sorted(tmp_path.rglob("*.json"))
    assert {path.stem for path in paths} == WRITTEN[part]
    for path in paths:
        again, committed = load_file(path), load_file(GOLDEN / path.relative_to(tmp_path))
        assert [c.id for c in again.cases] == [c.id for c in committed.cases]
        assert (again.source, again.notes) == (committed.source, committed.notes)
        for new, old in zip(again.cases, committed.cases, strict=True):
            assert (new.bounds, new.flags, new.note) == (old.bounds, old.flags, old.note)
            for name, value in old.inputs.items():
                assert np.array_equal(new.inputs[name], value, equal_nan=value.dtype.kind == "f")
            for name, value in old.outputs.items():
                np.testing.assert_allclose(new.outputs[name], value, rtol=1e-9, atol=1e-12)


def test_log_s_of_the_tools_is_lamberts_w():
    pytest.importorskip("torch")
    from golden import torch_lenet5  # noqa: PLC0415 - only where torch is

    assert torch_lenet5.log_s(0.0) == (0.0, math.sqrt(0.5))
    with mpmath.workdps(120):
        for x in (1e-20, 1e-9, 9.9e-9, 1e-8, 1e-4, 0.1, 1.0, 4.4, 30.0):
            s = -mpmath.lambertw(-mpmath.exp(-1 - mpmath.mpf(x) ** 2)).real
            for got, want in zip(torch_lenet5.log_s(x), (mpmath.log(s), x / (1 - s)), strict=True):
                assert abs(got - want) <= 4e-16 * abs(want)
