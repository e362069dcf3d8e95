from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny import TINY

from refmiracle.errors import InputError
from refmiracle.training.trained_posterior import (
    Posterior,
    load_posterior,
    posterior_of,
    save_posterior,
)
from refmiracle.training.trainer import Trainer


@pytest.mark.parametrize("parameterization", ["mean-kl", "mean-var"])
def test_samples_of_the_trainer_are_of_its_posterior(mnist, parameterization):
    trainer = Trainer(replace(TINY, parameterization=parameterization), mnist[0])
    trainer.train_step()
    w, eps = trainer.sample(trainer.rho(), 7)
    q, place = posterior_of(trainer), trainer.places.place_of_variable
    drawn = q.mu + q.sigma * eps.ravel()[place]
    assert np.allclose(drawn, w.ravel()[place], rtol=1e-4, atol=1e-6)
    assert np.array_equal(q.rho, trainer.rho().ravel()[place])
    assert q.kl_bits().sum() == pytest.approx(trainer.kl_bits(), rel=1e-4)


def test_a_file_gives_it_back(tmp_path, rng):
    mu, sigma, rho = np.float32(rng.uniform(0.1, 1.0, (3, 100))).astype(np.float64)
    path = tmp_path / "posterior.npz"
    save_posterior(path, Posterior(mu, sigma, rho))
    found = load_posterior(path)
    assert all(
        np.array_equal(getattr(found, n), v) for n, v in vars(Posterior(mu, sigma, rho)).items()
    )


@pytest.mark.parametrize("content", [None, b"", b"no such thing"])
def test_a_damaged_file_is_one_line(tmp_path, content):
    path = tmp_path / "posterior.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="it is no intact posterior"):
        load_posterior(path)
