"""Networks to export, and a .rmc file of each kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from refmiracle.codes.table import CODES
from refmiracle.engines import get_engine
from refmiracle.fileformat.container import CompressedModel, read_model
from refmiracle.fileformat.model import decode_model
from refmiracle.fileformat.payload import message_shape
from refmiracle.nn.layers import Conv2d, Dense, Flatten, MaxPool2d, Relu
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET_300_100
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

SHIPPED = Path(__file__).parents[2] / "data" / "models" / "lenet5-1551.rmc"
BITS = 8

# Each pool drops a last row and column, the kernels are not square in their channels, and a
# second and a third dense layer follow on the first.
ODD = Network(
    name="odd",
    number=250,
    input=(1, 28, 28),
    classes=10,
    layers=(
        *(Conv2d(3, kernel=2), MaxPool2d(), Relu()),
        *(Conv2d(4, kernel=3), Relu(), MaxPool2d()),
        *(Flatten(), Dense(7), Relu(), Dense(6), Dense(10)),
    ),
    hash_factors=(1,) * 10,
)


def random_weights(network, rng):
    return {
        t.name: rng.normal(scale=t.fan_in**-0.5, size=t.shape).astype(np.float32)
        for t in network.tensors()
    }


def write_smallest(path, network, code):
    """Write a file whose messages are all the smallest; return the path."""
    factors = tuple(max(f, 20) if f > 1 else 1 for f in network.factors())
    layout = BlockLayout(network, factors, Grouping.OUTPUTS, Signs.UNIT, 40, seed=5)
    rho = np.full(len(factors), 0.125, np.float16)
    shape, raw = message_shape(layout, CODES[code]), CODES[code].raw_bits(BITS)
    messages = CODES[code].from_positive(np.full(shape, 1 << raw))
    path.write_bytes(CompressedModel(layout, BITS, rho, messages, code).to_bytes())
    return path


def write_random(path, network, seed=7):
    """Write a file of random indices, each coding distribution as wide as is usual."""
    layout = BlockLayout(network, network.factors(), Grouping.OUTPUTS, Signs.UNIT, 40, seed=5)
    rho = np.array([t.fan_in**-0.5 for t in network.tensors()], np.float16)
    indices = np.random.default_rng(seed).integers(0, 1 << BITS, (layout.blocks(), 1))
    path.write_bytes(CompressedModel(layout, BITS, rho, indices).to_bytes())
    return path


@pytest.fixture
def make_file(tmp_path):
    """Write a file of a network and a code; return its path."""
    return lambda network, code: write_smallest(tmp_path / "own.rmc", network, code)


@pytest.fixture(scope="session")
def shipped_path():
    return SHIPPED


@pytest.fixture(scope="session")
def shipped():
    """A shipped file's network, weights and bytes."""
    model, data = read_model(SHIPPED)
    return model.layout.network, decode_model(model, get_engine("numba")), data


@pytest.fixture(params=["lenet5", "lenet-300-100", "odd"])
def exported(request, shipped):
    """A network and its weights."""
    if request.param == "lenet5":
        return shipped[:2]
    network = {"lenet-300-100": LENET_300_100, "odd": ODD}[request.param]
    return network, random_weights(network, np.random.default_rng(6))
