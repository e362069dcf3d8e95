"""Other constructions of Mean-KL, side by side, for docs/STUDY.md.

    python tools/figures/constructions.py mean-kl erf algebraic+falling mean-var --seeds 0 1

Each trains as the study `convergence` does, and is looked at on the validation images every 250
steps, through samples of the posterior and of running averages of its free parameters
(`averaged_courses.py`).  `mean-kl` and `mean-var` are the package's own; `softmax` is Mean-KL by
the code below, which differs in rounding alone.  The others differ from it in one thing,
`CONSTRUCTIONS` says in which, or in two with a plus between.  Prints a line of JSON for each
training and horizon.  The test images are not opened.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.special
from averaged_courses import TARGETS, courses_of

from refmiracle.commands.running import run_command
from refmiracle.errors import InputError
from refmiracle.posterior.mean_kl import MeanKL
from refmiracle.posterior.parameterizations import COMPARED, MEAN_KL
from refmiracle.studies.comparison import COMPARISONS
from refmiracle.training.choosing import check_settings
from refmiracle.training.data import default_folder, load_split, split_validation
from refmiracle.training.settings import LONGEST

ERF = math.sqrt(math.pi) / 2
NEAREST = 0.999
LAST = 4  # looks at the validation images, of which the error at the end is the mean


@dataclass(frozen=True)
class Map:
    """A free parameter's way to tau or phi: the value, its slope, and the way back."""

    value: Callable
    slope: Callable
    back: Callable


def erf_slope(x):
    """Return d/dx artanh(erf(ERF x)) = exp(-(ERF x)^2) / (1 - erf^2)."""
    z = ERF * x
    return np.exp(-(z**2)) / (scipy.special.erfc(z) * scipy.special.erfc(-z))


def erf_value(x):
    """Return artanh(erf(ERF x)), from the tails that do not cancel."""
    z = ERF * x
    return 0.5 * (np.log(scipy.special.erfc(-z)) - np.log(scipy.special.erfc(z)))


def clip_value(x):
    """Return artanh of x, cut off near 1."""
    return np.arctanh(np.clip(x, -NEAREST, NEAREST))


def clip_slope(x):
    """Return 1 / (1 - m^2): a straight gradient, that of m itself, whatever is cut off."""
    return 1 / (1 - np.clip(x, -NEAREST, NEAREST) ** 2)


# delta = r m(x): each m has slope 1 at 0, and tau = artanh(m(x)).
MEANS = {
    "tanh": Map(lambda x: x, np.ones_like, lambda t: t),
    "erf": Map(erf_value, erf_slope, lambda t: scipy.special.erfinv(np.tanh(t)) / ERF),
    "algebraic": Map(np.arcsinh, lambda x: 1 / np.sqrt(1 + x**2), np.sinh),
    "clip": Map(clip_value, clip_slope, np.tanh),
}
# kappa_i / C = f(y_i) / sum f: phi = log f(y).
SHARES = {
    "softmax": Map(lambda y: y, np.ones_like, lambda p: p),
    "softplus": Map(
        lambda y: np.log(np.logaddexp(0, y)),
        lambda y: scipy.special.expit(y) / np.logaddexp(0, y),
        lambda p: np.log(np.expm1(np.exp(p))),
    ),
    "sigmoid": Map(
        lambda y: -np.logaddexp(0, -y),
        lambda y: scipy.special.expit(-y),
        np.zeros_like,  # half of the way up: at the beginning all shares are equal
    ),
}


@dataclass(frozen=True)
class Construction:
    """What differs from the package's Mean-KL; times are shares of the training.

    Attributes
    ----------
    mean, shares : str
        Of MEANS and SHARES.
    by_tensor : bool
        One share for all variables of a tensor.
    times, falling_until : float
        How many times the budget it begins with, and until when that falls, as a parabola does.
    moving_until : float
        Until when budgets move between blocks, while their sum stays.
    noise_until : float
        Until when the noise grows from nothing.
    fisher : bool
        Steps are measured in the posterior's standard deviations.
    projected : bool
        Free are delta and log s; a factor on the variances of a block spends its budget.
    """

    mean: str = "tanh"
    shares: str = "softmax"
    by_tensor: bool = False
    times: float = 1.0
    falling_until: float = 0.0
    moving_until: float = 0.0
    noise_until: float = 0.0
    fisher: bool = False
    projected: bool = False


CONSTRUCTIONS = {
    "softmax": {},
    "erf": {"mean": "erf"},
    "algebraic": {"mean": "algebraic"},
    "clip": {"mean": "clip"},
    "softplus": {"shares": "softplus"},
    "sigmoid": {"shares": "sigmoid"},
    "tensors": {"by_tensor": True},
    "falling": {"times": 7.0, "falling_until": 0.4},
    "moving": {"moving_until": 0.3},
    "noise": {"noise_until": 0.2},
    "fisher": {"fisher": True},
    "projected": {"projected": True},
}


class Constructed(MeanKL):
    """A `Construction`; the parameters tau and phi are what the maps have before them."""

    def begin(self, construction, steps):
        """Say what it is, and how long a training."""
        object.__setattr__(self, "of", construction)
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "clock", np.zeros(1, np.int64))
        return self

    def initial(self, seed, spread, rho):
        """Return what the maps take to where Mean-KL begins."""
        start = super().initial(seed, spread, rho)
        with np.errstate(all="ignore"):
            x, y = MEANS[self.of.mean].back(start["tau"]), SHARES[self.of.shares].back(start["phi"])
        y = np.where(self.places.used, y, -np.inf)
        return {"tau": x.astype(self.engine.dtype), "phi": y.astype(self.engine.dtype)}

    def elapsed(self, until):
        """Return how much of the time `until` has passed, from 0 to 1."""
        return min(1.0, self.clock[0] / (until * self.steps)) if until else 1.0

    def total(self):
        """Return the budget of all blocks, nats."""
        left = (1.0 - self.elapsed(self.of.falling_until)) ** 2
        return self.budget * (1.0 + (self.of.times - 1.0) * left) * len(self.places.used)

    def engine_side(self, parameters):
        """Return tau and phi as for one block of all, and the share of each within its block."""
        with np.errstate(all="ignore"):
            tau = MEANS[self.of.mean].value(np.float64(parameters["tau"]))
            phi = SHARES[self.of.shares].value(np.float64(parameters["phi"]))
        phi[~self.places.used] = -np.inf
        sums = scipy.special.logsumexp(phi, axis=1, keepdims=True)
        share = np.exp(phi - sums)
        phi = phi - self.elapsed(self.of.moving_until) * sums
        dtype = self.engine.dtype
        return tau.astype(dtype).reshape(1, -1), phi.astype(dtype).reshape(1, -1), share

    def sample(self, parameters, rho, seed, row, w, eps):
        """Fill eps and w, as `Parameterization.sample` does; a row of training is its step."""
        if row <= LONGEST:
            self.clock[0] = row
        super().sample(parameters, rho, seed, row, w, eps)  # for its noise
        if row <= LONGEST:
            np.multiply(eps, eps.dtype.type(self.elapsed(self.of.noise_until)), out=eps)
        delta, log_s = self.whitened(parameters, rho)
        w[:] = rho * (delta + np.exp(0.5 * log_s) * eps)

    def mirrored(self, parameters, rho, eps):
        """Return w = mu - sigma eps."""
        delta, log_s = self.whitened(parameters, rho)
        return rho * (delta - np.exp(0.5 * log_s) * eps)

    def whitened(self, parameters, rho):
        """Return delta and log s."""
        tau, phi, _ = self.engine_side(parameters)
        pair = self.engine.mean_kl(tau, phi, self.total())
        return tuple(a.reshape(rho.shape) for a in pair)

    def gradients(self, parameters, rho, eps, g):
        """Return dL/d(parameters) and dL/dlog rho of each place."""
        tau, phi, share = self.engine_side(parameters)
        rho, eps, g = (np.ascontiguousarray(a).reshape(1, -1) for a in (rho, eps, g))
        found = self.engine.mean_kl_backward(tau, phi, rho, self.total(), eps, g)
        dtau, dphi, dlog_rho = (np.float64(a).reshape(share.shape) for a in found)
        dphi -= self.elapsed(self.of.moving_until) * share * dphi.sum(axis=1, keepdims=True)
        with np.errstate(all="ignore"):
            dx = dtau * MEANS[self.of.mean].slope(np.float64(parameters["tau"]))
            dy = dphi * SHARES[self.of.shares].slope(np.float64(parameters["phi"]))
        return dx, dy, dlog_rho

    def update(self, parameters, moments, rho, eps, g, step, rates, dlog_rho, mirrored=None):
        """Take a step of Adam, as `Parameterization.update` does."""
        used, tensor = self.places.used, self.places.tensor_of_place
        dx, dy, drho = self.gradients(parameters, rho, eps, g)
        if mirrored is not None:
            others = self.gradients(parameters, rho, -eps, mirrored)
            dx, dy, drho = np.mean([(dx, dy, drho), others], axis=0)
        if self.of.by_tensor:
            dy = (np.bincount(tensor[used], dy[used]) / np.bincount(tensor[used]))[tensor]
        dlog_rho[:] = np.bincount(tensor[used], drho[used], len(dlog_rho))
        units = self.units(parameters) if self.of.fisher else (1.0, 1.0)
        for name, slope, rate, unit in zip(("tau", "phi"), (dx, dy), rates, units, strict=True):
            old = np.where(used, parameters[name], 0).astype(g.dtype)
            d = np.where(used, slope * unit, 0).astype(g.dtype)
            new, m, v = self.engine.adam_step(old, d, *moments[name], step, rate)
            moments[name] = m, v
            moved = np.where(used, old + unit * (new - old), parameters[name])
            parameters[name] = moved.astype(g.dtype)

    def units(self, parameters):
        """Yield what steps of tau and of phi move Q by one standard deviation, over their mean.

        By the Fisher information of N(delta, s), d_delta^2 / s + (d log s)^2 / 2; of phi without
        the sum of the softmax.
        """
        tau, _, share = self.engine_side(parameters)
        t, r = np.tanh(tau.reshape(share.shape)), np.sqrt(2.0 * self.budget * share)
        x = (r * np.sqrt(1.0 - t**2)).astype(self.engine.dtype)
        s = np.exp(np.float64(self.engine.log_s(x)))
        by_x = self.engine.ds_dx(x) / s
        for d_delta, dx in ((r * (1.0 - t**2), -x * t), (0.5 * r * t, 0.5 * x)):
            fisher = np.sqrt(d_delta**2 / s + 0.5 * (by_x * dx) ** 2)
            mean = fisher[self.places.used].mean()
            yield np.clip(mean / np.maximum(fisher, 1e-9), 0.1, 10.0)


class Projected(Constructed):
    """Free delta (in tau) and log s before a factor e^c on a block's variances that spends it.

    c solves sum_i KL(delta_i, s_i e^c) = C, so with D = sum_i (s_i e^c - 1) / 2 and
    H = sum_i dL/dlog s_i the gradients gain -H delta / D and -H (s e^c - 1) / (2 D).
    """

    def initial(self, seed, spread, rho):
        """Return where Mean-KL begins."""
        start = MeanKL.initial(self, seed, spread, rho)
        delta, log_s = self.engine.mean_kl(start["tau"], start["phi"], self.budget)
        used = self.places.used
        return {"tau": np.where(used, delta, 0), "phi": np.where(used, log_s, 0)}

    def projected(self, parameters):
        """Return delta and log s of a posterior that spends the budget, by Newton's method."""
        used, n = self.places.used, self.places.used.sum(axis=1, keepdims=True)
        delta, log_s = np.float64(parameters["tau"]), np.float64(parameters["phi"])
        budget = self.total() / len(used)

        def total(a):
            return np.where(used, a, 0).sum(axis=1, keepdims=True)

        mean = np.log(total(np.exp(log_s)) / n)
        least = 0.5 * (total(delta**2) + n * mean - total(log_s))
        shrink = np.minimum(1.0, 0.95 * budget / least)
        delta = delta * np.sqrt(shrink)
        log_s = mean + (log_s - mean) * shrink
        c = (total(delta**2) - n - total(log_s) - 2 * budget) / n
        for _ in range(12):
            s = np.exp(log_s + c)
            excess = 0.5 * total(delta**2 + s - 1 - log_s - c) - budget
            c = c - excess / np.minimum(0.5 * total(s - 1), -1e-9)
        return delta, log_s + c

    def whitened(self, parameters, rho):
        """Return delta and log s."""
        pair = (np.where(self.places.used, a, 0) for a in self.projected(parameters))
        return tuple(a.astype(self.engine.dtype) for a in pair)

    def gradients(self, parameters, rho, eps, g):
        """Return dL/d(parameters) and dL/dlog rho of each place."""
        delta, log_s = self.projected(parameters)
        used, s = self.places.used, np.exp(log_s)
        ddelta = np.float64(g) * rho
        dlog_s = 0.5 * ddelta * np.sqrt(s) * eps
        h = np.where(used, dlog_s, 0).sum(axis=1, keepdims=True)
        d = np.where(used, 0.5 * (s - 1), 0).sum(axis=1, keepdims=True)
        dlog_rho = ddelta * (delta + np.sqrt(s) * eps)
        return ddelta - h * delta / d, dlog_s - h * 0.5 * (s - 1) / d, dlog_rho


def changed_to(name):
    """Return what makes the posterior of a trainer that of a name."""
    fields = {}
    for part in name.split("+"):
        if part not in CONSTRUCTIONS:
            raise InputError(f"{part}: expected some of {', '.join((*COMPARED, *CONSTRUCTIONS))}")
        fields |= CONSTRUCTIONS[part]
    construction = Construction(**fields)
    kind = Projected if construction.projected else Constructed

    def change(trainer):
        settings, old = trainer.settings, trainer.parameterization
        new = kind(old.engine, old.places, old.budget).begin(construction, settings.steps)
        trainer.parameterization = new
        start = new.initial(settings.seed, settings.spread, trainer.rho())
        trainer.state.parameters.update(start)

    return change


def courses_by_name(arguments, train, validation):
    """Train all, and yield a name, a seed, a horizon and a course."""
    comparison = COMPARISONS["paper"]
    changes = {n: None if n in COMPARED else changed_to(n) for n in arguments.names}
    for seed in arguments.seeds:
        for name, change in changes.items():
            kind = MEAN_KL if change else name
            own = {"parameterization": kind, "seed": seed, "steps": arguments.steps}
            settings = check_settings(comparison.base.having({**comparison.tuned[kind], **own}))
            courses = courses_of(settings, train, validation, arguments.horizons, change)
            for horizon, course in courses.items():
                yield name, seed, horizon, course


def run(arguments):
    """Train, print steps to each error and the error at the end, and then medians over seeds."""
    train, validation = split_validation(load_split(default_folder(), "train"))
    rows = {}
    for name, seed, horizon, course in courses_by_name(arguments, train, validation):
        steps = [course.steps_to(target) for target in TARGETS]
        end = 100 * np.mean([line["validation_error"] for line in course.lines[-LAST:]])
        told = {"name": name, "seed": seed, "horizon": horizon, "steps": steps}
        print(json.dumps({**told, "end": round(end, 3)}), flush=True)
        rows.setdefault((name, horizon), []).append([n or math.inf for n in steps] + [end])
    print(f"| construction | H | {' | '.join(f'{100 * t:g} %' for t in TARGETS)} | at the end |")
    print("|---|---|" + "---|" * (len(TARGETS) + 1))
    for (name, horizon), found in rows.items():
        *steps, end = np.median(found, axis=0)
        cells = [f"{n:,.0f}" if math.isfinite(n) else "not reached" for n in steps]
        print(f"| {name} | {horizon} | {' | '.join(cells)} | {end:.2f} % |")
    return 0


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--steps", type=int, default=10_000, help="of a training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--horizons", type=int, nargs="+", default=[0, 300], metavar="H")
    return run_command(parser.parse_args, run, None)


if __name__ == "__main__":
    sys.exit(main())
