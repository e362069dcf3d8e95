"""Stage layers, since 1.4: layers of any network, by float64 PyTorch and its autograd.

Convolutions with stride, padding and groups, means of windows, group normalisation.  What they do
with NaN, infinities and subnormal numbers, and what is refused, is in `general_layers_edges`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden import general_layers_edges, layers
from golden.layers import EXACT, LONG_SUMS, SUMS, plain, tensor
from golden.related import family
from golden.related_torch import whole
from golden.torch_inputs import Draw
from golden.writer import BOTH, write_file
from torch.nn import functional

Array = Any
Case = dict[str, Any]

SINCE = "1.4"
EPSILON = 1e-5
# float32 rounds a mean of 1000 to 3e-5 or worse, which what is left of the input is off by; a mean
# of 1e8 takes half of the digits of float64.  A difference of squares loses all in both.
NEXT_TO_1000 = {"float64": {"scaled": 1e-11}, "float32": {"scaled": 4e-3}}
NEXT_TO_1E8 = {"float64": {"scaled": 1e-6}}
NOTES = {
    "whole-numbers": layers.NOTES["whole-numbers"],
    "left-over": "rows or columns at the end that no kernel or window reaches: gradient 0",
    "cancellation": "the mean is far above the spread: a mean of squares less a squared mean fails",
    "no-variance": "all values of a group are alike: what is left is the bias",
    **general_layers_edges.NOTES,
}


def conv2d_general(
    x: Array, w: Array, b: Array, stride: Array, padding: Array, groups: Array
) -> Array:
    """Return the convolution in the axes of the suite."""
    leaves = tensor(x, *layers.IMAGE_IN), tensor(w, *layers.KERNEL_IN), tensor(b)
    y = functional.conv2d(*leaves, int(stride), int(padding), groups=int(groups))
    return plain(y, *layers.IMAGE_OUT)


def conv2d_general_backward(
    x: Array, w: Array, dy: Array, stride: Array, padding: Array, groups: Array
) -> tuple[Array, Array, Array]:
    """Return dx, dw, db."""
    zero = tensor(np.zeros(w.shape[3]))
    leaves = tensor(x, *layers.IMAGE_IN), tensor(w, *layers.KERNEL_IN), zero
    y = functional.conv2d(*leaves, int(stride), int(padding), groups=int(groups))
    y.backward(tensor(dy, *layers.IMAGE_IN).detach())
    dx, dw, db = (leaf.grad for leaf in leaves)
    return plain(dx, *layers.IMAGE_OUT), plain(dw, *layers.KERNEL_OUT), plain(db)


def mean_pool2d(x: Array, height: Array, width: Array) -> Array:
    """Return the means of windows."""
    y = functional.avg_pool2d(tensor(x, *layers.IMAGE_IN), (int(height), int(width)))
    return plain(y, *layers.IMAGE_OUT)


def mean_pool2d_backward(dy: Array, height: Array, width: Array, shape: Array) -> Array:
    """Return dx."""
    leaf = tensor(np.zeros(shape), *layers.IMAGE_IN)
    y = functional.avg_pool2d(leaf, (int(height), int(width)))
    y.backward(tensor(dy, *layers.IMAGE_IN).detach())
    return plain(leaf.grad, *layers.IMAGE_OUT)


def normalise(x: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor, groups: int) -> Any:
    """Return normalised images; torch.group_norm itself loses digits next to a large mean.

    A mean of 1e8 is rounded to 1e-8: what it leaves is taken off in a second turn.
    """
    parts = x.reshape(len(x), groups, -1)
    near = parts - parts.mean(dim=2, keepdim=True)
    centred = near - near.mean(dim=2, keepdim=True)
    variance = (centred**2).mean(dim=2, keepdim=True)
    xhat = (centred / torch.sqrt(variance + EPSILON)).reshape(x.shape)
    return (1.0 + gain)[:, None, None] * xhat + bias[:, None, None]


def group_norm(x: Array, gain: Array, bias: Array, groups: Array) -> Array:
    """Return normalised images in the axes of the suite."""
    y = normalise(tensor(x, *layers.IMAGE_IN), tensor(gain), tensor(bias), int(groups))
    return plain(y, *layers.IMAGE_OUT)


def group_norm_backward(
    x: Array, gain: Array, groups: Array, dy: Array
) -> tuple[Array, Array, Array]:
    """Return dx, dgain, dbias."""
    leaves = tensor(x, *layers.IMAGE_IN), tensor(gain), tensor(np.zeros(len(gain)))
    normalise(*leaves, int(groups)).backward(tensor(dy, *layers.IMAGE_IN).detach())
    dx, dgain, dbias = (leaf.grad for leaf in leaves)
    return plain(dx, *layers.IMAGE_OUT), plain(dgain), plain(dbias)


COMPUTE: dict[str, tuple[Callable[..., Any], str]] = {
    "conv2d_general": (conv2d_general, "y"),
    "conv2d_general_backward": (conv2d_general_backward, "dx dw db"),
    "mean_pool2d": (mean_pool2d, "y"),
    "mean_pool2d_backward": (mean_pool2d_backward, "dx"),
    "group_norm": (group_norm, "y"),
    "group_norm_backward": (group_norm_backward, "dx dgain dbias"),
}


def case(operation: str, name: str, inputs: dict[str, Any], bound: Any, **more: Any) -> Case:
    """Return a case; numbers among the inputs become arrays."""
    compute, outputs = COMPUTE[operation]
    arrays = {n: np.asarray(v) for n, v in inputs.items()}
    return layers.case(operation, name, compute, arrays, outputs, bound, since=SINCE, **more)


# --- convolutions: name, map, kernel (height, width, outputs), stride, padding, groups, note

# In small integers, each of which shows one mistake.
WHOLE = (
    ("stride-starts-at-0", (1, 5, 6, 2), (1, 1, 1), 2, 0, 1, "rows 0, 2, 4 and columns 0, 2, 4"),
    ("padding-on-all-sides", (1, 3, 4, 1), (3, 3, 1), 1, 1, 1, "a map of the input's size"),
    ("padding-and-stride", (2, 5, 5, 2), (3, 3, 2), 2, 1, 1, "the first kernel begins at -1"),
    ("groups-in-a-row", (4, 2, 2, 1), (1, 1, 2), 1, 0, 2, "channels 0 and 1, then 2 and 3"),
    ("outputs-of-a-group", (2, 3, 3, 2), (2, 2, 6), 1, 0, 2, "outputs 0, 1, 2 read channel 0"),
    ("depthwise", (3, 4, 4, 1), (3, 3, 3), 1, 1, 3, "each channel alone"),
    ("rows-left-over", (2, 6, 8, 1), (3, 3, 2), 2, 0, 1, "the last row and column are not read"),
    ("places-passed-over", (1, 7, 7, 2), (1, 2, 2), 3, 0, 1, "a stride beyond the kernel"),
    ("kernel-larger-than-the-map", (2, 3, 3, 2), (5, 5, 2), 1, 1, 1, "but for its zeros"),
    ("kernel-1x1-stride-2", (3, 5, 4, 2), (1, 1, 4), 2, 0, 1, "a row and a column are passed over"),
    ("kernel-1x3-padding-1", (2, 4, 5, 2), (1, 3, 3), 1, 1, 1, "padded rows are the bias alone"),
    ("kernel-3x1-padding-2", (2, 5, 4, 2), (3, 1, 3), 1, 2, 1, "columns of the bias alone"),
    ("kernel-5x4-stride-3", (2, 8, 7, 2), (5, 4, 3), 3, 2, 1, "height 5, width 4"),
    ("kernel-10x4-stride-2", (1, 13, 9, 2), (10, 4, 3), 2, 1, 1, "height 10, width 4"),
    ("kernel-4x5-depthwise", (3, 7, 6, 1), (4, 5, 3), 1, 2, 3, "height 4, width 5"),
    ("depthwise-twice", (3, 4, 5, 2), (3, 2, 6), 1, 1, 3, "two outputs of each channel"),
    ("groups-of-2-to-3", (6, 4, 3, 2), (3, 3, 9), 1, 1, 3, "from 2 channels to 3 in each group"),
    ("groups-stride-2", (8, 4, 4, 2), (2, 2, 4), 2, 0, 2, "from 4 channels to 2"),
    ("batch-9", (2, 5, 4, 9), (3, 3, 3), 2, 1, 1, ""),
    ("batch-65", (2, 2, 2, 65), (2, 2, 2), 2, 1, 1, "a batch of no round size"),
    ("batch-65-depthwise", (2, 2, 2, 65), (3, 2, 2), 1, 1, 2, "a batch of no round size"),
)
GENERAL = (
    ("kernel-3x3-padding-1", (2, 5, 4, 1), (3, 3, 3), 1, 1, 1, ""),
    ("kernel-3x3-stride-2", (2, 5, 6, 1), (3, 3, 4), 2, 1, 1, "as a residual stage begins"),
    ("depthwise-stride-2", (4, 5, 6, 1), (3, 3, 4), 2, 1, 4, "each channel alone"),
    ("batch-1", (4, 4, 4, 1), (3, 3, 4), 2, 1, 2, "one sample"),
    ("200-products", (8, 4, 4, 1), (5, 5, 1), 2, 2, 1, "long sums"),
)
LEFT_OVER = {"rows-left-over", "places-passed-over", "kernel-1x1-stride-2"}


def convolution_cases(operation: str) -> list[Case]:
    """Forward or backward."""
    cases = []
    for exact, posed, seed in ((True, WHOLE, 801), (False, GENERAL, 831)):
        for number, (name, shape, (kh, kw, outputs), stride, padding, groups, note) in enumerate(
            posed
        ):
            draw, how = Draw(seed + number), {"stride": stride, "padding": padding}
            numbers = draw.small if exact else draw.normal
            x, w = numbers(*shape), numbers(kh, kw, shape[0] // groups, outputs)
            inputs = {"x": x, "w": w, "b": numbers(outputs), **how, "groups": groups}
            if operation.endswith("backward"):
                dy = numbers(*conv2d_general(*inputs.values()).shape)
                inputs = {"x": x, "w": w, "dy": dy, **how, "groups": groups}
            bound, flags = layers.bound_and_flags(name, exact)
            if name in LEFT_OVER:
                flags = (*flags, "left-over")
            cases.append(case(operation, name, inputs, bound, flags=flags, note=note))
    return cases


# --- means: name, map, window, note

WINDOWS = (
    ("window-2x2", (2, 4, 6, 2), (2, 2), ""),
    ("window-1x1", (2, 2, 3, 2), (1, 1), "the map itself"),
    ("window-2x4", (2, 4, 8, 2), (2, 4), "height 2, width 4"),
    ("left-over", (2, 5, 7, 3), (2, 4), "the last row and three columns are in no window"),
    ("whole-map", (3, 4, 4, 2), (4, 4), "one mean for each channel"),
    ("window-3x2", (2, 6, 5, 2), (3, 2), ""),
    ("odd-map", (3, 7, 5, 2), (7, 5), "one mean for each channel"),
    ("batch-1", (3, 6, 3, 1), (3, 3), ""),
    ("batch-9", (2, 3, 4, 9), (3, 2), ""),
    ("batch-65", (1, 2, 2, 65), (2, 2), "a batch of no round size"),
)


def pool_cases(operation: str) -> list[Case]:
    """Forward or backward; what is divided by a power of 2 is exact."""
    cases = []
    for number, (name, shape, (height, width), note) in enumerate(WINDOWS):
        draw, window = Draw(861 + number), {"height": height, "width": width}
        exact = height * width & (height * width - 1) == 0
        numbers = draw.small if exact else draw.normal
        inputs = {"x": numbers(*shape), **window}
        flags = ("whole-numbers",) if exact else ()
        if shape[1] % height or shape[2] % width:
            flags = (*flags, "left-over")
        if operation.endswith("backward"):
            dy = numbers(shape[0], shape[1] // height, shape[2] // width, shape[3])
            inputs = {"dy": dy, **window, "shape": np.array(shape)}
        cases.append(
            case(operation, name, inputs, EXACT if exact else SUMS, flags=flags, note=note)
        )
    return cases


# --- normalisation: name, map, groups, what is done to the map, note


def spread(by: float, around: float = 0.0) -> Callable[[Array], Array]:
    """Return what scales a map and moves it."""
    return lambda x: around + by * x


def loud_channels(x: Array) -> Array:
    """Scale and move each channel and each image by an amount of its own."""
    c, n = np.arange(len(x))[:, None, None, None], np.arange(x.shape[3])
    return x * 2.0**c + 3.0 * c - 5.0 * n


def on_a_grid(x: Array) -> Array:
    """Return multiples of 1/8 around 1000, whose mean in each group is 1000 exactly."""
    half = np.round(8.0 * x[:, : x.shape[1] // 2]) / 8.0
    return np.concatenate([1000.0 + half, 1000.0 - half], axis=1)


MAPS = (
    ("groups-in-a-row", (4, 2, 3, 2), 2, loud_channels, "each channel and image has its own scale"),
    ("one-group", (3, 3, 2, 2), 1, loud_channels, "all channels together"),
    ("a-group-of-one-channel", (3, 2, 3, 2), 3, loud_channels, ""),
    ("three-groups", (6, 3, 2, 2), 3, None, ""),
    ("one-place", (6, 1, 1, 3), 2, None, "three values in a group: by n - 1 variances are larger"),
    ("spread-of-the-epsilon", (2, 3, 2, 2), 1, spread(2.0**-8), "1e-5 stands inside of the root"),
    ("spread-below-the-epsilon", (2, 3, 2, 2), 2, spread(2.0**-12), "the root of 1e-5 is left"),
    ("large-spread", (2, 3, 3, 2), 1, spread(1024.0), "1e-5 is nothing beside it"),
    ("batch-1", (4, 3, 3, 1), 2, None, ""),
    ("batch-9", (4, 1, 1, 9), 1, None, ""),
    ("batch-65", (3, 1, 1, 65), 1, None, "a batch of no round size"),
    ("120-values", (6, 5, 4, 1), 1, None, "long sums"),
)
LARGE_MEANS = (
    ("mean-1000-exactly", (2, 4, 4, 2), 2, on_a_grid, LONG_SUMS, BOTH),
    ("mean-1000", (4, 3, 3, 2), 2, spread(0.125, 1000.0), NEXT_TO_1000, BOTH),
    ("mean-1e8", (2, 3, 3, 2), 1, spread(1.0, 1e8), NEXT_TO_1E8, BOTH[:1]),
)
ALIKE = (
    ("constant-group", (4, 2, 3, 2), 2, lambda x: 0.0 * x + 2.5, ""),
    ("constant-image", (2, 2, 2, 3), 1, lambda x: x * (np.arange(x.shape[3]) != 1), "the second"),
    ("one-value", (3, 1, 1, 2), 3, None, "a group of a single value: its variance is 0"),
)


def norm_case(
    operation: str,
    name: str,
    seed: int,
    shape: Any,
    groups: int,
    change: Any,
    bound: Any,
    **more: Any,
) -> Case:
    """Return a case of random numbers, changed by a function."""
    draw = Draw(seed)
    x = draw.normal(*shape)
    x = (x if change is None else change(x)).astype(np.float64)
    if more.get("dtypes") != BOTH[:1]:
        x = x.astype(np.float32).astype(np.float64)
    inputs = {"x": x, "gain": draw.normal(shape[0], scale=0.5), "bias": draw.normal(shape[0])}
    if operation.endswith("backward"):
        del inputs["bias"]
        return case(
            operation, name, {**inputs, "groups": groups, "dy": draw.normal(*shape)}, bound, **more
        )
    return case(operation, name, {**inputs, "groups": groups}, bound, **more)


def norm_cases(operation: str) -> list[Case]:
    """Forward or backward."""
    cases = [
        norm_case(operation, name, 881 + n, shape, groups, change, LONG_SUMS, note=note)
        for n, (name, shape, groups, change, note) in enumerate(MAPS)
    ]
    cases += [
        norm_case(
            operation, name, 901 + n, shape, groups, change, bound, dtypes=dtypes,
            flags=("cancellation",),
        )
        for n, (name, shape, groups, change, bound, dtypes) in enumerate(LARGE_MEANS)
    ]  # fmt: skip
    return cases + [
        norm_case(
            operation, name, 911 + n, shape, groups, change, LONG_SUMS, note=note,
            flags=("no-variance",),
        )
        for n, (name, shape, groups, change, note) in enumerate(ALIKE)
    ]  # fmt: skip


# --- a case for each input that differs in it alone

KEPT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "conv2d_general": ({"x": (2, 6, 6, 2), "w": (3, 3, 1, 2), "b": (2,)}, {}),
    "conv2d_general_backward": ({"x": (2, 6, 6, 2), "w": (3, 3, 1, 2), "dy": (2, 2, 2, 2)}, {}),
    "mean_pool2d": ({"x": (1, 8, 8, 2)}, {"height": (4, 2), "width": (4, 2)}),
    "mean_pool2d_backward": (
        {"dy": (1, 2, 2, 2)},
        {"height": (4, 3), "width": (4, 3), "shape": ([1, 8, 8, 2], [1, 9, 8, 2])},
    ),
    "group_norm": ({"x": (4, 2, 2, 2), "gain": (4,), "bias": (4,)}, {"groups": (2, 4)}),
    "group_norm_backward": ({"x": (4, 2, 2, 2), "gain": (4,), "dy": (4, 2, 2, 2)},
                            {"groups": (2, 4)}),
}  # fmt: skip
# Two rows and columns of outputs with stride 3 as with 2, with padding as without it.
SLIDING = {"stride": (3, 2), "padding": (0, 1), "groups": (2, 2)}
ORDER = {"group_norm_backward": ("x", "gain", "groups", "dy")}


def kept_cases(operation: str, seed: int) -> list[Case]:
    """Return the family of a layer."""
    compute, outputs = COMPUTE[operation]
    shapes, numbers = KEPT[operation]
    base, changes = whole(seed, **shapes)
    numbers = numbers or SLIDING
    base |= {name: np.array(first) for name, (first, _) in numbers.items()}
    changes |= {name: np.array(other) for name, (_, other) in numbers.items() if name != "groups"
                or operation.startswith("group")}  # fmt: skip
    base = {name: base[name] for name in ORDER.get(operation, base)}

    def answer(**inputs: Any) -> Any:
        results = compute(*inputs.values())
        results = results if isinstance(results, tuple) else (results,)
        return dict(zip(outputs.split(), results, strict=True)), None

    bound = LONG_SUMS if operation.startswith("group") else EXACT
    if operation == "mean_pool2d_backward":  # 1/12 of them
        bound = SUMS
    return family(f"layers/{operation}", answer, base, changes, bound, BOTH, SINCE)


CASES: dict[str, Callable[[str], list[Case]]] = {
    "conv2d_general": convolution_cases,
    "conv2d_general_backward": convolution_cases,
    "mean_pool2d": pool_cases,
    "mean_pool2d_backward": pool_cases,
    "group_norm": norm_cases,
    "group_norm_backward": norm_cases,
}


def write(golden: Path) -> None:
    """Write the golden files of these operations."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for number, (operation, make) in enumerate(CASES.items()):
        cases = [
            *make(operation),
            *kept_cases(operation, 921 + number),
            *general_layers_edges.cases(operation, case),
        ]
        used = {f for c in cases for f in c["flags"]}
        notes = {flag: text for flag, text in NOTES.items() if flag in used}
        write_file(golden, "layers", operation, source=layers.SOURCE, notes=notes, cases=cases)
