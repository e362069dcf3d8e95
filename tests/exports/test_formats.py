"""Each format with the library that reads it: all weights bit for bit, the same predictions."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest
from oracles import run_python

from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.exports.formats import FORMATS, metadata_of
from refmiracle.exports.layers import EXPORTS, Exported, export_layer
from refmiracle.exports.onnx_graph import onnx_bytes
from refmiracle.exports.state_dict import torch_bytes
from refmiracle.exports.tensors import npz_bytes, safetensors_bytes
from refmiracle.nn.contract import Weightless
from refmiracle.nn.evaluation import logits
from refmiracle.nn.networks import NETWORKS
from refmiracle.training.data import default_folder, load_split

METADATA = {"rmc_version": "1", "network": "any", "rmc_sha256": "00"}
# Float32 sums of 800 products in another order; the logits are of order 10.
LOGITS_TOLERANCE = 1e-4


def assert_same_bits(read, weights):
    assert list(read) == list(weights)
    for name, w in weights.items():
        assert read[name].dtype == np.float32
        assert read[name].shape == w.shape
        assert read[name].tobytes() == w.tobytes()


def turned_back(arrays):
    """Tensors that have their outputs first, with their outputs last."""
    axes = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
    return {name: a.transpose(axes[a.ndim]) for name, a in arrays.items()}


def scaled(pixels):
    """Images as most libraries prepare them."""
    return pixels[:, None].astype(np.float32) / np.float32(255)


def onnx_session(data):
    return pytest.importorskip("onnxruntime").InferenceSession(
        data, providers=["CPUExecutionProvider"]
    )


# --- the weights


def test_npz_has_all_bits(exported):
    _, weights = exported
    with np.load(io.BytesIO(npz_bytes(weights))) as f:
        assert_same_bits(dict(f), weights)


def test_safetensors_has_all_bits_and_the_metadata(exported, tmp_path):
    library = pytest.importorskip("safetensors")
    _, weights = exported
    path = tmp_path / "w.safetensors"
    path.write_bytes(safetensors_bytes(weights, {**METADATA, "network": "größer"}))
    with library.safe_open(path, framework="np") as f:
        assert f.metadata() == {**METADATA, "network": "größer"}
        read = {name: f.get_tensor(name) for name in weights}
        assert set(f.keys()) == set(weights)
    assert_same_bits(read, weights)


def test_onnx_has_all_bits_and_the_metadata(exported):
    onnx = pytest.importorskip("onnx")
    network, weights = exported
    model = onnx.load_from_string(onnx_bytes(network, weights, METADATA))
    onnx.checker.check_model(model, full_check=True)
    assert {p.key: p.value for p in model.metadata_props} == METADATA
    read = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert read.pop("half") == 0.5
    assert_same_bits(turned_back(read), weights)


def test_torch_has_all_bits(exported):
    torch = pytest.importorskip("torch")
    network, weights = exported
    read = torch.load(io.BytesIO(torch_bytes(network, weights)), weights_only=True)
    assert {type(t) for t in read.values()} == {torch.Tensor}
    assert_same_bits(turned_back({name: t.numpy() for name, t in read.items()}), weights)


# --- the predictions


def test_onnxruntime_predicts_as_refmiracle_on_all_test_images(shipped):
    pytest.importorskip("onnx")
    network, weights, _ = shipped
    pixels = load_split(default_folder(), "t10k").images
    assert len(pixels) == 10_000
    session = onnx_session(onnx_bytes(network, weights, METADATA))
    found = np.concatenate(
        [
            session.run(None, {"images": scaled(pixels[i : i + 500])})[0]
            for i in range(0, 10000, 500)
        ]
    )
    expected = logits(network, get_engine("numba"), weights, pixels).T
    assert np.ptp(expected) > 10
    np.testing.assert_allclose(found, expected, rtol=0, atol=LOGITS_TOLERANCE)
    np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))


def test_onnx_of_each_network_takes_batches_of_any_size(exported, few_images):
    pytest.importorskip("onnx")
    network, weights = exported
    session = onnx_session(onnx_bytes(network, weights, METADATA))
    (images,), (out,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type) == ("images", "tensor(float)")
    assert images.shape == ["batch", 1, 28, 28]
    assert (out.name, out.type, out.shape) == ("logits", "tensor(float)", ["batch", 10])
    expected = logits(network, get_engine("numpy"), weights, few_images.images).T
    for part in (slice(0, 1), slice(1, 8), slice(0, 300)):
        (found,) = session.run(["logits"], {"images": scaled(few_images.images[part])})
        np.testing.assert_allclose(found, expected[part], rtol=0, atol=LOGITS_TOLERANCE)


def test_a_module_of_the_same_names_takes_the_state_dict(exported, few_images):
    torch = pytest.importorskip("torch")
    from exports.torch_modules import sequence as torch_sequence  # noqa: PLC0415 - only where torch is

    network, weights = exported
    module = torch_sequence(network.specs())
    read = torch.load(io.BytesIO(torch_bytes(network, weights)), weights_only=True)
    module.load_state_dict(read, strict=True)
    with torch.no_grad():
        found = module(torch.from_numpy(scaled(few_images.images)) - 0.5).numpy()
    expected = logits(network, get_engine("numpy"), weights, few_images.images).T
    np.testing.assert_allclose(found, expected, rtol=0, atol=LOGITS_TOLERANCE)


# --- what holds for all


def test_metadata(shipped, shipped_path):
    network, _, data = shipped
    assert metadata_of(network, data) == {
        "rmc_version": str(data[3]),
        "network": "lenet5",
        "rmc_sha256": hashlib.sha256(data).hexdigest(),
    }
    update = (shipped_path.parent / "lenet5-1551-turned-51.rmc").read_bytes()
    assert metadata_of(network, update)["rmc_version"] == str(0x20)  # docs/SPEC.md, section 13


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_bytes_from_each_call_and_process(name, shipped, shipped_path):
    if name != "npz":
        pytest.importorskip(name)
    network, weights, _ = shipped
    files = {FORMATS[name].to_bytes(network, weights, METADATA) for _ in range(8)}
    assert len(files) == 1
    code = f"""
import hashlib
from refmiracle.fileformat.container import read_model
from refmiracle.fileformat.model import decode_model
from refmiracle.engines import get_engine
from refmiracle.exports.formats import FORMATS
model, _ = read_model({str(shipped_path)!r})
weights = decode_model(model, get_engine("numpy"))
data = FORMATS[{name!r}].to_bytes(model.layout.network, weights, {METADATA})
print(hashlib.sha256(data).hexdigest())
"""
    assert run_python(code, PYTHONHASHSEED="7").strip() == hashlib.sha256(files.pop()).hexdigest()


def test_every_network_of_the_package_can_be_exported():
    kinds = {export_layer(layer).operator for n in NETWORKS.values() for layer in n.placed}
    assert kinds == {"Conv", "MaxPool", "Relu", "Flatten", "Gemm"}


class Sigmoid(Weightless):
    """A layer that has no export."""

    word = "sigmoid"

    def spec(self, shape):
        return ("sigmoid",)

    def forward(self, engine, weights, x):
        y = 1 / (1 + np.exp(-x))
        return y, y

    def backward(self, engine, weights, kept, dy, need_dx):
        return dy * kept * (1 - kept), {}


def test_layers_that_do_not_fit_are_one_line(shipped):
    pytest.importorskip("onnx")
    network, weights, _ = shipped
    other = replace(network, layers=(*network.layers[:6], *network.layers[7:]))
    with pytest.raises(InputError, match=r"layer 6, Dense.* does not take activations"):
        onnx_bytes(other, weights, METADATA)


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_a_layer_without_export_is_one_line(name, shipped):
    pytest.importorskip(name)
    network, weights, _ = shipped
    other = replace(network, layers=(*network.layers, Sigmoid()))
    with pytest.raises(InputError, match="'sigmoid' have no export to onnx and torch") as caught:
        FORMATS[name].to_bytes(other, weights, METADATA)
    assert "\n" not in str(caught.value)


def test_one_entry_of_the_table_exports_a_new_layer(shipped, monkeypatch, few_images):
    pytest.importorskip("onnx")
    monkeypatch.setitem(EXPORTS, "sigmoid", lambda: Exported("Sigmoid"))
    network, weights, _ = shipped
    other = replace(network, layers=(*network.layers, Sigmoid()))
    session = onnx_session(onnx_bytes(other, weights, METADATA))
    (found,) = session.run(None, {"images": scaled(few_images.images)})
    expected = logits(other, get_engine("numpy"), weights, few_images.images).T
    np.testing.assert_allclose(found, expected, rtol=0, atol=LOGITS_TOLERANCE)


@pytest.mark.parametrize("name", ["onnx", "torch"])
def test_weights_that_are_not_the_networks_are_one_line(name, shipped):
    pytest.importorskip(name)
    network, weights, _ = shipped
    last = weights["dense2.weight"]
    for wrong, message in (
        (
            {n: w for n, w in weights.items() if n != "dense1.bias"},
            "weights dense1.bias: none; exp",
        ),
        (
            {**weights, "dense2.weight": last.T},
            r"weights dense2.weight: \(10, 500\); expected shape",
        ),
        ({**weights, "dense2.bias": np.zeros(1)}, r"weights dense2.bias: \(1,\); expected shape"),
        (
            {**weights, "dense2.weight": last + 1j},
            "weights dense2.weight: of complex64; expected re",
        ),
    ):
        with pytest.raises(InputError, match=message):
            FORMATS[name].to_bytes(network, wrong, METADATA)
    listed = {**weights, "dense2.weight": last.tolist()}
    known = FORMATS[name].to_bytes(network, weights, METADATA)
    assert FORMATS[name].to_bytes(network, listed, METADATA) == known
