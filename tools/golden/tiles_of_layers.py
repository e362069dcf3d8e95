"""Since 1.3: the layers and the network with 9 and 65 along each axis, as in tiles.py.

Small integers, so that every sum is exact, but for the loss; the values are PyTorch's, those of
the softmax mpmath's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from golden import layers, network
from golden.edges import EXACT, SINCE
from golden.related_torch import CLOSE, LAYOUT
from golden.tiles import NOTE, SIZES, sizes
from golden.torch_inputs import Draw
from golden.writer import BOTH, later, make_case

Case = dict[str, Any]
Shape = tuple[int, ...]


def layer_case(operation: str, name: str, outputs: str, note: str = NOTE, **shapes: Shape) -> Case:
    """Return a case of a layer; its arrays are integers drawn in order."""
    draw = Draw(991)
    inputs = {key: draw.small(*shape) for key, shape in shapes.items()}
    return layers.case(operation, name, getattr(layers, operation), inputs, outputs, EXACT,
                       note=note, since=SINCE)  # fmt: skip


def conv_shapes(inputs: int, outputs: int, height: int, width: int, batch: int) -> dict[str, Shape]:
    """Return the shapes of a convolution of 2x2."""
    return {"x": (inputs, height, width, batch), "w": (2, 2, inputs, outputs), "b": (outputs,)}


def conv_axes() -> list[tuple[str, dict[str, Shape]]]:
    """Return name and shapes: each axis in turn, the output's height and width included."""
    base = {"inputs": 2, "outputs": 2, "height": 3, "width": 3, "batch": 2}
    posed = []
    for axis in base:
        for size in SIZES:
            rows = size + 1 if axis in ("height", "width") else size
            posed.append((f"{axis}-{size}", conv_shapes(**{**base, axis: rows})))
    return posed


@later("conv2d")
def conv2d() -> list[Case]:
    """Forward."""
    return [layer_case("conv2d", name, "y", **shapes) for name, shapes in conv_axes()]


@later("conv2d_backward")
def conv2d_backward() -> list[Case]:
    """Gradients."""
    cases = []
    for name, shapes in conv_axes():
        (outputs,) = shapes.pop("b")
        _, height, width, batch = shapes["x"]
        shapes["dy"] = (outputs, height - 1, width - 1, batch)
        cases.append(layer_case("conv2d_backward", name, "dx dw db", **shapes))
    return cases


def pool_shapes() -> list[tuple[str, Shape]]:
    """Return name and shape of x: channels, windows along both ways, and batch."""
    base = (2, 4, 4, 2)
    names = ("channels", "rows", "columns", "batch")
    return [
        (f"{axis}-{size}", (*base[:i], size if i in (0, 3) else 2 * size, *base[i + 1 :]))
        for i, axis in enumerate(names)
        for size in SIZES
    ]


@later("maxpool2d")
def maxpool2d() -> list[Case]:
    """Forward; equal maxima abound."""
    return [layer_case("maxpool2d", name, "y", x=shape) for name, shape in pool_shapes()]


@later("maxpool2d_backward")
def maxpool2d_backward() -> list[Case]:
    """Gradients."""
    return [
        layer_case("maxpool2d_backward", name, "dx", x=(c, h, w, n), dy=(c, h // 2, w // 2, n))
        for name, (c, h, w, n) in pool_shapes()
    ]


@later("relu")
def relu() -> list[Case]:
    """Units, and samples."""
    return sizes("units", lambda name, size: layer_case("relu", name, "y", x=(size, 2))) + sizes(
        "batch", lambda name, size: layer_case("relu", name, "y", x=(2, size))
    )


@later("relu_backward")
def relu_backward() -> list[Case]:
    """Units, and samples."""

    def case(name: str, *shape: int) -> Case:
        return layer_case("relu_backward", name, "dx", x=shape, dy=shape)

    return sizes("units", lambda name, size: case(name, size, 2)) + sizes(
        "batch", lambda name, size: case(name, 2, size)
    )


DENSE = {"inputs": 3, "outputs": 4, "batch": 2}
SQUARE = {"inputs": 3, "outputs": 4, "batch": 4}
MANY = {"inputs": 2, "outputs": 1, "batch": 257}


def dense_axes() -> list[tuple[str, dict[str, int], str]]:
    """Return name, sizes and note; then as many outputs as samples, and more than a byte counts."""
    posed = [(f"{axis}-{size}", {**DENSE, axis: size}, NOTE) for axis in DENSE for size in SIZES]
    return [
        *posed,
        ("as-many-outputs-as-samples", SQUARE, "a bias along the batch has the same shape"),
        ("batch-257", MANY, "more samples than a byte counts"),
    ]


@later("dense")
def dense() -> list[Case]:
    """Forward."""
    return [
        layer_case("dense", name, "y", note, x=(s["inputs"], s["batch"]),
                   w=(s["inputs"], s["outputs"]), b=(s["outputs"],))
        for name, s, note in dense_axes()
    ]  # fmt: skip


@later("dense_backward")
def dense_backward() -> list[Case]:
    """Gradients."""
    return [
        layer_case("dense_backward", name, "dx dw db", note, x=(s["inputs"], s["batch"]),
                   w=(s["inputs"], s["outputs"]), dy=(s["outputs"], s["batch"]))
        for name, s, note in dense_axes()
    ]  # fmt: skip


@later("softmax_cross_entropy")
def softmax_cross_entropy() -> list[Case]:
    """Classes, and samples."""

    def case(name: str, classes: int, batch: int) -> Case:
        draw = Draw(992)
        inputs = {"logits": draw.normal(classes, batch, scale=2.0),
                  "labels": draw.integers(batch, below=classes)}  # fmt: skip
        return layers.case("softmax_cross_entropy", name, layers.by_mpmath, inputs,
                           "losses dlogits", CLOSE, note=NOTE, since=SINCE)  # fmt: skip

    return sizes("classes", lambda name, size: case(name, size, 3)) + sizes(
        "batch", lambda name, size: case(name, 4, size)
    )


@later("images")
def images() -> list[Case]:
    """Images, rows and columns; then as many images as rows, and as many of each."""
    shapes = {
        **{f"batch-{size}": (size, 2, 3) for size in SIZES},
        **{f"rows-{size}": (2, size, 3) for size in SIZES},
        **{f"columns-{size}": (2, 3, size) for size in SIZES},
        "batch-28": (28, 1, 2),
        "as-many-images-as-rows-and-columns": (5, 5, 5),
    }

    def compute(pixels: Any) -> Any:
        x = layers.torch.tensor(pixels).to(layers.torch.float64) / 255.0 - 0.5
        return layers.plain(x.permute(1, 2, 0)[None])

    return [
        layers.case("images", name, compute,
                    {"pixels": Draw(993).integers(*shape, below=256).astype(np.uint8)},
                    "x", layers.PIXELS, note=NOTE if name[-1] in "95" else "", since=SINCE)
        for name, shape in shapes.items()
    ]  # fmt: skip


# --- network, optimiser, predictions

GRADIENTS = {
    "loss": network.LOSS,
    **dict.fromkeys(("dtau", "dphi", "dlog_rho"), network.CANCELLING),
}


@later("loss_and_grads")
def loss_and_grads() -> list[Case]:
    """Pose samples."""

    def case(name: str, size: int) -> Case:
        for seed in range(200):
            inputs = network.network_inputs(LAYOUT, 6, 5000 + seed, size)
            outputs, gap = network.gradients(LAYOUT, inputs)
            if gap >= network.SMALLEST_KINK:
                return make_case(f"network/loss_and_grads/{name}", inputs, outputs, GRADIENTS,
                                 dtypes=BOTH, gap=gap, note=NOTE, since=SINCE)  # fmt: skip
        raise ValueError("always too near a kink")

    return [case("batch-9", 9)]


@later("adam_step")
def adam_step() -> list[Case]:
    """Variables."""
    bounds = {"new_theta": network.STEP, "new_m": network.MOMENT, "new_v": network.MOMENT}

    def case(name: str, size: int) -> Case:
        draw = Draw(994)
        inputs = {key: draw.normal(size) for key in ("theta", "g", "m")}
        # Of one sign, so that no sum cancels, whose float32 errors would be of any size.
        inputs["m"] = np.copysign(inputs["m"], inputs["g"])
        inputs |= {"v": np.abs(draw.normal(size)) + 0.125, "step": np.array(3),
                   "rate": np.array(0.125)}  # fmt: skip
        outputs = dict(zip(bounds, network.adam(**inputs), strict=True))
        return make_case(f"optimiser/adam_step/{name}", inputs, outputs, bounds, dtypes=BOTH,
                         note=NOTE, since=SINCE)  # fmt: skip

    return sizes("variables", case)


@later("predict")
def predict() -> list[Case]:
    """Images, by a shipped model, that are clear of a tie."""
    data = network.MODEL.read_bytes()
    pixels = network.mnist_test()[0][500:580]
    z = network.predict(data, pixels)
    ordered = np.sort(z, axis=0)
    gaps = ordered[-1] - ordered[-2]
    clear = np.flatnonzero(gaps >= network.SMALLEST_LOGIT_GAP)

    def case(name: str, size: int) -> Case:
        own = clear[:size]
        return make_case(
            f"predictions/predict/{name}",
            {"data": data, "images": pixels[own]},
            {"logits": z[:, own], "classes": z[:, own].argmax(axis=0)},
            {"logits": network.LOGITS, "classes": EXACT},
            dtypes=BOTH,
            gap=float(gaps[own].min()),
            note=NOTE,
            since=SINCE,
        )

    return sizes("images", case)
