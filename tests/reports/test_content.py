from __future__ import annotations

import math
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest

from refmiracle.codes import minimal_random_coding
from refmiracle.commands import train
from refmiracle.engines import get_engine
from refmiracle.fileformat.anatomy import find_fields
from refmiracle.fileformat.model import decode_model
from refmiracle.posterior.parameterizations import PARAMETERIZATIONS
from refmiracle.reports import content, pictures
from refmiracle.reports.example import follow_block
from refmiracle.reports.opening import open_folder
from refmiracle.reports.page import describe_classes
from refmiracle.training.choosing import check_settings, choose_settings
from refmiracle.training.settings import PRESETS, preset_settings
from refmiracle.training.trainer import Trainer


@pytest.fixture(scope="module")
def predictions(opened, few_images):
    return content.predict(opened.run, few_images)


@pytest.fixture(scope="module")
def example(opened):
    return follow_block(opened, find_fields(opened.model), content.block_bits(opened.run))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seed": 7, "block_size": 90},
        {"block_size": 30, "groups": 605},
        {"hash_factors": (1, 1, 2, 1, 100, 1, 1, 1), "shift": 2},
    ],
)
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_the_command_trains_the_run_again(preset, parameterization, changes):
    settings = check_settings(replace(preset_settings(preset, parameterization), **changes))
    command, other = content.train_command(settings, "a run")
    assert other == []
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "refmiracle.train"]
    arguments = train.build_parser().parse_args(words[3:])
    given = {n: v for n in train.SETTINGS if (v := getattr(arguments, n)) is not None}
    assert choose_settings(given, settings.data, None) == settings
    assert arguments.out.name == "a run"


@pytest.mark.parametrize("preset", PRESETS)
def test_the_command_of_a_code_that_the_presets_bits_do_not_go_with(preset):
    chosen = preset_settings(preset, "mean-kl", "sp-pfr")
    settings = check_settings(replace(chosen, bits_per_block=8))  # in the preset's blocks
    words = shlex.split(content.train_command(settings, "a run")[0])
    arguments = train.build_parser().parse_args(words[3:])
    given = {n: v for n in train.SETTINGS if (v := getattr(arguments, n)) is not None}
    assert choose_settings(given, settings.data, None) == settings


def test_a_run_in_a_folder_with_a_dash_in_front():
    command, _ = content.train_command(PRESETS["smoke"], "-run", " --data x")
    arguments = train.build_parser().parse_args(shlex.split(command)[3:])
    assert (arguments.out.name, arguments.data.name) == ("-run", "x")


def test_settings_without_a_flag_are_named():
    command, other = content.train_command(replace(PRESETS["smoke"], spread=0.5), "run")
    assert "--spread" not in command
    assert other == ["spread = 0.5"]


def test_the_flags_are_those_of_the_command():
    """`--bytes` is a block size by another name, and the preset stands in every command."""
    assert set(content.FLAGS) == set(train.SETTINGS) - {"preset", "nbytes"}


def test_every_block_of_mean_kl_has_the_bits_of_an_index(opened):
    bits = content.block_bits(opened.run)
    np.testing.assert_allclose(bits, opened.model.bits_per_block, rtol=1e-3)
    tensors = content.tensor_bits(opened.run)
    assert math.isclose(sum(t.bits for t in tensors), bits.sum(), rel_tol=1e-9)
    assert sum(t.weights for t in tensors) == opened.model.layout.network.count()


def test_predictions_and_mistakes(opened, predictions, few_images):
    for probabilities in (predictions.decoded, predictions.posterior):
        np.testing.assert_allclose(probabilities.sum(axis=0), 1.0, rtol=1e-6)
    count, mistakes = content.find_mistakes(predictions, few_images)
    assert count == round(predictions.error * len(few_images.labels))
    assert len(mistakes) == min(count, content.MOST_MISTAKES)
    confidences = [m.decoded[m.predicted] for m in mistakes]
    assert confidences == sorted(confidences, reverse=True)
    assert all(m.label != m.predicted == m.decoded.argmax() for m in mistakes)
    assert all(few_images.labels[m.number] == m.label for m in mistakes)


def test_pruning_begins_with_the_whole_network(opened, predictions, few_images):
    curve = content.pruning_curve(opened.run, few_images)
    assert curve[0] == (0, predictions.error)
    assert [fraction for fraction, _ in curve] == list(content.FRACTIONS)


def test_the_first_layer_is_that_of_the_file(opened):
    weights = decode_model(opened.model, get_engine("numpy"))["conv1.weight"]
    before, after = content.first_layer(opened.run)
    assert before.shape == after.shape == (20, 1, 5, 5)
    assert np.array_equal(after[3, 0], weights[:, :, 0, 3])


def test_the_first_layer_of_dense_units_is_laid_out_as_the_image(dense_run):
    run = open_folder(dense_run).run
    weights = decode_model(open_folder(dense_run).model, get_engine("numpy"))["dense1.weight"]
    before, after = content.first_layer(run)
    assert before.shape == after.shape == (300 // 10, 1, 28, 28)
    assert np.array_equal(after[2, 0], weights[:, 20].reshape(28, 28))


def test_the_command_of_another_network(dense_run):
    run = open_folder(dense_run).run
    command, _ = content.train_command(run.settings, "again")
    assert "--network lenet-300-100" in command
    assert "--hash-factors" not in command


def test_the_example_is_what_the_file_says(opened, example):
    assert int("".join(own for _, own, _ in example.shown_bits), 2) == example.index
    assert all(len("".join(byte)) == 8 for byte in example.shown_bits)
    for number, byte in enumerate(example.shown_bits):
        assert int("".join(byte), 2) == opened.data[example.first_byte + number]
    weights = decode_model(opened.model, get_engine("numpy"))
    assert any(v.tensor == "conv1.weight" for v in example.variables)
    assert [v.place for v in example.variables] == list(range(len(example.variables)))
    for v in example.variables:
        assert np.float32(v.rho) * np.float32(v.normal) == np.float32(v.weight)
        assert v.positions
        for position in v.positions:
            assert abs(weights[v.tensor][position]) == abs(np.float32(v.weight))


def test_the_example_is_encoded_from_the_posterior_that_is_shown(opened, example, few_images):
    settings, bits = opened.run.settings, opened.model.bits_per_block
    assert example.group == 0
    assert example.block in Trainer(settings, few_images).groups[0]
    mu, sigma, rho = (
        np.array([getattr(v, n) for v in example.variables]) for n in ("mu", "sigma", "rho")
    )
    delta, log_s = mu / rho, 2 * np.log(sigma / rho)
    numpy_engine = get_engine("numpy")
    index = minimal_random_coding.encode(
        numpy_engine, settings.seed, bits, [example.block], delta[None], log_s[None]
    )
    assert index == [example.index]
    z = np.array([v.normal for v in example.variables])
    ratio = 0.5 * (z**2 - (z - delta) ** 2 * np.exp(-log_s) - log_s).sum() / math.log(2)
    assert math.isclose(example.log_weight, ratio, rel_tol=1e-4, abs_tol=1e-3)
    assert len(example.others) == 2**bits - 1


def test_pictures_are_the_pixels(few_images, tmp_path):
    import base64  # noqa: PLC0415

    from matplotlib import image  # noqa: PLC0415

    colours = pictures.colour_weights(np.array([[-1.0, 0.0, 2.0]]), 1.0)
    assert colours[0].tolist() == [
        list(c) for c in (pictures.NEGATIVE, pictures.ZERO, pictures.POSITIVE)
    ]
    for pixels in (few_images.images[0], colours):
        path = tmp_path / "picture.png"
        path.write_bytes(base64.b64decode(pictures.png_uri(pixels).partition(",")[2]))
        assert np.array_equal(np.round(255 * image.imread(path)), pixels)


def test_pictures_of_images_with_channels():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert pictures.as_picture(grey) is grey
    colours = np.stack([grey, grey + 10, grey + 20])
    assert pictures.as_picture(colours)[1, 2].tolist() == [5, 15, 25]
    assert pictures.as_picture(colours[:2]).tolist() == (grey + 5).tolist()


def mistake(decoded, label):
    return content.Mistake(3, np.zeros((2, 2), np.uint8), label, 0, decoded, decoded)


def test_of_many_classes_the_likeliest_are_shown():
    few, many = np.array([0.6, 0.3, 0.1]), np.linspace(0.2, 0.0, 30)
    assert content.likely_classes(mistake(few, 2)) == [0, 1, 2]
    assert content.likely_classes(mistake(many, 4)) == list(range(10))
    assert content.likely_classes(mistake(many, 29)) == [*range(9), 29]


def test_bars_have_names_or_numbers():
    shown = pictures.Classes([0, 2], ["<", "b", "c"])
    svg = pictures.bars_svg(np.array([0.7, 0.1, 0.2]), 2, 0, "the file", shown)
    assert 'aria-label="the file: &lt; with 70%, c with 20%, b with 10%"' in svg
    assert '<text x="5 15" y="49">&lt;c</text>' in svg
    assert 'class="true" x="10.5"' in svg
    many = pictures.Classes([0, 11], [f"class {i}" for i in range(12)])
    svg = pictures.bars_svg(np.linspace(0.2, 0, 12), 11, 0, "the file", many)
    assert "the file: class 0 with 20%" in svg
    assert re.findall(r">(\d+)</text>", svg) == ["0", "11"]


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("0123456789", "the classes 0 to 9"),
        ("ABC", "the classes"),
        (["cat", "dog"], "the classes (0 cat, 1 dog)"),
        ([str(i) for i in range(47)], "the 10 likeliest classes of 47, the true one among them"),
    ],
)
def test_which_classes_are_shown(names, text):
    assert describe_classes(list(names)) == text


def test_names_of_very_many_classes_are_cut_short():
    text = describe_classes([f"class {i}" for i in range(200)])
    assert text.endswith("99 class 99, ...)")
