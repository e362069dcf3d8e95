"""A network as an ONNX model: from pixels in [0, 1] to logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from refmiracle.errors import InputError
from refmiracle.exports.layers import Exported, export_layer, outputs_first
from refmiracle.extras import import_extra
from refmiracle.files import first_line
from refmiracle.nn.contract import Weights
from refmiracle.nn.network import Network, check_network
from refmiracle.nn.tree import Placed

# Those of ONNX 1.8 (2020), which has all that is needed: old runtimes read it too.
OPSET = 13
IR_VERSION = 7
PRODUCER = "refmiracle"


def load_onnx() -> Any:
    """Return ONNX.

    Raises
    ------
    InputError
        If it is not installed or cannot be loaded.
    """
    return import_extra("onnx", "onnx", ("TensorProto", "checker", "helper", "numpy_helper"))


def in_order(layers: Sequence[Placed]) -> list[tuple[str, Placed, Exported]]:
    """Return each layer with its node's name, what never falls before the largest of its values.

    A ReLU behind a pool of maxima, and the pool behind the ReLU, are the same numbers, bit for
    bit, but where there is NaN.  Quantizers expect a ReLU right behind what it belongs to:
    that of ONNX Runtime drops one behind a pool.
    """
    ordered: list[tuple[str, Placed, Exported]] = []
    for depth, layer in enumerate(layers, start=1):
        exported, place = export_layer(layer), len(ordered)
        while exported.monotone and place and ordered[place - 1][2].largest:
            place -= 1
        ordered.insert(place, (f"{depth}_{layer.spec()[0]}", layer, exported))
    return ordered


def onnx_bytes(network: Network, weights: Weights, metadata: Mapping[str, str]) -> bytes:
    """Return an .onnx file, checked, the same bytes for the same weights and metadata.

    Its input ``images`` is float32, shape (batch, channels, height, width), pixels in [0, 1];
    its output ``logits`` is float32, shape (batch, classes).

    Parameters
    ----------
    network : Network
    weights : dict of str to ndarray
        By tensor name, in the shapes of `network.tensors()`.
    metadata : mapping of str to str

    Raises
    ------
    InputError
        If onnx cannot be loaded, the layers do not fit each other, one has no export, or what
        its export says is no valid model.
    """
    onnx = load_onnx()
    check_network(network)
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    tensors = {"half": np.array(0.5, np.float32), **outputs_first(network, weights)}
    # `engine.images` has pixels in [-1/2, 1/2].
    nodes = [helper.make_node("Sub", ["images", "half"], ["centred"], "centre")]
    for name, layer, exported in in_order(network.placed):
        inputs = [*nodes[-1].output, *(t.name for t in layer.tensors())]
        nodes.append(
            helper.make_node(exported.operator, inputs, [name], name, **exported.attributes)
        )
    nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        nodes,
        network.name,
        [helper.make_tensor_value_info("images", real, ["batch", *network.input])],
        [helper.make_tensor_value_info("logits", real, ["batch", network.classes])],
        [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name=PRODUCER,
    )
    helper.set_model_props(model, dict(sorted(metadata.items())))
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as e:  # onnx has several classes for it
        raise InputError(
            f"network {network.name} makes no valid ONNX model: {first_line(e)}"
        ) from e
    data: bytes = model.SerializeToString(deterministic=True)
    return data
