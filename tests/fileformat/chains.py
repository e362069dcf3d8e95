"""Models and updates drawn for tests, and chains of them."""

from __future__ import annotations

import zlib

import numpy as np
from nn.trees import NORMED

from refmiracle.codes.code import VARIABLE
from refmiracle.codes.table import CODES, MRC
from refmiracle.fileformat.container import CompressedModel, parse_model
from refmiracle.fileformat.envelope import checksum_of
from refmiracle.fileformat.payload import in_blocks, message_count
from refmiracle.fileformat.update import CompressedUpdate, update_layout
from refmiracle.nn.description import from_description, to_description
from refmiracle.nn.networks import LENET5, LENET_300_100
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

DESCRIBED = from_description(to_description(NORMED))
# Networks, and hash factors with which they have few variables.
NETWORKS = {
    1: (LENET5, (50, 3, 2500, 7, 40000, 64, 500, 3)),
    2: (LENET_300_100, (30000, 50, 3000, 7, 100, 3)),
    0: (DESCRIBED, (1,) * len(DESCRIBED.tensors())),
}
EXAMPLE = bytes.fromhex(
    "524d4301010010050307f40314a8c3013280b518f40388270a003000310032003300340035003600374fe49e1902a7"
)


def sealed(body):
    """A file: a body and its checksum."""
    return body + zlib.crc32(body).to_bytes(4, "little")


def drawn_model(rng, network=1, grouping=Grouping.INPUTS, signs=Signs.UNIT, seed=5):
    """The file of a small model."""
    whole, factors = NETWORKS[network]
    layout = BlockLayout(whole, factors, grouping, signs, 5, seed)
    rho = rng.uniform(0.01, 2.0, len(factors)).astype(np.float16)
    indices = rng.integers(0, 2**7, (layout.blocks(), 1))
    return CompressedModel(layout, 7, rho, indices).to_bytes()


def drawn_messages(rng, code, bits, layout):
    """Messages of any size that a code can have, as `CompressedModel.messages`."""
    kind, count = CODES[code], message_count(layout, CODES[code])
    raw, (low, high) = kind.raw_bits(bits), kind.message_range(bits)
    if kind.of == VARIABLE:  # a uniform one would always be a deep node
        n = np.int64(2.0 ** rng.uniform(0, 40, count))
    else:
        n = rng.integers(low >> raw, high >> raw, count) << raw | rng.integers(0, 1 << raw, count)
    return in_blocks(layout, kind, n)


def drawn_update(rng, base, root, code=MRC, levels=None, seed=300, bits=6, block_size=None):
    """An update of a file in the chain of a root, with the levels given or drawn."""
    whole = parse_model(root).layout
    if levels is None:
        levels = rng.integers(1, 256, len(whole.factors)) * rng.integers(0, 2, len(whole.factors))
        levels[rng.integers(len(levels))] = 128
    levels = np.asarray(levels, np.uint8)
    most = update_layout(whole, 1, seed, tuple(levels != 0)).variables()
    block_size = int(rng.integers(1, most + 1)) if block_size is None else block_size
    layout = update_layout(whole, block_size, seed, tuple(bool(level) for level in levels))
    messages = drawn_messages(rng, code, bits, layout)
    return CompressedUpdate(checksum_of(base), layout, bits, levels, messages, code)
