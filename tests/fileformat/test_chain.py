"""Models and the updates behind them: which comes after which, and what they add up to."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
import spec_decoder
import spec_updates
from fileformat.chains import drawn_model, drawn_update

from refmiracle.codes.table import CODES
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.fileformat.chain import decode_chain, find_chain
from refmiracle.fileformat.envelope import checksum_of, is_intact
from refmiracle.posterior.blocks import Grouping, Signs

NUMBA = get_engine("numba")


def drawn_chain(rng, codes, network=1, **model):
    """A model and an update of each code, each of the file before."""
    files = [drawn_model(rng, network, **model)]
    for code in codes:
        files.append(
            drawn_update(rng, files[-1], files[0], code, seed=int(rng.integers(2**32))).to_bytes()
        )
    return files


@pytest.fixture
def files(rng):
    return drawn_chain(rng, ("mrc", "gprs-s", "sp-pfr"))


@pytest.mark.parametrize("network", [1, 2, 0])
@pytest.mark.parametrize("codes", [("mrc", "pfr", "gprs-d"), ("orc", "as-star", "sp-pfr"),
                                   ("grc", "dad-star", "mrc")])  # fmt: skip
@pytest.mark.parametrize(
    "layout", [(Grouping.OUTPUTS, Signs.UNIT), (Grouping.INPUTS, Signs.WEIGHT)]
)
def test_both_engines_agree_with_plain_python(rng, network, codes, layout):
    files = drawn_chain(rng, codes, network, grouping=layout[0], signs=layout[1])
    want = spec_updates.decode_chain(files)
    for name in ("numpy", "numba"):
        base = decode_chain(files, get_engine(name))
        assert base.checksum == checksum_of(files[-1])
        for tensor, values in base.weights().items():
            packed = struct.pack(f"<{len(want[tensor])}f", *want[tensor])
            assert values.astype("<f4").tobytes() == packed, (name, tensor)


def test_signs_are_those_of_the_root_even_where_an_update_has_its_seed(rng):
    files = [drawn_model(rng, seed=5)]
    files.append(drawn_update(rng, files[0], files[0], seed=6).to_bytes())
    root = spec_decoder.decode(files[0])
    behind = decode_chain(files, NUMBA).weights()
    for name, values in behind.items():
        # Where a tensor is one variable, the ratio to before is the same for every weight.
        before = np.array(root[name])
        assert len({*(values.ravel() / before).tolist()}) <= len({*np.abs(before).tolist()})


def test_what_is_kept_cannot_be_changed(files):
    base = decode_chain(files, NUMBA)
    with pytest.raises(ValueError, match="read-only"):
        base.variables[0] = 0


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ((0, 2), "it is an update of the file with the checksum"),
        ((0, 2, 1), "it is an update of the file with the checksum"),
        ((0, 1, 1), "it is an update of the file with the checksum"),
        ((0, 1, 3), "it is an update of the file with the checksum"),
        ((1,), "it is an update"),
        ((1, 2), "it is an update"),
        ((0, 0), "it is a model, where an update is expected"),
        ((0, 1, 0), "it is a model, where an update is expected"),
    ],
    ids=str,
)
def test_other_orders_are_refused(files, order, said):
    posed = [files[i] for i in order]
    with pytest.raises(InputError, match=said):
        decode_chain(posed, NUMBA)
    with pytest.raises(spec_decoder.InvalidFileError):
        spec_updates.decode_chain(posed)


def named(files):
    return [(f"{i}.rmc", data) for i, data in enumerate(files)]


def test_a_chain_is_found_in_any_order(rng, files):
    stranger = ("stranger.rmc", drawn_model(rng, seed=9))
    whole = named(files)
    for order in (range(3), (2, 0, 1), (1, 2, 0)):
        others = [stranger, *(whole[i] for i in order), ("again.rmc", files[0])]
        assert [data for _, data in find_chain(*whole[3], others)] == files
    assert find_chain(*whole[0], []) == [whole[0]]
    assert find_chain(*whole[1], whole) == whole[:2]


def test_a_missing_base_is_named(files):
    """And what was looked at in its place: names and checksums, damage, what is no .rmc file."""
    whole = named(files)
    wanted, second, first = (f"{checksum_of(files[i]):08x}" for i in (1, 2, 0))
    torn = ("torn.rmc", files[1][:-1] + b"\0"), ("text.rmc", b"no file of ours at all")
    with pytest.raises(InputError) as e:
        find_chain(*whole[3], [whole[2], whole[0], *torn])
    assert str(e.value) == (
        f"2.rmc: it is an update of the file with the checksum {wanted}, which is not among its"
        f" bases (2.rmc has {second}, 0.rmc has {first}, torn.rmc is damaged, text.rmc is no .rmc"
        " file)"
    )
    with pytest.raises(InputError, match=r"\(no file\)"):
        find_chain(*whole[3], [])
    many = [(f"{i}", files[0]) for i in range(11)]
    with pytest.raises(InputError, match=r"7 has [0-9a-f]{8}, 3 more\)"):
        find_chain(*whole[3], many)


@pytest.mark.parametrize("place", range(3, 24))
def test_a_damaged_update_is_said_to_be_damaged(files, place):
    """Whichever byte of it: also where it names its base, or says that it is an update."""
    damaged = bytearray(files[1])
    damaged[place] ^= 1
    for name, told in (("u.rmc", "u.rmc: "), ("", "")):
        with pytest.raises(InputError, match="damaged") as e:
            find_chain(name, bytes(damaged), named(files))
        assert str(e.value).startswith(f"{told}the checksum is")
    with pytest.raises(InputError, match=r"^1\.rmc: the checksum is .* damaged"):
        find_chain(
            *named(files)[2], [("0.rmc", files[0]), ("1.rmc", bytes(damaged[:-4]) + files[1][-4:])]
        )


def with_checksum(body, wanted):
    """Return a file whose own checksum is what somebody wants: CRC-32 is linear."""
    before = zlib.crc32(body + bytes(4))
    rows = [(zlib.crc32(body + (1 << i).to_bytes(4, "little")) ^ before, 1 << i) for i in range(32)]
    rest, found = before ^ int.from_bytes(wanted, "little"), 0
    for bit in range(32):
        pivot = next(row for row in rows if row[0] >> bit & 1)
        rows = [
            (row[0] ^ pivot[0], row[1] ^ pivot[1]) if row[0] >> bit & 1 else row
            for row in rows
            if row is not pivot
        ]
        if rest >> bit & 1:
            rest, found = rest ^ pivot[0], found ^ pivot[1]
    return body + found.to_bytes(4, "little") + wanted


def test_a_loop_ends():
    """Checksums that name each other can be made, of files that are intact."""
    one, two, own = (
        with_checksum(b"RMC\x20" + base + bytes(8), checksum)
        for base, checksum in ((b"aaaa", b"bbbb"), (b"bbbb", b"aaaa"), (b"aaaa", b"aaaa"))
    )
    assert all(map(is_intact, (one, two, own)))
    with pytest.raises(InputError, match=r"^one: it is an update of an update of itself"):
        find_chain("one", one, [("two", two), ("one", one)])
    with pytest.raises(InputError, match=r"^own: it is an update of an update of itself"):
        find_chain("", own, [("own", own)])


def test_every_code_is_in_some_chain(rng):
    files = drawn_chain(rng, list(CODES))
    want = spec_updates.decode_chain(files)
    got = decode_chain(files, NUMBA).weights()
    assert [w.ravel().tolist() for w in got.values()] == list(map(list, want.values()))
