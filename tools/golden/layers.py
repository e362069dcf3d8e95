"""Stage layers: every layer and the loss, forward and backward, by float64 PyTorch autograd.

What layers do with NaN, infinities, zeros of either sign and subnormal numbers is in
`layers_nonfinite`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import torch
from golden import layers_nonfinite, nonfinite
from golden.sources import to_floats
from golden.torch_inputs import Draw, compact
from golden.writer import BOTH, make_case, write_file
from numpy.typing import NDArray
from torch.nn import functional

Array = NDArray[np.float64]
Case = dict[str, Any]

SOURCE = "float64 PyTorch with its autograd"
EXACT = {"exact": 0}
PIXELS = {"float64": {"scaled": 5e-16}, "float32": {"scaled": 2.5e-7}}
# Sums of some dozens of products in any order, and of some hundreds.
SUMS = {"float64": {"scaled": 2e-15}, "float32": {"scaled": 1e-6}}
LONG_SUMS = {"float64": {"scaled": 1e-14}, "float32": {"scaled": 4e-6}}
SOFTMAX = {"float64": {"scaled": 1e-15}, "float32": {"scaled": 5e-7}}
# Losses from 0 (exactly) to 2e4, each to its own size.
EACH = {"float64": {"relative": 5e-15}, "float32": {"relative": 2e-6}}
OF_LOSS = "losses", "dlogits"
APART = {"float64": {"relative": 1e-15}, "float32": {"relative": 5e-7}}

NOTES = {
    "whole-numbers": "small integers: every order of summation is exact, and so must the answer be",
    "tie": "equal maxima: the first in row order (top left, top right, bottom left) wins",
    "kink": "inputs at exactly 0, where the slope of the ReLU is defined as 0",
    "odd-size": "an odd last row or column belongs to no window and is dropped",
    "overflow": "exp of the logits themselves overflows: their maximum must be subtracted first",
    "underflow": "the probability of some classes underflows to 0",
    "sure": "nearly all is one class's: log of a sum near 1, and p - 1, lose their digits",
    **nonfinite.NOTES,
}


def tensor(values: Array, *axes: int) -> torch.Tensor:
    """Return values with permuted axes as a leaf that gathers gradients."""
    array = np.ascontiguousarray(np.transpose(values, axes) if axes else values)
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


def plain(values: torch.Tensor | None, *axes: int) -> Array:
    """Return a tensor as an array with permuted axes."""
    assert values is not None
    array = values.detach().numpy()
    return np.ascontiguousarray(np.transpose(array, axes) if axes else array)


# PyTorch has images (batch, channels, height, width) and kernels (out, in, kh, kw).
IMAGE_IN, IMAGE_OUT = (3, 0, 1, 2), (1, 2, 3, 0)
KERNEL_IN, KERNEL_OUT = (3, 2, 0, 1), (2, 3, 1, 0)


def conv2d(x: Array, w: Array, b: Array) -> Array:
    """Return the convolution in the axes of the suite."""
    y = functional.conv2d(tensor(x, *IMAGE_IN), tensor(w, *KERNEL_IN), tensor(b))
    return plain(y, *IMAGE_OUT)


def conv2d_backward(x: Array, w: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Return dx, dw, db."""
    leaves = tensor(x, *IMAGE_IN), tensor(w, *KERNEL_IN), tensor(np.zeros(w.shape[3]))
    functional.conv2d(*leaves).backward(tensor(dy, *IMAGE_IN).detach())
    dx, dw, db = (leaf.grad for leaf in leaves)
    return plain(dx, *IMAGE_OUT), plain(dw, *KERNEL_OUT), plain(db)


def relu(x: Array) -> Array:
    """Return max(x, 0)."""
    return plain(torch.relu(tensor(x)))


def maxpool2d(x: Array) -> Array:
    """Return the maxima of 2x2 windows."""
    return plain(functional.max_pool2d(tensor(x, *IMAGE_IN), 2), *IMAGE_OUT)


def maxpool2d_backward(x: Array, dy: Array) -> Array:
    """Return dx."""
    leaf = tensor(x, *IMAGE_IN)
    functional.max_pool2d(leaf, 2).backward(tensor(dy, *IMAGE_IN).detach())
    return plain(leaf.grad, *IMAGE_OUT)


def relu_backward(x: Array, dy: Array) -> Array:
    """Return dx."""
    leaf = tensor(x)
    torch.relu(leaf).backward(tensor(dy).detach())
    return plain(leaf.grad)


def dense(x: Array, w: Array, b: Array) -> Array:
    """Return W^T x + b with samples as columns."""
    return plain(functional.linear(tensor(x, 1, 0), tensor(w, 1, 0), tensor(b)), 1, 0)


def dense_backward(x: Array, w: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Return dx, dw, db."""
    leaves = tensor(x, 1, 0), tensor(w, 1, 0), tensor(np.zeros(w.shape[1]))
    functional.linear(*leaves).backward(tensor(dy, 1, 0).detach())
    dx, dw, db = (leaf.grad for leaf in leaves)
    return plain(dx, 1, 0), plain(dw, 1, 0), plain(db)


def softmax_cross_entropy(logits: Array, labels: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return the loss of each sample and its gradient by the logits."""
    leaf = tensor(logits, 1, 0)
    losses = functional.cross_entropy(leaf, torch.tensor(labels), reduction="none")
    losses.sum().backward()
    return plain(losses), plain(leaf.grad, 1, 0)


def case(
    operation: str,
    name: str,
    compute: Callable[..., Any],
    inputs: dict[str, Any],
    outputs: str,
    bound: dict[str, Any],
    *,
    flags: tuple[str, ...] = (),
    note: str = "",
    dtypes: tuple[str, ...] = BOTH,
    since: str = "1.0",
) -> Case:
    """Return a case whose outputs are computed and share a bound."""
    results = compute(*inputs.values())
    results = results if isinstance(results, tuple) else (results,)
    names = outputs.split()
    return make_case(
        f"layers/{operation}/{name}",
        {k: compact(v) if v.dtype.kind == "f" and dtypes == BOTH else v for k, v in inputs.items()},
        dict(zip(names, results, strict=True)),
        dict.fromkeys(names, bound),
        dtypes=dtypes,
        flags=flags,
        note=note,
        since=since,
    )


def bound_and_flags(name: str, whole: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return how far sums may be off, and the flag of those that may not."""
    if whole:
        return EXACT, ("whole-numbers",)
    return (LONG_SUMS if name.endswith("00-products") else SUMS), ()


def image_cases() -> list[Case]:
    """Pixels to activations."""

    def compute(pixels: NDArray[np.uint8]) -> Array:
        x = torch.tensor(pixels).to(torch.float64) / 255.0 - 0.5
        return plain(x.permute(1, 2, 0)[None])

    posed = {
        "every-value": (np.arange(256).reshape(1, 16, 16), "pixel / 255 - 1/2, not pixel / 256"),
        "rows-columns-batch": (
            Draw(11).integers(3, 2, 5, below=256),
            "the batch moves to the last axis; rows stay rows",
        ),
    }
    return [
        case("images", name, compute, {"pixels": pixels.astype(np.uint8)}, "x", PIXELS, note=note)
        for name, (pixels, note) in posed.items()
    ]


def impulse(*shape: int, at: tuple[int, ...]) -> Array:
    """Return zeros with a one."""
    x = np.zeros(shape)
    x[at] = 1.0
    return x


def whole_kernels() -> dict[str, tuple[Array, Array, Array, str]]:
    """Return inputs of convolutions in small integers, each of which shows one mistake."""
    draw = Draw(12)
    nine = np.arange(1.0, 10.0).reshape(3, 3, 1, 1)
    zero = np.zeros(1)
    return {
        "flipped-kernel": (
            impulse(1, 5, 5, 1, at=(0, 2, 2, 0)),
            nine,
            zero,
            "an impulse gives the kernel turned by 180 degrees, a true convolution upright",
        ),
        "transposed-kernel": (
            np.arange(16.0).reshape(1, 4, 4, 1) ** 2,
            nine,
            zero,
            "rows and columns of the kernel exchanged give other numbers in the same shape",
        ),
        "exchanged-channels": (
            draw.small(2, 3, 3, 2),
            np.array([[[[1.0, 2.0], [3.0, -4.0]]]]),
            np.array([0.0, 100.0]),
            "a 1x1 kernel whose in and out exchanged give other numbers in the same shape",
        ),
        "bias-alone": (
            np.zeros((2, 3, 4, 2)),
            draw.small(2, 2, 2, 3),
            np.array([1.0, -2.0, 3.0]),
            "each output channel is its bias",
        ),
    }


def general_kernels() -> dict[str, tuple[Array, Array, Array, str]]:
    """Return inputs of convolutions in general position."""

    def draw(seed: int, x: tuple[int, ...], w: tuple[int, ...]) -> tuple[Array, Array, Array]:
        source = Draw(seed)
        return source.normal(*x), source.normal(*w, scale=0.5), source.normal(w[3])

    return {
        "kernel-2x3": (*draw(21, (2, 5, 6, 3), (2, 3, 2, 4)), "height 2, width 3"),
        "kernel-3x1": (*draw(22, (1, 6, 4, 2), (3, 1, 1, 5)), "a column"),
        "kernel-1x1": (*draw(23, (3, 4, 4, 2), (1, 1, 3, 2)), "a matrix at each pixel"),
        "kernel-as-large-as-image": (*draw(24, (3, 4, 3, 2), (4, 3, 3, 2)), "one output pixel"),
        "channels-3-to-7": (
            *draw(25, (3, 6, 6, 3), (3, 3, 3, 7)),
            "neither a multiple of 4 nor of 5",
        ),
        "batch-1": (*draw(26, (4, 6, 6, 1), (3, 3, 4, 8)), "one sample"),
        "batch-17": (*draw(27, (1, 5, 5, 17), (2, 2, 1, 3)), "a batch of no round size"),
        "500-products": (*draw(28, (20, 7, 7, 2), (5, 5, 20, 3)), "the sums of LeNet-5's conv2"),
    }


def conv2d_cases() -> list[Case]:
    """Forward."""
    cases = []
    for whole, posed in ((True, whole_kernels()), (False, general_kernels())):
        for name, (x, w, b, note) in posed.items():
            bound, flags = bound_and_flags(name, whole)
            inputs = {"x": x, "w": w, "b": b}
            cases.append(case("conv2d", name, conv2d, inputs, "y", bound, flags=flags, note=note))
    return cases


# What the inputs of a forward case show in the backward pass, where it is something else.
CONV2D_BACKWARD = {
    "flipped-kernel": (
        "flipped-kernel",
        "dw is dy turned by 180 degrees; dx is the true convolution of dy with the kernel",
    ),
    "bias-alone": ("input-zero", "dw is 0, db the sum of dy over pixels and batch"),
}
DENSE_BACKWARD = {
    "bias-alone": ("input-zero", "dw is 0, db the sum of dy over the batch"),
    "transposed-matrix": (
        "transposed-matrix",
        "square and not symmetric: dx = W dy, where W^T dy has the same shape",
    ),
}


def conv2d_backward_cases() -> list[Case]:
    """Gradients by input, kernel and bias."""
    cases = []
    for whole, posed in ((True, whole_kernels()), (False, general_kernels())):
        draw = Draw(13 + whole)
        for name, (x, w, _, note) in posed.items():
            shape = (w.shape[3], x.shape[1] - w.shape[0] + 1, x.shape[2] - w.shape[1] + 1)
            dy = (draw.counts if whole else draw.normal)(*shape, x.shape[3])
            bound, flags = bound_and_flags(name, whole)
            inputs = {"x": x, "w": w, "dy": dy}
            own_name, own_note = CONV2D_BACKWARD.get(name, (name, note))
            cases.append(
                case(
                    "conv2d_backward",
                    own_name,
                    conv2d_backward,
                    inputs,
                    "dx dw db",
                    bound,
                    flags=flags,
                    note=own_note,
                )
            )
    return cases


def pool_inputs() -> dict[str, tuple[Array, tuple[str, ...], str]]:
    """Return images to pool, with flags and note."""
    windows = np.array(
        [
            [2, 2, 1, 2, 1, 1, 3, 3],
            [1, 1, 2, 1, 2, 2, 3, 3],
            [0, 2, 2, 0, 0, 0, -1, -1],
            [2, 0, 0, 2, 0, 5, -2, -1],
        ],
        dtype=np.float64,
    )
    draw = Draw(31)
    return {
        "four-winners": (
            np.array([[9, 1, 1, 9, 1, 1, 1, 1], [1, 1, 1, 1, 9, 1, 1, 9]], dtype=np.float64)[
                None, :, :, None
            ],
            (),
            "each place of a window wins once",
        ),
        "equal-maxima": (windows[None, :, :, None], ("tie",), "every pattern of equal maxima"),
        "equal-maxima-in-batch": (
            draw.integers(3, 4, 6, 5, below=3).astype(np.float64),
            ("tie",),
            "three values only, so most windows have equal maxima",
        ),
        "all-negative": (
            -1.0 - np.abs(draw.normal(2, 4, 4, 2)),
            (),
            "a maximum that starts at 0 is wrong",
        ),
        "odd-rows": (draw.normal(2, 5, 4, 3), ("odd-size",), ""),
        "odd-columns": (draw.normal(2, 4, 5, 3), ("odd-size",), ""),
        "odd-rows-and-columns": (draw.normal(1, 7, 3, 2), ("odd-size",), ""),
        "batch-1": (draw.normal(3, 6, 4, 1), (), ""),
        "batch-17": (draw.normal(1, 4, 2, 17), (), ""),
    }


def maxpool2d_cases() -> list[Case]:
    """Forward; nothing is rounded, so the answer is exact."""
    return [
        case("maxpool2d", name, maxpool2d, {"x": x}, "y", EXACT, flags=flags, note=note)
        for name, (x, flags, note) in pool_inputs().items()
    ]


def maxpool2d_backward_cases() -> list[Case]:
    """Backward; nothing is rounded either."""
    draw, cases = Draw(32), []
    for name, (x, flags, note) in pool_inputs().items():
        dy = draw.normal(x.shape[0], x.shape[1] // 2, x.shape[2] // 2, x.shape[3])
        inputs = {"x": x, "dy": dy}
        cases.append(
            case(
                "maxpool2d_backward",
                name,
                maxpool2d_backward,
                inputs,
                "dx",
                EXACT,
                flags=flags,
                note=note,
            )
        )
    return cases


def relu_inputs() -> dict[str, tuple[Array, tuple[str, ...], str]]:
    """Return inputs of the ReLU, with flags and note."""
    tiny, huge = float(np.finfo(np.float32).smallest_normal), float(np.finfo(np.float32).max)
    return {
        "signs-and-sizes": (
            np.array([[-2.0, 2.0], [-tiny, tiny], [-huge, huge], [-0.5, 0.5]]),
            (),
            "from the smallest normal to the largest float32",
        ),
        "at-zero": (np.array([[0.0, -0.0, 1.0, -1.0]]), ("kink",), "0 and -0 between -1 and 1"),
        "feature-maps": (Draw(41).normal(3, 2, 3, 4), (), "four axes"),
        "batch-1": (Draw(42).normal(7, 1), (), ""),
    }


def relu_cases() -> list[Case]:
    """Forward."""
    return [
        case(
            "relu",
            name,
            relu,
            {"x": x},
            "y",
            EXACT,
            flags=f,
            note=note,
        )
        for name, (x, f, note) in relu_inputs().items()
    ]


def relu_backward_cases() -> list[Case]:
    """Backward."""
    return [
        case(
            "relu_backward",
            name,
            relu_backward,
            {"x": x, "dy": 1.0 + np.abs(Draw(43).normal(*x.shape))},
            "dx",
            EXACT,
            flags=f,
            note=note,
        )
        for name, (x, f, note) in relu_inputs().items()
    ]


def dense_inputs() -> dict[str, tuple[bool, Array, Array, Array, str]]:
    """Return whether in whole numbers, x, w, b and note."""

    def draw(seed: int, inputs: int, outputs: int, batch: int) -> tuple[Array, Array, Array]:
        source = Draw(seed)
        scale = 2.0 * inputs**-0.5
        w = source.normal(inputs, outputs, scale=scale)
        return source.normal(inputs, batch), w, source.normal(outputs)

    return {
        "transposed-matrix": (
            True,
            np.array([[1.0, 0.0, 2.0], [0.0, 1.0, -1.0]]),
            np.array([[1.0, 2.0], [3.0, -4.0]]),
            np.array([0.0, 100.0]),
            "square and not symmetric: y = W^T x, where W x has the same shape",
        ),
        "bias-alone": (
            True,
            np.zeros((3, 2)),
            np.arange(9.0).reshape(3, 3),
            np.array([1.0, -2.0, 3.0]),
            "one bias for each output, the same for all samples",
        ),
        "one-input": (False, *draw(51, 1, 6, 3), "an outer product"),
        "one-output": (False, *draw(52, 6, 1, 3), "an inner product"),
        "batch-1": (False, *draw(53, 13, 7, 1), "one sample"),
        "more-samples-than-outputs": (False, *draw(54, 11, 3, 19), ""),
        "more-outputs-than-samples": (False, *draw(55, 11, 19, 3), ""),
        "400-products": (False, *draw(56, 400, 5, 3), "long sums"),
    }


def dense_cases() -> list[Case]:
    """Forward."""
    cases = []
    for name, (whole, x, w, b, note) in dense_inputs().items():
        bound, flags = bound_and_flags(name, whole)
        inputs = {"x": x, "w": w, "b": b}
        cases.append(case("dense", name, dense, inputs, "y", bound, flags=flags, note=note))
    return cases


def dense_backward_cases() -> list[Case]:
    """Gradients by input, matrix and bias."""
    draw, cases = Draw(57), []
    for name, (whole, x, w, _, note) in dense_inputs().items():
        dy = (draw.counts if whole else draw.normal)(w.shape[1], x.shape[1])
        bound, flags = bound_and_flags(name, whole)
        inputs = {"x": x, "w": w, "dy": dy}
        own_name, own_note = DENSE_BACKWARD.get(name, (name, note))
        cases.append(
            case(
                "dense_backward",
                own_name,
                dense_backward,
                inputs,
                "dx dw db",
                bound,
                flags=flags,
                note=own_note,
            )
        )
    return cases


def logit_inputs() -> dict[str, tuple[Array, list[int], tuple[str, ...], str]]:
    """Return logits (classes, batch) and labels, with flags and note."""
    draw = Draw(61)
    apart = np.array([[1e4, 0.0, 0.0], [0.0, 0.0, 0.0], [-1e4, 0.0, 1e4]])
    huge = np.array([[3e4, -3e4], [3e4 + 1.0, -3e4 + 1.0], [3e4 - 2.0, -3e4]])
    widest = np.array([[1e30, 1.0], [-1e30, 1.0], [0.0, -1e30]])
    return {
        "ten-classes": (draw.normal(10, 7, scale=3.0), [0, 9, 3, 3, 5, 1, 8], (), "as in LeNet-5"),
        "batch-1": (draw.normal(10, 1), [4], (), "not divided by anything: a loss for each sample"),
        "equal-logits": (
            np.full((4, 2), 0.75),
            [0, 3],
            (),
            "log 4 nats; in bits it would be 2",
        ),
        "one-class": (np.array([[5.0, -7.0, 0.0]]), [0, 0, 0], (), "loss and gradient are 0"),
        "two-classes": (draw.normal(2, 5, scale=4.0), [0, 1, 0, 1, 1], (), ""),
        "logits-1e4-apart": (apart, [0, 1, 0], ("overflow", "underflow"), "right, even and wrong"),
        "huge-logits": (huge, [0, 1], ("overflow",), "alike but huge: about 3e4 and -3e4"),
        "logits-1e30-apart": (widest, [1, 0], ("overflow", "underflow"), ""),
        "logits-of-200": (
            np.array([[200.0, -200.0], [199.0, -199.0], [198.5, -250.0]]),
            [2, 1],
            ("overflow",),
            "exp(200) is finite in float64 but not in float32",
        ),
    }


def by_mpmath(logits: Array, labels: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return the losses and gradients to the last digit, however small."""
    with mpmath.workdps(400):
        powers = [[mpmath.exp(mpmath.mpf(float(z))) for z in column] for column in logits.T]
        p = [[e / mpmath.fsum(column) for e in column] for column in powers]
        losses = [-mpmath.log(column[k]) for column, k in zip(p, labels.tolist(), strict=True)]
        for column, k in zip(p, labels.tolist(), strict=True):
            column[k] -= 1
        return to_floats(losses), to_floats(p).T


def sure_cases() -> list[Case]:
    """Return cases where all but nothing is the label's, or another's."""
    gaps = np.array([5.0, 16.0, 20.0, 37.0, 60.0, 80.0])
    sure = np.stack([np.zeros(6), -gaps, -gaps - 0.5])
    points = {
        "sure-and-right": (sure, [0] * 6, "the loss and p - 1 are as small as the other classes"),
        "sure-and-wrong": (sure, [1] * 6, "p is 1 for another class, and e^-80 for the label"),
        "sure-and-right-in-the-last-class": (sure[::-1] + 7.5, [2] * 6, "the largest comes last"),
        "two-alike": (np.stack([gaps, gaps, 0.0 * gaps]), [0, 1] * 3, "the largest comes twice"),
    }
    return [
        make_case(
            f"layers/softmax_cross_entropy/{name}",
            {"logits": logits, "labels": np.array(labels)},
            dict(zip(OF_LOSS, by_mpmath(logits, np.array(labels)), strict=True)),
            {"losses": EACH, "dlogits": EACH},
            dtypes=BOTH,
            flags=("sure",),
            note=f"{note}; by mpmath",
            since="1.3",
        )
        for name, (logits, labels, note) in points.items()
    ]


def softmax_cases() -> list[Case]:
    """Losses and gradients, for each sample."""
    return [
        case(
            "softmax_cross_entropy",
            name,
            softmax_cross_entropy,
            {
                "logits": logits.astype(np.float32).astype(np.float64),
                "labels": np.array(labels, dtype=np.int64),
            },
            "losses dlogits",
            {"one-class": EXACT, "logits-1e4-apart": APART}.get(name, SOFTMAX),
            flags=flags,
            note=note,
        )
        for name, (logits, labels, flags, note) in logit_inputs().items()
    ] + sure_cases()


STAGE = {
    "images": image_cases,
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


def write(golden: Path) -> None:
    """Write the golden files of the stage."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for operation, make in STAGE.items():
        cases = [*make(), *layers_nonfinite.STAGE.get(operation, list)()]
        used = {f for c in cases for f in c["flags"]}
        notes = {flag: text for flag, text in NOTES.items() if flag in used}
        write_file(golden, "layers", operation, source=SOURCE, notes=notes, cases=cases)
