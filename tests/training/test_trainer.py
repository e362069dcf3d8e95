from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny import TINY, advance, finish

from refmiracle.codes.table import CODES
from refmiracle.engines import get_engine
from refmiracle.engines.numpy_engine.layers import ADAM_BETA1
from refmiracle.errors import InputError
from refmiracle.fileformat.container import parse_model
from refmiracle.fileformat.model import decode_model
from refmiracle.loading import shipped_models
from refmiracle.numerics.philox import Stream
from refmiracle.posterior.mean_var import ENCODING_FACTOR, SETTLING_FACTOR, MeanVar
from refmiracle.training.run import Folder, run_training
from refmiracle.training.settings import AFTER_DIGESTS, LATER_FIELDS, preset_settings
from refmiracle.training.state import OPEN, load_checkpoint, save_checkpoint
from refmiracle.training.trainer import Trainer

LATE = replace(TINY, late_scale_rate=0.2)
VAR = replace(TINY, parameterization="mean-var")
BOTH = replace(LATE, antithetic=1)


@pytest.mark.parametrize("settings", [TINY, VAR, LATE, BOTH])
@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_resuming_at_any_step_gives_the_same_bytes(tmp_path, mnist, engine, settings):
    settings = replace(settings, engine=engine)
    if engine == "numpy":  # slow: few small steps, stopped once
        settings = replace(settings, steps=2, batch_size=4, groups=2, group_steps=1)
    expected = finish(Trainer(settings, mnist[0]))

    path = tmp_path / "checkpoint.npz"
    trainer = Trainer(settings, mnist[0])
    for step in range(settings.total_steps()):
        group = trainer.group_due()
        if group is not None:
            trainer.encode_group(group)
        trainer.train_step()
        if engine == "numba" or step == settings.steps:
            save_checkpoint(path, settings, trainer.state)
            trainer = Trainer(*load_stopped(path, mnist[0]))
    assert finish(trainer) == expected


def test_scales_learn_until_they_are_sent(mnist):
    """From all variables, those that are encoded too; without the setting they stay."""
    for settings in (TINY, LATE):
        trainer = Trainer(settings, mnist[0])
        while trainer.group_due() is None:
            trainer.train_step()
        trainer.encode_group(0)
        before = trainer.state.parameters["log_rho"].copy()
        trainer.train_step()
        moved = trainer.state.parameters["log_rho"] != before
        assert moved.all() == moved.any() == (settings == LATE)
        assert finish(trainer) == finish(Trainer(settings, mnist[0]))


def test_the_slope_of_a_scale_through_what_is_sent(mnist):
    """Against a difference quotient of the loss, of each tensor, nearly all blocks being sent."""
    trainer = nearly_sent(replace(LATE, engine="numpy", batch_size=8), mnist[0])
    sent = trainer.state.messages
    trainer._draw(trainer.rho(), 0, trainer.w, trainer.eps)
    images = trainer.batches.batch(0)

    def loss(variables):
        return trainer.variable_pass.loss_and_grads(
            variables, *images, np.empty_like(trainer.flat_g)
        )

    trainer.variable_pass.loss_and_grads(trainer.flat, *images, trainer.flat_g)
    slopes, h = trainer._dlog_rho_of_sent(trainer.g), 1e-5
    for tensor, slope in enumerate(slopes):
        own = (trainer.places.tensor_of_place == tensor) & (sent != OPEN)
        losses = []
        for factor in np.exp([h, -h]):
            flat = trainer.flat.copy()
            trainer._blocks_of(flat)[own] *= factor
            losses.append(loss(flat))
        assert slope == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=1e-4, abs=1e-7)
    assert not trainer.g[3:].any()
    assert trainer.g[:3].any()


def nearly_sent(settings, train):
    """A trainer that is to take its next step with all blocks sent but the first three."""
    trainer = Trainer(settings, train)
    rng, messages = np.random.default_rng(0), trainer.state.messages
    messages[3:] = rng.integers(0, 2**settings.bits_per_block, messages[3:].shape)
    trainer.fixed[3:] = trainer._rows(np.arange(3, len(messages)))
    trainer.state.trained = trainer.state.step = settings.steps
    return trainer


def around_a_base(settings):
    """The same as an update of a model that ships."""
    base = (shipped_models()["lenet5-891"].read_bytes(),)
    started = preset_settings("smoke", settings.parameterization, base=base)
    same = ("bits_per_block", "steps", "groups", "group_steps", "late_scale_rate", "own")
    return replace(started, **{name: getattr(settings, name) for name in same})


@pytest.mark.parametrize("batch", [5, 1])
@pytest.mark.parametrize(
    "settings",
    [VAR, LATE, around_a_base(VAR), around_a_base(LATE)],
    ids=["mean-var", "mean-kl", "mean-var around a base", "mean-kl around a base"],
)
def test_half_of_a_batch_sees_the_mirrored_noise(mnist, settings, batch):
    """Loss, and slopes by the parameters, against the mean over all images, each at its weights."""
    settings = replace(settings, engine="numpy", antithetic=1, batch_size=batch)
    trainer = nearly_sent(settings, mnist[0])
    step, rho, kind = trainer.state.step, trainer.rho(), trainer.parameterization
    images, labels = trainer.batches.batch(step)
    eps = trainer.engine.normals(settings.seed, Stream.NOISE, [step], rho.size).reshape(rho.shape)
    parameters = {n: p.copy() for n, p in trainer.state.parameters.items()}
    nu = 0 if kind.nu is None else kind.nu
    half = batch // 2 if batch > 1 else batch

    def loss(scales=rho, **changed):
        delta, log_s = kind.whitened({**parameters, **changed}, rho)
        total = 0.0
        for part, noise in ((slice(half), eps), (slice(half, None), -eps)):
            flat = trainer.flat.copy()
            w = trainer._blocks_of(flat)
            z = delta + np.exp(0.5 * log_s) * noise
            z[3:] = trainer.fixed[3:]
            w[:] = nu + scales * z
            if count := len(labels[part]):
                mean = trainer.variable_pass.loss_and_grads(
                    flat, images[part], labels[part], np.empty_like(flat)
                )
                total += mean * count / batch
        return total

    want, h = loss(), 1e-5
    assert trainer.train_step() == pytest.approx(want, rel=1e-12)
    for name in sorted(parameters.keys() - {"log_rho"}):
        slope = trainer.state.moments[name][0] / (1 - ADAM_BETA1)
        for at in [(0, 1), (2, 20)]:
            moved = np.zeros_like(rho)
            moved[at] = h
            up, down = (loss(**{name: parameters[name] + s * moved}) for s in (1, -1))
            assert slope[at] == pytest.approx((up - down) / (2 * h), rel=1e-3, abs=1e-7)
    if not settings.late_scale_rate:
        return
    slope = trainer.state.moments["log_rho"][0] / (1 - ADAM_BETA1)
    for tensor in (0, 2, 5):
        own = trainer.places.tensor_of_place == tensor
        up, down = (loss(np.where(own, rho * np.exp(s * h), rho)) for s in (1, -1))
        assert slope[tensor] == pytest.approx((up - down) / (2 * h), rel=1e-3, abs=1e-7)


OTHER_CODES = list(CODES)[1:]
# Few variables, so that blocks of 4 bits have variables to tell apart.
FEW = replace(TINY, hash_factors=(5, 5, 100, 5, 800, 5, 50, 1), steps=6, groups=3, group_steps=1)


@pytest.mark.parametrize("code", OTHER_CODES)
def test_other_codes_send_what_both_engines_decode(mnist, code):
    settings = replace(FEW, code=code)
    trainer = Trainer(settings, mnist[0])
    model = parse_model(finish(trainer))
    assert model.code == code
    used = trainer.weights(trainer.sample(trainer.rho(), 0)[0])
    for name in ("numpy", "numba"):
        for tensor, value in decode_model(model, get_engine(name)).items():
            assert np.array_equal(value, used[tensor]), (name, tensor)


@pytest.mark.parametrize(
    ("code", "parameterization"),
    [("orc", "mean-kl"), ("sp-pfr", "mean-kl"), ("ad-star", "mean-kl"), ("gprs-s", "mean-var")],
)
def test_resuming_with_other_codes_gives_the_same_bytes(tmp_path, mnist, code, parameterization):
    settings = replace(FEW, code=code, parameterization=parameterization, block_size=13)
    expected = finish(Trainer(settings, mnist[0]))
    path = tmp_path / "checkpoint.npz"
    trainer = Trainer(settings, mnist[0])
    while not trainer.finished():
        advance(trainer)
        save_checkpoint(path, settings, trainer.state)
        trainer = Trainer(*load_stopped(path, mnist[0]))
    assert trainer.compressed().to_bytes() == expected


@pytest.mark.parametrize("code", ["mrc", "orc", "sp-pfr", "gprs-s"])
def test_bits_sent_are_those_of_the_file(mnist, code):
    trainer = Trainer(replace(FEW, code=code, block_size=13), mnist[0])
    seen = [trainer.sent_bits()]
    for group in range(3):
        while trainer.group_due() is None:
            trainer.train_step()
        trainer.encode_group(group)
        seen.append(trainer.sent_bits())
    assert seen[0] == 0 < seen[1] < seen[2] < seen[3]
    payload = 8 * len(trainer.compressed().payload())
    # theta takes two bytes, and the code word up to two more.
    assert 0 <= payload - seen[3] <= (7 if trainer.code.fixed_length else 34)


def test_what_a_code_cannot_send_changes_nothing(mnist):
    trainer = Trainer(replace(FEW, code="gprs-s"), mnist[0])
    while trainer.group_due() is None:
        trainer.train_step()
    trainer.state.parameters["tau"][trainer.groups[0][0], 3] = np.nan
    before = trainer.state.messages.copy()
    with pytest.raises(InputError, match="code gprs-s cannot send group 1 of 3: a target's"):
        trainer.encode_group(0)
    assert np.array_equal(trainer.state.messages, before)
    assert trainer.sent_bits() == 0


def test_variances_above_the_coding_distribution_are_sent_as_its_own(mnist):
    trainer = Trainer(replace(FEW, code="gprs-s", parameterization="mean-var"), mnist[0])
    while trainer.group_due() is None:
        trainer.train_step()
    trainer.state.parameters["log_sigma"] += 4.0
    delta, log_s = trainer.parameterization.whitened(trainer.state.parameters, trainer.rho())
    assert log_s.max() > 0
    trainer.encode_group(0)
    blocks = trainer.groups[0]
    assert np.array_equal(
        trainer.state.messages[blocks],
        CODES["gprs-s"].encode_blocks(
            trainer.engine, 0, 4, blocks, delta[blocks], np.minimum(log_s, 0)[blocks]
        ),
    )


def load_stopped(path, train):
    settings, state = load_checkpoint(path)
    return settings, train, state


def test_seeds_differ_and_repeat(mnist):
    files = [finish(Trainer(replace(TINY, seed=s), mnist[0])) for s in (1, 1, 2)]
    assert files[0] == files[1] != files[2]


def test_the_file_decodes_to_what_training_fixed(mnist):
    trainer = Trainer(replace(TINY, block_size=47), mnist[0])
    data = finish(trainer)
    decoded = decode_model(parse_model(data), trainer.engine)
    used = trainer.weights(trainer.sample(trainer.rho(), 0)[0])
    for name, value in decoded.items():
        assert np.array_equal(value, used[name]), name


def test_encoded_blocks_and_scales_stay_fixed(mnist):
    trainer = Trainer(TINY, mnist[0])
    while trainer.group_due() is None:
        trainer.train_step()
    trainer.encode_group(0)
    encoded = trainer.state.messages[:, 0] != OPEN
    assert 0 < encoded.sum() < len(encoded)
    shape = trainer.places.tensor_of_place.shape
    scales, before = trainer.scales(), trainer.sample(trainer.rho(), 0)[0].reshape(shape)
    trainer.train_step()
    after = trainer.sample(trainer.rho(), 0)[0].reshape(shape)
    assert np.array_equal(trainer.scales(), scales)
    assert np.array_equal(before[encoded], after[encoded])
    assert not np.any(np.all(before[~encoded] == after[~encoded], axis=1))


def test_every_block_is_encoded_once_in_random_order(mnist):
    trainer = Trainer(TINY, mnist[0])
    order = np.concatenate(trainer.groups)
    assert np.array_equal(np.sort(order), np.arange(trainer.layout.blocks()))
    assert not np.array_equal(order, np.arange(len(order)))


def test_mean_kl_spends_its_budget_at_every_step(mnist):
    trainer = Trainer(TINY, mnist[0])
    budget = TINY.bits_per_block * trainer.layout.blocks()
    for _ in range(3):
        assert trainer.kl_bits() == pytest.approx(budget, rel=1e-5)
        trainer.train_step()


def test_mean_var_penalty_steers_towards_the_budget(mnist):
    settings = replace(TINY, parameterization="mean-var", steps=60)
    trainer = Trainer(settings, mnist[0])
    before = trainer.kl_bits()
    assert before > 2 * settings.bits_per_block * trainer.layout.blocks()
    for _ in range(60):
        trainer.train_step()
    assert trainer.kl_bits() < before
    assert trainer.state.extra["beta"].max() > 1e-3


def test_mean_var_trains_until_every_block_is_within_its_budget(mnist, monkeypatch):
    seen = []

    def move_penalties(self, parameters, rho, factor, falls):
        seen.append((factor, falls))
        return len(seen) not in (TINY.steps, TINY.steps + 1)

    monkeypatch.setattr(MeanVar, "move_penalties", move_penalties)
    trainer = Trainer(replace(TINY, parameterization="mean-var"), mnist[0])
    finish(trainer)
    # That all are within their budget before `steps` ends nothing; after it, it does.
    assert trainer.state.trained == TINY.steps + 2
    assert trainer.state.step == trainer.total_steps() == TINY.steps + 2 + TINY.encoding_steps()
    before, settling, encoding = np.split(np.array(seen), [TINY.steps - 1, TINY.steps + 2])
    assert before[:, 1].all()
    assert settling.tolist() == [[SETTLING_FACTOR, False]] * 3
    assert encoding.tolist() == [[ENCODING_FACTOR, True]] * TINY.encoding_steps()


def test_mean_var_gives_up_settling_after_as_many_steps_again(mnist):
    trainer = Trainer(replace(TINY, parameterization="mean-var"), mnist[0])
    while trainer.phase() == "train":
        trainer.train_step()
    assert trainer.state.trained == 2 * TINY.steps


def test_rate_falls_from_rate_to_encoding_rate_to_final_rate(mnist):
    trainer = Trainer(TINY, mnist[0])
    rates = [trainer.rate(s) for s in range(TINY.total_steps() + 1)]
    assert rates[0] == TINY.rate
    assert rates[TINY.steps] == TINY.encoding_rate
    assert rates[-1] == pytest.approx(TINY.final_rate)
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    "change",
    [
        {"shift": 1},
        {"antithetic": 1},
        {"selection": "best"},
        {"code": "orc"},
        {"hash_factors": (1, 1, 5, 1, 25, 1, 1, 1)},
    ],
)
def test_settings_change_the_file(mnist, change):
    assert finish(Trainer(replace(TINY, **change), mnist[0])) != finish(Trainer(TINY, mnist[0]))


def test_the_best_candidates_are_nearer_to_the_posterior(mnist):
    """In log q / p, which the indices of a first group are judged by."""
    scores = {}
    for selection in ("sample", "best"):
        trainer = Trainer(replace(TINY, bits_per_block=8, selection=selection), mnist[0])
        while trainer.group_due() is None:
            trainer.train_step()
        trainer.encode_group(0)
        blocks = trainer.groups[0]
        delta, log_s = trainer.parameterization.whitened(trainer.state.parameters, trainer.rho())
        z = trainer.engine.codebook_rows(TINY.seed, np.arange(2**8), TINY.block_size)
        weights = trainer.engine.log_weights(z, delta[blocks], log_s[blocks])
        scores[selection] = weights[np.arange(len(blocks)), trainer.state.messages[blocks, 0]]
        top = weights.max(axis=1)
    assert np.array_equal(scores["best"], top)
    assert np.all(scores["sample"] <= top)
    assert scores["sample"].mean() < top.mean()


def test_training_learns(tmp_path, mnist):
    settings = replace(TINY, bits_per_block=14, steps=250, batch_size=64, groups=4, group_steps=10)
    trainer = Trainer(settings, mnist[0])
    run_training(trainer, mnist[1], Folder(tmp_path))
    # Chance is 0.9; at this length about 0.15.
    assert trainer.validation_error(mnist[1]) < 0.5


@pytest.mark.parametrize("name", AFTER_DIGESTS)
def test_digests_leave_out_what_came_later_only_as_it_was(name):
    then = TINY.having({name: LATER_FIELDS[name]})
    assert name not in then.key()
    assert TINY.having({name: LATER_FIELDS[name] + 1}).key() != then.key()
    assert {**then.key(), name: LATER_FIELDS[name]} == then.to_dict()
