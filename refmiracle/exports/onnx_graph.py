"""A network as an ONNX model: from pixels in [0, 1] to logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    bit, but where there is NaN; so with a flattening.  Quantizers expect a ReLU right behind what
    it belongs to: that of ONNX Runtime drops one behind a pool or a flattening.
    """
    ordered: list[tuple[str, Placed, Exported]] = []
    for depth, layer in enumerate(layers, start=1):
        exported, place = export_layer(layer), len(ordered)
        while exported.monotone and place and ordered[place - 1][2].largest:
            place -= 1
        ordered.insert(place, (f"{depth}_{layer.spec()[0]}", layer, exported))
    return ordered


@dataclass(frozen=True)
class Node:
    """A node with one output, which has the node's name."""

    operator: str
    inputs: tuple[str, ...]
    name: str
    attributes: dict[str, Any]


@dataclass
class OnnxGraph:
    """Nodes, each behind those that it reads, and tensors by name.

    Parameters
    ----------
    tensors : dict of str to ndarray
    nodes : list of Node
    """

    tensors: dict[str, NDArray[Any]]
    nodes: list[Node] = field(default_factory=list)

    def add(self, operator: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        """See `exports.layers.Graph`."""
        self.nodes.append(Node(operator, tuple(inputs), name, attributes))
        return name

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """See `exports.layers.Graph`."""
        self.tensors[name] = array
        return name

    def reshape(self, name: str, shape: tuple[int, ...]) -> str:
        """See `exports.layers.Graph`."""
        self.tensors[name] = self.tensors[name].reshape(shape)
        return name

    def write(self, layers: Sequence[Placed], x: str, before: str = "") -> str:
        """See `exports.layers.Graph`."""
        for name, layer, exported in in_order(layers):
            x = exported.write(self, f"{before}{name}", layer, x)
        return x

    def keep_relus(self) -> None:
        """Make Max of each Relu whose input another node reads too.

        The quantizer of ONNX Runtime takes a Relu for part of what comes before it, and drops
        it; the other node would need what was before.
        """
        readers = Counter(x for node in self.nodes for x in node.inputs)
        for number, node in enumerate(self.nodes):
            if node.operator == "Relu" and readers[node.inputs[0]] > 1:
                zero = self.constant(f"{node.name}.zero", np.array(0, np.float32))
                self.nodes[number] = replace(node, operator="Max", inputs=(*node.inputs, zero))


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
    graph = OnnxGraph({"half": np.array(0.5, np.float32), **outputs_first(network, weights)})
    # `engine.images` has pixels in [-1/2, 1/2].
    centre = graph.add("Sub", ["images", "half"], "centre")
    results = {graph.write(network.placed, centre): "logits", centre: "centred"}
    graph.keep_relus()
    graph_proto = helper.make_graph(
        [
            helper.make_node(
                node.operator,
                [results.get(x, x) for x in node.inputs],
                [results.get(node.name, node.name)],
                node.name,
                **node.attributes,
            )
            for node in graph.nodes
        ],
        network.name,
        [helper.make_tensor_value_info("images", real, ["batch", *network.input])],
        [helper.make_tensor_value_info("logits", real, ["batch", network.classes])],
        [onnx.numpy_helper.from_array(array, name) for name, array in graph.tensors.items()],
    )
    model = helper.make_model(
        graph_proto,
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
