from __future__ import annotations

import re

import numpy as np
import pytest

from refmiracle.fileformat.anatomy import KINDS, describe_bytes, find_fields, kinds
from refmiracle.fileformat.container import CompressedModel
from refmiracle.fileformat.update import CompressedUpdate, update_layout
from refmiracle.nn.networks import LENET5
from refmiracle.numerics.varints import read_varint
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

OWNER = re.compile(r"block (\d+), index ([\d,]+), bits (\d+) to (\d+) of (\d+)")


def model(bits, block_size=44, seed=300, factors=LENET5.hash_factors):
    layout = BlockLayout(LENET5, factors, Grouping.OUTPUTS, Signs.UNIT, block_size, seed)
    rng = np.random.default_rng(bits)
    rho = rng.uniform(0.01, 1, len(factors)).astype(np.float16)
    return CompressedModel(layout, bits, rho, rng.integers(0, 2**bits, (layout.blocks(), 1)))


MODELS = {
    "20 bits": model(20),
    "14 bits": model(14, 30, seed=2**32 - 1),
    "bytes": model(8),
    "many blocks in a byte": model(1, 30),
    "three blocks in a byte": model(3),
    "no hashing": model(24, 3000, factors=(1,) * 8),
}


def update(bits, block_size, seed, levels, root=MODELS["20 bits"]):
    levels = np.array(levels, np.uint8)
    layout = update_layout(root.layout, block_size, seed, tuple(bool(n) for n in levels))
    indices = np.random.default_rng(bits).integers(0, 2**bits, (layout.blocks(), 1))
    return CompressedUpdate(0xD93A4706, layout, bits, levels, indices)


FILES = {
    **MODELS,
    "update": update(20, 3000, 0, [122, 118, 123, 110, 1, 128, 255, 64]),
    "update of two tensors": update(7, 130, 2**32 - 1, [122, 0, 123, 0, 0, 0, 0, 0]),
}


@pytest.fixture(params=MODELS)
def some_model(request):
    return MODELS[request.param]


@pytest.fixture(params=FILES)
def some_file(request):
    return FILES[request.param]


def test_the_fields_tile_the_file(some_file):
    fields, data = find_fields(some_file), some_file.to_bytes()
    assert fields[0].start == 0
    assert [f.start for f in fields[1:]] == [f.stop for f in fields[:-1]]
    assert fields[-1].stop == len(data)
    assert b"".join(f.data for f in fields) == data
    assert {f.kind for f in fields} == kinds(some_file).keys()
    assert (KINDS.items() <= kinds(some_file).items()) == isinstance(some_file, CompressedModel)


def test_what_an_update_says_is_shown():
    fields = {f.name: f for f in find_fields(FILES["update of two tensors"])}
    for name in ("version", "bits per block"):
        assert int(fields[name].value) == fields[name].data[0]
    assert fields["base"].value == "d93a4706"
    assert int.from_bytes(fields["base"].data, "little") == 0xD93A4706
    levels = [f for name, f in fields.items() if name.startswith("level of")]
    assert [int(f.value) for f in levels] == [f.data[0] for f in levels]
    assert "0.354 of the model's scale" in levels[0].meaning
    assert ["not coded" in f.meaning for f in levels] == [f.value == "0" for f in levels]


def test_the_values_are_those_of_the_bytes(some_model):
    """Read again from the bytes of each field, by what docs/SPEC.md says of it."""
    fields = {f.name: f for f in find_fields(some_model)}
    for name in ("version", "network", "random code", "bits per block"):
        assert int(fields[name].value) == fields[name].data[0]
    varints = [n for n in fields if n.startswith(("block size", "seed", "hash factor"))]
    assert len(varints) == 10
    for name in varints:
        assert read_varint(fields[name].data, 0) == (
            int(fields[name].value),
            len(fields[name].data),
        )
    scales = [f for f in fields.values() if f.name.startswith("scale of")]
    stored = np.concatenate([np.frombuffer(f.data, "<f2") for f in scales])
    np.testing.assert_allclose([float(f.value) for f in scales], stored, rtol=1e-4)
    checksum = fields["checksum"]
    assert int(checksum.value, 16) == int.from_bytes(checksum.data, "little")


def test_each_bit_of_each_index_is_shown(some_file):
    bits, data = some_file.bits_per_block, some_file.to_bytes()
    found = describe_bytes(some_file, find_fields(some_file))
    assert bytes.fromhex("".join(b.hexadecimal for b in found)) == data
    shown = {block: [] for block in range(some_file.layout.blocks())}
    for byte in found:
        owners = [tuple(int(n.replace(",", "")) for n in o) for o in OWNER.findall(byte.title)]
        assert len(byte.pattern) == (8 if byte.kind == "I" else 0)
        pattern = ""
        for block, index, first, last, of in owners:
            assert (index, of) == (some_file.messages[block, 0], bits)
            shown[block] += range(first, last + 1)
            pattern += str(block % 2) * (last - first + 1)
        assert byte.pattern.rstrip("x") == pattern
        if owners:
            ends = {str(owners[0][0]), str(owners[-1][0])}
            assert set(re.split(r"[|-]", byte.label)) == ends
            assert byte.begins == any(first == 1 for _, _, first, _, _ in owners)
    assert all(numbers == list(range(1, bits + 1)) for numbers in shown.values())
