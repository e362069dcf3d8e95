"""NaN, infinities, subnormal numbers and wrong arguments of the layers of `general_layers`.

Whether the zeros around a map meet a weight or a gradient that is not finite is free, and so is
what a stride passes over: those are posed where no such product is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from golden import nonfinite
from golden.layers import EXACT, LONG_SUMS
from golden.nonfinite import INF, NAN, marked
from golden.torch_inputs import Draw
from golden.writer import BOTH, make_case

Array = Any
Case = dict[str, Any]
Make = Callable[..., Case]

SINCE = "1.4"
NOTES = nonfinite.NOTES
NOT_FINITE, DENORMAL, ZEROS = ("not-finite",), ("denormal",), ("signed-zero",)
# So many of the smallest number, beside results of hundreds of it.
ROUNDED = 16
WORDS = {"x": "the-input", "w": "the-weights", "b": "the-bias", "dy": "the-gradient"}


def spoiled(array: Array, *places: tuple[int, ...]) -> dict[str, Array]:
    """Return copies with NaN at the first place, and with infinities of both signs."""
    infinite = marked(marked(array, -INF, places[1]), INF, places[0])
    return {"nan": marked(array, NAN, places[0]), "infinities": infinite}


# --- convolutions


def convolutions(operation: str, make: Make) -> list[Case]:
    """Return cases in small whole numbers, which nothing rounds."""
    draw, backward = Draw(941), operation.endswith("backward")
    x, b = draw.small(4, 5, 5, 2), draw.small(4)
    how = {"stride": np.array(2), "padding": np.array(1), "groups": np.array(2)}
    w, dy = draw.small(3, 3, 2, 4), draw.small(4, 3, 3, 2)
    inputs = {"x": x, "w": w, **({"dy": dy} if backward else {"b": b}), **how}
    bare = {**how, "padding": np.array(0)}
    if backward:  # no zeros around the map, none between the gradients
        bare["stride"] = np.array(1)
        of_weights = {"x": x, "w": draw.small(1, 1, 2, 4), "dy": draw.small(4, 5, 5, 2), **bare}
    else:
        of_weights = {"x": x, "w": w, "b": b, **bare}
    places = {
        "x": ((1, 2, 1, 0), (3, 3, 4, 1)),
        "w": ((0, 0, 1, 2), (0, 0, 0, 0)),
        "b": ((1,), (3,)),
        "dy": ((0, 1, 1, 1), (3, 1, 1, 0)),
    }
    cases = []
    for name in list(inputs)[:3]:
        posed = of_weights if name == "w" else inputs
        for kind, wrong in spoiled(posed[name], *places[name]).items():
            full = {**posed, name: wrong}
            cases.append(
                make(operation, f"{kind}-in-{WORDS[name]}", full, EXACT, flags=NOT_FINITE,
                     note="what reads it, or is added to it, in its own group")
            )  # fmt: skip
    scaled = ("dy",) if backward else ("x", "b")
    for name, least, dtypes in nonfinite.DENORMALS:
        full = {n: v * least if n in scaled else v for n, v in inputs.items()}
        note = "whole multiples of the smallest number: nothing is rounded"
        cases.append(make(operation, name, full, EXACT, flags=DENORMAL, dtypes=dtypes, note=note))
    one = {n: v[..., :1] if n in ("x", "dy") else v for n, v in inputs.items()}
    return cases + refused_convolutions(operation, one)


def refused_convolutions(operation: str, good: dict[str, Any]) -> list[Case]:
    """Return arguments that do not go together."""
    w, backward = good["w"], operation.endswith("backward")
    faults = [
        ("stride-0", {"stride": 0}, "a stride is at least 1"),
        ("stride-negative", {"stride": -2}, "a stride is at least 1"),
        ("padding-negative", {"padding": -1}, "a map has no negative number of zeros around it"),
        ("groups-0", {"groups": 0}, "there is at least one group"),
        ("groups-that-do-not-divide", {"groups": 3}, "3 groups of 4 channels"),
        ("groups-of-another-kernel", {"groups": 4}, "the kernel reads 2 channels, a group has 1"),
        ("groups-of-the-outputs", {"w": w[..., :3], **({"dy": good["dy"][:3]} if backward
                                                       else {"b": good["b"][:3]})},
         "2 groups of 3 outputs"),
        ("kernel-beyond-the-map", {"w": np.ones((8, 1, 2, 4))}, "8 rows over 7, zeros included"),
        ("kernel-beyond-its-width", {"w": np.ones((1, 8, 2, 4))}, "8 columns over 7"),
    ]  # fmt: skip
    if backward:
        faults.append(("gradient-of-another-size", {"dy": np.ones((4, 3, 2, 1))}, "y is 3 by 3"))
        faults.append(("gradient-of-no-stride", {"stride": 1}, "y would be 5 by 5"))
    return refusals(operation, good, faults)


def refusals(operation: str, good: dict[str, Any], faults: list[Any]) -> list[Case]:
    """Return negative cases: each changes good arguments."""
    return [
        make_case(f"layers/{operation}/{name}", {**good, **change}, dtypes=BOTH, fault=fault,
                  since=SINCE)
        for name, change, fault in faults
    ]  # fmt: skip


# --- means


def pools(operation: str, make: Make) -> list[Case]:
    """Return means of windows of 2x2."""
    draw, backward = Draw(942), operation.endswith("backward")
    window = {"height": np.array(2), "width": np.array(2)}
    shape = np.array((2, 5, 4, 2))
    given = draw.small(2, 2, 2, 2) if backward else draw.small(2, 5, 4, 2)
    name = "dy" if backward else "x"

    def inputs(values: Array) -> dict[str, Any]:
        return {name: values, **window, **({"shape": shape} if backward else {})}

    posed = {
        "nan": (marked(given, NAN, (1, 1, 0, 1)), NOT_FINITE, "its window alone"),
        "infinities": (
            marked(marked(given, INF, (0, 0, 0, 0), (1, 1, 1, 0)), -INF, (0, 0, 1, 0)),
            NOT_FINITE,
            "inf - inf in one window is NaN",
        ),
        "signed-zeros": (marked(0.0 * given, -0.0, (0, 0, 0, 0), (1, 1, 1, 1)), ZEROS, ""),
    }
    if not backward:
        left = marked(given, NAN, (0, 4, 1, 0))
        posed["nan-left-over"] = (left, NOT_FINITE, "in the row that no window holds")
    cases = [
        make(operation, n, inputs(values), EXACT, flags=flags, note=note)
        for n, (values, flags, note) in posed.items()
    ]
    for n, least, dtypes in nonfinite.DENORMALS:
        values = 4.0 * given * least
        cases.append(make(operation, n, inputs(values), EXACT, flags=DENORMAL, dtypes=dtypes))
    faults = [
        ("height-0", {"height": 0}, "a window has at least one row"),
        ("width-negative", {"width": -2}, "a window has at least one column"),
        ("window-higher-than-the-map", {"height": 6}, "6 rows of 5"),
        ("window-wider-than-the-map", {"width": 5}, "5 columns of 4"),
    ]
    if backward:
        faults += [
            ("shape-of-another-map", {"shape": np.array((2, 6, 4, 2))}, "3 rows of windows, not 2"),
            ("shape-of-other-channels", {"shape": np.array((3, 5, 4, 2))}, "3 channels, not 2"),
            ("shape-of-another-batch", {"shape": np.array((2, 5, 4, 1))}, "1 image, not 2"),
        ]
    return cases + refusals(operation, inputs(given), faults)


# --- normalisation


def norms(operation: str, make: Make) -> list[Case]:
    """Return maps of four channels in two groups."""
    draw, backward = Draw(943), operation.endswith("backward")
    x, dy = draw.normal(4, 3, 2, 2), draw.normal(4, 3, 2, 2)
    gain, bias, groups = draw.normal(4, scale=0.5), draw.normal(4), np.array(2)

    def inputs(**change: Array) -> dict[str, Any]:
        own = {"x": x, "gain": gain, "groups": groups, "dy": dy} if backward else {
            "x": x, "gain": gain, "bias": bias, "groups": groups}  # fmt: skip
        return {**own, **change}

    posed = {
        "nan-in-the-input": ({"x": marked(x, NAN, (1, 2, 1, 1))}, "its group of its image"),
        "infinity-in-the-input": ({"x": marked(x, INF, (3, 0, 1, 0))}, "inf - inf is NaN"),
        "nan-in-the-gain": ({"gain": marked(gain, NAN, (2,))}, ""),
    }
    if backward:
        posed["nan-in-the-gain"] = (*posed["nan-in-the-gain"][:1], "dx of its group; dgain is not")
        posed["nan-in-the-gradient"] = ({"dy": marked(dy, NAN, (1, 2, 1, 1))}, "dx of its group")
    else:
        posed["nan-in-the-bias"] = ({"bias": marked(bias, NAN, (2,))}, "its channel")
    cases = [
        make(operation, name, inputs(**change), LONG_SUMS, flags=NOT_FINITE, note=note)
        for name, (change, note) in posed.items()
    ]
    cases += [tiny_norm(operation, make, inputs, *kind) for kind in nonfinite.DENORMALS]
    faults = [
        ("groups-0", {"groups": 0}, "there is at least one group"),
        ("groups-negative", {"groups": -2}, "there is at least one group"),
        ("groups-that-do-not-divide", {"groups": 3}, "3 groups of 4 channels"),
        ("groups-beyond-the-channels", {"groups": 8}, "8 groups of 4 channels"),
        ("gain-of-other-channels", {"gain": gain[:2]}, "2 gains of 4 channels"),
    ]
    if backward:
        faults.append(("gradient-of-another-size", {"dy": dy[:, :2]}, "y is 3 by 2"))
    return cases + refusals(operation, inputs(), faults)


def tiny_norm(
    operation: str, make: Make, inputs: Callable[..., Any], name: str, least: float, dtypes: Any
) -> Case:
    """Return a case of multiples of the smallest number.

    Forward the mean of a group is 0 and its variance vanishes: the input is divided by the root of
    1e-5.  Backward the input is an ordinary one, and what is linear in dy is computed before it is
    made small: PyTorch would round on its way.
    """
    draw, precision = Draw(944), dtypes[0]
    more = {
        "flags": DENORMAL,
        "dtypes": dtypes,
        "note": "hundreds of the smallest number, each rounded to a whole one",
    }
    bound = {precision: {"absolute": ROUNDED * least}}
    if not operation.endswith("backward"):
        half = draw.small(4, 3, 1, 2)
        x = np.concatenate([half, -half], axis=2) * least
        posed = inputs(x=x, gain=np.zeros(4), bias=draw.small(4) * least)
        return make(operation, name, posed, bound, **more)
    signs = np.where(np.indices((4, 3, 2, 2)).sum(axis=0) % 2, 1.0, -1.0)
    posed = inputs(x=signs, gain=np.zeros(4), dy=1024.0 * draw.small(4, 3, 2, 2))
    case = make(operation, name, posed, bound, **more)
    case["inputs"]["dy"] = case["inputs"]["dy"] * least
    case["outputs"] = {n: value * least for n, value in case["outputs"].items()}
    return case


def cases(operation: str, make: Make) -> list[Case]:
    """Return the cases of an operation; `make` is `general_layers.case`."""
    if operation.startswith("conv2d"):
        return convolutions(operation, make)
    return pools(operation, make) if operation.startswith("mean") else norms(operation, make)
