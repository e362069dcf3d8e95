"""How many digits formulas keep to the ends of their ranges.

    python tools/figures/scan_formulas.py

Each formula of both engines, by its name in the conformance suite, and the masses that encoders
draw with, are evaluated on a grid and held against mpmath.  An error is relative, in units of
2^-53 for float64 and 2^-24 for float32.  Beside it stands the condition number: by how much more
than itself a relative change of the inputs changes the result.  An error of about
1 + condition is what rounding the inputs alone would do; `lost` is the error over that.

Results below the normal numbers of the precision may be flushed to 0, and those above the largest
be infinite.  ``--every N`` takes each Nth point, ``--only NAME ...`` some formulas; ``--markdown``
prints the table of docs/derivations.md.  Needs mpmath.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np
import scan_exact as exact
import scan_grids as grids
from mpmath import mpf

from refmiracle.codes import lengths
from refmiracle.conformance.engine_backend import EngineBackend, numba_backend, numpy_backend
from refmiracle.engines.numba_engine import unimodal as numba_unimodal
from refmiracle.engines.numpy_engine import orc_pfr, unimodal

Point = dict[str, Any]
DIGITS, CHANGE = 60, mpf(10) ** -20
UNITS = {"float64": 2.0**-53, "float32": 2.0**-24}
ENGINES = {"numpy": "float64", "numba": "float32"}


@dataclass(frozen=True)
class Formula:
    """A formula, its grid, and who computes it.

    Attributes
    ----------
    functions : dict
        Engine -> function, for what is no operation of the suite.
    double : bool
        Whether float64 goes in and comes out in both engines.
    """

    name: str
    outputs: str
    points: Callable[[], list[Point]]
    digits: int = DIGITS
    functions: dict[str, Callable[..., Any]] | None = None
    double: bool = False

    def function(self, engine: str) -> Callable[..., Any] | None:
        """Return what computes it, None where the engine has no code of its own for it."""
        if self.functions is not None:
            return self.functions.get(engine)
        return getattr(backend(engine), self.name)  # type: ignore[no-any-return]


def backend(engine: str) -> EngineBackend:
    """Return the engine under the names of the suite."""
    return numba_backend() if engine == "numba" else numpy_backend()


def numpy_residual(delta: Any, log_s: Any, log_level: Any) -> Any:
    """Return R(L) of the reference."""
    return unimodal.residual(unimodal.gaussian_target(float(delta[0]), float(log_s[0])), log_level)


def numba_residual(delta: Any, log_s: Any, log_level: Any) -> Any:
    """Return R(L) of the compiled encoders."""
    target = numba_unimodal.gaussian_target(float(delta[0]), float(log_s[0]))
    return np.array([numba_unimodal.residual(target, float(np.exp(log_level[0])), -np.inf, np.inf)])


def of_both(function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Return a function that both engines call."""
    return {"numpy": function}


FORMULAS = (
    Formula("log_s", "log_s", lambda: grids.points(x=[0.0, *grids.powers(-307, 150, 400)])),
    Formula("ds_dx", "slope", lambda: grids.points(x=[0.0, *grids.powers(-307, 1.4, 400)])),
    Formula("gaussian_kl", "kl", grids.gaussian_points, 400),
    Formula("mean_kl", "delta log_s", grids.mean_kl_points),
    Formula("mean_kl_forward", "w", grids.sample_points),
    Formula("mean_kl_backward", "dtau dphi dlog_rho", grids.gradient_points),
    Formula("mean_var_forward", "w", lambda: without(grids.mean_var_points(), "rho beta g")),
    Formula("mean_var_backward", "dmu dlog_sigma dlog_rho",
            lambda: grids.one_block(grids.mean_var_points())),
    Formula("softmax_cross_entropy", "losses dlogits", grids.logit_points, 100),
    Formula("group_norm", "y", grids.norm_points),
    Formula("group_norm_backward", "dx dgain dbias", grids.norm_gradient_points),
    Formula("adam_step", "new_theta new_m new_v", grids.adam_points, 400),
    Formula("log_weights", "log_w", grids.ratio_points),
    Formula("normal_quantile", "z", grids.quantile_points, double=True),
    Formula("exponentials", "E", grids.word_points, functions=of_both(orc_pfr.exponentials)),
    Formula("log_suprema", "log_sup", grids.supremum_points,
            functions=of_both(orc_pfr.log_suprema)),
    Formula("log_mass_within", "log_mass", grids.mass_points, 400,
            functions=of_both(orc_pfr.log_mass_within)),
    Formula("residual", "R", grids.residual_points, double=True,
            functions={"numpy": numpy_residual, "numba": numba_residual}),
    Formula("log_geometric_bits", "bits", grids.length_points, 400, functions=of_both(
        lambda n, theta: lengths.log_geometric_bits(n, float(theta[0])))),
    Formula("log_geometric_mean_bits", "bits", grids.mean_length_points, 400, functions=of_both(
        lambda mean_exponent: lengths.log_geometric_mean_bits(float(mean_exponent[0])))),
    Formula("zipf_bits", "bits", grids.zipf_points, functions=of_both(
        lambda n, exponent: lengths.zipf_bits(n, float(exponent[0])))),
)  # fmt: skip


def without(points: list[Point], names: str) -> list[Point]:
    """Return points without some arguments, each once."""
    left = [{k: v for k, v in p.items() if k not in names.split()} for p in points]
    return list({place(p, 0): p for p in left}.values())


@dataclass
class Found:
    """The worst of one result of a formula in one engine.

    Attributes
    ----------
    error, condition, where
        The worst error, in units of the precision, with its condition number.
    lost, lost_where
        The worst error over 1 + condition.
    elements : int
        How many numbers were held against exact ones.
    """

    formula: str
    output: str
    engine: str
    error: float = 0.0
    condition: float = 0.0
    where: str = ""
    lost: float = 0.0
    lost_where: str = ""
    elements: int = 0

    def meet(self, error: float, condition: float, point: Point, element: int) -> None:
        """Take one more element into account."""
        self.elements += 1
        if not error <= self.error:
            self.error, self.condition, self.where = error, condition, place(point, element)
        if not error / (1.0 + condition) <= self.lost:
            self.lost, self.lost_where = error / (1.0 + condition), place(point, element)


def place(point: Point, element: int) -> str:
    """Return a point in short."""
    return " ".join(f"{k}={np.ravel(v).tolist()}" for k, v in point.items()) + f" [{element}]"


def fits(point: Point, dtype: str) -> bool:
    """Tell whether all of a point's floats are 0 or normal numbers of a precision."""
    info = np.finfo(dtype)
    floats = (np.abs(v) for v in point.values() if v.dtype.kind == "f")
    return all(np.all((v == 0.0) | ((v >= info.tiny) & (v <= info.max))) for v in floats)


def evaluate(name: str, point: Point) -> list[list[Any]]:
    """Return the exact results."""
    lists = {k: [mpf(x) for x in np.ravel(v).tolist()] for k, v in point.items()}
    return [list(out) for out in getattr(exact, name)(**lists)]


def conditions(name: str, point: Point, want: list[list[Any]]) -> list[list[float]]:
    """Return for each element of the results the sum of |x / f df/dx| over all floats x."""
    lists = {k: [mpf(x) for x in np.ravel(v).tolist()] for k, v in point.items()}
    sums = [[mpf(0)] * len(out) for out in want]
    for key, values in lists.items():
        for i, x in enumerate(values if point[key].dtype.kind == "f" else []):
            if x == 0:
                continue
            moved = {
                **lists,
                key: [v * (1 + CHANGE) if i == j else v for j, v in enumerate(values)],
            }
            for total, out, base in zip(sums, getattr(exact, name)(**moved), want, strict=True):
                for k, (a, b) in enumerate(zip(out, base, strict=True)):
                    total[k] += abs((a - b) / b) / CHANGE if b else 0
    return [[float(min(x, mpf(10) ** 300)) for x in total] for total in sums]


def error_of(got: float, want: Any, dtype: str) -> float:
    """Return the relative error in units, not counting what may be flushed or overflow."""
    info = np.finfo(dtype)
    if abs(want) > float(info.max) * (1.0 - 2.0 * float(info.eps)):
        return 0.0 if np.isinf(got) and (got > 0) == (want > 0) else np.inf
    if not np.isfinite(got):
        return np.inf
    distance = max(abs(mpf(float(got)) - want) - mpf(float(info.tiny)), mpf(0))
    if not distance:
        return 0.0
    return float(distance / abs(want) / UNITS[dtype]) if want else np.inf


def scan(formula: Formula, every: int = 1) -> Iterator[Found]:
    """Yield what was found for each engine that has the formula, and each of its results."""
    points, answers = formula.points()[::every], {}
    for engine, own in ENGINES.items():
        function, dtype = formula.function(engine), "float64" if formula.double else own
        if function is None:
            continue
        found = [Found(formula.name, output, engine) for output in formula.outputs.split()]
        for number, point in enumerate(points):
            if not fits(point, dtype):
                continue
            with mpmath.workdps(formula.digits):
                if number not in answers:
                    want = evaluate(formula.name, point)
                    answers[number] = want, conditions(formula.name, point, want)
                meet(found, function, point, answers[number], dtype)
        yield from found


def meet(found: list[Found], function: Any, point: Point, answer: Any, dtype: str) -> None:
    """Hold the results of a function at a point against the exact ones."""
    inputs = {k: v.astype(dtype) if v.dtype.kind == "f" else v for k, v in point.items()}
    with np.errstate(all="ignore"):
        results = function(**inputs)
    results = results if isinstance(results, tuple) else (results,)
    for own, got, want, condition in zip(found, results, *answer, strict=True):
        rows = zip(np.ravel(got).tolist(), want, condition, strict=True)
        for element, (a, b, c) in enumerate(rows):
            own.meet(error_of(a, b, dtype), c, point, element)


def positive(text: str) -> int:
    """Return an integer of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected an integer of 1 or more")
    return int(text)


def main() -> None:
    """Print the worst of each formula."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [f.name for f in FORMULAS]
    parser.add_argument("--every", type=positive, default=1)
    parser.add_argument("--only", nargs="+", default=names, choices=names)
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    if arguments.markdown:
        print("| formula | result | engine | worst error | condition there | lost |")
        print("|---|---|---|---|---|---|")
    chosen = (f for f in FORMULAS if f.name in arguments.only)
    for found in itertools.chain.from_iterable(scan(f, arguments.every) for f in chosen):
        numbers = [f"{x:.2g}" for x in (found.error, found.condition, found.lost)]
        row = [f"`{found.formula}`", found.output, found.engine, *numbers]
        print(f"| {' | '.join(row)} |" if arguments.markdown else line(found, numbers), flush=True)


def line(found: Found, numbers: list[str]) -> str:
    """Return a line of the plain output, and where its worst errors were met."""
    head = f"{found.formula:24}{found.output:11}{found.engine:6}"
    worst = "  ".join(
        f"{label} {number:>8}"
        for label, number in zip(("error", "condition", "lost"), numbers, strict=True)
    )
    places = ("error", found.where), ("lost", found.lost_where)
    return "\n".join([f"{head} {worst}", *(f"    {label} at {at}" for label, at in places if at)])


if __name__ == "__main__":
    main()
