"""The averages that docs/STUDY.md compares both parameterizations by."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY

from refmiracle.posterior.parameterizations import COMPARED
from refmiracle.training.data import default_folder, load_split, split_validation

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools" / "figures"))
from averaged_courses import Averages, courses_of


def test_an_average_is_the_mean_until_its_horizon_and_forgets_behind_it():
    rows = np.random.default_rng(0).normal(size=(40, 3))
    averages = Averages((0, 10))
    for step, row in enumerate(rows, 1):
        averages.add({"phi": np.append(row, -np.inf)}, step)
        assert averages.of[0]["phi"].tolist() == [*row, -np.inf]
        if step == 10:
            want = np.mean(rows[:10], axis=0)
    for row in rows[10:]:
        want = 0.9 * want + 0.1 * row
    np.testing.assert_allclose(averages.of[10]["phi"], np.append(want, -np.inf), rtol=1e-12)


@pytest.mark.parametrize("parameterization", COMPARED)
def test_courses_are_of_the_posterior_and_of_averages(parameterization):
    settings = replace(TINY, parameterization=parameterization, steps=250)
    train, validation = split_validation(load_split(default_folder(), "train"), 200)
    courses = courses_of(settings, train, validation, (0, 100))
    assert [line["step"] for course in courses.values() for line in course.lines] == [250, 250]
    plain, average = (course.lines[0]["kl_bits"] for course in courses.values())
    if parameterization == COMPARED[0]:  # Mean-KL spends its budget, so does an average
        assert plain == pytest.approx(courses[0].budget, rel=1e-5)
        assert average == pytest.approx(courses[0].budget, rel=1e-5)
    else:
        assert plain != average
