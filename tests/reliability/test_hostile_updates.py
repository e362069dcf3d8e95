"""An update of some bytes costs no more than the model behind it, however many files there are.

Work is counted and memory measured as in `test_hostile_files`.
"""

from __future__ import annotations

import gc
import tracemalloc

import hostile_files
import numpy as np
import pytest
from reliability.test_hostile_files import LARGEST_BYTES, LARGEST_KEPT, work

from refmiracle.codes.code import VARIABLE
from refmiracle.codes.table import find_code
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.fileformat import chain
from refmiracle.fileformat.container import parse_model
from refmiracle.fileformat.envelope import checksum_of, seal
from refmiracle.fileformat.payload import message_shape
from refmiracle.fileformat.update import CompressedUpdate, update_layout
from refmiracle.numerics.varints import write_varint

__all__ = ["work"]

NUMPY = get_engine("numpy")


@pytest.fixture(scope="module")
def base():
    """What a reader of the root has.

    All variables are coded, in two blocks: nearly as many unused places as others.
    """
    root = hostile_files.make_file(hostile_files.make_two_blocks(1), "gprs-s", 24)
    return chain.read_root(root, NUMPY)


def costly_update(code, base):
    """The update that takes the most time in some hundred bytes: of all variables, some deep."""
    root = base.layout
    layout = update_layout(root, root.variables() - 1, 2**32 - 1, (True,) * len(root.factors))
    kind = find_code(code)
    indices = np.full(message_shape(layout, kind), max(1, kind.message_range(24)[0]))
    if kind.of == VARIABLE:
        indices.ravel()[: layout.variables() : layout.variables() // 4] = hostile_files.DEEPEST
    levels = np.full(len(root.factors), 255, np.uint8)
    return CompressedUpdate(base.checksum, layout, 24, levels, indices, code).to_bytes()


def peak_of(function):
    """What a function returns, and the largest memory that it took, in bytes."""
    gc.collect()
    tracemalloc.start()
    try:
        result = function()
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("code", ["mrc", "pfr", "sp-pfr", "as-star", "grc"])
def test_the_costliest_updates(code, base, work):
    data = costly_update(code, base)
    assert len(data) <= 500
    work.clear()
    behind, peak = peak_of(lambda: chain.apply_update(base, data, NUMPY))
    assert peak <= LARGEST_BYTES
    assert behind.variables.shape == base.variables.shape

    variables, size = len(base.variables), len(data)
    assert work["one by one"] <= 18 * size
    assert work["one by one"] + work["in runs"] <= variables + 18 * size
    assert work["counters"] <= 2 * variables + 9 * size + variables / 4 + size


@pytest.mark.slow
def test_a_long_chain_takes_no_more_memory_than_a_short_one():
    root = hostile_files.make_small("mrc", 1)
    files = [root]
    for seed in range(200):
        whole = parse_model(root).layout
        layout = update_layout(whole, 3, seed, (True,) * 8)
        level, sent = np.full(8, 120, np.uint8), np.arange(3)[:, None]
        files.append(CompressedUpdate(checksum_of(files[-1]), layout, 5, level, sent).to_bytes())
    chain.decode_chain(files[:3], NUMPY)  # what is loaded once does not count
    short, long = (
        peak_of(lambda n=n: chain.decode_chain(files[:n], NUMPY).checksum)[1] for n in (2, 201)
    )
    assert long <= short + LARGEST_KEPT
    found = chain.find_chain("last", files[-1], [("", data) for data in files[:-1]])
    assert [data for _, data in found] == files


@pytest.mark.parametrize(
    ("block_size", "levels", "rest", "message"),
    [
        (2**32 - 1, b"\x80" * 8, bytes(3), "block size 4294967295 is out of range"),
        (1, b"\x80" * 8, bytes(3), "its header calls for 1293263"),
        (431_080, b"\x80" * 7, b"", "ends within its header"),
        (1, bytes(8), bytes(3), "all of its levels are 0"),
    ],
)
def test_what_an_update_claims_takes_no_memory(base, block_size, levels, rest, message):
    head = b"RMC\x20" + base.checksum.to_bytes(4, "little") + b"\x18"
    data = seal(head + write_varint(block_size) + b"\0" + levels + rest)

    def refused():
        with pytest.raises(InputError, match=message):
            chain.apply_update(base, data, NUMPY)

    refused()
    assert peak_of(refused)[1] < 2**18


def test_more_integers_than_a_list_may_have():
    """A described model may have more variables than a list integers; its updates are refused."""
    layout = hostile_files.make_two_blocks(hostile_files.DESCRIBED)
    root = chain.read_root(hostile_files.make_file(layout, "mrc", 24), get_engine("numba"))
    head = b"RMC\x2b" + root.checksum.to_bytes(4, "little") + b"\x01\x01\0"
    data = seal(head + b"\x80" * len(layout.factors) + b"\1\0\x80")

    def refused():
        with pytest.raises(InputError, match="integers; expected 0 to 1048576"):
            chain.apply_update(root, data, NUMPY)

    assert peak_of(refused)[1] < 2**18
