"""Updates: what has changed since a file that the other side has, trained, loaded, refused."""

from __future__ import annotations

import copy
import errno
import inspect
import math
import os
import pickle
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from face.conftest import QUICK, press_at

import refmiracle
from refmiracle.codes.code import VARIABLE, Code
from refmiracle.codes.table import CODES
from refmiracle.engines import get_engine
from refmiracle.fileformat.anatomy import find_fields
from refmiracle.fileformat.chain import decode_chain
from refmiracle.fileformat.envelope import checksum_of
from refmiracle.layers import Dense, Flatten
from refmiracle.nn.network import Network
from refmiracle.nn.networks import NETWORKS
from refmiracle.training.choosing import choose_settings
from refmiracle.training.run import checkpoint_path
from refmiracle.training.sizes import expected_bytes
from refmiracle.training.state import load_checkpoint, save_checkpoint

QUICK_UPDATE = {name: value for name, value in QUICK.items() if name != "network"}
NAMES = ["dense1.weight", "dense1.bias", "dense2.weight", "dense2.bias"]


@pytest.fixture(scope="module")
def model(shapes):
    return refmiracle.fit(*shapes, **QUICK).model


@pytest.fixture(scope="module")
def turned(shapes):
    """The same images upside down, which the model gets wrong."""
    return shapes[0][:, ::-1], shapes[1]


@pytest.fixture(scope="module")
def run(model, turned):
    return model.update(*turned, **QUICK_UPDATE, nbytes=40)


@pytest.fixture(scope="module")
def second(run, shapes):
    """An update of the update."""
    return run.model.update(*shapes, **QUICK_UPDATE, nbytes=60, seed=5).model


def refusal(call, *arguments, **given):
    with pytest.raises(refmiracle.InputError) as e:
        call(*arguments, **given)
    assert "\n" not in str(e.value)
    return str(e.value)


def test_what_a_run_says_of_the_base(model, run, turned):
    assert run.finished
    assert run.model.base == model
    assert run.model.nbytes <= 40
    kept = turned[0][-40:], turned[1][-40:]
    assert run.summary["base"] == f"{checksum_of(model.data):08x}"
    assert run.summary["base_bytes"] == model.nbytes
    assert run.summary["base_validation_error"] == model.error(*kept)
    assert run.summary["validation_error"] == run.model.error(*kept)
    assert run.summary["bytes"] == run.model.nbytes


def test_an_update_is_applied(model, run, tmp_path):
    path = tmp_path / "update.rmc"
    run.model.save(path)
    for given in (run.model.data, bytearray(run.model.data), path, str(path)):
        applied = model.apply(given)
        assert applied == run.model
        assert hash(applied) == hash(run.model)
    assert model.apply(path) != model
    assert run.model.chain == (model.data, run.model.data)


def test_wherever_the_base_is(model, run, second, tmp_path, monkeypatch):
    """By itself, in a list in any order, or in a folder together with other files."""
    monkeypatch.chdir(tmp_path)
    for name, file in (("old", model), ("first", run.model), ("second", second)):
        (tmp_path / f"{name}.rmc").write_bytes(file.data)
    damaged = bytearray(model.data)
    damaged[9] ^= 1
    (tmp_path / "a.rmc").write_bytes(damaged)  # its checksum is that of the model
    for base in (
        *(model, model.data, "old.rmc", tmp_path / "old.rmc", [model]),
        *(tmp_path, [tmp_path], ["second.rmc", "old.rmc"]),
    ):
        assert refmiracle.load("first.rmc", base=base) == run.model
    for base in (
        *(run.model, [model, run.model.data], ["first.rmc", "old.rmc"], ("old.rmc", "first.rmc")),
        *(tmp_path, ["first.rmc", tmp_path]),
    ):
        found = refmiracle.load("second.rmc", base=base)
        assert found == second
        assert found.chain == (model.data, run.model.data, second.data)
        assert found.base.base == model


def test_bystanders_of_a_base_do_no_harm(model, run, tmp_path):
    (tmp_path / "a.rmc").mkdir()
    (tmp_path / "b.rmc").symlink_to("nowhere.rmc")
    (tmp_path / "old.rmc").write_bytes(model.data)
    assert refmiracle.load(run.model.data, base=tmp_path) == run.model


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
@pytest.mark.parametrize("mode", [0o444, 0o000])
def test_a_base_that_cannot_be_read_is_said_to_be_one(model, run, tmp_path, mode):
    """In a folder that may be listed, and not; for all but root."""
    folder = tmp_path / "closed"
    folder.mkdir()
    (folder / "old.rmc").write_bytes(model.data)
    folder.chmod(mode)
    try:
        assert "Permission denied" in refusal(refmiracle.load, run.model.data, base=folder)
    finally:
        folder.chmod(0o755)


def test_a_folder_that_cannot_be_read_is_said_to_be_one(run, tmp_path, monkeypatch):
    def listdir(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "listdir", listdir)
    said = refusal(refmiracle.load, run.model.data, base=tmp_path)
    assert said == f"{tmp_path}: cannot be read: Permission denied"


def test_whatever_is_missing_is_named_by_its_checksum(model, run, second, tmp_path):
    of_model, of_run = (f"{checksum_of(m.data):08x}" for m in (model, run.model))
    said = refusal(refmiracle.load, run.model.data)
    assert (
        said
        == f"this: it is an update of the file with the checksum {of_model}; name that one by base"
    )
    (tmp_path / "u.rmc").write_bytes(second.data)
    said = refusal(refmiracle.load, tmp_path / "u.rmc")
    assert f"u.rmc: it is an update of the file with the checksum {of_run}; name" in said
    for base in (model, "lenet5-891"):
        said = refusal(refmiracle.load, second.data, base=base)
        assert f"it is an update of the file with the checksum {of_run}, which is not among" in said
    said = refusal(refmiracle.load, second.data, base=run.model.data)  # the link is there
    assert (
        f"{of_run}: it is an update of the file with the checksum {of_model}, which is not" in said
    )
    said = refusal(model.apply, second.data)
    assert (
        said == f"it is an update of the file with the checksum {of_run}; this one has {of_model}"
    )


@pytest.mark.parametrize("place", [3, 9, -1])
def test_a_bit_of_the_base_or_of_the_update(model, run, place):
    damaged = bytearray(model.data)
    damaged[place] ^= 1
    assert refusal(refmiracle.load, run.model.data, base=bytes(damaged))
    damaged = bytearray(run.model.data)
    damaged[place] ^= 1
    assert refusal(model.apply, bytes(damaged))


def test_what_is_no_update_or_no_base(model, tmp_path):
    assert "it is a model, where an update is expected" in refusal(model.apply, model.data)
    said = refusal(refmiracle.load, model.data, base=model)
    assert said == "this: it is a model, no update, so it has no base"
    assert "None is no path, and no bytes of an update" in refusal(model.apply, None)
    assert "absent: No such file" in refusal(model.apply, tmp_path / "absent")
    assert "5 is no path" in refusal(refmiracle.load, model.data, base=5)


def test_no_name_is_no_name_in_a_message(model, run, second, tmp_path):
    """Where bytes are given they are called this, or by nothing; a folder is named as it is."""
    of_model = f"it is an update of the file with the checksum {checksum_of(model.data):08x}"
    assert (
        refusal(refmiracle.load, run.model.data, base=[])
        == f"this: {of_model}; name that one by base"
    )
    assert refusal(refmiracle.load, run.model.data, base=tmp_path) == (
        f"this: {of_model}; there is no .rmc file in {tmp_path}"
    )
    stranger = run.model.data[:-1] + b"\0", b"nothing"
    of_second = f"{checksum_of(second.data):08x}"
    said = refusal(refmiracle.load, run.model.data, base=[second.data, *stranger])
    assert said.endswith(f"among its bases ({of_second}, one is damaged, one is no .rmc file)")
    for base in ([], model, tmp_path):
        for data in (run.model.data[:-1] + b"\0", run.model.data[:6] + b"\0" + run.model.data[7:]):
            assert refusal(refmiracle.load, data, base=base).startswith("the checksum is")
    assert "damaged" in refusal(refmiracle.load, b"RMC\x60" + run.model.data[4:], base=model)


def test_an_update_that_ships_is_applied_by_its_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    old = refmiracle.load("lenet5-1551")
    assert old.apply("lenet5-1551-turned-51").nbytes == 51
    said = refusal(old.apply, "lenet5-1551-tuned-51")
    assert "there is no such file here; refmiracle carries" in said


def test_what_is_damaged_and_what_is_not_there_differ(model, run, second, tmp_path):
    """A link, or the root, with any one bit changed is never said to be another file."""
    for data in (model.data, run.model.data):
        for place in range(4, len(data)):
            path = tmp_path / "one.rmc"
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            others = [d for d in second.chain[:-1] if d != data]
            assert "one.rmc" in (
                said := refusal(refmiracle.load, second.data, base=[path, *others])
            )
            assert "damaged" in said


def test_both_engines_decode_the_same_bits(second):
    files = second.chain
    other = refmiracle.load(files[-1], base=list(files[:-1]), engine="numpy").weights
    for name, array in second.weights.items():
        assert array.tobytes() == other[name].tobytes()


def test_what_may_not_change_stays_the_same_bits(model, turned):
    given = {**QUICK_UPDATE, "tensors": ["dense2", "dense1.bias"], "nbytes": 40}
    run = model.update(*turned, **given)
    assert run.settings["tensors"] == ["dense2", "dense1.bias"]
    assert run.model.compressed.levels.astype(bool).tolist() == [False, True, True, True]
    for name in NAMES:
        kept = run.model.weights[name].tobytes() == model.weights[name].tobytes()
        assert kept == (name == "dense1.weight")


def test_the_same_bytes_again_and_after_a_stop(model, run, turned, tmp_path, monkeypatch):
    given = {**QUICK_UPDATE, "nbytes": 40}
    assert model.update(*turned, **given).model == run.model
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        press_at(patch, 14)
        stopped = model.update(*turned, **given, out=out)
        assert not stopped.finished
    again = model.update(*turned, out=out, resume=True, validation=40, progress=False)
    assert again.model == run.model
    assert (out / "update.rmc").read_bytes() == run.model.data
    assert not (out / "model.rmc").exists()
    with monkeypatch.context() as patch:
        press_at(patch, 3)
        stopped = model.update(*turned, **given)
    assert stopped.resume(progress=False).model == run.model
    other = refmiracle.load("lenet5-891")
    said = refusal(run.model.update, *turned, out=out, resume=True)
    of_model, of_run = (f"{checksum_of(m.data):08x}" for m in (model, run.model))
    assert said == (
        f"base, checksum {of_model} + {of_run}: the run to resume was started with checksum"
        f" {of_model}"
    )
    said = refusal(model.update, *turned, out=out, resume=True, nbytes=70)
    found = run.model.nbytes
    assert said == (
        f"nbytes 70: the run to resume was started with other blocks, whose file has {found} bytes"
    )
    slow = refmiracle.load(model.data, engine="numpy")  # nobody asks for another engine
    assert slow.update(*turned, out=out, resume=True, validation=40, progress=False).finished
    said = refusal(slow.update, *turned, out=out, resume=True, engine="numpy")
    assert said == "engine numpy: the run to resume was started with numba"
    assert "expected (images, 28, 28)" in refusal(other.update, *turned, out=out, resume=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"parameterization": "mean-var"},
        {"code": "gprs-s"},
        {"code": "orc", "block_size": 40},
        {"engine": "numpy"},
        {"selection": "sample"},
    ],
)
def test_other_ways_to_train(model, turned, settings):
    updated = model.update(*turned, **QUICK_UPDATE, **settings).model
    assert refmiracle.load(updated.data, base=model) == updated
    assert updated.engine == settings.get("engine", "numba")
    if "code" in settings:
        assert updated.compressed.code == settings["code"]


def test_no_tensor_to_change_is_refused(model, turned):
    for none in ((), [], np.array([], str)):
        said = refusal(model.update, *turned, **QUICK_UPDATE, tensors=none)
        assert said == "tensors names none; expected one at least"


def test_fit_does_not_go_on_with_an_update(model, shapes, turned, tmp_path):
    """Nor does an update go on with what makes a model."""
    for name, call in (("update", model.update), ("model", refmiracle.fit)):
        own = QUICK_UPDATE if name == "update" else QUICK
        call(*turned, **own, out=tmp_path / name)
    said = refusal(refmiracle.fit, *turned, out=tmp_path / "update", resume=True)
    assert said == (
        f"{tmp_path / 'update'}: it holds a run that makes an update, of the file with the checksum"
        f" {checksum_of(model.data):08x}; go on with it by the update of that model"
    )
    said = refusal(model.update, *turned, out=tmp_path / "model", resume=True)
    assert said.endswith("the run to resume was started with none: it makes a model")


def said_of(capsys, call, *arguments, **given):
    """Return what a run says beside its progress."""
    call(*arguments, **{**given, "progress": True})
    return [
        line for line in capsys.readouterr().err.splitlines() if line.startswith("refmiracle: ")
    ]


@pytest.mark.parametrize("code", ["orc", "pfr", "sp-pfr", "gprs-d", "as-star"])
def test_a_code_of_no_known_length_says_so_before_it_is_trained(model, turned, code, capsys):
    """And its blocks are such that it can send them."""
    kind = CODES[code]
    bits = {"bits_per_block": 6} if math.isfinite(kind.largest_kl_bits) else {}
    given = {**QUICK_UPDATE, **bits, "code": code}
    settings = choose_settings({"base": model.chain, **bits, "code": code}, "", None)
    size = expected_bytes(settings)
    first, *more = said_of(capsys, model.update, *turned, **given)
    told = f"refmiracle: code {code} tells how long an update is when it is there; some "
    assert first.startswith(told)
    assert not more or "warning: the update has" in more[0]
    assert (
        size <= 140
        or settings.block_size in (17, settings.layout().variables())
        or kind.of == VARIABLE
    )


def test_an_update_that_is_longer_than_its_model_says_so(model, turned, monkeypatch, capsys):
    """In one line: beforehand where it is known, else behind."""
    assert said_of(capsys, model.update, *turned, **QUICK_UPDATE, nbytes=40) == []
    many = {**QUICK_UPDATE, "block_size": 1}
    (line,) = said_of(capsys, model.update, *turned, **many)
    assert line.startswith("refmiracle: warning: the update will have ")
    assert line.endswith(f"bytes, more than the model that it updates ({model.nbytes})")
    monkeypatch.setattr(Code, "expected_bits", lambda *_: 0.1)
    first, last = said_of(capsys, model.update, *turned, **many, code="orc")
    assert "some " in first
    assert "warning: the update has " in last
    assert last.endswith(f" were expected, more than the model that it updates ({model.nbytes})")


def test_the_usual_size_is_no_size_that_was_given(model, monkeypatch):
    monkeypatch.setattr("refmiracle.training.choosing.UPDATE_BYTES", 12)
    said = refusal(choose_settings, {"base": model.chain}, "", None)
    assert said.endswith("; 12 is the default: give nbytes or block_size")


def test_a_base_is_a_model(run):
    said = refusal(refmiracle.Model, run.model.data, base="lenet5-1551")
    assert "expected a Model (refmiracle.load takes names too)" in said


def test_a_run_of_settings_that_are_none_is_not_resumed(model, turned, tmp_path):
    """As an older version may have written them."""
    out = tmp_path / "old"
    model.update(*turned, **QUICK_UPDATE, nbytes=40, out=out)
    settings, state = load_checkpoint(checkpoint_path(out))
    save_checkpoint(checkpoint_path(out), replace(settings, selection="judged"), state)
    said = refusal(model.update, *turned, out=out, resume=True)
    assert said.startswith("the run to resume has settings that are none: selection 'judged'")


def test_fewer_groups_are_each_followed_by_more_steps(model):
    base = {"base": model.chain}
    whole = choose_settings({**base, "block_size": 1, "bits_per_block": 1}, "", None)
    for given in ({"nbytes": 51}, {"code": "orc", "block_size": 200}):
        few = choose_settings({**base, **given}, "", None)
        assert few.groups == few.layout().blocks() < whole.groups
        steps = whole.groups * whole.group_steps
        assert 0 <= steps - few.groups * few.group_steps < few.groups
    given = choose_settings({**base, "nbytes": 51, "group_steps": 7}, "", None)
    assert given.group_steps == 7


def test_a_network_with_a_number_of_its_own(turned, monkeypatch):
    monkeypatch.setattr("refmiracle.given.NETWORKS", dict(NETWORKS))
    network = Network("of-ones-own", 222, (1, 6, 6), 3, (Flatten(), Dense(3)))
    old = refmiracle.fit(*turned, **{**QUICK, "network": network}).model
    updated = old.update(*turned, **QUICK_UPDATE, nbytes=30).model
    assert refmiracle.load(updated.data, base=old.data, network=network) == updated
    assert updated.network == network
    assert pickle.loads(pickle.dumps(updated)) == updated


def test_a_chain_longer_than_the_stack_of_python(model, run):
    """Each link is of the one before; here the same change over and over."""
    model = refmiracle.load(model.data, engine="numpy")
    limit = sys.getrecursionlimit()
    update = refmiracle.load(run.model.data, base=model).compressed
    for _ in range(150):
        update = replace(update, base=checksum_of(model.data))
        model = refmiracle.load(update.to_bytes(), base=model, engine="numpy")
    depth = len(inspect.stack())
    sys.setrecursionlimit(depth + 100)
    try:
        chain, weights = model.chain, model.weights
    finally:
        sys.setrecursionlimit(limit)
    assert len(chain) == 151
    assert all(np.isfinite(w).all() for w in weights.values())


def test_an_update_of_a_network_of_ones_own_goes_on(turned, tmp_path, monkeypatch):
    """Where this process has only read the model: its checkpoint holds the network's name."""
    known = dict(NETWORKS)
    monkeypatch.setattr("refmiracle.given.NETWORKS", known)
    monkeypatch.setattr("refmiracle.nn.networks.NETWORKS", known)
    network = Network("of-ones-own", 222, (1, 6, 6), 3, (Flatten(), Dense(3)))
    data = refmiracle.fit(*turned, **{**QUICK, "network": network}).model.data
    known.pop("of-ones-own")
    old = refmiracle.load(data, network=network)
    with monkeypatch.context() as patch:
        press_at(patch, 5)
        run = old.update(*turned, **QUICK_UPDATE, nbytes=30, out=tmp_path / "run")
    assert not run.finished
    again = {**QUICK_UPDATE, "nbytes": 30, "out": tmp_path / "run", "resume": True}
    known.pop("of-ones-own")  # as in another process
    assert old.update(*turned, **again).finished
    known.pop("of-ones-own")
    given = {**QUICK, "network": network, "out": tmp_path / "model"}
    with monkeypatch.context() as patch:
        press_at(patch, 5)
        assert not refmiracle.fit(*turned, **given).finished
    known.pop("of-ones-own")
    assert refmiracle.fit(*turned, **given, resume=True).model.data == data


def test_sizes(model, shapes, turned):
    """An SMS where nothing is said; as many as are said; the least where there are too few."""
    assert model.update(*turned, **QUICK_UPDATE).model.nbytes <= 140
    assert refmiracle.fit(*shapes, **QUICK, nbytes=60).model.nbytes <= 60
    said = refusal(model.update, *turned, **QUICK_UPDATE, nbytes=10)
    assert said == "nbytes 10: the shortest file with these settings has 21"
    for given, message in (
        ({"nbytes": 60, "block_size": 5}, "nbytes and block_size: one follows from the other"),
        ({"nbytes": 60, "code": "gprs-s"}, "nbytes goes with code mrc only"),
        ({"nbytes": 60, "seed": -1}, "seed -1 is out of range"),
        ({"nbytes": 60, "bits_per_block": 300}, "bits_per_block 300 is out of range"),
        ({"nbytes": "60"}, "nbytes is '60'; expected a whole number"),
        ({"hash_factors": [1] * 4}, "hash_factors cannot be given: an update has those of its"),
        ({"network": "lenet5"}, "network cannot be given: it is the model's"),
        ({"base": ()}, "base cannot be given: it is the model itself"),
        (
            {"tensors": ["dense3"]},
            "tensors: 'dense3' is no tensor or layer of described-",
        ),
        ({"tensors": "dense1"}, "tensors is 'dense1'; expected a list of names"),
    ):
        assert message in refusal(model.update, *turned, **{**QUICK_UPDATE, **given})
    for name in ("base", "tensors"):
        given = {**QUICK, name: ("dense1",)}
        assert f"{name} cannot be given" in refusal(refmiracle.fit, *shapes, **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images, labels: (images[:, 1:], labels), "expected (images, 6, 6)"),
        (lambda images, labels: (images, labels + 1), "label 3 is out of range; expected 0 to 2"),
        (lambda images, labels: (images[:45], labels[:45]), "training images are too few"),
    ],
)
def test_new_images_that_do_not_fit(model, turned, change, message):
    said = refusal(model.update, *change(*turned), **QUICK_UPDATE)
    assert message in said


class Text(HTMLParser):
    text = ""

    def handle_data(self, data):
        self.text += data


def test_what_it_says_of_itself(model, run, second):
    sizes = f"an update of {run.model.nbytes} bytes to {model.nbytes}, 6x6 images in 3 classes"
    assert repr(run.model) == f"Model({model.network.name}, {sizes})"
    assert f"{second.nbytes} bytes to {model.nbytes} + {run.model.nbytes}," in repr(second)
    assert second.ratio == 4 * second.network.count() / second.nbytes
    shown = Text()
    shown.feed(second._repr_html_())
    fields = find_fields(second.compressed)
    assert b"".join(f.data for f in fields) == second.data
    assert all(f.name in shown.text for f in fields)
    assert repr(second) in shown.text
    assert "4 bytes, the file that it is relative to, by its checksum" in shown.text


def test_what_is_between_is_not_kept(run):
    """A chain takes as much memory as two of its files, and each file what it says."""
    chain = [refmiracle.Model(run.model.base.data)]
    for _ in range(4):
        update = replace(run.model.compressed, base=checksum_of(chain[-1].data))
        chain.append(refmiracle.Model(update.to_bytes(), base=chain[-1]))
    found = [chain[n].weights["dense1.weight"] for n in (4, 2, 3)]
    assert ["_variables" in vars(model) for model in chain] == [False, False, True, True, True]
    for n, weights in zip((4, 2, 3), found, strict=True):
        base = decode_chain(chain[n].chain, get_engine("numpy"))
        assert np.array_equal(weights, base.weights()["dense1.weight"])


def test_a_long_chain_pickles(run):
    """Longer than Python's stack is deep."""
    chain = [run.model.base]
    for _ in range(700):
        update = replace(run.model.compressed, base=checksum_of(chain[-1].data))
        chain.append(refmiracle.Model(update.to_bytes(), base=chain[-1]))
    back = pickle.loads(pickle.dumps(chain[-1]))
    assert back == chain[-1]
    assert copy.deepcopy(chain[-1]) == back


def test_it_pickles_with_its_base(second, shapes):
    back = pickle.loads(pickle.dumps(second))
    assert back == second
    assert np.array_equal(back.predict(shapes[0][:5]), second.predict(shapes[0][:5]))
