"""fit on arrays, and Run: the bytes of the command, stops, and all that is refused."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from face.conftest import QUICK, press_at
from tiny import TINY

import refmiracle
from refmiracle.commands import train
from refmiracle.layers import Dense, Flatten, Relu
from refmiracle.nn.description import to_description
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET5, NETWORKS
from refmiracle.training import run as loop
from refmiracle.training.choosing import choose_settings
from refmiracle.training.data import default_folder, load_split
from refmiracle.training.settings import PRESETS


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(PRESETS, "smoke", replace(TINY, preset="smoke"))


@pytest.fixture(scope="module")
def whole(shapes):
    """A run that nothing has disturbed."""
    return refmiracle.fit(*shapes, **QUICK)


def test_the_same_bytes_as_the_command(tmp_path, tiny, small_mnist, capsys):
    """From the arrays of MNIST, whatever they come as; and the folder is the command's."""
    assert train.main(["--preset", "smoke", "--out", str(tmp_path / "command")]) == 0
    mnist = load_split(default_folder(), "train")
    settings = {"preset": "smoke", "validation": 500, "progress": False}
    ours = refmiracle.fit(mnist.images, mnist.labels, out=tmp_path / "ours", **settings)
    flat = mnist.images.reshape(len(mnist.images), -1) / 255
    other = refmiracle.fit(flat, mnist.labels.astype(int)[:, None], **settings)
    data = (tmp_path / "command" / "model.rmc").read_bytes()
    assert ours.model.data == other.model.data == data
    assert (tmp_path / "ours" / "model.rmc").read_bytes() == data
    read = [json.loads((tmp_path / n / "summary.json").read_text()) for n in ("command", "ours")]
    timed = {"train_seconds", "test_error", "test_images"}
    strip = [{k: v for k, v in summary.items() if k not in timed} for summary in read]
    assert strip[0] == strip[1]
    assert {p.name for p in (tmp_path / "ours").iterdir()} == {
        p.name for p in (tmp_path / "command").iterdir()
    }
    assert ours.summary["sha256"] == read[0]["sha256"]
    assert train.main(["--resume", "--out", str(tmp_path / "ours")]) == 0  # it is one of its own
    again = refmiracle.fit(mnist.images, mnist.labels, out=tmp_path / "command", resume=True)
    assert again.model.data == data


def test_fits_in_several_threads(shapes, whole):
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: refmiracle.fit(*shapes, **QUICK), range(3)))
    assert {run.model.data for run in runs} == {whole.model.data}


def test_a_finished_run(whole, shapes):
    assert whole.finished
    assert (whole.step, whole.steps, whole.folder) == (20, 20, None)
    assert whole.model.network.input == (1, 6, 6)
    assert whole.model.classes == 3
    error = whole.model.error(shapes[0][-40:], shapes[1][-40:])
    assert whole.summary["validation_error"] == error
    assert repr(whole) == f"Run({whole.model.nbytes} bytes, validation error {error:.2%}, 20 steps)"
    assert whole.settings["steps"] == 12
    assert json.loads(json.dumps(whole.settings)) == whole.settings


def test_curves_are_arrays(shapes):
    run = refmiracle.fit(*shapes, **{**QUICK, "steps_per_point": 7})
    assert run.curves["step"].tolist() == [7, 14, 20]
    assert run.curves["phase"].tolist() == ["train", "encode", "encode"]
    assert run.curves["sent_bits"][-1] == run.summary["index_bits"]
    for array in run.curves.values():
        assert array.shape == (3,)
        assert not array.flags.writeable


def test_without_images_for_it_the_validation_error_is_nan(shapes):
    run = refmiracle.fit(*shapes, **{**QUICK, "validation": 0})
    assert np.isnan(run.curves["validation_error"]).all()
    assert run.summary["validation_error"] is None
    assert "validation" not in repr(run)


def test_images_of_ones_own_for_validation(shapes, whole):
    """They are as the last ones of all."""
    images, labels = shapes
    others = images[160:], labels[160:]
    run = refmiracle.fit(images[:160], labels[:160], **{**QUICK, "validation": others})
    assert run.model.data == whole.model.data


def test_a_tenth_is_kept_by_default(shapes):
    run = refmiracle.fit(*shapes, **{**QUICK, "validation": None})
    assert run.settings["validation"] == 20


@pytest.mark.parametrize("preset", ["smoke", "default"])
def test_a_batch_is_no_larger_than_the_images_unless_told(shapes, preset):
    """160 images are left to train on: more than a batch of `smoke`, less than one of `default`."""
    own = {n: value for n, value in QUICK.items() if n != "batch_size"} | {"preset": preset}
    run = refmiracle.fit(*shapes, **own)
    size = min(160, PRESETS[preset].batch_size)
    assert run.settings["batch_size"] == size
    told = refmiracle.fit(*shapes, **own, batch_size=size)
    assert told.model == run.model


@pytest.mark.parametrize("where", ["folder", "memory"])
@pytest.mark.parametrize("step", [5, 14])
def test_an_interrupt_is_a_run_that_goes_on(shapes, whole, tmp_path, monkeypatch, where, step):
    out = tmp_path / "run" if where == "folder" else None
    with monkeypatch.context() as patch:
        press_at(patch, step)
        run = refmiracle.fit(*shapes, **QUICK, out=out)
    told = "" if out is None else f", in {out}"
    assert not run.finished
    assert repr(run) == f"Run(stopped after {step + 1} of 20 steps{told})"
    assert run.curves["step"].shape == (0,)
    with pytest.raises(refmiracle.InputError, match=f"after {step + 1} of 20 steps; go on with"):
        _ = run.model
    with pytest.raises(refmiracle.InputError, match="stopped"):
        _ = run.summary
    assert run.resume(progress=False) is run
    assert run.finished
    assert run.model.data == whole.model.data
    assert np.array_equal(run.curves["loss_nats"], whole.curves["loss_nats"])


def test_a_folder_is_resumed_by_fit(shapes, whole, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        press_at(patch, 5)
        refmiracle.fit(*shapes, **QUICK, out=out)
    with pytest.raises(refmiracle.InputError, match="go on with it by resume, or name another out"):
        refmiracle.fit(*shapes, **QUICK, out=out)
    with pytest.raises(refmiracle.InputError, match="seed 3: the run to resume was started"):
        refmiracle.fit(*shapes, **QUICK, out=out, resume=True, seed=3)
    with pytest.raises(refmiracle.InputError, match="started with other training images"):
        refmiracle.fit(shapes[0][::-1], shapes[1], out=out, resume=True)
    run = refmiracle.fit(*shapes, out=out, resume=True, progress=False)
    assert run.model.data == whole.model.data


def test_images_that_change_while_a_run_stands(shapes, monkeypatch):
    images = shapes[0].copy()
    with monkeypatch.context() as patch:
        press_at(patch, 5)
        run = refmiracle.fit(images, shapes[1], **QUICK)
    kept, images[0] = images[0].copy(), 0
    with pytest.raises(refmiracle.InputError, match="other training images"):
        run.resume()
    images[0] = kept
    assert run.resume(progress=False).finished


def test_a_second_interrupt_is_the_callers_and_leaves_no_half_step(shapes, monkeypatch):
    with monkeypatch.context() as patch:
        press_at(patch, 5)
        run = refmiracle.fit(*shapes, **QUICK)
    whole = loop.Trainer.train_step

    def train_step(trainer):
        whole(trainer)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.Trainer, "train_step", train_step)
        with pytest.raises(KeyboardInterrupt):
            run.resume(progress=False)
    with pytest.raises(refmiracle.InputError, match="broken off within a step; begin it anew"):
        run.resume(progress=False)


def test_networks_in_every_form(shapes, whole):
    network = whole.model.network
    for given in (network, to_description(network), to_description(network).hex()):
        run = refmiracle.fit(*shapes, **{**QUICK, "network": given})
        assert run.model == whole.model


def test_flat_images_with_layers(shapes):
    images, labels = shapes
    run = refmiracle.fit(images.reshape(200, 36), labels, **QUICK)
    assert run.model.network.input == (1, 1, 36)
    assert run.model.predict(images.reshape(200, 36)[:1]).shape == (1,)


def test_colours(shapes):
    """Three channels, last or first: the same network, the same bytes."""
    images = np.stack([shapes[0], shapes[0][::-1], 255 - shapes[0]], axis=-1)
    run = refmiracle.fit(images, shapes[1], **QUICK)
    first = np.moveaxis(images, -1, 1)
    other = refmiracle.fit(first, shapes[1], channels="first", **QUICK)
    assert run.model.network.input == (3, 6, 6)
    assert run.model == other.model
    found = run.model.predict(images)
    assert np.array_equal(run.model.predict(first, channels="first"), found)
    assert np.array_equal(run.model.predict(images.reshape(200, -1)), found)


def test_a_network_that_a_name_finds(shapes):
    images, labels = shapes
    with pytest.raises(refmiracle.InputError, match=r"6, 6\); expected \(images, 28, 28"):
        refmiracle.fit(images, labels)
    with pytest.raises(refmiracle.InputError, match="network 'lenet6' is unknown"):
        refmiracle.fit(images, labels, network="lenet6")
    assert LENET5.input == (1, 28, 28)


def test_progress_is_lines_unless_it_is_not_wanted(shapes, capsys):
    refmiracle.fit(*shapes, **QUICK)
    assert capsys.readouterr() == ("", "")
    refmiracle.fit(*shapes, **{**QUICK, "progress": True})
    said = capsys.readouterr()
    assert said.out == ""
    assert "20 of 20 steps" in said.err


REFUSED = [
    ({"stepz": 3}, "stepz is no setting of a run; did you mean steps?"),
    ({"colour": 3}, "colour is no setting of a run; expected preset, "),
    ({"data": "x"}, "data is no setting of a run"),
    ({"preset": "huge"}, "preset 'huge' is unknown; expected one of smoke, default, paper"),
    ({"engine": "cuda"}, "engine 'cuda' is unknown; expected one of numba, numpy"),
    ({"parameterization": "mean"}, "parameterization 'mean' is unknown"),
    ({"selection": 3}, "selection 3 is unknown; expected one of sample, best"),
    ({"code": "zip"}, "'zip' is unknown"),
    ({"code": "orc", "selection": "best"}, "selection best goes with code mrc only"),
    ({"steps": 0}, "steps 0 is out of range; expected 1 to 2147483647"),
    ({"steps": 2.5}, "steps is 2.5; expected a whole number"),
    ({"steps": True}, "steps is True; expected a whole number"),
    ({"batch_size": 0}, "batch_size 0 is out of range"),
    ({"batch_size": 161}, "160 training images are too few for batches of 161"),
    ({"seed": -1}, "seed -1 is out of range"),
    ({"seed": "7"}, "seed is '7'; expected a whole number from 0 to 4294967295"),
    ({"bits_per_block": 25}, "bits_per_block 25 is out of range; expected 1 to 24"),
    ({"block_size": 10_000}, "block_size 10000 is out of range; expected 1 to 323"),
    ({"shift": 4}, "shift 4 is out of range; expected 0 to 3"),
    ({"flip": 2}, "flip 2 is out of range; expected 0 to 1"),
    ({"antithetic": 2}, "antithetic 2 is out of range; expected 0 to 1"),
    ({"rate": 0}, "rate is 0; expected a number above 0, to 1000"),
    ({"rate": float("nan")}, "rate is nan; expected a number above 0, to 1000"),
    ({"rate": float("inf")}, "rate is inf; expected a number above 0, to 1000"),
    ({"rate": "fast"}, "rate is 'fast'; expected a number above 0, to 1000"),
    ({"encoding_rate": -1e-3}, "encoding_rate is -0.001; expected a number above 0, to 1000"),
    ({"final_rate": 0.0}, "final_rate is 0.0; expected a number above 0, to 1000"),
    (
        {"late_scale_rate": 0.1, "parameterization": "mean-var"},
        "late_scale_rate 0.1 goes with parameterization mean-kl only; expected 0",
    ),
    ({"scale_rate": -1}, "scale_rate is -1; expected a number from 0 to 1000"),
    ({"variance_rate": -1}, "variance_rate is -1; expected a number from 0 to 1000"),
    ({"initial_beta": 0}, "initial_beta is 0; expected a number above 0, to 1000"),
    ({"spread": -0.1}, "spread is -0.1; expected a number from 0 to 1000"),
    (
        {"spread": 0, "parameterization": "mean-var"},
        "spread is 0; expected a number above 0, to 1000",
    ),
    ({"rho_gain": 1e6}, "rho_gain is 1000000.0; expected a number above 0, to 65504"),
    ({"hash_factors": 3}, "hash_factors is 3; expected a list of whole numbers"),
    ({"hash_factors": (1, 2)}, "hash_factors: 2 numbers; expected 4, one for each tensor"),
    ({"hash_factors": (1, 9, 1, 1)}, "hash_factors 9 for dense1.bias is out of range; expected 1"),
    ({"validation": -1}, "validation -1 is out of range"),
    ({"validation": 101}, "200 training images are too few; expected at least 202"),
    ({"validation": ([],)}, "validation: expected a number, or images and labels"),
    ({"steps_per_point": 0}, "steps_per_point 0 is out of range"),
    ({"channels": "middle"}, 'channels is \'middle\'; expected "last" or "first"'),
    ({"network": 5}, "network is 5; expected a name, a Network, a description or a list of layers"),
    ({"network": [5]}, "network is [5]; expected a name"),
    ({"network": [Dense(3)]}, "layer 0, Dense(outputs=3), does not take activations of shape"),
    ({"network": [Flatten(), Dense(1)]}, "network: a network of 1 classes; expected 2 to 65535"),
    ({"network": b"\x01"}, "network: "),
    ({"network": "description:zz"}, "expected hexadecimal digits"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[str(r[0]) for r in REFUSED])
def test_every_wrong_setting_is_one_line_and_leaves_nothing(shapes, tmp_path, change, message):
    out = tmp_path / "run"
    with pytest.raises(refmiracle.InputError) as e:
        refmiracle.fit(*shapes, **{**QUICK, **change}, out=out)
    assert message in str(e.value)
    assert "\n" not in str(e.value)
    assert "--" not in str(e.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(199, int), "of shape (199,); expected whole numbers from 0 to 2, (200,)"),
        (np.zeros(200), "labels of float64"),
        (np.zeros(200, bool), "labels of bool"),
        (np.eye(3)[np.zeros(200, int)].astype(int), "of shape (200, 3)"),
        (np.full(200, 3), "label 3 is out of range; expected 0 to 2"),
        (np.full(200, -1), "label -1 is out of range; expected 0 to 2"),
        (np.ma.masked_array(np.zeros(200, int)), "labels has a mask"),
    ],
)
def test_every_wrong_label_is_one_line(shapes, labels, message):
    with pytest.raises(refmiracle.InputError) as e:
        refmiracle.fit(shapes[0], labels, **QUICK)
    assert message in str(e.value)


def test_the_hash_factors_of_a_network_are_those_that_it_is_given_with(shapes, monkeypatch):
    """Equal networks may have others; a name stands for the first of them."""
    monkeypatch.setattr("refmiracle.given.NETWORKS", dict(NETWORKS))
    layers = (Flatten(), Dense(4), Relu(), Dense(3))
    for factors in ((2, 1, 1, 1), (1, 1, 2, 1)):
        for name, number in (("own", 0), ("of-ones-own", 222)):
            network = Network(name, number, (1, 6, 6), 3, layers, factors)
            run = refmiracle.fit(*shapes, **{**QUICK, "network": network})
            assert tuple(run.settings["hash_factors"]) == factors
    given = {"network": replace(LENET5, hash_factors=(1,) * 8)}
    assert choose_settings(given, "", None).hash_factors == (1,) * 8


def test_numbers_of_numpy_are_numbers(shapes, whole):
    change = {"steps": np.int64(12), "seed": np.uint8(0), "bits_per_block": np.int16(4)}
    assert refmiracle.fit(*shapes, **{**QUICK, **change}).model.data == whole.model.data
    change = {"steps": np.int64(11), "seed": np.uint8(7), "rate": np.float32(0.5)}
    settings = json.loads(json.dumps(refmiracle.fit(*shapes, **{**QUICK, **change}).settings))
    assert [settings[name] for name in change] == [11, 7, 0.5]


def test_a_training_that_diverges_is_a_check_error(shapes):
    with pytest.raises(refmiracle.CheckError, match="begin anew in another out, with a lower rate"):
        refmiracle.fit(*shapes, **{**QUICK, "rate": 1000, "parameterization": "mean-var"})
