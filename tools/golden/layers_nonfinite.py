"""Layers on NaN, infinities, zeros of either sign and subnormal numbers.

The answers are those of float64 PyTorch like all of the stage, but of small whole numbers, which
nothing rounds.  `tests/conformance/test_golden_nonfinite.py` has them again by plain loops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from golden import layers
from golden.nonfinite import INF, NAN, TINY, marked
from golden.torch_inputs import Draw
from golden.writer import BOTH

Array = Any
Case = dict[str, Any]
Inputs = dict[str, Array]

DOUBLE, SINGLE = BOTH[:1], BOTH[1:]
TINIEST = 5e-324  # of float64
NOT_FINITE, ZEROS, DENORMAL = ("not-finite",), ("signed-zero",), ("denormal",)
# Names, places and values of what is spoiled: of an image, a kernel, a bias, a gradient.
CONV = {"x": (1, 2, 1, 0), "w": (0, 1, 1, 2), "b": (1,), "dy": (0, 1, 2, 1)}
DENSE = {"x": (2, 1), "w": (1, 2), "b": (1,), "dy": (0, 1)}
WORDS = {"x": "the-input", "w": "the-weights", "b": "the-bias", "dy": "the-gradient"}


def products(operation: str, inputs: Inputs, places: dict[str, Any], outputs: str) -> list[Case]:
    """Return each argument with NaN, and with infinities of both signs, at one place or two.

    Zeros are among the others, and 0 times NaN or infinity is NaN.
    """
    compute, cases = getattr(layers, operation), []
    notes = {
        "nan": "what is multiplied with it or added to it, also where it is multiplied with 0",
        "infinities": "inf - inf and 0 inf are NaN",
    }
    for name, array in inputs.items():
        first, second = places[name], (0,) * array.ndim
        spoiled = {
            "nan": marked(array, NAN, first),
            "infinities": marked(marked(array, -INF, second), INF, first),
        }
        for kind, wrong in spoiled.items():
            cases.append(
                layers.case(
                    operation,
                    f"{kind}-in-{WORDS[name]}",
                    compute,
                    {**inputs, name: wrong},
                    outputs,
                    layers.EXACT,
                    flags=NOT_FINITE,
                    note=notes[kind],
                    since="1.3",
                )
            )
    return cases + tiny_products(operation, inputs, outputs)


def tiny_products(operation: str, inputs: Inputs, outputs: str) -> list[Case]:
    """Return arguments whose sums of products are subnormal, in one precision or the other."""
    scaled = {"x": 1.0, "w": 1.0, "b": TINY, "dy": TINY}
    if "b" in inputs:
        scaled["x"] = TINY
    cases = []
    for name, factor, dtypes in (("denormal", 1.0, SINGLE), ("denormal-of-double", 0.0, DOUBLE)):
        posed = {
            n: a * (scaled[n] if factor or scaled[n] == 1.0 else TINIEST) for n, a in inputs.items()
        }
        cases.append(
            layers.case(
                operation,
                name,
                getattr(layers, operation),
                posed,
                outputs,
                layers.EXACT,
                flags=DENORMAL,
                note="whole multiples of the smallest number: nothing is rounded",
                dtypes=dtypes,
                since="1.3",
            )
        )
    return cases


def conv2d_cases() -> list[Case]:
    """Forward."""
    draw = Draw(71)
    inputs = {"x": draw.small(2, 4, 4, 2), "w": draw.small(2, 2, 2, 3), "b": draw.small(3)}
    return products("conv2d", inputs, CONV, "y")


def conv2d_backward_cases() -> list[Case]:
    """Backward."""
    draw = Draw(72)
    image, dy, whole = draw.small(2, 4, 4, 2), draw.small(3, 3, 3, 2), draw.small(3, 4, 4, 2)
    inputs = {"x": image, "w": draw.small(2, 2, 2, 3), "dy": dy}
    cases = products("conv2d_backward", inputs, CONV, "dx dw db")
    # Of one pixel: whoever pads dy with zeros has them times NaN, which is no fault.
    pixel = {"x": image, "w": draw.small(1, 1, 2, 3), "dy": whole}
    own = products("conv2d_backward", pixel, {**CONV, "w": (0, 0, 1, 2)}, "dx dw db")
    weights = WORDS["w"]
    return [new if weights in old["id"] else old for old, new in zip(cases, own, strict=True)]


def dense_cases() -> list[Case]:
    """Forward."""
    draw = Draw(73)
    inputs = {"x": draw.small(4, 3), "w": draw.small(4, 6), "b": draw.small(6)}
    return products("dense", inputs, DENSE, "y")


def dense_backward_cases() -> list[Case]:
    """Backward."""
    draw = Draw(74)
    inputs = {"x": draw.small(4, 3), "w": draw.small(4, 6), "dy": draw.small(6, 3)}
    return products("dense_backward", inputs, DENSE, "dx dw db")


def windows(rows: list[list[float]]) -> Array:
    """Return 2x2 windows, each one channel, from their elements row by row."""
    return np.array(rows, dtype=np.float64).reshape(len(rows), 2, 2, 1)


def pool_inputs() -> dict[str, tuple[Array, tuple[str, ...], tuple[str, ...], str]]:
    """Return windows, flags, precisions and note."""
    at_each = [[NAN if k == j else float(k - 1) for k in range(4)] for j in range(4)]
    small = [[0.0, 1.0, -1.0, 0.0], [-3.0, -2.0, -1.0, -4.0], [2.0, 3.0, 1.0, 3.0]]
    return {
        "nan-in-each-place": (
            windows([*at_each, [NAN, INF, INF, 1.0], [-INF, INF, -INF, NAN]]),
            NOT_FINITE,
            BOTH,
            "NaN is the maximum of its window, wherever it stands",
        ),
        "infinities": (
            windows(
                [
                    [1.0, INF, INF, 2.0],
                    [-INF, -INF, -INF, -INF],
                    [-INF, 3.0, -INF, 4.0],
                    [INF, -INF, 0.0, INF],
                ]
            ),
            NOT_FINITE,
            BOTH,
            "of equal infinities the first wins, also where all are -inf",
        ),
        "signed-zeros": (
            windows([[-0.0, 0.0, -0.0, 0.0], [0.0, -0.0, 0.0, -0.0], [-1.0, -0.0, 0.0, -2.0]]),
            ZEROS,
            BOTH,
            "-0 and 0 are equal: the first wins",
        ),
        "denormal": (windows(small) * TINY, DENORMAL, SINGLE, ""),
        "denormal-of-double": (windows(small) * TINIEST, DENORMAL, DOUBLE, ""),
    }


def maxpool2d_cases() -> list[Case]:
    """Forward; also of windows with more than one NaN."""
    posed = pool_inputs()
    several = windows([[NAN] * 4, [1.0, NAN, INF, NAN]])
    posed["nan-more-than-once"] = (several, NOT_FINITE, BOTH, "")
    return [
        layers.case(
            "maxpool2d",
            name,
            layers.maxpool2d,
            {"x": x},
            "y",
            layers.EXACT,
            flags=flags,
            note=note,
            dtypes=dtypes,
            since="1.3",
        )
        for name, (x, flags, dtypes, note) in posed.items()
    ]


def maxpool2d_backward_cases() -> list[Case]:
    """Backward: the gradient is handed on to the winner, whatever it is."""
    posed = {
        name: (x, np.arange(1.0, 1.0 + len(x)).reshape(-1, 1, 1, 1), *rest)
        for name, (x, *rest) in pool_inputs().items()
    }
    four = windows([[1.0, 2.0, 0.0, -1.0]] * 3)
    wrong = np.array([NAN, INF, -INF]).reshape(3, 1, 1, 1)
    note = "the winner's gradient is NaN or infinite, that of the others 0"
    posed["gradient-not-finite"] = (four, wrong, NOT_FINITE, BOTH, note)
    return [
        layers.case(
            "maxpool2d_backward",
            name,
            layers.maxpool2d_backward,
            {"x": x, "dy": dy * {"denormal": TINY, "denormal-of-double": TINIEST}.get(name, 1.0)},
            "dx",
            layers.EXACT,
            flags=flags,
            note=note,
            dtypes=dtypes,
            since="1.3",
        )
        for name, (x, dy, flags, dtypes, note) in posed.items()
    ]


def relu_inputs() -> dict[str, tuple[Array, Array, tuple[str, ...], tuple[str, ...], str]]:
    """Return inputs, gradients, flags, precisions and note."""
    small = np.array([[1.0, -1.0, 3.0, 0.0]])
    ones = np.ones((1, 4))
    return {
        "not-finite": (
            np.array([[NAN, INF, -INF, 1.0]]),
            np.array([[NAN, 2.0, 3.0, 4.0]]),
            NOT_FINITE,
            BOTH,
            "NaN stays, and so does its gradient, which is NaN as all behind it is; -inf gives 0",
        ),
        "minus-zero": (
            np.array([[-0.0, 0.0, 1.0, -1.0]]),
            ones,
            ZEROS,
            BOTH,
            "-0 is 0: the slope is 0 too",
        ),
        "denormal": (small * TINY, small * TINY, DENORMAL, SINGLE, "positive, if only just"),
        "denormal-of-double": (small * TINIEST, small * TINIEST, DENORMAL, DOUBLE, ""),
    }


def relu_cases() -> list[Case]:
    """Forward."""
    return [
        layers.case(
            "relu",
            name,
            layers.relu,
            {"x": x},
            "y",
            layers.EXACT,
            flags=flags,
            note=note,
            dtypes=dtypes,
            since="1.3",
        )
        for name, (x, _, flags, dtypes, note) in relu_inputs().items()
    ]


def relu_backward_cases() -> list[Case]:
    """Backward."""
    posed = relu_inputs()
    posed["gradient-not-finite"] = (
        np.array([[1.0, 2.0, 3.0, -1.0, 0.0, -2.0]]),
        np.array([[NAN, INF, -INF, NAN, INF, -INF]]),
        NOT_FINITE,
        BOTH,
        "handed on where the input is positive; elsewhere 0, which is a choice and no product",
    )
    return [
        layers.case(
            "relu_backward",
            name,
            layers.relu_backward,
            {"x": x, "dy": dy},
            "dx",
            layers.EXACT,
            flags=flags,
            note=note,
            dtypes=dtypes,
            since="1.3",
        )
        for name, (x, dy, flags, dtypes, note) in posed.items()
    ]


def softmax_cases() -> list[Case]:
    """Losses and gradients: a sample with NaN has neither, the others are as ever."""
    draw = Draw(75)
    z, labels = draw.normal(4, 5), np.array([2, 0, 3, 1, 1])
    posed = {
        "nan-in-a-logit": (
            marked(z, NAN, (0, 1), (3, 2)),
            "NaN at the label of one sample and elsewhere in another; that it is in no comparison"
            " does not hide it",
        ),
        "minus-infinity": (
            marked(z, -INF, (0, 0), (0, 1)),
            "a probability of 0: at a class that is not the label no harm; at the label a loss of"
            " inf, whose gradient is finite",
        ),
        "all-minus-infinity": (marked(z, -INF, (slice(None), 1)), "0 / 0"),
        "plus-infinity": (marked(z, INF, (0, 1)), "at the label: inf - inf"),
    }
    return [
        layers.case(
            "softmax_cross_entropy",
            name,
            layers.softmax_cross_entropy,
            {"logits": logits, "labels": labels},
            "losses dlogits",
            layers.SOFTMAX,
            flags=NOT_FINITE,
            note=note,
            since="1.3",
        )
        for name, (logits, note) in posed.items()
    ]


STAGE = {
    "conv2d": conv2d_cases,
    "conv2d_backward": conv2d_backward_cases,
    "maxpool2d": maxpool2d_cases,
    "maxpool2d_backward": maxpool2d_backward_cases,
    "relu": relu_cases,
    "relu_backward": relu_backward_cases,
    "dense": dense_cases,
    "dense_backward": dense_backward_cases,
    "softmax_cross_entropy": softmax_cases,
}
