"""The page about an update run: what moved, and the update beside its base."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import replace

import numpy as np
import pytest
from reports.test_page import SECTIONS, Reader

import refmiracle
from refmiracle.codes import minimal_random_coding
from refmiracle.codes.table import CODES
from refmiracle.commands import report, train
from refmiracle.engines import get_engine
from refmiracle.fileformat import anatomy
from refmiracle.fileformat.envelope import checksum_of
from refmiracle.loading import load_base
from refmiracle.numerics.philox import Stream, stream_permutation
from refmiracle.reports import content
from refmiracle.reports.example import choose_block, follow_block
from refmiracle.reports.opening import open_folder
from refmiracle.reports.page import build_page
from refmiracle.training.choosing import choose_settings
from refmiracle.training.trainer import Trainer

BASE = "lenet5-891"
SHORT = ("--preset", "smoke", "--steps", "4", "--groups", "3", "--group-steps", "2")
KEPT = ("conv2.weight", "conv2.bias", "dense1.weight", "dense1.bias")


def trained(folder, few_images, *flags):
    """Return the folder of an update run, measured on few images."""
    load = train.load_split
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            train,
            "load_split",
            lambda place, name: few_images if name == "t10k" else load(place, name),
        )
        given = ["--base", BASE, "--validation", "100", *SHORT, *flags]
        assert train.main([*given, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory, few_images):
    flags = ("--bytes", "70", "--bits-per-block", "8", "--tensors", "conv1,dense2")
    return trained(tmp_path_factory.mktemp("updated") / "run", few_images, *flags)


@pytest.fixture(scope="module")
def opened(run):
    return open_folder(run)


@pytest.fixture(scope="module")
def page(opened, few_images):
    return build_page(opened, few_images).decode()


@pytest.fixture(scope="module")
def updated(opened):
    return refmiracle.load(opened.data, base=BASE)


def test_what_was_opened_is_the_file(opened, updated):
    assert opened.data == updated.data
    weights = {name: array.ravel() for name, array in updated.weights.items()}
    variables, first = {}, 0
    for tensor, size in zip(updated.network.tensors(), opened.model.layout.sizes(), strict=True):
        variables[tensor.name] = opened.run.decoded[first : first + size]
        first += size
    for name in ("conv1.weight", "dense2.bias", *KEPT):
        assert set(np.abs(variables[name])) == set(np.abs(weights[name]).astype(float))
    assert list(opened.run.tensors()) == [name for name in variables if name not in KEPT]
    assert len(opened.run.posterior.mu) == opened.model.layout.variables()


def test_its_sections(page, opened, few_images):
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    labels = [a.get("aria-labelledby") for tag, a in reader.elements if tag == "section"]
    assert labels == ["run", "moved", *SECTIONS[1:]]
    ids = [a["id"] for _, a in reader.elements if "id" in a]
    assert len(ids) == len(set(ids))
    assert "{{" not in page
    assert "http://" not in page
    titles = re.findall(r'title="byte (\d+) \((..)\)', page)
    assert titles == [(str(i), f"{value:02x}") for i, value in enumerate(opened.data)]
    assert build_page(opened, few_images).decode() == page


def test_it_says_what_the_base_does(page, opened, updated, few_images):
    error = updated.base.error(few_images.images, few_images.labels)
    assert content.base_error(opened.run, few_images) == error
    assert f"Its base gets {100 * error:.2f} % of them wrong." in page
    assert f"an update in {len(opened.data)} bytes" in page
    assert "<dd>891</dd>" in page


def test_what_moved(opened, updated, few_images):
    error = updated.error(few_images.images, few_images.labels)
    moves = content.find_moves(opened.run, opened.model, few_images, error)
    assert [m.name for m in moves] == [t.name for t in updated.network.tensors()]
    for move in moves:
        assert (move.level == 0) == (move.name in KEPT)
        assert (move.change == 0) == (move.rho == 0) == (move.name in KEPT)
        if move.name in KEPT:
            assert move.without == error
        before, after = (np.float64(m.weights[move.name]) for m in (updated.base, updated))
        assert move.before == pytest.approx(np.sqrt(np.mean(before**2)), rel=1e-2)
        assert move.change == pytest.approx(np.sqrt(np.mean((after - before) ** 2)), rel=1e-6)
        assert move.of_root == pytest.approx(move.level and 2 ** ((move.level - 128) / 4), rel=1e-6)
    bits = content.tensor_bits(opened.run)
    assert {t.name for t in bits} == {m.name for m in moves if m.level}
    assert sum(t.bits for t in bits) == pytest.approx(content.block_bits(opened.run).sum())


def test_changes_that_are_all_left_out_leave_the_base(opened, few_images, monkeypatch):
    monkeypatch.setattr(content, "FRACTIONS", (0, 1))
    curve = content.pruning_curve(opened.run, few_images)
    whole = content.predict(opened.run, few_images).error
    assert curve == [(0, whole), (1, content.base_error(opened.run, few_images))]


def test_the_block_that_is_followed(opened, few_images):
    run, bits = opened.run, opened.model.bits_per_block
    example = follow_block(opened, anatomy.find_fields(opened.model), content.block_bits(run))
    assert any(v.tensor == "conv1.weight" for v in example.variables)
    for v in example.variables:
        added = np.float32(np.float32(v.rho) * np.float32(v.normal))
        assert np.float32(np.float32(v.base) + added) == np.float32(v.weight)
        assert v.tensor not in KEPT
    settings, numpy_engine = run.settings, get_engine("numpy")
    assert example.block in Trainer(settings, few_images).groups[0]
    mu, sigma, rho = (
        np.array([getattr(v, n) for v in example.variables]) for n in ("mu", "sigma", "rho")
    )
    delta, log_s = mu / rho, 2 * np.log(sigma / rho)
    rows = minimal_random_coding.decode(
        numpy_engine, settings.seed, np.arange(2**bits), settings.block_size
    )[:, : len(mu)]
    weights = numpy_engine.log_weights(rows, delta[None], log_s[None])[0]
    assert weights.argmax() == example.index


def test_the_command_trains_the_run_again(opened, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = refmiracle.load(BASE)
    base.save(f"{checksum_of(base.data):08x}.rmc")
    command, other = content.train_command(opened.run.settings, "again")
    assert other == []
    arguments = train.build_parser().parse_args(shlex.split(command)[3:])
    given = {n: v for n in train.SETTINGS if (v := getattr(arguments, n)) is not None}
    given["base"] = load_base(arguments.base).chain
    assert choose_settings(given, opened.run.settings.data, None) == opened.run.settings


@pytest.mark.slow
@pytest.mark.parametrize("code", ["mrc", "gprs-s"])
def test_a_page_without_the_first_layer_or_an_index(tmp_path, few_images, code):
    flags = ("--code", code, "--tensors", "dense2", "--parameterization", "mean-var")
    flags += ("--bits-per-block", "4", "--block-size", "100")
    folder = trained(tmp_path / "run", few_images, *flags, "--steps", "1", "--groups", "1")
    text = build_page(open_folder(folder), few_images).decode()
    assert ('id="index"' in text) == CODES[code].fixed_length
    assert "<td>kept</td>" in text


@pytest.mark.slow
def test_what_is_damaged_is_one_line(run, tmp_path, few_images_folder, tiny_run, capsys):
    given = ["--data", str(few_images_folder)]
    for name, change, message in (
        ("update.rmc", lambda data: data[:-5], "update.rmc: the checksum is"),
        ("update.rmc", lambda data: refmiracle.load(BASE).data, "update.rmc: it is not the file"),
        (
            "posterior.npz",
            lambda data: (tiny_run / "posterior.npz").read_bytes(),
            "posterior.npz: it is not of the run that made update.rmc",
        ),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(run, folder)
        (folder / name).write_bytes(change((folder / name).read_bytes()))
        assert report.main([str(folder), *given]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    shutil.copytree(run, tmp_path / "foreign")
    shutil.copy(tiny_run / "model.rmc", tmp_path / "foreign")
    assert report.main([str(tmp_path / "foreign"), *given]) == 2
    error = capsys.readouterr().err
    assert "model.rmc: it is not of this run, whose file is update.rmc, nor its base; move" in error
    shutil.copytree(run, tmp_path / "whole")
    refmiracle.load(BASE).save(tmp_path / "whole" / "model.rmc")  # which may be there
    out = ["--out", str(tmp_path / "whole" / "update.rmc")]
    assert report.main([str(tmp_path / "whole"), *given, *out]) == 2
    assert "update.rmc itself; name another file with --out" in capsys.readouterr().err
    assert report.main([str(tmp_path / "whole"), *given]) == 0


def test_an_update_that_leaves_a_tensor_as_it_was_has_a_block_to_follow(opened):
    run = replace(opened.run)
    vars(run)["change"] = np.zeros_like(opened.run.change)
    block, group = choose_block(run)
    first = next(iter(run.tensors().values()))
    of_first = run.places.place_of_variable[run.coded[first]] // run.settings.layout().block_size
    assert block in of_first
    order = stream_permutation(run.settings.seed, Stream.ORDER, 0, run.settings.layout().blocks())
    assert block in np.array_split(order, run.settings.groups)[group]
