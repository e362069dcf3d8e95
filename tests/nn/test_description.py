"""Networks as bytes: there and back, byte by byte, and every fault with its own line."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nn.trees import NORMED, TREE

from refmiracle.errors import InputError
from refmiracle.nn import description
from refmiracle.nn.contract import Weightless
from refmiracle.nn.description import (
    KINDS,
    LARGEST_BYTES,
    MOST_LAYERS,
    from_description,
    read_description,
    to_description,
)
from refmiracle.nn.layers import Conv2d, Dense, Flatten, GroupNorm, MaxPool2d, MeanPool2d, Relu
from refmiracle.nn.network import Network, check_network
from refmiracle.nn.networks import LENET5
from refmiracle.nn.tree import Residual, through
from refmiracle.numerics.varints import write_varint

CONV, DENSE, FLATTEN, MAXPOOL, MEANPOOL, NORM, RELU, RESIDUAL = range(1, 9)
LINE = [FLATTEN, DENSE, 10]


def packed(*numbers):
    return b"".join(map(write_varint, numbers))


def described(*numbers, image=(1, 4, 4), classes=10):
    """A description of layers, given as numbers."""
    return packed(*image, classes, *numbers)


def network_of(*layers, image=(1, 4, 4), classes=10):
    return Network("any", 0, image, classes, layers)


@pytest.mark.parametrize("network", [LENET5, TREE, NORMED], ids=lambda n: n.name)
def test_there_and_back(network):
    """All but name, number and default factors; names of tensors follow from the rest."""
    data = to_description(network)
    back = from_description(data)
    assert back == replace(network, name=back.name, number=0, hash_factors=())
    assert back.tensors() == network.tensors()
    assert to_description(back) == data


def test_every_byte():
    """As docs/SPEC.md has it: kernels before outputs, both lists of a residual."""
    network = network_of(
        *(Conv2d(8, (3, 2), stride=2, padding=1, groups=1), GroupNorm(2), Relu()),
        Residual((Conv2d(8, 1, groups=8), Relu()), ()),
        *(MaxPool2d(), MeanPool2d(), Flatten(), Dense(300)),
        image=(3, 200, 28),
        classes=300,
    )
    expected = bytes.fromhex(
        "03 c801 1c ac02  08"
        "01 03 02 02 01 01 08  06 02  07"
        "08  02  01 01 01 01 00 08 08  07  00"
        "04  05 00 00  03  02 ac02"
    )
    assert to_description(network) == expected
    assert from_description(expected).layers == network.layers


def test_a_description_within_a_file():
    data = to_description(TREE)
    network, end = read_description(b"before" + data + b"behind", len("before"))
    assert end == len("before") + len(data)
    assert network == from_description(data)


def test_all_kinds_are_known():
    kinds = Conv2d, Dense, Flatten, MaxPool2d, MeanPool2d, GroupNorm, Relu, Residual
    assert {kind.opcode: kind for kind in kinds} == KINDS


def nested(depth):
    """Residuals within residuals, and a line of layers behind them."""
    inner = [1, RELU]
    for _ in range(depth):
        inner = [1, RESIDUAL, *inner, 0]
    return [1 + 2, *inner[1:], *LINE]


REFUSED = {
    "empty": (b"", "ends within"),
    "cut off": (described(2, *LINE)[:-1], "ends within"),
    "cut off in a list": (described(3, *LINE), "ends within"),
    "behind": (described(2, *LINE) + b"\0", "1 bytes stand behind"),
    "long varint": (b"\x81\0" + described(2, *LINE)[1:], "not a canonical varint"),
    "varint of 33 bits": (b"\x80\x80\x80\x80\x10", "not a canonical varint"),
    "17 bits": (described(2, FLATTEN, DENSE, 65536), "65536 in a network's description"),
    "no channel": (described(2, *LINE, image=(0, 4, 4)), "images of 0 x 4 x 4"),
    "no row": (described(2, *LINE, image=(1, 0, 4)), "images of 1 x 0 x 4"),
    "no column": (described(2, *LINE, image=(1, 4, 0)), "images of 1 x 4 x 0"),
    "large images": (described(2, *LINE, image=(1, 65535, 257)), "expected 1 to 2.24 values"),
    "one class": (described(2, FLATTEN, DENSE, 1, classes=1), "of 1 classes; expected 2 to 65535"),
    "no layer": (described(0), "of 0 weights"),
    "257 layers": (described(257), "more than 256 layers"),
    "257 layers in all": (
        described(130, *[RESIDUAL, 1, RELU, 0] * 127, RELU, *LINE), "more than 256 layers"
    ),
    "opcode 0": (described(1, 0), "opcode 0 of a layer is unknown; expected one of 1, 2, 3"),
    "opcode 9": (described(1, 9), "opcode 9 of a layer is unknown"),
    "five deep": (described(*nested(5)), "more than 4 deep"),
    "no weight": (described(1, FLATTEN, classes=16), "of 0 weights; expected 1 to 2.22"),
    "too many weights": (
        described(3, FLATTEN, DENSE, 65535, DENSE, 10, image=(1, 16, 16)), "weights; expected 1 to"
    ),
    "too many values": (
        described(1, CONV, 1, 1, 1, 0, 1, 257, image=(1, 256, 256)), "conv1 gives .* 2.24 values"
    ),
    "too many values within": (
        described(
            *(1, RESIDUAL, 2, CONV, 1, 1, 1, 0, 1, 257, CONV, 1, 1, 1, 0, 1, 1, 0),
            image=(1, 256, 256),
        ),
        "stage1.body.conv1 gives an image more than",
    ),
    "another end": (described(2, *LINE, classes=11), r"ends with shape \(10,\); expected \(11,\)"),
    "maps at the end": (described(1, CONV, 1, 1, 1, 0, 1, 10), r"ends with shape \(10, 4, 4\)"),
    "maps for dense": (described(1, DENSE, 10), "layer 0, Dense.*does not take"),
    "dense of nothing": (described(2, FLATTEN, DENSE, 0), "layer 1, Dense.*does not take"),
    "kernel": (described(1, CONV, 5, 1, 1, 0, 1, 2), "maps of 5x1 at least"),
    "no kernel": (described(1, CONV, 1, 0, 1, 0, 1, 2), "must be 1 or more"),
    "no stride": (described(1, CONV, 1, 1, 0, 0, 1, 2), "must be 1 or more"),
    "no outputs": (described(1, CONV, 1, 1, 1, 0, 1, 0), "must be 1 or more"),
    "padding": (described(1, CONV, 2, 1, 1, 1, 1, 2), "padding must be less"),
    "no group": (described(1, CONV, 1, 1, 1, 0, 0, 2), "groups must be 1 or the channels"),
    "two groups of four": (
        described(1, CONV, 1, 1, 1, 0, 2, 4, image=(4, 4, 4)), "groups must be 1 or the channels"
    ),
    "groups and outputs": (
        described(1, CONV, 1, 1, 1, 0, 4, 6, image=(4, 4, 4)), "and divide the outputs"
    ),
    "norm": (described(1, NORM, 2), "groups must be 1 or more and divide the channels, 1"),
    "norm of none": (described(1, NORM, 0), "groups must be 1 or more"),
    "pool of one row": (described(1, MAXPOOL, image=(1, 1, 4)), "maps of at least 2x2"),
    "window": (described(1, MEANPOOL, 5, 1), "no longer than the map's"),
    "half a window": (described(1, MEANPOOL, 0, 2), "sides of 1 or more"),
    "pool of features": (described(2, FLATTEN, MAXPOOL), "layer 1, MaxPool2d.*does not take"),
    "residual": (
        described(1, RESIDUAL, 1, FLATTEN, 0), r"its body gives shape \(16,\), its shortcut"
    ),
    "within a residual": (
        described(1, RESIDUAL, 2, FLATTEN, MAXPOOL, 0), "body.layer 1, MaxPool2d.*does not take"
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", REFUSED)
def test_refused_in_one_line(fault):
    data, message = REFUSED[fault]
    with pytest.raises(InputError, match=message) as caught:
        from_description(data)
    assert "\n" not in str(caught.value)


def test_faults_differ():
    """Each line says what is wrong, so no two kinds of fault share one."""
    assert len({message for _, message in REFUSED.values()}) > len(REFUSED) * 2 / 3


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_four_residuals_deep(depth):
    network = from_description(described(*nested(depth)))
    assert len(list(through(network.placed))) == depth + 3


def test_the_most_layers():
    data = described(MOST_LAYERS, *[RELU] * (MOST_LAYERS - 2), *LINE)
    assert len(from_description(data).layers) == MOST_LAYERS


def test_the_most_bytes():
    """Convolutions of 13 bytes fit, of 19 bytes they do not; shapes are looked at later."""
    data = described(250, *[CONV, 300, 300, 300, 200, 300, 300] * 250)
    assert len(data) < LARGEST_BYTES
    with pytest.raises(InputError, match="does not take"):
        from_description(data)
    with pytest.raises(InputError, match="more than 4096 bytes"):
        from_description(described(250, *[CONV, *[16384] * 6] * 250))


class Own(Weightless):
    """A layer of somebody's own."""

    word = "own"


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (network_of(Own(), Flatten(), Dense(10)), "a kind that a file cannot describe"),
        (network_of(Flatten(), Dense(65536), Dense(10)), "65536 is out of range"),
        (network_of(Flatten(), Dense(-1)), "-1 is out of range"),
        (network_of(Flatten(), Dense(9)), "ends with shape"),
        (network_of(Residual((Flatten(),))), "its shortcut"),
    ],
)
def test_what_no_reader_would_accept_is_not_written(network, message):
    with pytest.raises(InputError, match=message):
        to_description(network)


@st.composite
def numbers(draw):
    """Numbers that are nearly a description: known opcodes with what may follow them."""
    small = st.integers(0, 9) | st.sampled_from([16, 64, 255, 256, 4096, 65535])
    return [draw(st.integers(1, 40)) for _ in range(4)] + draw(st.lists(small, max_size=60))


@given(numbers() | st.binary(max_size=80))
def test_any_bytes_are_a_network_or_refused(given_numbers):
    """What is accepted is written as the same bytes, and its tensors are as large as is allowed."""
    data = given_numbers if isinstance(given_numbers, bytes) else packed(*given_numbers)
    try:
        network = from_description(data)
    except InputError as e:
        assert "\n" not in str(e)
        return
    assert to_description(network) == data
    assert 1 <= network.count() <= 2**22


def test_nothing_is_allocated_by_a_claim(monkeypatch):
    """Neither memory nor work, whatever the numbers say."""
    number, read = description._Reader.number, []

    def counted(reader):
        read.append(reader.at)
        return number(reader)

    monkeypatch.setattr(description._Reader, "number", counted)
    claims = [
        described(2, FLATTEN, DENSE, 65535, image=(65535, 16, 16)),
        described(1, CONV, 4096, 4096, 1, 4095, 1, 65535, image=(65535, 16, 16)),
        described(256, *[RESIDUAL] * 256),
        described(65535, *[RELU] * 4000),
        described(*[v for n in range(4) for v in (255, RESIDUAL)], *[RELU] * 4000),
    ]
    tracemalloc.start()
    for data in claims:
        read.clear()
        with pytest.raises(InputError):
            from_description(data)
        assert 0 < len(read) <= 4096
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_described_network_runs():
    """What is read from bytes passes the check of networks, which goes forward and back."""
    for network in (TREE, NORMED):
        back = check_network(from_description(to_description(network)))
        assert [t.shape for t in back.tensors()] == [t.shape for t in network.tensors()]
