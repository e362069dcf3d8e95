from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny import TINY

from refmiracle.posterior.blocks import find_places, to_weights
from refmiracle.training.dropout import Dropout
from refmiracle.training.trainer import Trainer

LAYOUT = TINY.layout()
PLACES = find_places(LAYOUT)
CHANNELS, HIDDEN = 50, 500


def factors_of_weights(factors, engine):
    """The factor of each weight, by tensor: signs drop out of the absolute value."""
    weights = to_weights(LAYOUT.network, engine, PLACES, factors)
    return {name: np.abs(w) for name, w in weights.items()}


def test_whole_units_are_left_out(engine):
    dropout = Dropout(LAYOUT, PLACES, 0.3, engine.dtype)
    w = factors_of_weights(dropout.draw(0), engine)
    kept = engine.dtype.type(1 / 0.7)
    channels = w["dense1.weight"].reshape(CHANNELS, 16, HIDDEN)
    assert np.all(channels == channels[:, :1, :1])
    assert np.all(w["dense2.weight"] == w["dense2.weight"][:, :1])
    for units in (channels[:, 0, 0], w["dense2.weight"][:, 0]):
        assert set(np.unique(units)) == {0, kept}
    assert all(np.all(w[n] == 1) for n in w if n not in ("dense1.weight", "dense2.weight"))


def test_each_unit_is_left_out_as_often_as_said(engine):
    dropout = Dropout(LAYOUT, PLACES, 0.3, engine.dtype)
    steps = 400
    left_out = np.zeros(CHANNELS + HIDDEN)
    for step in range(steps):
        w = factors_of_weights(dropout.draw(step), engine)
        left_out[:CHANNELS] += w["dense1.weight"][::16, 0] == 0
        left_out[CHANNELS:] += w["dense2.weight"][:, 0] == 0
    # 6 standard deviations of a binomial count.
    assert np.all(np.abs(left_out - 0.3 * steps) < 6 * np.sqrt(steps * 0.3 * 0.7))
    assert abs(left_out.mean() - 0.3 * steps) < 6 * np.sqrt(steps * 0.3 * 0.7 / len(left_out))


def test_a_step_has_its_own_units_whatever_came_before():
    one, other = (Dropout(LAYOUT, PLACES, 0.5, np.dtype(np.float32)) for _ in range(2))
    first = one.draw(0).copy()
    assert not np.array_equal(one.draw(1), first)
    assert np.array_equal(other.draw(1), one.draw(1))


def test_what_is_left_out_gets_no_gradient(mnist):
    trainer = Trainer(replace(TINY, dropout=0.5), mnist[0])
    trainer.train_step()
    left_out = trainer.dropout.factors == 0
    assert 0 < left_out.mean() < 1
    assert not trainer.g[left_out].any()
    assert np.count_nonzero(trainer.g[~left_out]) > 0.5 * np.count_nonzero(~left_out)


@pytest.mark.parametrize("index", [0, 400, 3000])
def test_gradients_are_those_of_the_loss_with_units_left_out(mnist, index):
    """Against a central difference of the float64 engine's loss."""
    config = replace(TINY, engine="numpy", batch_size=4, dropout=0.4)
    trainer = Trainer(config, mnist[0])
    trainer.train_step()
    place = np.flatnonzero(trainer.dropout.factors.reshape(-1) > 1)[index]
    images, labels = trainer.batches.batch(0)
    kept, gradient = trainer.dropout.factors, np.empty_like(trainer.g)
    h, losses = 1e-6, []
    start = Trainer(config, mnist[0])
    w, _ = start.sample(start.rho(), 0)
    for by in (h, -h):
        moved = w.copy()
        moved.reshape(-1)[place] += by
        losses.append(trainer.network.loss_and_grads(moved * kept, images, labels, gradient))
    expected = (losses[0] - losses[1]) / (2 * h)
    assert trainer.g.reshape(-1)[place] == pytest.approx(expected, rel=1e-6, abs=1e-9)
