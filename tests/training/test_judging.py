"""The judge takes the candidate with the lowest loss, and leaves it in its place."""

from types import SimpleNamespace

import numpy as np
import pytest

from refmiracle.training.judging import Judge, choose_rows


class Threshold:
    """Says class 0 the surer the smaller the first variable is; not a number says nothing."""

    def logits(self, variables, images):
        x = np.full(len(images), variables[0])
        return np.stack([-x, x])


@pytest.fixture
def judge(engine):
    images, labels = np.zeros((64, 2, 2), np.uint8), np.zeros(64, np.int64)
    train = SimpleNamespace(images=images)
    batches = SimpleNamespace(train=train, size=64, batch=lambda step: (images, labels))
    return Judge(engine, Threshold(), batches)


@pytest.mark.parametrize("lowest", range(0, 20, 3))
def test_the_lowest_loss_wins(judge, lowest):
    rows = np.linspace(1, 2, 20, dtype=np.float32)[:, None].repeat(3, axis=1)
    rows[lowest] = -1
    rows[(lowest + 1) % 20] = np.nan
    variables = np.full(5, 9.0, judge.engine.dtype)
    nu, rho = np.full(3, 0.5, judge.engine.dtype), np.full(3, 2.0, judge.engine.dtype)
    assert choose_rows(judge, variables, variables[:3], nu, rho, rows) == lowest
    np.testing.assert_array_equal(variables, [-1.5, -1.5, -1.5, 9, 9])
