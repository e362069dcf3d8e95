"""The program of static arrays on networks of every kind: it classifies as the package does."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from conformance import c_program
from conformance.chains import MODELS, random_update
from conformance.descriptions import described_files

import refmiracle
from refmiracle.fileformat.container import CompressedModel, parse_model
from refmiracle.layers import Conv2d, Dense, Flatten, GroupNorm, MeanPool2d, Relu, Residual
from refmiracle.nn.limits import DESCRIBED
from refmiracle.nn.network import Network
from refmiracle.nn.networks import RESNET8
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

SANITIZERS = c_program.variable("SANITIZERS")
RESNET8_SIZES = c_program.variable("RESNET8")
LARGE = {
    **{"MOST_VARIABLES": 30_000, "MOST_VALUES": 20_000, "ROOMS": 8, "PLANE": 1024},
    **{"DESCRIPTION": 16_384, "FLASH": 65_536},
}
# Float32 and float64 agree on what is this much more likely.
MARGIN = 1e-3


def flags(sizes):
    return [f"-D{name}={size}" for name, size in sizes.items()]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """The program with room for all that the tests have."""
    folder = tmp_path_factory.mktemp("large")
    return c_program.build(folder, "DEVICE_SOURCES", "large", [*SANITIZERS, *flags(LARGE)])


@pytest.fixture(scope="module")
def for_resnet8(tmp_path_factory):
    """The program with the arrays that the Makefile has for ResNet-8."""
    folder = tmp_path_factory.mktemp("resnet8")
    return c_program.build(folder, "DEVICE_SOURCES", "resnet8", [*SANITIZERS, *RESNET8_SIZES])


def model_of(network, rng, factors=None):
    """Return a file of a network, its blocks drawn at random."""
    factors = network.factors() if factors is None else factors
    layout = BlockLayout(network, factors, Grouping.OUTPUTS, Signs.UNIT, 4, 0)
    rho = [np.float16(1 / np.sqrt(t.fan_in)) for t in network.tensors()]
    messages = rng.integers(0, 2**20, (layout.blocks(), 1))
    return CompressedModel(layout, 20, np.array(rho), messages).to_bytes()


def run(program, folder, files, pixels):
    """Return what the program says of images."""
    paths = [folder / f"{number}.rmc" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    (folder / "images.u8").write_bytes(pixels.tobytes())
    command = [program, *paths, folder / "images.u8"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def images_for(network, count, rng):
    return rng.integers(0, 256, (count, *network.input), dtype=np.uint8)


def check(program, folder, files, pixels):
    """Hold the program's classes against the package's where float32 can tell them."""
    model = refmiracle.load(files[0], engine="numpy")
    for data in files[1:]:
        model = refmiracle.load(data, base=model, engine="numpy")
    done = run(program, folder, files, pixels)
    assert done.stderr == ""
    found = np.array([int(line) for line in done.stdout.splitlines()])
    likely = np.sort(model.predict_proba(pixels, channels="first"), axis=1)
    clear = likely[:, -1] - likely[:, -2] > MARGIN
    want = model.predict(pixels, channels="first")
    np.testing.assert_array_equal(found[clear], want[clear])
    return int(clear.sum())


def test_every_described_network_of_the_vectors(large, tmp_path, rng):
    clear = fitting = 0
    for data in described_files():
        layout = parse_model(data).layout
        network = layout.network
        if max(np.prod(network.input), network.classes) > LARGE["MOST_VALUES"]:
            continue
        if layout.variables() > LARGE["MOST_VARIABLES"]:
            continue
        clear += check(large, tmp_path, [data], images_for(network, 5, rng))
        fitting += 1
    assert fitting > 10
    assert clear > 3 * fitting


def test_a_resnet8_and_its_update(for_resnet8, tmp_path, rng):
    base = model_of(RESNET8, rng)
    packet = random_update(rng, base, base, bits=14, block_size=200)
    pixels = images_for(RESNET8, 6, rng)
    assert check(for_resnet8, tmp_path, [base], pixels) > 3
    assert check(for_resnet8, tmp_path, [base, packet], pixels) > 3


@pytest.mark.parametrize(
    ("file", "sizes"), [("resnet8-49088", "RESNET8"), ("resnet8-24-48205", "RESNET8_24")]
)
def test_the_models_that_ship(tmp_path, rng, file, sizes):
    """Each in a program with the arrays that the Makefile has for it, and no smaller."""
    data = (MODELS / f"{file}.rmc").read_bytes()
    wanted = [*SANITIZERS, *c_program.variable(sizes)]
    program = c_program.build(tmp_path, "DEVICE_SOURCES", "device", wanted)
    assert check(program, tmp_path, [data], images_for(RESNET8, 6, rng)) > 3
    room = parse_model(data).layout.variables()
    assert f"-DMOST_VARIABLES={room}" in wanted


def nested(*layers):
    return Network("nested", DESCRIBED, (2, 7, 6), 3, (*layers, MeanPool2d(), Flatten(), Dense(3)))


@pytest.mark.parametrize(
    "layers",
    [
        (Residual((), ()),),
        (Residual((Relu(),), (Relu(),)),),
        (Residual((), (Conv2d(2, kernel=3, padding=1), Conv2d(2, kernel=3, padding=1))),),
        (Residual((Residual((Conv2d(2, kernel=1),), ()), Relu()), (Residual((Relu(),), ()),)),),
    ],
    ids=["empty", "in-place", "long-shortcut", "nested"],
)
def test_residuals_of_every_form(large, tmp_path, rng, layers):
    network = nested(*layers)
    data = model_of(network, rng)
    assert check(large, tmp_path, [data], images_for(network, 20, rng)) > 10


@pytest.mark.parametrize(
    ("name", "less", "message"),
    [
        ("variables", {"MOST_VARIABLES": 78_185}, "78186 variables; there is room for 78185"),
        ("values", {"MOST_VALUES": 16_383}, "a map has 16384 values; there is room for 16383"),
        ("image", {"MOST_VALUES": 3000}, "a map has 3072 values; there is room for 3000"),
        ("rooms", {"ROOMS": 2}, "layers take more than 2 rooms"),
        ("description", {"DESCRIPTION": 100}, "it describes its network"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, rng, name, less, message):
    known = dict(flag.removeprefix("-D").split("=") for flag in RESNET8_SIZES)
    program = c_program.build(tmp_path, "DEVICE_SOURCES", name, flags({**known, **less}))
    done = run(program, tmp_path, [model_of(RESNET8, rng)], images_for(RESNET8, 1, rng))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


START_AGAIN = """
#include "device.h"
#include <stdio.h>

static Device device;
static uint8_t file[3][65536], image[MOST_VALUES];

int main(int argc, char **argv)
{
    size_t size[3] = {0};

    for (int i = 1; i < argc; i++) {
        FILE *from = fopen(argv[i], "rb");
        size[i - 1] = fread(file[i - 1], 1, sizeof file[0], from);
        fclose(from);
    }
    printf("%d ", device_classify(&device, image));
    printf("%d ", device_start(&device, file[0], size[0]));
    printf("%d ", device_classify(&device, image) >= 0);
    printf("%d ", device_start(&device, file[1], size[1]));
    printf("%d %lu ", device_classify(&device, image), (unsigned long)device_image(&device));
    printf("%d %s", device_update(&device, file[2], size[2]), failure());
    return 0;
}
"""


def test_after_a_start_that_failed_there_is_no_base(tmp_path, rng):
    """Nothing of the network before is used with what the new file left."""
    own = nested(Conv2d(2, kernel=1))
    base = model_of(own, rng)
    files = [base, model_of(RESNET8, rng), random_update(rng, base, base)]
    paths = [tmp_path / f"{number}.rmc" for number in range(3)]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    (tmp_path / "again.c").write_text(START_AGAIN)
    sources = [name for name in c_program.variable("DEVICE_SOURCES") if name != "device/main.c"]
    folder = c_program.SOURCES / "device"
    more = [*SANITIZERS, f"-I{folder}", str(tmp_path / "again.c"), "-DDESCRIPTION=16384"]
    program = c_program.build_of(tmp_path / "again", sources, more)
    done = subprocess.run([program, *paths], capture_output=True, text=True, check=True)
    assert done.stdout == "-1 1 1 0 -1 0 0 there is no base to update"
    assert done.stderr == ""


def test_a_logit_beyond_float32_is_no_class(large, tmp_path):
    """It is said in one line: float32 does not reach as far as that network."""
    dense = [Dense(8) for _ in range(12)]
    network = Network("deep", DESCRIBED, (1, 2, 2), 3, (Flatten(), *dense, Dense(3)))
    layout = BlockLayout(network, network.factors(), Grouping.OUTPUTS, Signs.UNIT, 4, 0)
    rho = np.full(len(layout.factors), 65504, np.float16)
    messages = np.arange(layout.blocks())[:, None]
    data = CompressedModel(layout, 20, rho, messages).to_bytes()
    done = run(large, tmp_path, [data], np.full((1, 1, 2, 2), 255, np.uint8))
    assert (done.returncode, done.stdout) == (2, "")
    assert "a logit is not finite" in done.stderr


def test_a_spread_beyond_float32_is_no_class(large, tmp_path, rng):
    """A norm by an infinite deviation would leave its bias alone, and all images the same class."""
    convs = [Conv2d(8, kernel=3, padding=1) for _ in range(4)]
    network = Network("far", DESCRIBED, (1, 8, 8), 4, (*convs, GroupNorm(1), Flatten(), Dense(4)))
    layout = BlockLayout(network, network.factors(), Grouping.OUTPUTS, Signs.UNIT, 4, 0)
    rho = np.full(len(layout.factors), 65504, np.float16)
    messages = rng.integers(0, 2**20, (layout.blocks(), 1))
    data = CompressedModel(layout, 20, rho, messages).to_bytes()
    pixels = images_for(network, 3, rng)
    done = run(large, tmp_path, [data], pixels)
    assert (done.returncode, done.stdout) == (2, "")
    assert "a logit is not finite" in done.stderr


def test_images_of_another_size_are_refused(for_resnet8, tmp_path, rng):
    done = run(for_resnet8, tmp_path, [model_of(RESNET8, rng)], np.zeros(3071, np.uint8))
    assert (done.returncode, done.stdout) == (2, "")
    assert "no images of 3072 bytes" in done.stderr
