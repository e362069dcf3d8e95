"""Steps to an error with averages of the posterior and without, for docs/STUDY.md.

    python tools/figures/averaged_courses.py
    python tools/figures/averaged_courses.py --seeds 0 --horizons 0 100 antithetic=1

Trains Mean-KL and Mean-Var as the study `convergence` does, with settings of FIELD=VALUE instead
of some of its own, and looks at the validation images every 250 steps: through samples of the
posterior, and of the averages of its parameters over the last H steps or so.  An average of tau and
phi spends the budget as they do; that of mu and log sigma spends no more than they did in the mean,
since the KL is convex in them.  Steps count where the KL is within the budget, as the study has it.
The test images are not opened.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from given_settings import parse_setting

from refmiracle.commands.running import run_command
from refmiracle.posterior.parameterizations import COMPARED
from refmiracle.studies.comparison import COMPARISONS
from refmiracle.studies.convergence import Course
from refmiracle.studies.results import interval
from refmiracle.training.choosing import check_settings
from refmiracle.training.data import default_folder, load_split, split_validation
from refmiracle.training.trainer import Trainer

EVERY = 250
TARGETS = (0.05, 0.03, 0.02, 0.0175, 0.015, 0.0125, 0.01)


class Averages:
    """Running averages of a posterior's parameters, one for each horizon; 0 is the posterior."""

    def __init__(self, horizons):
        self.of = {horizon: {} for horizon in horizons}

    def add(self, parameters, step):
        """Take in the parameters after a step, of which there is never less than an even share."""
        for horizon, average in self.of.items():
            share = 1.0 if not horizon else max(1.0 / horizon, 1.0 / step)
            for name, value in parameters.items():
                old = average.get(name, value)
                new = value.astype(np.float64) if share == 1.0 else old.copy()
                used = np.isfinite(value)  # phi is -inf where a block has no variable
                new[used] += share * (value[used] - new[used])
                average[name] = new

    def lines(self, trainer, validation):
        """Return for each horizon what a line of metrics says."""
        state, found = trainer.state, {}
        own = state.parameters
        for horizon, average in self.of.items():
            state.parameters = {name: a.astype(own[name].dtype) for name, a in average.items()}
            found[horizon] = {
                "step": state.step,
                "validation_error": trainer.validation_error(validation),
                "kl_bits": trainer.kl_bits(),
            }
        state.parameters = own
        return found


def courses_of(settings, train, validation, horizons, change=None):
    """Train a run to where its first block would be encoded; return a course for each horizon.

    `change` is called with the trainer before it begins.
    """
    trainer, averages = Trainer(settings, train), Averages(horizons)
    if change is not None:
        change(trainer)
    lines = {horizon: [] for horizon in horizons}
    while trainer.phase() == "train" and trainer.state.step < settings.steps:
        trainer.train_step()
        averages.add(trainer.state.parameters, trainer.state.step)
        if trainer.state.step % EVERY == 0:
            for horizon, line in averages.lines(trainer, validation).items():
                lines[horizon].append(line)
    budget = settings.bits_per_block * settings.layout().blocks()
    return {horizon: Course(some, budget) for horizon, some in lines.items()}


def describe(courses, horizon, steps):
    """Return the rows of a table: medians over seeds, and the ratio with its interval."""
    for target in TARGETS:
        found = {
            name: [course[horizon].steps_to(target) for course in courses[name]]
            for name in COMPARED
        }
        reached = {name: sum(n is not None for n in of) for name, of in found.items()}
        least = {name: [n or steps for n in of] for name, of in found.items()}
        cells = [
            f"{np.median(of):,.0f}" if 2 * reached[name] > len(of) else "not reached"
            for name, of in least.items()
        ]
        ours, theirs = least.values()
        all_there = all(reached[name] == len(of) for name, of in found.items())
        ratio = interval(np.divide(theirs, ours)) if all_there else "some seed did not reach it"
        yield f"| {horizon} | {100 * target:g} % | {' | '.join(cells)} | {ratio} |"


def run(arguments):
    """Train all seeds of both, and print the table."""
    comparison = COMPARISONS["paper"]
    given = dict(parse_setting(text) for text in arguments.settings)
    kept = given.get("validation", comparison.base.validation)
    train, validation = split_validation(load_split(default_folder(), "train"), kept)
    courses = {name: [] for name in COMPARED}
    for seed in arguments.seeds:
        for name in COMPARED:
            own = {**comparison.tuned[name], **given}
            own |= {"parameterization": name, "seed": seed, "steps": arguments.steps}
            settings = check_settings(comparison.base.having(own))
            courses[name].append(courses_of(settings, train, validation, arguments.horizons))
            last = {h: c.lines[-1]["validation_error"] for h, c in courses[name][-1].items()}
            print(name, seed, {h: f"{error:.2%}" for h, error in last.items()}, flush=True)
    print("| horizon | validation error | Mean-KL, steps | Mean-Var, steps | ratio |")
    print("|---|---|---|---|---|")
    for horizon in arguments.horizons:
        for line in describe(courses, horizon, arguments.steps):
            print(line)
    return 0


def main():
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("settings", nargs="*", metavar="FIELD=VALUE")
    parser.add_argument("--steps", type=int, default=10_000, help="of a training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--horizons", type=int, nargs="+", default=[0, 100, 300], metavar="H")
    return run_command(parser.parse_intermixed_args, run, None)


if __name__ == "__main__":
    sys.exit(main())
