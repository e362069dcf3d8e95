"""docs/SPEC.md is complete and true: the decoder written from it agrees with the package.

The check values come from the document, where they stand as computed by `spec_decoder`, which
shares no code with the package; those of Philox and of CRC-32 are published ones.
"""

import hashlib
import importlib
import math
import re
import struct
import zlib
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace

import mpmath
import numpy as np
import pytest
import spec_decoder
import spec_networks
from fileformat.document import (
    SPEC,
    checksum,
    code_bytes,
    described_network,
    float32_bits,
    float64_bits,
    model_of,
    models,
    section,
    table,
    words,
)
from nn.trees import DEPTHWISE, NORMED, TREE

from refmiracle.codes.table import CODES
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.fileformat.bits import pack_indices
from refmiracle.fileformat.container import CompressedModel, parse_model
from refmiracle.fileformat.integers import read_integers, write_integers
from refmiracle.fileformat.model import decode_model, decode_rows
from refmiracle.fileformat.payload import message_shape
from refmiracle.nn.contract import Tensor
from refmiracle.nn.description import KINDS, read_description, to_description
from refmiracle.nn.evaluation import forward, logits
from refmiracle.nn.network import check_network
from refmiracle.nn.networks import LENET5, LENET_300_100
from refmiracle.numerics import normal, philox
from refmiracle.numerics.varints import read_varint, write_varint
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

SHAPES = {t.name: t.shape for t in LENET5.tensors()}
COUNTS = tuple(math.prod(shape) for shape in SHAPES.values())
DEFAULT = LENET5.hash_factors


@mpmath.workdps(40)
def relative_error(z, p):
    """Return how far z is from the quantile of p, found by Newton's method in 40 digits."""
    exact, p = mpmath.mpf(z), mpmath.mpf(p)
    t = min(p, 1 - p)
    root = -abs(exact)
    for _ in range(4):
        root -= (mpmath.ncdf(root) - t) / mpmath.npdf(root)
    assert abs(mpmath.ncdf(root) / t - 1) < mpmath.mpf(10) ** -30
    return float(abs(exact / (root if p < 0.5 else -root) - 1))


def make_model(rng, grouping, signs, factors, block_size, bits, seed):
    layout = BlockLayout(LENET5, factors, grouping, signs, block_size, seed)
    indices = rng.integers(0, 2**bits, (layout.blocks(), 1))
    rho = rng.uniform(0.01, 2.0, len(factors)).astype(np.float16)
    return CompressedModel(layout, bits, rho, indices)


# --- the sections, one by one


def test_known_answers_of_philox(engine):
    rows = table("4.1")
    assert len(rows) == 3
    for counter, key, result in rows:
        assert list(spec_decoder.philox4x32(words(counter), words(key))) == words(result)
        got = engine.philox4x32(np.array(words(counter)), np.array(words(key)))
        np.testing.assert_array_equal(got, words(result))


@pytest.mark.parametrize("count", [0, 1, 4, 9, 260])
def test_rows_at_once_are_word_by_word_the_same(count):
    rows = [0, 5, 2**31, 2**32 - 1]
    found = spec_decoder.words_of_rows(2**32 - 1, 7, rows, count)
    for row, got in zip(rows, found, strict=True):
        want = [spec_decoder.philox4x32((i // 4, row, 0, 0), (2**32 - 1, 7))[i % 4]
                for i in range(count)]  # fmt: skip
        assert got == want == spec_decoder.words(2**32 - 1, 7, row, count)


def test_philox_agrees_with_cpp26():
    # C++26 [rand.predef]: the 10000th output of a default std::philox4x32 is 1955073260; its
    # default seed is 20111115, and each counter gives four outputs.
    assert spec_decoder.philox4x32((2499, 0, 0, 0), (20111115, 0))[3] == 1955073260


def test_streams_of_the_document():
    names = {row[1]: int(row[0]) for row in table("4.2") if row[1].isupper()}
    assert names == {s.name: s.value for s in philox.Stream}
    rows = [row for row in table("4.2") if re.fullmatch(r"[0-9a-f]{8}( [0-9a-f]{8}){5}", row[3])]
    assert len(rows) == 4
    for seed, stream, row, first in rows:
        assert spec_decoder.words(int(seed), int(stream), int(row), 6) == words(first)
        got = philox.stream_words(int(seed), int(stream), [int(row)], 6)[0]
        assert got.tolist() == words(first)


def test_random_codes_of_the_document():
    rows = [row for row in table("2.1") if len(row) == 5]
    listed = {}
    for numbers, names, integers, _, _ in rows:
        of = "variable" if "variable" in integers else "block"
        pairs = zip(numbers.split(", "), re.findall(r"[a-z-]+", names), strict=True)
        listed |= {int(number): (name, of) for number, name in pairs}
    assert listed == {c.number: (c.name, c.of) for c in CODES.values()}


def test_words_of_nodes_and_bins_of_the_document():
    rows = table("4.3")
    assert {row[1] for row in rows} == {"9", "10"}
    for seed, stream, counter, result in rows:
        key = (int(seed), int(stream))
        assert list(spec_decoder.philox4x32(words(counter), key)) == words(result)
        assert philox.philox4x32(words(counter), key).tolist() == words(result)


def test_regions_of_the_document(engine, monkeypatch):
    rows = table("7.5")
    assert len(rows) == 4
    for seed, row, node, *expected in rows:
        for code, want in zip((4, 5, 7), expected, strict=True):
            seen = []
            with monkeypatch.context() as patch:
                patch.setattr(spec_decoder, "quantile", lambda u, seen=seen: seen.append(u) or 0.0)
                spec_decoder.node_normal(code, int(node), int(row), int(seed))
            assert float64_bits(seen[0]) == want
            z = spec_decoder.node_normal(code, int(node), int(row), int(seed))
            name = next(c.name for c in CODES.values() if c.number == code)
            got = engine.variable_samples(name, int(seed), np.array([int(row)]), [int(node)])
            assert got.dtype == np.float32
            assert got.tolist() == [z]


def test_range_coder_of_the_document():
    """The trace of the example, by the integers of `spec_decoder` and by its text."""
    text = section("2.7")
    assert "the integers 1, 3, 200 with theta = 36864" in text
    assert "`b3 9e 74`" in text
    data = bytes.fromhex("b3 9e 74")
    assert write_integers([1, 3, 200], 36864) == data
    assert read_integers(data, 3, 36864).tolist() == [1, 3, 200]
    assert spec_decoder.read_integers(data, 3, 36864, 0) == [1, 3, 200]
    decisions = [(36864, 0), (36864, 1), (36864, 0), (32768, 1)]
    decisions += [(36864, 1)] * 7 + [(36864, 0)]
    decisions += [(32768, int(b)) for b in f"{200:b}"[1:]]
    rows = {int(r[0].split(":")[0]): r[1:] for r in table("2.7") if len(r) == 6}
    assert len(rows) == 8
    low, width, count = 0, 2**32 - 1, 0
    for number, (p, bit) in enumerate(decisions, 1):
        bound = (width >> 16) * p
        low, width = (low, bound) if bit else (low + bound, width - bound)
        while width < 2**24:
            low, width, count = low << 8, width << 8, count + 1
        if number in rows:
            want = [str(p), str(bit), f"{low:0{8 + 2 * count}x}", f"{width:08x}", str(count)]
            assert rows[number] == want, number
    assert number == 19


def test_coefficients_of_the_document():
    dump = section("6.3").split("```text\n")[1].split("```")[0]
    groups = [re.sub(r"^[A-F]", " ", g).split() for g in dump.strip().split("\n\n")]
    assert [len(g) for g in groups] == [8] * 6
    printed = [tuple(map(float, g)) for g in groups]
    for number, name in enumerate(("CENTRAL", "MIDDLE", "FAR")):
        pair = (printed[2 * number], printed[2 * number + 1])
        assert getattr(spec_decoder, name) == pair
        assert getattr(normal, name) == pair
    # Wichura's check sums of the mantissas, from the listing in Applied Statistics.
    mantissas = [sum(Decimal(c.split("e")[0]) for c in g if c != "1") for g in groups]
    assert mantissas[0] + mantissas[1] == Decimal("55.8831928806149014439")
    assert mantissas[2] + mantissas[3] == Decimal("49.33206503301610289036")
    assert mantissas[4] + mantissas[5] == Decimal("47.52583317549289671629")


def test_constants_of_the_logarithm():
    assert float64_bits(spec_decoder.SQRT_HALF) == "3fe6a09e667f3bcd"
    assert float64_bits(spec_decoder.LN2) == "3fe62e42fefa39ef"
    assert float(mpmath.sqrt(mpmath.mpf(1) / 2)) == spec_decoder.SQRT_HALF
    assert float(mpmath.log(2)) == spec_decoder.LN2
    assert "`3fe6a09e667f3bcd`" in section("6.2")
    assert "`3fe62e42fefa39ef`" in section("6.2")


def test_normals_of_the_document(engine):
    rows = [row for row in table("6.4") if len(row) == 5]
    assert len(rows) == 22
    for word, bits64, bits32, decimal, _ in rows:
        p = (int(word, 16) + 0.5) * 2.0**-32
        z = spec_decoder.quantile(p)
        assert float64_bits(z) == bits64, word
        assert float32_bits(spec_decoder.normal(int(word, 16))) == bits32, word
        assert float(decimal) == z
        assert float64_bits(float(engine.normal_quantile(np.array([p]))[0])) == bits64, word
        assert relative_error(z, p) < 1e-15, word


def test_quantiles_of_the_document(engine):
    rows = [row for row in table("6.4") if len(row) == 4]
    assert len(rows) == 8
    for p, bits_of_p, bits64, _ in rows:
        assert float64_bits(float(p)) == bits_of_p
        assert float64_bits(spec_decoder.quantile(float(p))) == bits64, p
        assert float64_bits(float(engine.normal_quantile(np.array([float(p)]))[0])) == bits64, p
        assert relative_error(spec_decoder.quantile(float(p)), float(p)) < 1e-15, p


def test_ties_of_the_document():
    marked = [row for row in table("6.4") if row[-1].startswith("tie")]
    assert len(marked) >= 4
    for _, bits64, bits32, _, note in marked:
        assert int(bits64, 16) % 2**29 == 2**28, "not halfway between two float32"
        assert int(bits32, 16) % 2 == 0
        larger = abs(struct.unpack(">f", bytes.fromhex(bits32))[0]) > abs(
            struct.unpack(">d", bytes.fromhex(bits64))[0]
        )
        assert ("away from 0" in note) == larger


def test_normals_are_accurate_and_odd(rng):
    for word in rng.integers(0, 2**32, 300).tolist():
        p = (word + 0.5) * 2.0**-32
        z = spec_decoder.quantile(p)
        assert relative_error(z, p) < 1e-15
        assert spec_decoder.quantile((2**32 - 1 - word + 0.5) * 2.0**-32) == -z


def test_normals_of_random_words_agree(rng, engine):
    sample = rng.integers(0, 2**32, 20000) >> rng.integers(0, 32, 20000)
    p = (sample + 0.5) * 2.0**-32
    want = np.array([spec_decoder.quantile(x) for x in p.tolist()])
    np.testing.assert_array_equal(engine.normal_quantile(p), want)


def test_varints_of_the_document():
    rows = table("2.2")
    assert len(rows) == 6
    for value, encoded in rows:
        assert write_varint(int(value)) == bytes.fromhex(encoded)
        assert spec_decoder.read_varint(bytes.fromhex(encoded), 0)[0] == int(value)
    refused = re.findall(r"`([0-9a-f ]+)`", section("2.2").split("must be refused")[1])
    assert len(refused) == 4
    for encoded in refused:
        with pytest.raises(InputError):
            read_varint(bytes.fromhex(encoded), 0)
        with pytest.raises(spec_decoder.InvalidFileError):
            spec_decoder.read_varint(bytes.fromhex(encoded), 0)


def test_indices_of_the_document():
    assert "the indices 9, 31, 18 in 5 bits" in section("2.3")
    assert "`4f e4`" in section("2.3")
    assert pack_indices([9, 31, 18], 5) == bytes.fromhex("4f e4")


def test_checksum_of_the_document():
    assert zlib.crc32(b"123456789") == 0xCBF43926
    assert "`cbf43926`" in section("2.4")


def test_tensors_of_the_document():
    """The rows of tensors, of network 1 and then of network 2."""
    row = re.compile(r"^\| (\d) \| `(\w+\.\w+)` \| \(([\d, ]+)\) \| (\d+) \|$", flags=re.M)
    found = row.findall(SPEC.split("\n## 3")[1].split("\n## 4")[0])
    listed = [(n, tuple(map(int, s.split(", "))), int(count)) for _, n, s, count in found]
    networks = [spec_decoder.NETWORKS[n.number] for n in (LENET5, LENET_300_100)]
    assert listed == [(n, s, math.prod(s)) for tensors in networks for n, s in tensors]
    assert [int(number) for number, *_ in found] == [*range(8), *range(6)]
    for network, tensors in zip((LENET5, LENET_300_100), networks, strict=True):
        assert tensors == tuple((t.name, t.shape) for t in network.tensors())


def test_largest_file_of_the_document():
    ones = (1,) * 8
    layout = BlockLayout(LENET5, ones, Grouping.OUTPUTS, Signs.NONE, 1, 2**32 - 1)
    indices = np.zeros((layout.blocks(), 1), dtype=np.int64)
    data = CompressedModel(layout, 24, np.ones(8, np.float16), indices).to_bytes()
    assert f"{len(data):,} bytes" in section("2.6")
    assert len(parse_model(data).messages) == 431080


# --- the worked examples


def test_header_of_the_document():
    layout = BlockLayout(LENET5, DEFAULT, Grouping.OUTPUTS, Signs.UNIT, 30, 300)
    rho = np.full(8, 0.125, dtype=np.float16)
    data = CompressedModel(layout, 14, rho, np.zeros((886, 1), dtype=np.int64)).to_bytes()
    header = code_bytes("9.1")
    assert data[: len(header)] == header
    assert len(data) == len(header) + 1551 + 4 == 1590


def test_complete_file_of_the_document(engine):
    data = code_bytes("9.2")
    assert len(data) == 47
    file = spec_decoder.parse(data)
    assert (file.block_size, file.seed, file.indices) == (3, 7, [9, 31, 18])

    rows = [r for r in table("9.2") if r[0].isdigit()]
    assert [int(r[0]) for r in rows] == file.indices
    for index, row, normals in rows:
        count = len(row.split())
        assert spec_decoder.words(7, 3, int(index), count) == words(row)
        assert [float32_bits(spec_decoder.normal(w)) for w in words(row)] == normals.split()

    weights = spec_decoder.decode(data)
    rows = [r for r in table("9.2") if r[0] in SHAPES]
    assert len(rows) == 8
    for name, first, signs in rows:
        assert float32_bits(weights[name][0]) == first
        table_of_signs = spec_decoder.sign_table(file, list(SHAPES).index(name))
        assert signs == "".join("-" if s < 0 else "+" for s in table_of_signs[:10])
        variable = weights[name][0] * table_of_signs[0]
        assert weights[name][:10] == [variable * s for s in table_of_signs[:10]]

    assert f"`{checksum(weights):08x}`" in section("9.2")
    assert checksum(decode_model(parse_model(data), engine)) == checksum(weights)
    assert parse_model(data).to_bytes() == data


def test_file_of_another_code_of_the_document(engine):
    data = code_bytes("9.3")
    text = section("9.3")
    assert f"The file has {len(data)} bytes" in text
    first = code_bytes("9.2")
    assert [i for i in range(41) if data[i] != first[i]] == [5]
    file = spec_decoder.parse(data)
    assert file.code == CODES["gprs-s"].number
    assert f"theta {int.from_bytes(data[41:43], 'little')}" in text
    rows = table("9.3")
    assert [int(row[1]) for row in rows] == file.indices
    for place, node, _, bits in rows:
        z = spec_decoder.node_normal(file.code, int(node), int(place), file.seed)
        assert float32_bits(z) == bits
    weights = spec_decoder.decode(data)
    listed = re.findall(r"`([0-9a-f]{8})`", text.split("The first weights of the tensors")[1])
    assert listed == [*(float32_bits(w[0]) for w in weights.values()), f"{checksum(weights):08x}"]
    assert checksum(decode_model(parse_model(data), engine)) == checksum(weights)
    assert parse_model(data).to_bytes() == data
    model = parse_model(data)  # theta is what the package chooses
    assert CompressedModel(model.layout, 5, model.rho, model.messages, "gprs-s").to_bytes() == data


# --- whole files


ROWS = [(n, row) for n, count in {"10": 6, "10.1": 12, "10.2": 4, "10.3": 4}.items()
        for row in range(count)]  # fmt: skip


@pytest.mark.parametrize(("number", "row"), ROWS)
def test_whole_files_of_the_document(number, row):
    model, expected = list(models(number))[row]
    data = model.to_bytes()
    assert [str(len(data)), data[-4:][::-1].hex()] == expected[:2]
    assert parse_model(data).layout == model.layout
    weights = spec_decoder.decode(data)
    assert {n: len(w) for n, w in weights.items()} == {
        t.name: math.prod(t.shape) for t in model.layout.network.tensors()
    }
    assert f"{checksum(weights):08x}" == expected[2]
    for name in ("numpy", "numba"):
        decoded = decode_model(parse_model(data), get_engine(name))
        assert list(decoded) == list(weights)
        assert f"{checksum(decoded):08x}" == expected[2]


def test_all_rows_of_the_document_are_there():
    assert [len(list(models(n))) for n in ("10", "10.1", "10.2", "10.3")] == [6, 12, 4, 4]
    assert {code.number for code in CODES.values()} == {0, *(int(r[0]) for r in table("10.1"))}
    layout = next(models("10.1"))[0].layout
    assert (layout.variables(), layout.blocks()) == (359, 36)


@pytest.mark.parametrize("code", list(CODES.values())[1:], ids=list(CODES)[1:])
@pytest.mark.parametrize(
    ("block_size", "bits", "largest"), [(1, 24, 3), (7, 10, 10), (79, 24, 24), (40, 5, 61)]
)
def test_other_codes_decode_the_same_normals(rng, code, block_size, bits, largest):
    """Bins of 24 bits in one place, deep nodes, a short last block, one block."""
    factors, seed = (50, 20, 5000, 50, 8000, 500, 500, 10), int(rng.integers(0, 2**32))
    layout = BlockLayout(LENET5, factors, Grouping.OUTPUTS, Signs.UNIT, block_size, seed)
    raw = code.raw_bits(bits)
    largest = min(largest, (code.message_range(bits)[1] >> raw).bit_length() - 1)
    shape = message_shape(layout, code)
    n = np.int64(2.0 ** rng.uniform(0, largest, shape))
    messages = code.from_positive(n << raw | rng.integers(0, 1 << raw, shape))
    messages.ravel()[layout.variables() :] = 1
    data = CompressedModel(layout, bits, np.ones(8, np.float16), messages, code.name).to_bytes()
    want = spec_decoder.normals(spec_decoder.parse(data))[: layout.variables()]
    assert len(want) == 79
    for name in ("numpy", "numba"):
        got = decode_rows(parse_model(data), get_engine(name))
        assert got.dtype == np.float32
        assert got.ravel()[:79].tobytes() == struct.pack("<79f", *want), name


def test_one_file_of_the_document_has_ties():
    order = spec_decoder.words(2, spec_decoder.PERMUTATION, 0, 431080)
    assert len(order) - len(set(order)) == 18
    assert "18 pairs" in section("10")


@pytest.mark.parametrize(
    ("grouping", "signs", "factors", "block_size", "bits", "seed"),
    [
        pytest.param(Grouping.OUTPUTS, Signs.UNIT, DEFAULT, 30, 14, 0, id="default"),
        pytest.param(Grouping.INPUTS, Signs.UNIT, DEFAULT, 30, 14, 1, id="inputs"),
        pytest.param(Grouping.OUTPUTS, Signs.WEIGHT, DEFAULT, 30, 12, 2, id="weight-signs"),
        pytest.param(Grouping.INPUTS, Signs.NONE, DEFAULT, 30, 12, 3, id="no-signs"),
        pytest.param(
            Grouping.OUTPUTS, Signs.UNIT, (3, 7, 9, 11, 13, 17, 19, 3), 10, 8, 4, id="odd-factors"
        ),
        pytest.param(
            Grouping.INPUTS, Signs.WEIGHT, (7, 20, 501, 3, 67, 6, 23, 4), 64, 9, 5, id="odd-inputs"
        ),
        pytest.param(Grouping.OUTPUTS, Signs.UNIT, DEFAULT, 26579, 10, 6, id="last-block-of-one"),
        pytest.param(Grouping.OUTPUTS, Signs.UNIT, DEFAULT, 26580, 10, 7, id="one-block"),
        pytest.param(Grouping.OUTPUTS, Signs.UNIT, DEFAULT, 30, 1, 8, id="1-bit"),
        pytest.param(Grouping.OUTPUTS, Signs.UNIT, DEFAULT, 40, 24, 9, id="24-bits"),
        pytest.param(Grouping.OUTPUTS, Signs.UNIT, DEFAULT, 30, 14, 2**32 - 1, id="last-seed"),
        pytest.param(Grouping.INPUTS, Signs.WEIGHT, COUNTS, 3, 5, 10, id="one-variable-each"),
    ],
)
def test_decodes_the_same_bits(rng, grouping, signs, factors, block_size, bits, seed):
    model = make_model(rng, grouping, signs, factors, block_size, bits, seed)
    want = spec_decoder.decode(model.to_bytes())
    assert list(want) == list(SHAPES)
    for name in ("numpy", "numba"):
        got = decode_model(model, get_engine(name))
        assert list(got) == list(want)
        for tensor, values in got.items():
            assert values.dtype == np.float32
            assert values.shape == SHAPES[tensor]
            packed = struct.pack(f"<{len(want[tensor])}f", *want[tensor])
            assert values.astype("<f4").tobytes() == packed, (name, tensor)


def test_predictions_of_network_2_agree(rng, engine):
    layout = BlockLayout(LENET_300_100, (50, 1, 9, 1, 1, 1), Grouping.INPUTS, Signs.UNIT, 20, 3)
    rho = np.full(6, 0.125, np.float16)
    indices = rng.integers(0, 2**9, (layout.blocks(), 1))
    data = CompressedModel(layout, 9, rho, indices).to_bytes()
    pixels = rng.integers(0, 256, (1, 28, 28), dtype=np.uint8)
    weights = decode_model(parse_model(data), engine)
    got = forward(LENET_300_100, engine, weights, engine.images(pixels))[:, 0]
    want = spec_decoder.logits(spec_decoder.decode(data), pixels[0].tolist())
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max())


def test_sha256_of_all_weights(capsys, tmp_path):
    data = code_bytes("9.2")
    weights = spec_decoder.decode(data)
    flat = np.concatenate([np.asarray(w, dtype="<f4") for w in weights.values()])
    digest = hashlib.sha256(flat.tobytes()).hexdigest()
    assert spec_decoder.sha256(weights) == digest
    (tmp_path / "model.rmc").write_bytes(data)
    spec_decoder.main([tmp_path / "model.rmc"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9 and lines[-1].endswith(digest)


@pytest.mark.parametrize("module", ["spec_decoder", "spec_updates"])
def test_what_is_no_file_is_one_line(capsys, tmp_path, module):
    path = tmp_path / "model.rmc"
    path.write_bytes(code_bytes("9.2")[:-1])
    for paths, said in (
        ([], "usage: python"),
        ([path], "checksum"),
        ([tmp_path / "none"], "No such file or directory"),
    ):
        with pytest.raises(SystemExit) as e:
            importlib.import_module(module).main([str(p) for p in paths])
        assert e.value.code == 2
        printed = capsys.readouterr()
        assert said in printed.err and printed.err.count("\n") == 1 and not printed.out


def test_predictions_agree(rng, engine):
    model = make_model(rng, Grouping.OUTPUTS, Signs.UNIT, DEFAULT, 30, 10, 11)
    pixels = rng.integers(0, 256, (1, 28, 28), dtype=np.uint8)
    weights = decode_model(model, engine)
    got = forward(LENET5, engine, weights, engine.images(pixels))[:, 0]
    want = spec_decoder.logits(spec_decoder.decode(model.to_bytes()), pixels[0].tolist())
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max())


def test_described_network_of_the_document():
    network = described_network()
    check_network(network)
    assert f"has {network.count()} weights in twelve tensors" in section("3.1")
    assert len(network.tensors()) == 12
    assert network.tensors()[4] == Tensor("stage1.body.conv1.weight", (3, 3, 4, 6), 36)
    shapes = [str(p.layer.output(p.shape)).replace(",)", ")") for p in network.placed]
    assert [s for s in shapes if s not in section("3.1")] == []


def test_opcodes_of_the_document():
    """Number, numbers and tensors of each kind."""
    rows = [row for row in table("3.1") if row[0].isdigit()]
    assert [int(row[0]) for row in rows] == list(range(1, 9))
    for opcode, _, numbers, *_, tensors in rows[:-1]:
        count = spec_networks.NUMBERS[int(opcode)]
        assert count == (0 if numbers == "-" else len(numbers.split(", ")))
        given = [1] * count
        layer = KINDS[int(opcode)].described(SimpleNamespace(number=iter(given).__next__))
        assert list(layer.numbers()) == given
        names = [t.name for t in layer.tensors((2, 3, 3))]
        assert re.findall(r"weight|gain|bias", tensors) == names


def test_logits_of_network_0_of_the_document(engine):
    said = re.search(r"mod 256, are (.*), (.*) and (.*); those of the second (.*), (.*) and (.*)\.",
                     section("10.3"))  # fmt: skip
    said = np.array([float(x) for x in said.groups()]).reshape(2, 3)
    pixels = (37 * np.arange(70) % 256).astype(np.uint8).reshape(1, 2, 7, 5)
    for (model, _), want in zip(list(models("10.3"))[:2], said, strict=True):
        data, network = model.to_bytes(), model.layout.network
        file, weights = spec_decoder.parse(data), spec_decoder.decode(data)
        slow = spec_networks.logits(file.described, weights.values(), pixels[0].tolist())
        np.testing.assert_allclose(slow, want, rtol=0, atol=1e-7)
        found = logits(network, engine, decode_model(parse_model(data), engine), pixels)
        np.testing.assert_allclose(found[:, 0], slow, rtol=0, atol=1e-6)


@pytest.mark.parametrize("network", [TREE, NORMED, DEPTHWISE], ids=lambda n: n.name)
@pytest.mark.parametrize("code", ["mrc", "sp-pfr", "gprs-d"])
def test_described_networks_decode_the_same_bits(rng, network, code, engine):
    """The plain decoder and the package, from the same bytes: weights, names and logits."""
    network = replace(network, number=0)
    factors = tuple(int(n) for n in rng.integers(1, 4, len(network.tensors())))
    layout = BlockLayout(network, factors, Grouping.INPUTS, Signs.WEIGHT, 9, 5)
    data = model_of(layout, CODES[code], 16).to_bytes()
    weights, model = spec_decoder.decode(data), parse_model(data)
    decoded = decode_model(model, engine)
    assert list(decoded) == list(weights) == [t.name for t in network.tensors()]
    for name, w in decoded.items():
        assert w.astype("<f4").tobytes() == spec_decoder.as_bytes(weights[name])
    pixels = rng.integers(0, 256, (1, *network.input), dtype=np.uint8)
    file = spec_decoder.parse(data)
    slow = spec_networks.logits(file.described, weights.values(), pixels[0].tolist())
    found = logits(model.layout.network, engine, decoded, pixels)[:, 0]
    np.testing.assert_allclose(found, slow, rtol=0, atol=1e-4 * np.abs(slow).max())


def test_both_readers_refuse_the_same_descriptions(rng):
    """Of descriptions with a few other bytes, both accept the same, with the same tensors."""
    wholes = [to_description(n) for n in (TREE, NORMED, DEPTHWISE, described_network())]
    accepted = 0
    for turn in range(4000):
        data = bytearray(wholes[turn % 4])
        for _ in range(rng.integers(1, 3)):
            data[rng.integers(0, len(data))] = rng.integers(0, 12)
        data = bytes(data) + b"\1\1"
        try:
            found = spec_networks.Network(data, 0, spec_decoder.read_varint)
        except ValueError:
            with pytest.raises(InputError):
                read_description(data, 0)
            continue
        network, end = read_description(data, 0)
        assert end == found.at
        assert [(t.name, t.shape) for t in network.tensors()] == found.tensors
        accepted += 1
    assert 200 < accepted < 3800


def test_a_norm_of_what_has_no_variance_is_no_number():
    x = [[[1e200]], [[-1e200]], [[3.0]], [[-1.0]]]
    y = spec_networks.normalise(x, [0.0] * 4, [1.0] * 4, 2)
    assert [math.isnan(row[0][0]) for row in y] == [True, True, False, False]
