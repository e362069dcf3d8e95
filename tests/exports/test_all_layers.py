"""Networks of all kinds of layers: what other libraries make of them is what refmiracle makes."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
import pytest
from exports.conftest import ODD, write_random
from nn.trees import TREE

from refmiracle.commands import export
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.exports.formats import FORMATS
from refmiracle.exports.layers import EXPORTS, Exported, outputs_first
from refmiracle.exports.onnx_graph import OPSET, OnnxGraph, onnx_bytes
from refmiracle.fileformat.container import read_model
from refmiracle.fileformat.model import decode_model
from refmiracle.nn.contract import Weightless
from refmiracle.nn.evaluation import logits
from refmiracle.nn.layers import Conv2d, Dense, Flatten, GroupNorm, MaxPool2d, MeanPool2d, Relu
from refmiracle.nn.network import Network
from refmiracle.nn.networks import DS_CNN, LENET5, RESNET8, VGG8
from refmiracle.nn.tree import Residual, through

IMAGES = 6
# Float32 sums in another order; of the largest difference of a logit from its mean.
TOLERANCE = 1e-4
# Of logits, relative, by bytes: 0.03 are found, and 0.13 or 0.4 with a ReLU dropped.
BYTES_TOLERANCE = 0.05

NARROW = Residual(
    (GroupNorm(4), Relu(), Conv2d(12, (3, 2), padding=1), MaxPool2d(), Relu()),
    (Conv2d(12, 1), MeanPool2d(2)),
)
# Kernels and windows that are higher than wide and wider than high, a stride that leaves rows
# over, two outputs of each channel, norms of some channels, of all and of each, residuals within
# residuals, lists that begin with a ReLU, and a ReLU behind a flattening.
EVERY = Network(
    name="every",
    number=0,
    input=(3, 23, 18),
    classes=5,
    layers=(
        *(Conv2d(8, (5, 2), stride=2, padding=1), GroupNorm(2), Relu()),
        *(Conv2d(16, (2, 3), padding=1, groups=8), GroupNorm(16)),
        Residual((Relu(), Residual((Conv2d(16, 1, groups=16), Residual((Relu(),)))))),
        *(Residual((Conv2d(8, 1), NARROW), (MeanPool2d(2), Conv2d(12, 1))), GroupNorm(1)),
        *(MeanPool2d((2, 1)), Flatten(), Relu(), Residual((Dense(180),)), Relu(), Dense(5)),
    ),
)
BEFORE = replace(
    EVERY,
    name="before",
    layers=(
        *(Conv2d(8, 3), Residual((Relu(), Conv2d(8, 3, padding=1)))),
        *(Residual((Conv2d(8, 3, padding=1),), (Relu(),)), MeanPool2d(3), Flatten(), Dense(5)),
    ),
)
NETWORKS = [EVERY, BEFORE, TREE, RESNET8, DS_CNN, VGG8]


@dataclass(frozen=True)
class Made:
    """A file of random indices, what it decodes to, and logits of random images."""

    path: object
    network: Network
    weights: dict
    images: np.ndarray
    expected: np.ndarray

    def assert_logits(self, found):
        assert found.shape == self.expected.shape
        spread = np.abs(self.expected - self.expected.mean(axis=0)).max()
        assert spread > 1e-3
        assert np.abs(found - self.expected).max() < TOLERANCE * spread


def make(network, folder):
    path = write_random(folder / f"{network.name}.rmc", replace(network, number=0))
    model, _ = read_model(path)
    weights = decode_model(model, get_engine("numba"))
    pixels = np.random.default_rng(3).integers(0, 256, (IMAGES, *network.input), np.uint8)
    pixels[1::2] //= 3  # darker ones, so that not all are alike
    seen = pixels[:, 0] if network.input[0] == 1 else pixels
    expected = logits(model.layout.network, get_engine("numpy"), weights, seen).T
    images = pixels.astype(np.float32) / np.float32(255)
    return Made(path, model.layout.network, weights, images, expected)


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda network: network.name)
def made(request, tmp_path_factory):
    return make(request.param, tmp_path_factory.mktemp("models"))


def run_onnx(model, images):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images})[0]


def same_bits(found, weights):
    return list(found) == list(weights) and all(
        found[name].tobytes() == w.tobytes() for name, w in weights.items()
    )


# --- the command, with the libraries that read its files


def test_onnxruntime_has_the_logits(made, tmp_path, capsys):
    pytest.importorskip("onnx")
    out = tmp_path / "model.onnx"
    assert export.main([str(made.path), "--to", "onnx", "--out", str(out)]) == 0
    assert f"{made.network.count()} float32 weights" in capsys.readouterr().out
    made.assert_logits(run_onnx(out.read_bytes(), made.images))
    one_by_one = [run_onnx(out.read_bytes(), image[None])[0] for image in made.images]
    made.assert_logits(np.array(one_by_one))


def test_pytorch_has_the_logits(made, tmp_path):
    torch = pytest.importorskip("torch")
    from exports.torch_modules import sequence  # noqa: PLC0415 - only where torch is

    out = tmp_path / "model.pt"
    assert export.main([str(made.path), "--to", "torch", "--out", str(out)]) == 0
    module = sequence(made.network.specs())
    read = torch.load(out, weights_only=True)
    assert list(read) == [t.name for t in made.network.tensors()]
    module.load_state_dict(read, strict=True)
    with torch.no_grad():
        made.assert_logits(module(torch.from_numpy(made.images) - 0.5).numpy())


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_the_tensors_are_the_files_bit_for_bit(made, name):
    library = pytest.importorskip(name)
    data = FORMATS[name].to_bytes(made.network, made.weights, {})
    if name == "torch":
        read = {n: t.numpy() for n, t in library.load(io.BytesIO(data)).items()}
    else:
        initializers = library.load_from_string(data).graph.initializer
        arrays = {t.name: library.numpy_helper.to_array(t) for t in initializers}
        read = {n: a for n, a in arrays.items() if n in made.weights}
    axes = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
    # Three axes are those of a number for each channel.
    back = {n: a.ravel() if a.ndim == 3 else a.transpose(axes[a.ndim]) for n, a in read.items()}
    assert same_bits(back, made.weights)


# --- the ONNX model


def model_of(made):
    return pytest.importorskip("onnx").load_from_string(onnx_bytes(made.network, made.weights, {}))


def operators_of(made):
    return " ".join(n.op_type for n in model_of(made).graph.node)


def test_only_standard_operators_and_names_that_stand_once(made):
    onnx = pytest.importorskip("onnx")
    model = model_of(made)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert {n.domain for n in model.graph.node} == {""}
    for node in model.graph.node:
        assert (
            onnx.defs.has(node.op_type) and not onnx.defs.get_schema(node.op_type, OPSET).deprecated
        )
    names = [n.name for n in model.graph.node] + [t.name for t in model.graph.initializer]
    assert len(set(names)) == len(names)


def test_all_shapes_are_inferred(made):
    onnx = pytest.importorskip("onnx")
    model = model_of(made)
    inferred = onnx.shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    )
    for value in inferred.graph.value_info:
        first, *others = value.type.tensor_type.shape.dim
        assert first.dim_param == "batch" or value.name.endswith(".factors")
        assert all(d.dim_value > 0 for d in others)
    assert len(inferred.graph.value_info) == len(model.graph.node) - 1  # but the logits


@pytest.mark.slow
@pytest.mark.parametrize("opset", [15, 17, 21])
def test_a_later_opset_has_the_same_logits(made, opset):
    onnx = pytest.importorskip("onnx")
    later = onnx.version_converter.convert_version(model_of(made), opset)
    made.assert_logits(run_onnx(later.SerializeToString(), made.images))


@pytest.mark.slow
@pytest.mark.parametrize("bytes_", ["QUInt8", "QInt8"])
@pytest.mark.parametrize("form", ["QOperator", "QDQ"])
def test_quantized_it_has_nearly_its_logits(made, form, bytes_, tmp_path):
    assert relative_error(made, form, bytes_, tmp_path) < BYTES_TOLERANCE


def relative_error(made, form, bytes_, folder):
    """Return how far the logits of a quantized model are from its own, relative."""
    pytest.importorskip("onnx")
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Calibration(quantization.CalibrationDataReader):
        batches = iter([{"images": made.images}])

        def get_next(self):
            return next(self.batches, None)

    path, out = folder / "model.onnx", folder / "bytes.onnx"
    path.write_bytes(onnx_bytes(made.network, made.weights, {}))
    kind = getattr(quantization.QuantType, bytes_)
    quantization.quantize_static(
        str(path),
        str(out),
        Calibration(),
        quant_format=getattr(quantization.QuantFormat, form),
        activation_type=kind,
        weight_type=kind,
    )
    found = run_onnx(out.read_bytes(), made.images)
    return np.linalg.norm(found - made.expected) / np.linalg.norm(made.expected)


def test_a_relu_whose_input_others_read_is_no_relu_there(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    before = make(BEFORE, tmp_path)
    assert operators_of(before) == "Sub Conv Max Conv Add Conv Max Add AveragePool Flatten Gemm"
    monkeypatch.setattr(OnnxGraph, "keep_relus", lambda graph: None)
    assert operators_of(before).count("Relu") == 2
    assert relative_error(before, "QOperator", "QUInt8", tmp_path) > 2 * BYTES_TOLERANCE


def test_a_relu_stands_before_the_pool_within_a_residual_too(tmp_path):
    pytest.importorskip("onnx")
    layers = Residual((Conv2d(4, 1), MaxPool2d(), Relu()), (Conv2d(4, 1), MeanPool2d(2)))
    network = replace(
        EVERY, name="pooled", layers=(layers, MeanPool2d(), Flatten(), Relu(), Dense(5))
    )
    assert operators_of(make(network, tmp_path)) == (
        "Sub Conv Relu MaxPool Conv AveragePool Add AveragePool Relu Flatten Gemm"
    )


@pytest.mark.parametrize("network", [LENET5, ODD], ids=lambda n: n.name)
def test_a_list_of_layers_is_a_chain_as_before(network):
    pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    weights = {t.name: rng.normal(size=t.shape).astype(np.float32) for t in network.tensors()}
    graph = pytest.importorskip("onnx").load_from_string(onnx_bytes(network, weights, {})).graph
    assert [t.name for t in graph.initializer] == ["half", *weights]
    assert (graph.node[0].name, *graph.node[0].input) == ("centre", "images", "half")
    outputs = [n.output[0] for n in graph.node]
    assert outputs == ["centred", *(n.name for n in graph.node[1:-1]), "logits"]
    assert [n.input[0] for n in graph.node[1:]] == outputs[:-1]


# --- the table


def test_every_kind_that_a_file_can_describe_is_in_the_table():
    kinds = {placed.spec()[0] for n in NETWORKS for placed in through(n.placed)}
    assert kinds == set(EXPORTS)


class Twice(Weightless):
    """A layer that has no export."""

    word = "twice"

    def spec(self, shape):
        return ("twice",)

    def forward(self, engine, weights, x):
        return 2 * x, None

    def backward(self, engine, weights, kept, dy, need_dx):
        return 2 * dy, {}


class Doubled(Exported):
    """Two operators."""

    def write(self, graph, name, layer, x):
        two = graph.constant(f"{name}.two", np.array(2, np.float32))
        return graph.add("Identity", [graph.add("Mul", [x, two], f"{name}.product")], name)


WITH_TWICE = replace(TREE, layers=(Residual((Twice(), Residual((Twice(),)))), *TREE.layers))


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_a_layer_without_export_within_a_residual_is_one_line(name):
    pytest.importorskip(name)
    weights = {t.name: np.zeros(t.shape, np.float32) for t in WITH_TWICE.tensors()}
    with pytest.raises(InputError, match="'twice' have no export to onnx and torch") as caught:
        FORMATS[name].to_bytes(WITH_TWICE, weights, {})
    assert "\n" not in str(caught.value)


def test_one_entry_exports_a_layer_of_several_operators(monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setitem(EXPORTS, "twice", lambda: Doubled("Mul"))
    rng = np.random.default_rng(1)
    weights = {t.name: rng.normal(size=t.shape).astype(np.float32) for t in WITH_TWICE.tensors()}
    pixels = rng.integers(0, 256, (4, *WITH_TWICE.input), np.uint8)
    expected = logits(WITH_TWICE, get_engine("numpy"), weights, pixels).T
    images = pixels.astype(np.float32) / np.float32(255)
    found = run_onnx(onnx_bytes(WITH_TWICE, weights, {}), images)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("axes", [(), ((0,),), ((1, 0), (1,)), ((0, 0), (0,))])
def test_orders_that_do_not_fit_the_tensors_are_one_line(axes, monkeypatch):
    monkeypatch.setitem(EXPORTS, "dense", lambda *sizes: Exported("Gemm", axes=axes))
    weights = {t.name: np.zeros(t.shape, np.float32) for t in VGG8.tensors()}
    with pytest.raises(InputError, match=r"dense1 has the orders of axes .* for each of") as caught:
        outputs_first(VGG8, weights)
    assert "\n" not in str(caught.value)
