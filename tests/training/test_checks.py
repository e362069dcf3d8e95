from __future__ import annotations

import numpy as np
import pytest

from refmiracle.training.checks import chance_error, no_better_than_chance

LABELS = np.repeat(np.arange(10, dtype=np.uint8), 100)


def test_chance_is_the_most_frequent_class():
    assert chance_error(LABELS) == pytest.approx(0.9)
    assert chance_error(np.array([3, 3, 3, 1], np.uint8)) == 0.25
    assert chance_error(np.array([4], np.uint8)) == 0


@pytest.mark.parametrize(
    ("error", "says"),
    [(1.0, True), (0.9, True), (0.8716, True), (0.8714, False), (0.1, False)],
)
def test_three_standard_deviations_below_chance_is_better(error, says):
    assert no_better_than_chance(error, LABELS) is says
