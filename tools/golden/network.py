"""Stages network, optimiser, trajectory and predictions, by float64 PyTorch."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden import nonfinite
from golden.coded_files import OF_NETWORK_2, of_the_document
from golden.containers import Fields, assemble
from golden.torch_inputs import ROOT, Draw, compact, mnist_test
from golden.torch_layout import DEFAULT_FACTORS, SHAPES, Layout, spec_decoder
from golden.torch_lenet5 import Forward, Kinks, Model, logits
from golden.writer import BOTH, make_case, single, write_file
from numpy.typing import NDArray

Array = NDArray[np.float64]
Case = dict[str, Any]

MODEL = ROOT / "data" / "models" / "lenet5-1551.rmc"
# lenet-300-100 with 4,062 variables, and scales that keep the activations near 1.
FILE_OF_NETWORK_2 = Fields(
    1, 2, 30, 1, (100, 1, 100, 1, 1, 1), 14, (0x2C00, 0x2800, 0x2C00, 0x2800, 0x3000, 0x2000),
    network=2,
)  # fmt: skip
# Few variables, so that whole gradients are small files.
SMALL_FACTORS = (1, 1, 50, 1, 400, 1, 10, 1)
WHOLE_TENSORS = (500, 20, 25000, 50, 400000, 500, 5000, 10)
FEW_FACTORS = (25, 5, 1000, 10, 10000, 100, 500, 5)
UNEVEN_FACTORS = (3, 7, 49, 3, 399, 11, 13, 4)
OUTPUTS, INPUTS = 0, 1
NONE, UNIT, WEIGHT = 0, 1, 2
# float16 numbers that keep the activations of every layer near 1.
SCALES = np.array([0.25, 0.125, 0.0625, 0.125, 0.03125, 0.125, 0.0625, 0.125])
# Where a tensor has few variables its products add up instead of averaging out.
FEW_SCALES = SCALES * np.array([0.5, 1.0, 0.25, 1.0, 0.25, 1.0, 0.5, 1.0])
WHOLE_SCALES = SCALES * np.array([0.25, 1.0, 0.0625, 1.0, 0.0625, 1.0, 0.0625, 1.0])
SCALES_OF = {FEW_FACTORS: FEW_SCALES, WHOLE_TENSORS: WHOLE_SCALES}

# Nearer than this to a kink, float32 may fall on the other side of it.
SMALLEST_KINK = 2e-6
SMALLEST_LOGIT_GAP = 0.01
SMALLEST_UNTRAINED_GAP = 0.005
SMALLEST_ROUNDING_GAP = 1e-4

EXACT = {"exact": 0}
LOSS = {"float64": {"relative": 5e-15}, "float32": {"relative": 1e-6}}
GRADIENT = {"float64": {"scaled": 2e-14}, "float32": {"scaled": 5e-6}}
# Many weights stand for one variable: large terms cancel in its gradient.
CANCELLING = {"float64": {"scaled": 1e-13}, "float32": {"scaled": 5e-5}}
# In float64 the divisor 1 - 0.999 is 9e-16 off, and 1 - 0.999^2 is 1e-14.
MOMENT = {"float64": {"relative": 5e-15}, "float32": {"relative": 1e-6}}
STEP = {"float64": {"relative": 2e-14}, "float32": {"relative": 1e-6}}
TRAJECTORY_LOSS = {"float64": {"relative": 1e-14}, "float32": {"relative": 5e-6}}
TRAJECTORY = {"float64": {"scaled": 1e-13}, "float32": {"scaled": 2e-5}}
TRAJECTORY_SCALES = {"float64": {"scaled": 1e-14}, "float32": {"scaled": 1e-6}}
LOGITS = {"float64": {"scaled": 1e-14}, "float32": {"scaled": 4e-6}}

SOURCE = "float64 PyTorch with its autograd; log s(x) by mpmath; layout by tests/spec_decoder.py"


def rounded(values: Array, smallest: float = SMALLEST_ROUNDING_GAP) -> NDArray[np.float16]:
    """Return float16 numbers; raise if one is nearer than this to halfway between two."""
    half = values.astype(np.float16)
    spacing = np.spacing(half).astype(np.float64)
    from_edge = 0.5 - np.abs(values - half.astype(np.float64)) / spacing
    if from_edge.min() < smallest:
        raise ValueError(f"a scale is {from_edge.min():.1e} float16 units from a tie")
    return half


# --- the loss of the whole network and its gradients


def network_inputs(
    layout: Layout, bits: int, seed: int, batch: int, *, steps: int | None = None
) -> dict[str, Any]:
    """Return the arguments of loss_and_grads, or of some training steps."""
    draw, used = Draw(seed), layout.used()
    images, labels = mnist_test()
    chosen = draw.integers(steps or 1, batch, below=len(images))
    tau = np.where(used, draw.normal(*used.shape, scale=0.75), 0.0)
    phi = np.where(used, draw.normal(*used.shape), -np.inf)
    eps = draw.normal(steps or 1, *used.shape)
    if steps is None:
        chosen, eps = chosen[0], eps[0]
    return {
        **layout.inputs(),
        "bits": np.array(bits),
        "tau": tau,
        "phi": phi,
        "rho": SCALES_OF.get(layout.factors, SCALES),
        "eps": eps,
        "images": images[chosen],
        "labels": labels[chosen],
    }


def gradients(
    layout: Layout, inputs: dict[str, Any], forward: Forward = logits
) -> tuple[dict[str, Any], float]:
    """Return the outputs of loss_and_grads, and the distance from the nearest kink."""
    model, kinks = Model(layout, int(inputs["bits"]), forward), Kinks()
    tau = torch.tensor(inputs["tau"], requires_grad=True)
    phi = torch.tensor(inputs["phi"], requires_grad=True)
    change = torch.zeros(len(layout.shapes), dtype=torch.float64, requires_grad=True)
    rho = torch.tensor(inputs["rho"]) * torch.exp(change)
    loss = model.loss(tau, phi, rho, inputs["eps"], inputs["images"], inputs["labels"], kinks)
    loss.backward()
    outputs = {
        "loss": loss.detach().numpy(),
        "dtau": tau.grad.numpy(),
        "dphi": phi.grad.numpy(),
        "dlog_rho": change.grad.numpy(),
    }
    return outputs, kinks.gap


def network_case(
    name: str,
    layout: Layout,
    inputs: dict[str, Any],
    flags: tuple[str, ...] = (),
    note: str = "",
    since: str = "1.0",
) -> Case:
    """Return a case of loss_and_grads."""
    outputs, gap = gradients(layout, inputs)
    if gap < SMALLEST_KINK:
        raise ValueError(f"{name}: {gap:.1e} from a kink; take another seed")
    bound = CANCELLING if "cancelling" in flags else GRADIENT
    bounds = {"loss": LOSS, "dtau": bound, "dphi": bound, "dlog_rho": bound}
    dtypes = BOTH[:1] if "long-sums" in flags else BOTH
    return make_case(
        f"network/loss_and_grads/{name}",
        {k: compact(v) if v.dtype.kind == "f" else v for k, v in inputs.items()},
        outputs,
        {name: {d: b[d] for d in dtypes} for name, b in bounds.items()},
        dtypes=dtypes,
        gap=gap,
        flags=flags,
        note=note,
        since=since,
    )


def steep_inputs(layout: Layout, bits: int, seed: int, batch: int) -> dict[str, Any]:
    """Return inputs with means that take nearly all or nothing, and shares down to exp(-80)."""
    inputs, draw = network_inputs(layout, bits, seed, batch), Draw(seed + 1)
    used = layout.used()
    ends = np.array([-30.0, -8.0, 0.0, 8.0, 30.0, 1.0])
    inputs["tau"] = np.where(used, ends[draw.integers(*used.shape, below=len(ends))], 0.0)
    shares = np.array([-80.0, -20.0, -2.0, 0.0, 1.0, 2.0])
    inputs["phi"] = np.where(used, shares[draw.integers(*used.shape, below=len(shares))], -np.inf)
    return inputs


LAYOUTS = {
    # name: layout, bits, seed of the inputs, batch, flags, note
    "eight-variables": (
        Layout(3, 7, WHOLE_TENSORS, OUTPUTS, UNIT),
        5,
        701,
        2,
        ("short-block", "cancelling", "long-sums"),
        "each tensor is one variable: the layout of the complete file in docs/SPEC.md",
    ),
    "hundred-variables": (
        Layout(13, 9, FEW_FACTORS, OUTPUTS, UNIT),
        6,
        1402,
        2,
        ("short-block", "cancelling"),
        "111 variables in 9 blocks, the last of 7: small enough to follow by hand",
    ),
    "default-layout": (
        Layout(30, 1, DEFAULT_FACTORS, OUTPUTS, UNIT),
        14,
        102,
        4,
        (),
        "the layout of the shipped model; 26,580 variables fill 886 blocks",
    ),
    "short-last-block": (
        Layout(47, 2, SMALL_FACTORS, OUTPUTS, UNIT),
        14,
        103,
        4,
        ("short-block",),
        "3080 variables; the last block holds 25",
    ),
    "inputs-grouping": (
        Layout(40, 3, SMALL_FACTORS, INPUTS, UNIT),
        10,
        104,
        4,
        (),
        "weights that share a variable are neighbours among the inputs",
    ),
    "weight-signs": (
        Layout(44, 4, SMALL_FACTORS, OUTPUTS, WEIGHT),
        24,
        105,
        4,
        (),
        "a sign for each weight",
    ),
    "no-signs": (
        Layout(44, 5, SMALL_FACTORS, OUTPUTS, NONE),
        1,
        106,
        4,
        ("cancelling",),
        "1 bit a block",
    ),
    "factors-that-do-not-divide": (
        Layout(47, 2**32 - 1, UNEVEN_FACTORS, INPUTS, WEIGHT),
        14,
        107,
        4,
        ("short-block", "uneven"),
        "the last group of a tensor is short, and groups run over the ends of rows",
    ),
    "batch-1": (Layout(37, 6, FEW_FACTORS, OUTPUTS, UNIT), 8, 408, 1, ("cancelling",), "one image"),
    "batch-7": (
        Layout(37, 6, FEW_FACTORS, OUTPUTS, UNIT),
        8,
        209,
        7,
        ("cancelling",),
        "the loss is the mean over the batch, not the sum",
    ),
}
STEEP = Layout(44, 8, SMALL_FACTORS, OUTPUTS, UNIT)
NETWORK_NOTES = {
    "short-block": "unused places at the end of the last block: phi = -inf, tau = 0, gradients 0",
    "uneven": "hash factors that do not divide the number of weights of their tensors",
    "cancelling": "the gradient of a variable is a sum over many weights whose terms cancel",
    "long-sums": (
        "in float64 only: the gradient of a variable has 400,000 terms, of which float32 sums "
        "taken one after the other keep three digits"
    ),
    "branch-point": "x = r sech(tau) near 0, where s as a function of kappa has infinite slope",
    "not-finite": nonfinite.NOTES["not-finite"],
}


def network_cases() -> list[Case]:
    """Loss and gradients of the whole network."""
    cases = [
        network_case(name, layout, network_inputs(layout, bits, seed, batch), flags, note)
        for name, (layout, bits, seed, batch, flags, note) in LAYOUTS.items()
    ]
    note = "tau to +-30 and shares of a block down to 1e-36"
    inputs = steep_inputs(STEEP, 14, 110, 3)
    cases.append(network_case("steep-parameters", STEEP, inputs, ("branch-point",), note))
    layout, bits, seed, batch, flags, note = LAYOUTS["eight-variables"]
    flags = tuple(flag for flag in flags if flag != "long-sums")
    inputs, note = (
        network_inputs(layout, bits, seed, batch),
        "as eight-variables, summed in float64",
    )
    cases.append(network_case("eight-variables-in-both", layout, inputs, flags, note, "1.3"))
    return [*cases, *nan_cases()]


SPOILED = Layout(3, 7, WHOLE_TENSORS, OUTPUTS, UNIT)


def nan_cases() -> list[Case]:
    """Return the loss where one tensor's scale, and so all of its weights, are NaN."""
    inputs = network_inputs(SPOILED, 5, 701, 1)
    names = [f"{layer}-{kind}" for layer in ("conv1", "conv2", "dense1", "dense2")
             for kind in ("weight", "bias")]  # fmt: skip
    return [
        make_case(
            f"network/loss_and_grads/nan-in-{name}",
            {**inputs, "rho": nonfinite.marked(inputs["rho"], nonfinite.NAN, number)},
            {"loss": np.array(nonfinite.NAN)},
            {"loss": EXACT},
            dtypes=BOTH,
            flags=("not-finite",),
            note="no maximum and no ReLU may lose it on the way to the loss",
            since="1.3",
        )
        for number, name in enumerate(names)
    ]


# --- Adam


def adam(
    theta: Array, g: Array, m: Array, v: Array, step: NDArray[Any], rate: NDArray[Any]
) -> tuple[Array, Array, Array]:
    """Return theta, m and v behind step number `step` of torch.optim.Adam."""
    parameter = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([parameter], lr=float(rate), foreach=False)
    optimiser.state[parameter] = {
        "step": torch.tensor(float(step) - 1.0),
        "exp_avg": torch.tensor(m, dtype=torch.float64),
        "exp_avg_sq": torch.tensor(v, dtype=torch.float64),
    }
    parameter.grad = torch.tensor(g, dtype=torch.float64)
    optimiser.step()
    state = optimiser.state[parameter]
    moments = state["exp_avg"].numpy(), state["exp_avg_sq"].numpy()
    return parameter.detach().numpy(), *moments


def adam_inputs() -> dict[str, tuple[dict[str, Any], tuple[str, ...], bool, str]]:
    """Return theta, g, m, v, step and rate, with flags, whether float32 can hold it, and note."""
    draw, zero = Draw(201), np.zeros(4)
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    sizes = np.array([1e-3, -1e-1, 1.0, -100.0])
    # theta moves away from 0 and m has the sign of g: nothing cancels, each error is relative.
    away = -signs * (1.0 + np.abs(draw.normal(4)))

    def pose(
        theta: Array, g: Array, m: Array, v: Array, step: int, rate: float
    ) -> dict[str, NDArray[Any]]:
        step_and_rate = {"step": np.array(step), "rate": np.array(rate)}
        return {"theta": theta, "g": g, "m": m, "v": v, **step_and_rate}

    first = (
        "from 0, so that the step is seen whole: each moves by the rate, whatever the gradient's "
        "size, only if both moments are corrected by 1 - beta^step"
    )
    return {
        "first-step": (pose(zero, sizes, zero, zero, 1, 0.01), (), True, first),
        "second-step": (
            pose(zero, sizes, 0.1 * sizes, 0.001 * sizes**2, 2, 0.01),
            (),
            True,
            "the corrections are of the step's own number: 1 - beta^2",
        ),
        "step-1000": (
            pose(away, sizes, 0.5 * sizes, 2.0 * sizes**2, 1000, 0.03125),
            (),
            True,
            "1 - 0.999^1000 = 0.63 still corrects the second moment",
        ),
        "step-1000000": (
            pose(away, sizes, 0.25 * sizes, 0.75 * sizes**2, 1_000_000, 0.001),
            (),
            True,
            "both corrections are 1",
        ),
        "zero-gradient-first-step": (
            pose(away, zero, zero, zero, 1, 0.25),
            ("zero-gradient",),
            True,
            "0 / (0 + epsilon): nothing moves",
        ),
        "zero-gradient-later": (
            pose(zero, zero, sizes, sizes**2, 5, 0.25),
            ("zero-gradient",),
            True,
            "the moments decay and still move theta",
        ),
        "epsilon-outside-the-root": (
            pose(zero, signs * np.array([1e-7, 1e-8, 1e-9, 1e-10]), zero, zero, 1, 0.5),
            ("tiny-gradient",),
            True,
            "gradients about 1e-8: epsilon is added to the root of v, corrected before",
        ),
        "tiny-gradients": (
            pose(zero, signs * 1e-15, zero, zero, 1, 0.5),
            ("tiny-gradient",),
            True,
            "the step is the gradient over epsilon",
        ),
        "huge-gradients": (
            pose(zero, signs * 1e18, zero, zero, 1, 0.5),
            ("huge-gradient",),
            True,
            "the square of the gradient is near the end of float32",
        ),
        "gradients-of-1e-150": (
            pose(zero, signs * 1e-150, zero, zero, 1, 0.5),
            ("tiny-gradient",),
            False,
            "the square is near the end of float64",
        ),
        "gradients-of-1e150": (
            pose(zero, signs * 1e150, zero, zero, 1, 0.5),
            ("huge-gradient",),
            False,
            "the square is near the end of float64",
        ),
        "two-axes": (
            pose(
                draw.normal(3, 5) + 8.0,
                np.abs(draw.normal(3, 5)) + 0.125,
                np.abs(draw.normal(3, 5)),
                draw.normal(3, 5) ** 2,
                17,
                0.0625,
            ),
            (),
            True,
            "arrays of any shape, element by element",
        ),
    }


ADAM_NOTES = {
    "zero-gradient": "the gradient is exactly 0",
    "tiny-gradient": "epsilon = 1e-8 decides the size of the step",
    "huge-gradient": "the squared gradient comes near the overflow",
    **nonfinite.NOTES,
}


def adam_cases() -> list[Case]:
    """One step of Adam."""
    cases = []
    for name, (inputs, flags, fits, note) in adam_inputs().items():
        dtypes = BOTH if fits else BOTH[:1]
        if fits:
            inputs |= {k: single(v) for k, v in inputs.items() if k != "step"}
        bounds = {"new_theta": STEP, "new_m": MOMENT, "new_v": MOMENT}
        cases.append(
            make_case(
                f"optimiser/adam_step/{name}",
                inputs,
                dict(zip(bounds, adam(**inputs), strict=True)),
                {output: {d: b[d] for d in dtypes} for output, b in bounds.items()},
                dtypes=dtypes,
                flags=flags,
                note=note,
            )
        )
    return [*cases, *nonfinite_adam_cases()]


def nonfinite_adam_inputs() -> dict[str, tuple[Any, str, tuple[str, ...], str]]:
    """Return theta, g, m and v, with a flag, precisions and note."""
    nan, inf = nonfinite.NAN, nonfinite.INF
    ones, zero = np.ones(6), np.zeros(6)
    moments = 1024.0 * np.array([1.0, -2.0, 3.0, 64.0, -5.0, 512.0])
    return {
        "nan-in-theta": (
            (nonfinite.marked(ones, nan, 1), ones, zero, zero),
            "not-finite",
            BOTH,
            "of one element: the others move as ever",
        ),
        "gradient-not-finite": (
            (ones, np.array([1.0, nan, inf, -inf, -2.0, 0.5]), zero, zero),
            "not-finite",
            BOTH,
            "an infinite gradient leaves inf / inf",
        ),
        "nan-in-the-mean": (
            (ones, ones, nonfinite.marked(ones, nan, 1), ones),
            "not-finite",
            BOTH,
            "it never becomes a number again",
        ),
        "variance-not-finite": (
            (ones, ones, zero, np.array([1.0, nan, inf, 2.0, 4.0, 0.5])),
            "not-finite",
            BOTH,
            "divided by inf, a step is 0",
        ),
        "minus-zero": ((zero, -zero, -zero, zero), "signed-zero", BOTH, "0 / (0 + epsilon)"),
        **{
            name: (
                (ones, zero, moments * least, np.abs(moments) * least),
                "denormal",
                dtypes,
                "moments decay and do not vanish; to a unit or two of the smallest number",
            )
            for name, least, dtypes in nonfinite.DENORMALS
        },
    }


def nonfinite_adam_cases() -> list[Case]:
    """One step of Adam whose arguments are not finite, zeros of either sign, or subnormal."""
    smallest = {"float64": {"absolute": 2 * nonfinite.TINIEST}}
    smallest["float32"] = {"absolute": 2 * nonfinite.TINY}
    cases = []
    for name, (values, flag, dtypes, note) in nonfinite_adam_inputs().items():
        inputs = dict(zip(("theta", "g", "m", "v"), values, strict=True))
        inputs |= {"step": np.array(3), "rate": np.array(0.25)}
        moment = smallest if flag == "denormal" else MOMENT
        bounds = {"new_theta": STEP, "new_m": moment, "new_v": moment}
        if flag == "signed-zero":
            bounds = {output: dict.fromkeys(dtypes, EXACT) for output in bounds}
        cases.append(
            make_case(
                f"optimiser/adam_step/{name}",
                inputs,
                dict(zip(bounds, adam(**inputs), strict=True)),
                {output: {d: b[d] for d in dtypes} for output, b in bounds.items()},
                dtypes=dtypes,
                flags=(flag,),
                note=note,
                since="1.3",
            )
        )
    return cases


# --- some steps of training


def train(
    layout: Layout, inputs: dict[str, Any], first_gap: float = SMALLEST_ROUNDING_GAP
) -> tuple[dict[str, Any], float]:
    """Return the outputs of train_steps, and the distance from the nearest kink.

    The first scales may be as near as `first_gap` to a tie, in units of float16.
    """
    model, kinks = Model(layout, int(inputs["bits"])), Kinks()
    tau, phi, log_rho = (
        torch.tensor(inputs[name], requires_grad=True) for name in ("tau", "phi", "log_rho")
    )
    optimiser = torch.optim.Adam(
        [{"params": [tau, phi]}, {"params": [log_rho]}], lr=1.0, foreach=False
    )
    scale_rate, losses = float(inputs["scale_rate"]), []
    for step, rate in enumerate(inputs["rates"].tolist()):
        optimiser.param_groups[0]["lr"] = rate
        optimiser.param_groups[1]["lr"] = scale_rate * rate
        optimiser.zero_grad()
        gap = SMALLEST_ROUNDING_GAP if step else first_gap
        half = rounded(np.exp(log_rho.detach().numpy()), gap).astype(np.float64)
        # Straight through: the value is the rounded one, the slope that of exp.
        rho = torch.tensor(half) * torch.exp(log_rho - log_rho.detach())
        loss = model.loss(
            tau,
            phi,
            rho,
            inputs["eps"][step],
            inputs["images"][step],
            inputs["labels"][step],
            kinks,
        )
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    outputs = {
        "losses": np.array(losses),
        "new_tau": tau.detach().numpy(),
        "new_phi": phi.detach().numpy(),
        "new_log_rho": log_rho.detach().numpy(),
    }
    return outputs, kinks.gap


TRAJECTORIES = {
    # name: layout, bits, seed of the inputs, steps, batch, rates, flags, note
    "six-steps": (
        Layout(44, 11, SMALL_FACTORS, OUTPUTS, UNIT),
        14,
        311,
        6,
        3,
        (0.03125, 0.03125, 0.015625, 0.015625, 0.0078125, 0.0078125),
        (),
        "the rate falls twice",
    ),
    "short-last-block": (
        Layout(47, 12, SMALL_FACTORS, INPUTS, WEIGHT),
        10,
        302,
        4,
        2,
        (0.015625, 0.03125, 0.0625, 0.03125),
        ("short-block",),
        "unused places stay at phi = -inf",
    ),
    "hundred-variables": (
        Layout(13, 9, FEW_FACTORS, OUTPUTS, UNIT),
        6,
        383,
        5,
        2,
        (0.125, 0.0625, 0.125, 0.0625, 0.03125),
        ("short-block",),
        "small enough to follow by hand",
    ),
}
TRAJECTORY_NOTES = {
    "short-block": "unused places at the end of the last block: phi = -inf",
    "rounding": "a scale next to halfway between two float16",
}


# exp of each is next to halfway between two float16: rounded to float32 first, it becomes the tie,
# and then goes the other way.
NEXT_TO_TIES = np.array([
    *(-2.0731139183044434, -5.966763019561768, -4.152555465698242, -5.911032199859619),
    *(-4.845702648162842, -5.743545055389404, -3.4594082832336426, -2.0731139183044434),
])  # fmt: skip
ROUNDED_TWICE = {
    "scales-next-to-ties": (
        Layout(13, 10, FEW_FACTORS, OUTPUTS, UNIT),
        6,
        391,
        2,
        2,
        (0.125, 0.0625),
        ("rounding",),
        "float64 to float16 in one rounding, not by way of float32",
    )
}


def trajectory_cases() -> list[Case]:
    """Return some steps of Adam on fresh noise and images."""
    entries = {**TRAJECTORIES, **ROUNDED_TWICE}
    cases = []
    for name, (layout, bits, seed, steps, batch, rates, flags, note) in entries.items():
        inputs = network_inputs(layout, bits, seed, batch, steps=steps)
        log_rho = np.log(inputs.pop("rho")) + Draw(seed + 1).normal(len(SHAPES), scale=0.125)
        tau, phi, eps, images, labels = (
            inputs.pop(k) for k in ("tau", "phi", "eps", "images", "labels")
        )
        inputs |= {
            "tau": tau,
            "phi": phi,
            "log_rho": log_rho.astype(np.float32).astype(np.float64),
            "eps": eps,
            "images": images,
            "labels": labels,
            "rates": np.array(rates),
            "scale_rate": np.array(0.25),
        }
        if name in ROUNDED_TWICE:
            inputs["log_rho"] = NEXT_TO_TIES
        outputs, gap = train(
            layout, inputs, 0.0 if name in ROUNDED_TWICE else SMALLEST_ROUNDING_GAP
        )
        if gap < SMALLEST_KINK:
            raise ValueError(f"{name}: {gap:.1e} from a kink; take another seed")
        bounds = {
            "losses": TRAJECTORY_LOSS,
            "new_tau": TRAJECTORY,
            "new_phi": TRAJECTORY,
            "new_log_rho": TRAJECTORY_SCALES,
        }
        cases.append(
            make_case(
                f"trajectory/train_steps/{name}",
                {k: compact(v) if v.dtype.kind == "f" else v for k, v in inputs.items()},
                outputs,
                bounds,
                dtypes=BOTH,
                gap=gap,
                flags=flags,
                note=note,
                since="1.3" if name in ROUNDED_TWICE else "1.0",
            )
        )
    return cases


# --- predictions of files


def predict(data: bytes, images: NDArray[np.uint8]) -> Array:
    """Return the logits (10, images) of a file's network."""
    decoded, network = spec_decoder.decode(data), spec_decoder.parse(data).network
    weights = [
        torch.tensor(decoded[name], dtype=torch.float64).reshape(shape)
        for name, shape in spec_decoder.NETWORKS[network]
    ]
    with torch.no_grad():
        z = logits(weights, images) if network == 1 else logits_300_100(weights, images)
        return np.ascontiguousarray(z.numpy().T)


def logits_300_100(weights: list[torch.Tensor], pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Return the logits (images, 10) of network 2."""
    x = torch.tensor(pixels, dtype=torch.float64).flatten(1) / 255.0 - 0.5
    w1, b1, w2, b2, w3, b3 = weights
    x = torch.relu(torch.nn.functional.linear(x, w1.T, b1))
    x = torch.relu(torch.nn.functional.linear(x, w2.T, b2))
    return torch.nn.functional.linear(x, w3.T, b3)


def checked_file() -> bytes:
    """Return the fourth file of docs/SPEC.md, section 10: 44 bytes, layout INPUTS, no signs."""
    header = b"RMC" + bytes([1, 1, 0, 0x01, 1])
    factors = (1, 3, 2, 50, 64, 500, 1, 1)
    blocks = -(-sum(spec_decoder.variables_of(factors)) // 1000)
    varints = b"".join(varint(n) for n in (1000, 0, *factors))
    scales = b"".join((0x2400 + 111 * t).to_bytes(2, "little") for t in range(len(factors)))
    indices = "".join(str(b * 2654435761 % 2**32 >> 31) for b in range(blocks))
    indices += "0" * (-blocks % 8)
    body = header + varints + scales + int(indices, 2).to_bytes(len(indices) // 8, "big")
    return body + zlib.crc32(body).to_bytes(4, "little")


def varint(n: int) -> bytes:
    """Return section 2.2's form of an integer."""
    return bytes([n]) if n < 128 else bytes([n % 128 + 128]) + varint(n // 128)


def prediction_case(
    name: str, data: bytes, images: NDArray[np.uint8], smallest: float, note: str, **more: Any
) -> Case:
    """Return the case of the images whose classes are clear by `smallest`."""
    z = predict(data, images)
    ordered = np.sort(z, axis=0)
    gaps = ordered[-1] - ordered[-2]
    clear = gaps >= smallest
    return make_case(
        f"predictions/predict/{name}",
        {"data": data, "images": images[clear]},
        {"logits": z[:, clear], "classes": z[:, clear].argmax(axis=0)},
        {"logits": LOGITS, "classes": {"exact": 0}},
        dtypes=BOTH,
        gap=float(gaps[clear].min()),
        note=note,
        **more,
    )


def prediction_cases() -> list[Case]:
    """Logits and classes of MNIST test images."""
    images, _ = mnist_test()
    shipped = MODEL.read_bytes()
    damaged = bytearray(shipped)
    damaged[100] ^= 1
    refused = make_case(
        "predictions/predict/damaged-file",
        {"data": bytes(damaged), "images": images[:1]},
        dtypes=BOTH,
        fault="a bit of an index is flipped, so the checksum is wrong",
    )
    return [
        prediction_case(
            "shipped-model",
            shipped,
            images[:64],
            SMALLEST_LOGIT_GAP,
            "data/models/lenet5-1551.rmc on the first MNIST test images",
        ),
        prediction_case(
            "inputs-grouping-no-signs",
            checked_file(),
            images[100:108],
            SMALLEST_UNTRAINED_GAP,
            "the untrained file of 44 bytes in docs/SPEC.md, section 10",
        ),
        refused,
        prediction_case(
            "lenet-300-100",
            assemble(FILE_OF_NETWORK_2),
            images[200:216],
            SMALLEST_UNTRAINED_GAP,
            "an untrained file of lenet-300-100",
            since="1.2",
        ),
        prediction_case(
            "lenet-300-100-gprs-d",
            of_the_document(*OF_NETWORK_2[1]),
            images[300:316],
            SMALLEST_UNTRAINED_GAP,
            "the untrained file of docs/SPEC.md, section 10.2",
            since="1.2",
        ),
    ]


def write(golden: Path) -> None:
    """Write the golden files of the four stages."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    autograd = "float64 PyTorch"
    parts = (
        ("network", "loss_and_grads", SOURCE, NETWORK_NOTES, network_cases),
        ("optimiser", "adam_step", f"{autograd}, torch.optim.Adam", ADAM_NOTES, adam_cases),
        (
            "trajectory",
            "train_steps",
            f"{SOURCE}; torch.optim.Adam",
            TRAJECTORY_NOTES,
            trajectory_cases,
        ),
        (
            "predictions",
            "predict",
            f"{autograd} on the weights that tests/spec_decoder.py decodes",
            {},
            prediction_cases,
        ),
    )
    for stage, operation, source, notes, make in parts:
        write_file(golden, stage, operation, source=source, notes=notes, cases=make())
