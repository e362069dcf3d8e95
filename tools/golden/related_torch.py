"""The families of related.py whose answers come from PyTorch: layers, networks, predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from golden import containers, layers, network
from golden.containers import Fields
from golden.edges import EXACT, SINCE
from golden.related import CLOSE, family
from golden.related_codes import first_that_differs
from golden.sources import spec_decoder
from golden.torch_inputs import Draw
from golden.torch_layout import Layout
from golden.writer import BOTH, later, make_case

Case = dict[str, Any]

# --- layers: whole numbers, so that every sum is exact


def whole(seed: int, **shapes: tuple[int, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return arrays of small integers, and others whose last element alone differs."""
    draw = Draw(seed)
    base = {name: draw.small(*shape) for name, shape in shapes.items()}
    changes = {}
    for name, values in base.items():
        changes[name] = values.copy()
        changes[name].flat[-1] += 3.0
    return base, changes


def layer_family(operation: str, outputs: str, seed: int, **shapes: tuple[int, ...]) -> list[Case]:
    """Return the family of a layer."""

    def answer(**inputs: Any) -> Any:
        results = getattr(layers, operation)(*inputs.values())
        results = results if isinstance(results, tuple) else (results,)
        return dict(zip(outputs.split(), results, strict=True)), None

    base, changes = whole(seed, **shapes)
    if operation.endswith("pool2d_backward") or operation == "relu_backward":
        # Other winners; and the last gradient may be lost.
        changes = {name: -values for name, values in base.items()}
    return family(f"layers/{operation}", answer, base, changes, EXACT, BOTH)


LAYERS = {
    "conv2d": ("y", {"x": (2, 4, 4, 2), "w": (3, 3, 2, 2), "b": (2,)}),
    "conv2d_backward": ("dx dw db", {"x": (2, 4, 4, 2), "w": (3, 3, 2, 2), "dy": (2, 2, 2, 2)}),
    "maxpool2d_backward": ("dx", {"x": (2, 4, 4, 2), "dy": (2, 2, 2, 2)}),
    "relu_backward": ("dx", {"x": (3, 4), "dy": (3, 4)}),
    "dense": ("y", {"x": (3, 2), "w": (3, 4), "b": (4,)}),
    "dense_backward": ("dx dw db", {"x": (3, 2), "w": (3, 4), "dy": (4, 2)}),
}
for number, (name, (results, shapes)) in enumerate(LAYERS.items()):
    later(name)(
        lambda name=name, results=results, shapes=shapes, seed=671 + number: layer_family(
            name, results, seed, **shapes
        )
    )


@later("softmax_cross_entropy")
def softmax_cross_entropy() -> list[Case]:
    """Losses."""

    def answer(logits: Any, labels: Any) -> Any:
        results = layers.softmax_cross_entropy(logits, labels)
        return dict(zip(("losses", "dlogits"), results, strict=True)), None

    base, changes = whole(681, logits=(4, 3))
    base["labels"], changes["labels"] = np.array([0, 3, 1]), np.array([0, 3, 2])
    return family("layers/softmax_cross_entropy", answer, base, changes, CLOSE, BOTH)


# --- network, optimiser, trajectory

LAYOUT = Layout(13, 9, network.FEW_FACTORS, 0, 1)
# As many variables, but not of the same tensors.
OTHER_FACTORS = (20, 5, 1250, 10, 10000, 100, 500, 5)
assert sum(spec_decoder.variables_of(OTHER_FACTORS)) == LAYOUT.variables()


def layout_of(inputs: dict[str, Any]) -> Layout:
    """Return the layout that arguments describe."""
    names = ("block_size", "seed", "grouping", "signs")
    numbers = {name: int(inputs[name]) for name in names}
    return Layout(**numbers, factors=tuple(np.asarray(inputs["factors"]).tolist()))


def changed_last(values: Any, by: float = 0.25) -> Any:
    """Return a copy in which the first of the last row is another."""
    out = values.copy()
    out[-1, ..., 0] += by
    return out


def changes_of_layout() -> dict[str, Any]:
    """Return other values of what a layout says; another block size wants other arrays."""
    other = np.array(OTHER_FACTORS)
    return {"seed": np.array(10), "factors": other, "grouping": np.array(1), "signs": np.array(2),
            "bits": np.array(7)}  # fmt: skip


@later("loss_and_grads")
def loss_and_grads() -> list[Case]:
    """Gradients of a hundred variables."""

    def answer(**inputs: Any) -> Any:
        outputs, gap = network.gradients(layout_of(inputs), inputs)
        if gap < network.SMALLEST_KINK:
            raise ValueError("too near a kink")
        return outputs, gap

    def make(seed: int) -> list[Case]:
        base = network.network_inputs(LAYOUT, 6, 2000 + seed, 1)
        images = base["images"].copy()
        images[0, 14] = 255 - images[0, 14]
        changes = {
            **changes_of_layout(),
            **{name: changed_last(base[name]) for name in ("tau", "phi", "eps")},
            "rho": np.array([*base["rho"][:-1], 0.25]),
            "images": images,
            "labels": (base["labels"] + 1) % 10,
        }
        gradient = network.CANCELLING
        bounds = {"loss": network.LOSS, "dtau": gradient, "dphi": gradient, "dlog_rho": gradient}
        return family("network/loss_and_grads", answer, base, changes, bounds, BOTH)

    return first_that_differs(make)


@later("train_steps")
def train_steps() -> list[Case]:
    """Two steps of Adam."""

    def answer(**inputs: Any) -> Any:
        outputs, gap = network.train(layout_of(inputs), inputs)
        if gap < network.SMALLEST_KINK:
            raise ValueError("too near a kink")
        return outputs, gap

    def make(seed: int) -> list[Case]:
        drawn = network.network_inputs(LAYOUT, 6, 3000 + seed, 1, steps=2)
        log_rho = np.log(drawn.pop("rho")).astype(np.float32).astype(np.float64)
        rest = {name: drawn.pop(name) for name in ("tau", "phi", "eps", "images", "labels")}
        images = rest["images"].copy()
        images[1, 0, 14] = 255 - images[1, 0, 14]
        base = {
            **drawn,
            "tau": rest["tau"],
            "phi": rest["phi"],
            "log_rho": log_rho,
            "eps": rest["eps"],
            "images": rest["images"],
            "labels": rest["labels"],
            "rates": np.array([0.0625, 0.03125]),
            "scale_rate": np.array(0.25),
        }
        eps = base["eps"].copy()
        eps[1, -1, 0] += 0.25
        changes = {
            **changes_of_layout(),
            "tau": changed_last(base["tau"]),
            "phi": changed_last(base["phi"]),
            "log_rho": np.array([*log_rho[:-1], -1.25]),
            "eps": eps,
            "images": images,
            "labels": np.array([base["labels"][0], (base["labels"][1] + 1) % 10]),
            "rates": np.array([0.0625, 0.0625]),
            "scale_rate": np.array(0.5),
        }
        bounds = {
            "losses": network.TRAJECTORY_LOSS,
            "new_tau": network.TRAJECTORY,
            "new_phi": network.TRAJECTORY,
            "new_log_rho": network.TRAJECTORY_SCALES,
        }
        return family("trajectory/train_steps", answer, base, changes, bounds, BOTH)

    return first_that_differs(make)


STEPS = (257, 65537, 2**24 + 1, 2**31, 2**32 + 1)


@later("adam_step")
def adam_step() -> list[Case]:
    """Single steps; then large numbers of steps, which no width may cut down."""

    def answer(**inputs: Any) -> Any:
        return dict(zip(bounds, network.adam(**inputs), strict=True)), None

    bounds = {"new_theta": network.STEP, "new_m": network.MOMENT, "new_v": network.MOMENT}
    base = {
        "theta": np.array([-1.5, 2.0]),
        "g": np.array([0.5, -0.25]),
        "m": np.array([0.25, -0.5]),
        "v": np.array([0.5, 0.75]),
        "step": np.array(3),
        "rate": np.array(0.125),
    }
    changes = {
        "theta": np.array([-1.5, 2.5]),
        "g": np.array([0.5, -0.5]),
        "m": np.array([0.25, -0.75]),
        "v": np.array([0.5, 0.875]),
        "step": np.array(4),
        "rate": np.array(0.25),
    }
    cases = family("optimiser/adam_step", answer, base, changes, bounds, BOTH)
    for step in STEPS:
        (case,) = family("optimiser/adam_step", answer, {**base, "step": np.array(step)}, {},
                         bounds, BOTH)  # fmt: skip
        cases.append({**case, "id": f"optimiser/adam_step/step-{step}"})
    return cases


# --- predictions


@later("predict")
def predict() -> list[Case]:
    """Pose a file whose weights share variables, and another seed of it."""
    images = network.mnist_test()[0]

    def answer(data: bytes, images: Any) -> Any:
        z = network.predict(data, images)
        ordered = np.sort(z, axis=0)
        gap = float((ordered[-1] - ordered[-2]).min())
        if gap < network.SMALLEST_UNTRAINED_GAP:
            raise ValueError("the classes are not clear")
        return {"logits": z, "classes": z.argmax(axis=0)}, gap

    def make(seed: int) -> list[Case]:
        scales = (0x2C00, 0x2800, 0x2C00, 0x2800, 0x3000, 0x2000)
        fields = Fields(1, 2, 30, seed, (100, 1, 100, 1, 1, 1), 14, scales, network=2)
        data = containers.assemble(fields)
        # Two indices that change places: the same length, header and number of each byte.
        given = list(fields.indices)
        given[0], given[1] = given[1], given[0]
        other = containers.assemble(Fields(**{**vars(fields), "given": tuple(given)}))
        base = {"data": data, "images": images[400:402]}
        changes = {"data": other, "images": images[[400, 403]]}
        bounds = {"logits": network.LOGITS, "classes": EXACT}
        return family("predictions/predict", answer, base, changes, bounds, BOTH)

    return first_that_differs(make)


# --- scales


def between_two_scales() -> float:
    """Return a float32 l whose exp(l) is just above the middle of two float16 numbers.

    Rounded to float32 first it is that middle, and then the lower of the two; there is as much
    room on both sides as a thousand errors of any exp in float64.
    """
    for pattern in range(0x2C00, 0x3000, 2):
        low, high = np.array([pattern, pattern + 1], dtype=np.uint16).view(np.float16)
        middle = (float(low) + float(high)) / 2.0
        near = np.float32(np.log(middle))
        for candidate in (near, np.nextafter(near, np.float32(0))):
            above = np.exp(float(candidate)) / middle - 1.0
            if 1e-9 < above < 2e-8 and np.float32(np.exp(float(candidate))) == middle:
                return float(candidate)
    raise ValueError("there is no such number")


@later("train_steps")
def double_rounding() -> list[Case]:
    """Pose a step with a scale that is another where exp(log rho) is rounded twice."""
    inputs = network.network_inputs(LAYOUT, 6, 4001, 1, steps=1)
    log_rho = np.log(inputs.pop("rho")).astype(np.float32).astype(np.float64)
    log_rho[4] = between_two_scales()
    half = np.exp(log_rho).astype(np.float16).astype(np.float64)
    first = {k: v[0] for k, v in inputs.items() if k in ("eps", "images", "labels")}
    found, gap = network.gradients(LAYOUT, {**inputs, **first, "rho": half})
    if gap < network.SMALLEST_KINK:
        raise ValueError("too near a kink")
    rate, scale_rate = np.array(0.0625), 0.25
    new = {}
    for name, own, value in (
        ("tau", 1.0, inputs["tau"]),
        ("phi", 1.0, inputs["phi"]),
        ("log_rho", scale_rate, log_rho),
    ):
        zeros, gradient = np.zeros_like(value), found[f"d{name}"]
        new[f"new_{name}"] = network.adam(value, gradient, zeros, zeros, np.array(1), own * rate)[0]
    order = ("block_size", "seed", "factors", "grouping", "signs", "bits", "tau", "phi")
    bounds = {
        "losses": network.TRAJECTORY_LOSS,
        "new_tau": network.TRAJECTORY,
        "new_phi": network.TRAJECTORY,
        "new_log_rho": network.TRAJECTORY_SCALES,
    }
    return [
        make_case(
            "trajectory/train_steps/scale-rounded-once",
            {
                **{name: inputs[name] for name in order},
                "log_rho": log_rho,
                **{name: inputs[name] for name in ("eps", "images", "labels")},
                "rates": np.array([0.0625]),
                "scale_rate": np.array(scale_rate),
            },
            {"losses": np.array([float(found["loss"])]), **new},
            bounds,
            dtypes=BOTH,
            gap=gap,
            note="exp(log rho) of dense1.weight is just above the middle of two float16 numbers:"
            " float32 between them rounds it down",
            since=SINCE,
        )
    ]
