"""What others do with the ONNX model: quantize it, infer its shapes, move it to other opsets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from refmiracle.exports import onnx_graph
from refmiracle.exports.layers import export_layer
from refmiracle.exports.onnx_graph import in_order, onnx_bytes
from refmiracle.nn.layers import Conv2d, Dense, MaxPool2d, Relu
from refmiracle.nn.tree import Placed
from refmiracle.training.data import default_folder, load_split

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
quantization = pytest.importorskip("onnxruntime.quantization")

TESTED = 1000
# The float model has 0.7 % on these images.  Eight bits cost up to 0.6 % more: processors that
# sum products of bytes in 16 bits saturate.  With a ReLU lost it is 74 %.
MARGIN = 0.02
# Of logits, relative, by bytes; a lost ReLU makes it above 1.
LOGITS_MARGIN = 0.1

BYTES = {"unsigned": "QUInt8", "signed": "QInt8"}
STATIC = list(itertools.product(("QOperator", "QDQ"), (False, True), BYTES))


def scaled(pixels):
    return pixels[:, None].astype(np.float32) / np.float32(255)


def run(path, images):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"images": images})[0]


@pytest.fixture(scope="module")
def images():
    """Those that a quantizer learns the ranges from, and those of the test."""
    train, test = (load_split(default_folder(), name) for name in ("train", "t10k"))
    return scaled(train.images[:100]), scaled(test.images[:TESTED]), test.labels[:TESTED]


@pytest.fixture(scope="module")
def model(shipped, tmp_path_factory):
    """A shipped network as an ONNX model."""
    network, weights, _ = shipped
    path = tmp_path_factory.mktemp("onnx") / "shipped.onnx"
    path.write_bytes(onnx_bytes(network, weights, {}))
    return path


class Calibration(quantization.CalibrationDataReader):
    """Some images, once."""

    def __init__(self, images):
        self.batches = iter([{"images": images}])

    def get_next(self):
        return next(self.batches, None)


def quantize_static(path, out, images, form, per_channel, bytes_):
    kind = getattr(quantization.QuantType, BYTES[bytes_])
    quantization.quantize_static(
        str(path),
        str(out),
        Calibration(images),
        quant_format=getattr(quantization.QuantFormat, form),
        per_channel=per_channel,
        activation_type=kind,
        weight_type=kind,
    )
    return out


def error(path, images):
    _, pixels, labels = images
    return float(np.mean(run(path, pixels).argmax(axis=1) != labels))


@pytest.mark.parametrize(("form", "per_channel", "bytes_"), STATIC)
def test_quantized_with_calibration_it_errs_hardly_more(
    model, images, tmp_path, form, per_channel, bytes_
):
    path = quantize_static(model, tmp_path / "q.onnx", images[0], form, per_channel, bytes_)
    assert path.stat().st_size < 0.3 * model.stat().st_size
    assert error(path, images) <= error(model, images) + MARGIN


@pytest.mark.parametrize("bytes_", BYTES)
def test_quantized_dynamically_it_errs_hardly_more(model, images, tmp_path, bytes_):
    path = tmp_path / "q.onnx"
    kind = getattr(quantization.QuantType, BYTES[bytes_])
    quantization.quantize_dynamic(str(model), str(path), weight_type=kind)
    assert path.stat().st_size < 0.3 * model.stat().st_size
    assert error(path, images) <= error(model, images) + MARGIN


def test_quantized_behind_the_preprocessing_that_is_advised(model, images, tmp_path):
    module = pytest.importorskip("onnxruntime.quantization.shape_inference")
    ready = tmp_path / "ready.onnx"
    # Symbolic inference needs sympy; the shapes here are found without.
    module.quant_pre_process(str(model), str(ready), skip_symbolic_shape=True)
    assert np.array_equal(run(ready, images[1]), run(model, images[1]))
    path = quantize_static(ready, tmp_path / "q.onnx", images[0], "QOperator", False, "unsigned")
    assert error(path, images) <= error(model, images) + MARGIN


@pytest.mark.parametrize("form", ["QOperator", "QDQ"])
def test_any_network_quantized_has_nearly_its_logits(exported, images, tmp_path, form):
    network, weights = exported
    model = tmp_path / "model.onnx"
    model.write_bytes(onnx_bytes(network, weights, {}))
    path = quantize_static(model, tmp_path / "q.onnx", images[0], form, False, "unsigned")
    expected, found = run(model, images[1]), run(path, images[1])
    assert np.linalg.norm(found - expected) < LOGITS_MARGIN * np.linalg.norm(expected)


# --- the order of the nodes


CONV, POOL, RELU, DENSE = (
    Placed("layer", layer, (1, 28, 28)) for layer in (Conv2d(1, 2), MaxPool2d(), Relu(), Dense(10))
)


@pytest.mark.parametrize(
    ("layers", "order"),
    [
        ([], []),
        ([CONV, POOL, RELU], [1, 3, 2]),
        ([CONV, RELU, POOL], [1, 2, 3]),
        ([POOL, POOL, RELU, RELU], [3, 4, 1, 2]),
        ([RELU, POOL, RELU, POOL], [1, 3, 2, 4]),
        ([POOL, CONV, RELU, DENSE, RELU], [1, 2, 3, 4, 5]),
        ([POOL, RELU, DENSE, POOL, RELU], [2, 1, 3, 5, 4]),
    ],
)
def test_a_relu_stands_before_the_pools_that_it_is_behind(layers, order):
    ordered = in_order(layers)
    assert [int(name.partition("_")[0]) for name, _, _ in ordered] == order
    for name, layer, exported in ordered:
        depth, _, kind = name.partition("_")
        assert layers[int(depth) - 1] is layer
        assert layer.spec()[0] == kind
        assert export_layer(layer) == exported


def test_the_order_changes_no_bit(exported, images, tmp_path, monkeypatch):
    network, weights = exported
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_bytes(network, weights, {}))
    found = run(path, images[1])

    def as_they_are(layers):
        return [(str(i), layer, export_layer(layer)) for i, layer in enumerate(layers)]

    monkeypatch.setattr(onnx_graph, "in_order", as_they_are)
    path.write_bytes(onnx_bytes(network, weights, {}))
    assert run(path, images[1]).tobytes() == found.tobytes()


# --- what else they trip over


def test_weights_are_no_inputs_and_names_stand_once(exported):
    graph = onnx.load_from_string(onnx_bytes(*exported, {})).graph
    assert [i.name for i in graph.input] == ["images"]
    names = [n.name for n in graph.node] + [t.name for t in graph.initializer]
    assert len(set(names)) == len(names)


def test_the_shapes_of_all_results_are_inferred(exported):
    model = onnx.load_from_string(onnx_bytes(*exported, {}))
    inferred = onnx.shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    )
    for value in inferred.graph.value_info:
        first, *others = value.type.tensor_type.shape.dim
        assert first.dim_param == "batch"
        assert all(d.dim_value > 0 for d in others)
    assert len(inferred.graph.value_info) == len(model.graph.node) - 1  # but the logits


@pytest.mark.parametrize("opset", [15, 17, 21])
def test_a_later_opset_has_the_same_logits(exported, images, tmp_path, opset):
    model = onnx.load_from_string(onnx_bytes(*exported, {}))
    path, later = tmp_path / "model.onnx", tmp_path / "later.onnx"
    onnx.save(model, path)
    onnx.save(onnx.version_converter.convert_version(model, opset), later)
    assert np.array_equal(run(path, images[0]), run(later, images[0]))
