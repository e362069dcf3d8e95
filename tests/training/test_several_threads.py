"""Trainings in several threads of one process: each as if alone, and none with two hands at it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from tiny import TINY, advance

from refmiracle.engines.numba_engine import plan, threads
from refmiracle.errors import InputError
from refmiracle.training.batches import Batches
from refmiracle.training.data import Split
from refmiracle.training.trainer import Trainer

DEADLINE = 300  # seconds: what waits for ever has failed
# Hash factors of their own, so that the weights are expanded.
EXPANDED = replace(TINY, hash_factors=(1, 1, 3, 1, 50, 1, 3, 1))
ALL_SETTINGS = {
    "mean-kl": TINY,
    "mean-var": replace(TINY, parameterization="mean-var"),
    "expanded": EXPANDED,
    "another code": replace(
        TINY, code="orc", hash_factors=(5, 5, 100, 5, 800, 5, 50, 1), block_size=13
    ),
    "shifted": replace(TINY, shift=1),
    "mirrored": replace(TINY, antithetic=1),
}


def finish(settings, train, validation):
    """Train to the end; return the file, and each step's validation error."""
    trainer, errors = Trainer(settings, train), []
    while True:
        group = trainer.group_due()
        if group is not None:
            trainer.encode_group(group)
        if trainer.finished():
            return trainer.compressed().to_bytes(), errors
        trainer.train_step()
        errors.append(trainer.validation_error(validation))


@pytest.mark.parametrize("kind", ALL_SETTINGS)
def test_two_trainings_in_step_are_each_as_alone(mnist, monkeypatch, kind):
    """Both have packed their weights before either computes: in each pass, by each shard."""
    monkeypatch.setattr(threads, "THREADS", 1)  # what is computed, each does by itself
    train, validation = mnist
    all_settings = [replace(ALL_SETTINGS[kind], seed=seed) for seed in (1, 2)]
    expected = [finish(settings, train, validation) for settings in all_settings]
    assert expected[0] != expected[1]
    together = threading.Barrier(2)

    def in_step(function):
        def meet(*arguments):
            together.wait(DEADLINE)
            return function(*arguments)

        return meet

    for name in ("shard_gradients", "shard_logits"):
        monkeypatch.setattr(plan, name, in_step(getattr(plan, name)))
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda settings: finish(settings, train, validation), all_settings))
    assert found == expected


@pytest.mark.parametrize("kind", ["mean-kl", "expanded"])
def test_both_halves_of_mirrored_noise_are_computed_at_a_time(mnist, monkeypatch, kind):
    """Each waits for the other in its pass; a file is what it is when one thread computes both."""
    train, validation = mnist
    settings = replace(ALL_SETTINGS[kind], antithetic=1, batch_size=64)
    monkeypatch.setattr(threads, "THREADS", 1)
    expected = finish(settings, train, validation)
    monkeypatch.setattr(threads, "THREADS", 2)
    monkeypatch.setattr(threads, "POOL", threads.Pool())
    together, of_shard = threading.Barrier(2), plan.shard_gradients

    def meet(*arguments):
        together.wait(DEADLINE)
        return of_shard(*arguments)

    monkeypatch.setattr(plan, "shard_gradients", meet)
    assert finish(settings, train, validation) == expected


@pytest.mark.slow
def test_two_trainings_with_the_reference_engine_are_each_as_alone(mnist):
    train, validation = mnist[0], Split(mnist[1].images[:5], mnist[1].labels[:5])
    settings = replace(TINY, engine="numpy", steps=2, batch_size=4, groups=2, group_steps=1)
    all_settings = [replace(settings, seed=seed) for seed in (1, 2)]
    expected = [finish(settings, train, validation) for settings in all_settings]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda settings: finish(settings, train, validation), all_settings))
    assert found == expected


BY_ONE_THREAD = {
    "train_step": lambda trainer, _: trainer.train_step(),
    "encode_group": lambda trainer, _: trainer.encode_group(0),
    "sample": lambda trainer, _: trainer.sample(trainer.rho(), 0),
    "kl_bits": lambda trainer, _: trainer.kl_bits(),
    "sent_bits": lambda trainer, _: trainer.sent_bits(),
    "validation_error": lambda trainer, validation: trainer.validation_error(validation),
    "compressed": lambda trainer, _: trainer.compressed(),
}


def test_a_second_thread_at_one_trainer_is_refused(mnist):
    """A step is parked in its middle; nothing of it is lost."""
    trainer, alone = (Trainer(TINY, mnist[0]) for _ in range(2))
    inside, leave = threading.Event(), threading.Event()
    compute = trainer.variable_pass.loss_and_grads

    def parked(*arguments):
        inside.set()
        leave.wait(DEADLINE)
        return compute(*arguments)

    trainer.variable_pass.loss_and_grads = parked
    with ThreadPoolExecutor(1) as other:
        step = other.submit(trainer.train_step)
        inside.wait(DEADLINE)
        try:
            for call in BY_ONE_THREAD.values():
                with pytest.raises(InputError, match="give each thread a Trainer of its own"):
                    call(trainer, mnist[1])
        finally:
            leave.set()
        assert step.result(DEADLINE) == alone.train_step()
    assert trainer.train_step() == alone.train_step()


def test_a_trainer_may_go_from_thread_to_thread(mnist):
    expected = finish(TINY, *mnist)
    trainer = Trainer(TINY, mnist[0])
    while not trainer.finished():
        with ThreadPoolExecutor(1) as another:
            another.submit(advance, trainer).result(DEADLINE)
    assert trainer.compressed().to_bytes() == expected[0]


@pytest.mark.parametrize("shift", [0, 2])
def test_a_batch_stays_what_it_was(mnist, shift):
    batches = Batches(replace(TINY, shift=shift), mnist[0])
    images, labels = batches.batch(3)
    before = images.copy(), labels.copy()
    batches.batch(4)
    assert np.array_equal(images, before[0])
    assert np.array_equal(labels, before[1])
    images[:], labels[:] = 0, 0
    again = batches.batch(3)
    assert np.array_equal(again[0], before[0])
    assert np.array_equal(again[1], before[1])
    assert images.flags.c_contiguous


def test_batches_may_be_asked_by_several_threads(mnist):
    """About steps of different epochs, whose orders are kept."""
    batches, per_epoch = Batches(TINY, mnist[0]), len(mnist[0].images) // TINY.batch_size
    steps = [per_epoch * epoch + epoch for epoch in range(8)]
    expected = [Batches(TINY, mnist[0]).batch(step)[0] for step in steps]
    together = threading.Barrier(8)

    def ask(step):
        together.wait(DEADLINE)
        return batches.batch(step)[0]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, steps))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_file_is_the_callers_own(mnist):
    trainer = Trainer(TINY, mnist[0])
    while not trainer.finished():
        advance(trainer)
    model = trainer.compressed()
    expected = model.to_bytes()
    model.messages[:] = 0
    assert trainer.compressed().to_bytes() == expected
