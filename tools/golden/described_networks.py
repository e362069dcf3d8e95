"""Since 1.4: whole networks that a case or a file describes, by float64 PyTorch and autograd."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden import described, network, nonfinite
from golden.descriptions import FLATTEN, RELU, conv, dense, read, residual
from golden.descriptions import network as describe
from golden.related import family
from golden.sources import spec_decoder
from golden.torch_inputs import Draw, compact
from golden.torch_layout import Layout
from golden.torch_lenet5 import Kinks
from golden.torch_networks import (
    CLASSES_300,
    EVERY_LAYER,
    LEFT,
    NESTED,
    OF_A_SHORTCUT,
    OF_FEATURES,
    OF_ITS_INPUT,
    RIGHT,
    forward_of,
    layout_of,
    pictures,
    scales_of,
)
from golden.writer import BOTH, later, make_case, write_file
from numpy.typing import NDArray

Case = dict[str, Any]

SINCE = "1.4"
OUTPUTS, INPUTS = 0, 1
NONE, UNIT, WEIGHT = 0, 1, 2
BATCH = 3
GRADIENTS = dict.fromkeys(("dtau", "dphi", "dlog_rho"), network.GRADIENT)
BOUNDS = {"loss": network.LOSS, **GRADIENTS}
# Nearer than this to a kink, float32 behind several layers may fall on the other side of it.
SMALLEST_KINK = 2e-5
SMALLEST_GAP = 0.005

NOTES = {
    "short-block": network.NETWORK_NOTES["short-block"],
    "uneven": network.NETWORK_NOTES["uneven"],
    "residual": "the gradient goes back through the body and through the shortcut, and both add up",
    "not-finite": nonfinite.NOTES["not-finite"],
}


# --- loss and gradients


def inputs_of(
    description: bytes, layout: Layout, bits: int, seed: int, batch: int
) -> dict[str, Any]:
    """Return the arguments of loss_and_grads_general."""
    draw, used = Draw(seed), layout.used()
    return {
        "description": description,
        **layout.inputs(),
        "bits": np.array(bits),
        "tau": np.where(used, draw.normal(*used.shape, scale=0.75), 0.0),
        "phi": np.where(used, draw.normal(*used.shape), -np.inf),
        "rho": scales_of(description),
        "eps": draw.normal(*used.shape),
        "images": pictures(draw, description, batch),
        "labels": draw.integers(batch, below=read(description).classes),
    }


def answer(layout: Layout, inputs: dict[str, Any]) -> tuple[dict[str, Any], float | None]:
    """Return loss and gradients, and the distance from the nearest kink, if there is one."""
    outputs, gap = network.gradients(layout, inputs, forward_of(inputs["description"]))
    if gap < SMALLEST_KINK:
        raise ValueError(f"{gap:.1e} from a kink")
    return outputs, gap if math.isfinite(gap) else None


def of_all(description: bytes, factors: tuple[int, ...]) -> list[int]:
    """Return factors for all tensors, the given ones over and over, none above its tensor."""
    sizes = described.tensors_of(description)
    return [min(n, factors[t % len(factors)]) for t, n in enumerate(sizes)]


# Name, description, layout, bits, seed of the inputs, batch, flags, note.
POSED: tuple[tuple[str, bytes, Layout, int, int, int, tuple[str, ...], str], ...] = (
    ("every-layer", EVERY_LAYER, layout_of(EVERY_LAYER, 41, 1, (OUTPUTS, NONE)), 11, 1101, 2,
     ("residual", "short-block"), "every kind of layer, and residuals of each kind"),
    ("every-layer-hashed", EVERY_LAYER,
     layout_of(EVERY_LAYER, 20, 2, (INPUTS, WEIGHT), of_all(EVERY_LAYER, (7, 1, 2, 2, 5, 3))),
     9, 1111, 2, ("residual", "short-block", "uneven"), "the factors do not divide"),
    ("residual-of-its-input", OF_ITS_INPUT, layout_of(OF_ITS_INPUT, 8, 3, (OUTPUTS, UNIT)), 5,
     1121, 1, ("residual",), "small enough to follow by hand; no gradient reaches the input"),
    ("residual-with-a-shortcut", OF_A_SHORTCUT,
     layout_of(OF_A_SHORTCUT, 12, 4, (OUTPUTS, UNIT), (1, 1, 2, 1, 1, 1, 3, 1)), 7, 1131, BATCH,
     ("residual",), "stride 2 on both sides"),
    ("residuals-of-features", OF_FEATURES, layout_of(OF_FEATURES, 9, 5, (INPUTS, NONE)), 6, 1141,
     BATCH, ("residual", "short-block"), "a body of no layers beside a shortcut of one"),
    ("nested-4-deep", NESTED, layout_of(NESTED, 10, 6, (OUTPUTS, NONE)), 8, 1151, 2,
     ("residual", "short-block"), "each one's gradient is that of the one around it"),
    ("tensors-on-both-sides", LEFT, layout_of(LEFT, 11, 7, (OUTPUTS, NONE)), 8, 1161, BATCH,
     ("residual", "short-block"), "the tensors of the body come first; so it begins"),
    ("300-classes", CLASSES_300, layout_of(CLASSES_300, 30, 8, (OUTPUTS, UNIT), (1, 1, 5, 3)), 12,
     1171, 4, ("residual", "short-block"), "labels above 255"),
    ("convolutions", described.CONVOLUTIONS,
     layout_of(described.CONVOLUTIONS, 15, 9, (OUTPUTS, WEIGHT), (2, 1, 3, 1, 2, 1)), 10, 1181,
     BATCH, ("short-block",), "sides, strides, padding and groups that differ"),
    ("depthwise-two-outputs-each", described.DEPTHWISE,
     layout_of(described.DEPTHWISE, 10, 10, (OUTPUTS, NONE)), 10, 1191, BATCH, (),
     "ends with a mean, without a dense layer"),
    ("norms-and-means", described.POOLED, layout_of(described.POOLED, 7, 11, (OUTPUTS, NONE)), 9,
     1201, BATCH, ("short-block",), "rows are left over"),
    ("residuals-with-two-sides", described.ON_BOTH_SIDES,
     layout_of(described.ON_BOTH_SIDES, 14, 12, (INPUTS, UNIT), (*(2,) * 13, 1)), 9, 1211, BATCH,
     ("residual", "short-block"), "maxima and a flatten within a shortcut"),
)  # fmt: skip


def gradient_cases() -> list[Case]:
    """Return what is finite."""
    cases = []
    for name, description, layout, bits, seed, batch, flags, note in POSED:
        inputs = inputs_of(description, layout, bits, seed, batch)
        if name == "300-classes":
            inputs["labels"] = np.array([299, 256, 43, 0])
        outputs, gap = answer(layout, inputs)
        cases.append(
            make_case(
                f"network/loss_and_grads_general/{name}",
                inputs,
                outputs,
                BOUNDS,
                dtypes=BOTH,
                gap=gap,
                flags=flags,
                note=note,
                since=SINCE,
            )
        )
    return cases


def nan_cases() -> list[Case]:
    """Return the loss where the scale of one tensor, and so all of it, is NaN."""
    layout = layout_of(LEFT, 11, 7, (OUTPUTS, NONE))
    inputs = inputs_of(LEFT, layout, 8, 1161, 1)
    return [
        make_case(
            f"network/loss_and_grads_general/nan-in-the-{side}",
            {**inputs, "rho": nonfinite.marked(inputs["rho"], nonfinite.NAN, number)},
            {"loss": np.array(nonfinite.NAN)},
            {"loss": {"exact": 0}},
            dtypes=BOTH,
            flags=("not-finite",),
            note="no ReLU and no sum may lose it on the way to the loss",
            since=SINCE,
        )
        for side, number in (("body", 0), ("shortcut", 2))
    ]


def kept_cases() -> list[Case]:
    """Return the family of a small network."""
    layout = layout_of(LEFT, 5, 21, (OUTPUTS, WEIGHT), (2, 1, 2, 1, 6, 1))
    # As many variables, but not of the same tensors.
    factors = np.array((1, 2, 2, 1, 7, 1))
    base = inputs_of(LEFT, layout, 6, 1251, 1)

    def answer_of(**inputs: Any) -> Any:
        names = ("block_size", "seed", "grouping", "signs")
        numbers = {name: int(inputs[name]) for name in names}
        given = layout_of(
            inputs["description"],
            numbers["block_size"],
            numbers["seed"],
            (numbers["grouping"], numbers["signs"]),
            inputs["factors"].tolist(),
        )
        return answer(given, inputs)

    def last(values: Any, by: float = 0.25) -> Any:
        out = values.copy()
        out[-1, 0] += by
        return out

    images = base["images"].copy()
    images[0, 1, 2] = 255 - images[0, 1, 2]
    changes = {
        "description": RIGHT,
        "seed": np.array(22),
        "factors": factors,
        "grouping": np.array(1),
        "signs": np.array(1),
        "bits": np.array(7),
        **{name: last(base[name]) for name in ("tau", "phi", "eps")},
        "rho": np.array([*base["rho"][:-1], 0.5]),
        "images": images,
        "labels": (base["labels"] + 1) % 3,
    }
    operation = "network/loss_and_grads_general"
    return family(operation, answer_of, base, changes, BOUNDS, BOTH, SINCE)


def refused_cases() -> list[Case]:
    """Return arguments of which one does not fit the network."""
    small = layout_of(OF_ITS_INPUT, 8, 3, (OUTPUTS, UNIT))
    right = inputs_of(OF_ITS_INPUT, small, 5, 1121, 1)
    swapped = describe((2, 2, 2), 2, residual((conv(1, 1, 1, 0, 1, 3), RELU), ()), FLATTEN,
                       dense(2))  # fmt: skip
    wrong = (
        ("byte-behind-the-description", "description", OF_ITS_INPUT + b"\x00", "a byte too many"),
        ("description-cut-off", "description", OF_ITS_INPUT[:-1], "the description is cut off"),
        ("residual-of-two-shapes", "description", swapped, "body and shortcut do not fit"),
        ("images-of-another-size", "images", np.zeros((1, 2, 2, 3), np.uint8), "images of 2x3"),
        ("images-of-one-channel", "images", np.zeros((1, 1, 2, 2), np.uint8), "one channel"),
        ("label-of-no-class", "labels", np.array([2]), "the classes are 0 and 1"),
        ("negative-label", "labels", np.array([-1]), "the classes are 0 and 1"),
        ("factors-of-fewer-tensors", "factors", np.array([1, 1, 1]), "there are four tensors"),
    )
    return [
        make_case(
            f"network/loss_and_grads_general/{name}",
            {**right, changed: value},
            dtypes=BOTH,
            fault=fault,
            since=SINCE,
        )
        for name, changed, value, fault in wrong
    ]


# --- predictions


def file_of(
    description: bytes, how: tuple[int, int], bits: int, size: int, seed: int, code: str = "mrc"
):
    """Return a file whose scales keep activations near 1."""
    fields = described.fields_of(description, how[0] + 16 * how[1], bits, size, seed)
    halves = scales_of(description).astype(np.float16).view(np.uint16)
    fields = replace(fields, rho=tuple(halves.tolist()))
    return described.of_indices(fields) if code == "mrc" else described.of_integers(fields, code)


def logits(data: bytes, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the logits (classes, images) of a file of network 0."""
    found, end = spec_decoder.read_network(0, data)
    weights = [
        torch.tensor(values, dtype=torch.float64).reshape(shape)
        for values, (_, shape) in zip(
            spec_decoder.decode(data).values(), found.tensors, strict=True
        )
    ]
    with torch.no_grad():
        z = forward_of(data[8:end])(weights, images, Kinks())
        return np.ascontiguousarray(z.numpy().T)


def prediction(name: str, data: bytes, images: NDArray[np.uint8], note: str) -> Case:
    """Return the case of the images whose classes are clear."""
    z = logits(data, images)
    ordered = np.sort(z, axis=0)
    clear = ordered[-1] - ordered[-2] >= SMALLEST_GAP
    return make_case(
        f"predictions/predict/{name}",
        {"data": data, "images": images[clear]},
        {"logits": z[:, clear], "classes": z[:, clear].argmax(axis=0)},
        {"logits": network.LOGITS, "classes": {"exact": 0}},
        dtypes=BOTH,
        gap=float((ordered[-1] - ordered[-2])[clear].min()),
        note=note,
        since=SINCE,
    )


# Name, description, file, images, note.
FILES = (
    ("every-layer", EVERY_LAYER, ((OUTPUTS, NONE), 9, 20, 31), 7, "every kind of layer"),
    ("every-layer-gprs-d", EVERY_LAYER, ((INPUTS, UNIT), 5, 30, 32, "gprs-d"), 3, ""),
    ("residual-with-a-shortcut", OF_A_SHORTCUT, ((OUTPUTS, NONE), 12, 9, 33), 9,
     "images (9, 1, 4, 3): the axis of one channel is there"),
    ("residuals-of-features", OF_FEATURES, ((OUTPUTS, NONE), 10, 8, 34), 8, ""),
    ("nested-4-deep", NESTED, ((OUTPUTS, NONE), 11, 7, 35), 8, "the maximum stands behind no ReLU"),
    ("body-before-shortcut", LEFT, ((OUTPUTS, NONE), 11, 7, 36), 8, ""),
    ("shortcut-before-body", RIGHT, ((OUTPUTS, NONE), 11, 7, 36), 8, "the same weights, exchanged"),
    ("300-classes", CLASSES_300, ((OUTPUTS, NONE), 12, 30, 37), 5, ""),
    ("residuals-with-two-sides", described.ON_BOTH_SIDES, ((OUTPUTS, NONE), 9, 12, 38), 8, ""),
)  # fmt: skip


@later("predict")
def predict() -> list[Case]:
    """Pose files of described networks."""
    cases = [
        prediction(
            f"described-{name}",
            file_of(description, *how),
            pictures(Draw(1300 + number), description, count),
            note,
        )
        for number, (name, description, how, count, note) in enumerate(FILES)
    ]
    data = file_of(*FILES[0][1:2], *FILES[0][2])
    wrong = (
        ("of-another-size", (2, 3, 8, 9), "images of 8x9; the network's are 9x8"),
        ("of-another-number-of-channels", (2, 1, 9, 8), "one channel of three"),
        ("without-channels", (2, 9, 8), "the axis of three channels is missing"),
    )
    return cases + [
        make_case(
            f"predictions/predict/described-images-{name}",
            {"data": data, "images": np.zeros(shape, np.uint8)},
            dtypes=BOTH,
            fault=fault,
            since=SINCE,
        )
        for name, shape, fault in wrong
    ]


def write(golden: Path) -> None:
    """Write the golden file of loss and gradients."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    cases = [*gradient_cases(), *nan_cases(), *kept_cases(), *refused_cases()]
    for case in cases:
        case["inputs"] = {
            k: compact(v) if not isinstance(v, bytes) and v.dtype.kind == "f" else v
            for k, v in case["inputs"].items()
        }
    write_file(
        golden,
        "network",
        "loss_and_grads_general",
        source=network.SOURCE.replace("layout", "networks and layout"),
        notes=NOTES,
        cases=cases,
    )
