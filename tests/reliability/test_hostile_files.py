"""The costliest files of 4 kB are decoded in bounded work and memory: docs/SPEC.md, section 2.6.

Work is counted, not timed: decisions of the range coder, counters of Philox, bytes of arrays.
`python tools/fuzz/hostile_files.py` measures seconds and megabytes.
"""

from __future__ import annotations

import gc
import tracemalloc
import zipfile
from collections import Counter
from dataclasses import replace

import hostile_files
import numpy as np
import pytest
import spec_decoder

from refmiracle.codes.table import CODES
from refmiracle.engines import get_engine
from refmiracle.engines.numpy_engine import nodes, sp_pfr
from refmiracle.fileformat import envelope, integers, payload
from refmiracle.fileformat.container import parse_model
from refmiracle.fileformat.model import decode_model
from refmiracle.fileformat.payload import message_count
from refmiracle.numerics import philox
from refmiracle.training.choosing import check_settings
from refmiracle.training.settings import PRESETS
from refmiracle.training.state import load_checkpoint
from refmiracle.training.trained_posterior import load_posterior

LARGEST_BYTES = 200e6
LARGEST_KEPT = 2**20  # bytes that may stay in caches, once the weights are gone
# The larger networks take as much again for each code.
QUICK = {0: (), 1: (), 2: ("mrc", "gprs-s", "as-star")}
SECONDS = {0: ("mrc", "as-star"), 1: ("gprs-s",), 2: tuple(CODES)}


def marks(network, code):
    if code in QUICK[network]:
        return []
    return [pytest.mark.slow, pytest.mark.minutes][: 1 if code in SECONDS[network] else 2]


DECODED = [
    pytest.param(network, code, marks=marks(network, code)) for network in QUICK for code in CODES
]


@pytest.fixture
def work(monkeypatch):
    """Counts decisions and counters while files are read and decoded by the numpy engine."""
    counted = Counter()
    decide, zeros = integers._Decoder._decide, integers._Decoder.zeros
    bijection = philox.philox4x32

    def one(self, probability):
        counted["one by one"] += 1
        return decide(self, probability)

    def many(self, probability, most):
        passed = zeros(self, probability, most)
        counted["in runs"] += passed
        return passed

    def counters(counter, key, rounds=10):
        counted["counters"] += np.size(counter) // 4
        return bijection(counter, key, rounds)

    monkeypatch.setattr(integers._Decoder, "_decide", one)
    monkeypatch.setattr(integers._Decoder, "zeros", many)
    for module in (philox, nodes, sp_pfr):
        monkeypatch.setattr(module, "philox4x32", counters)
    return counted


def measured(data):
    """Return the model, its weights, and the largest and the last memory in bytes.

    Garbage that has not been collected yet is none that stays.
    """
    gc.collect()
    tracemalloc.start()
    model = parse_model(data)
    weights = decode_model(model, get_engine("numpy"))
    peak = tracemalloc.get_traced_memory()[1]
    gc.collect()
    own = sum(w.nbytes for w in weights.values()) + model.messages.nbytes
    kept = tracemalloc.get_traced_memory()[0] - own
    tracemalloc.stop()
    return model, weights, peak, kept


@pytest.mark.parametrize(("network", "code"), DECODED)
def test_the_costliest_files(network, code, work):
    small = hostile_files.make_small(code, network)
    decode_model(parse_model(small), get_engine("numpy"))  # what is loaded once does not count
    for data in hostile_files.costliest(code, network).values():
        assert len(data) <= 4096
        work.clear()
        model, weights, peak, kept = measured(data)
        assert peak <= LARGEST_BYTES
        assert kept <= LARGEST_KEPT

        count, size = message_count(model.layout, CODES[code]), len(data)
        # The limits of docs/SPEC.md; only what takes a bit of the file is decided one by one.
        assert work["one by one"] + work["in runs"] <= count + 18 * size
        assert work["one by one"] <= 18 * size
        # One for each place and for each level above it; a quarter for each variable's word of the
        # permutation and for each sign; and a row of the codebook is filled up to four.
        weights_in_all = sum(w.size for w in weights.values())
        variables = model.layout.variables()
        places, levels = 2 * variables, 9 * size
        assert work["counters"] <= places + levels + (variables + weights_in_all) / 4 + size

        others = decode_model(model, get_engine("numba"))
        assert all(np.array_equal(weights[name], others[name]) for name in weights)


def test_the_work_of_refused_files(work):
    """Cut off, with bytes behind them, or none at all: no more decisions than a valid one."""
    data = hostile_files.costliest("grc", 1)["two blocks, 62 bits"]
    start = data.index(b"\0\x3c" * 8) + 16
    theta, word = int.from_bytes(data[start : start + 2], "little"), data[start + 2 : -4]
    rng = np.random.default_rng(1)
    for other in (word[: len(word) // 2], word + bytes(400), rng.bytes(4000), b"\xff" * 4000):
        for own in (1, theta, 60_000, 65_535):
            work.clear()
            with pytest.raises(integers.InputError):
                integers.read_integers(other, 431_080, own)
            assert work["one by one"] <= 18 * len(other) + 62
            assert work["in runs"] <= 431_080


def test_more_integers_than_any_file_holds():
    """Refused before memory is taken for them, by the writer too."""
    tracemalloc.start()
    for count in (-1, 2**20 + 1, 2**24, 2**62):
        with pytest.raises(integers.InputError, match="expected 0 to 1048576"):
            integers.read_integers(b"\x80", count, 1)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    with pytest.raises(integers.InputError, match="1048577 integers; expected 0 to 1048576"):
        integers.write_integers(np.ones(2**20 + 1, np.int64), 1)
    most = np.ones(2**20, np.int64)
    assert integers.read_integers(integers.write_integers(most, 1), 2**20, 1).sum() == 2**20


def test_archives_that_unpack_to_gigabytes(tmp_path):
    """A member's size is looked at before anything is unpacked."""
    path = tmp_path / "checkpoint.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("mu.npy", "w", force_zip64=True) as member,
    ):
        for _ in range(300):
            member.write(bytes(2**20))
    assert path.stat().st_size < 2**19
    tracemalloc.start()
    for load in (load_checkpoint, load_posterior):
        with pytest.raises(integers.InputError, match="unpacks to 314572800 bytes"):
            load(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_runs_whose_file_would_be_too_large(monkeypatch):
    """One line before training; the networks that there are stay far below the limits."""
    settings = PRESETS["smoke"]
    monkeypatch.setattr(integers, "LARGEST_COUNT", 26_579)
    with pytest.raises(integers.InputError, match="26580 integers; expected 0 to 26579"):
        check_settings(replace(settings, code="gprs-s"))
    monkeypatch.setattr(payload, "LARGEST_FILE", 1000)
    with pytest.raises(integers.InputError, match="a file has at most 1000 bytes"):
        check_settings(replace(settings, code="mrc"))


def test_no_file_is_written_that_no_reader_need_read(monkeypatch):
    model = parse_model(hostile_files.make_small("gprs-s", 1))
    monkeypatch.setattr(envelope, "LARGEST_FILE", 40)
    with pytest.raises(integers.InputError, match="at most 40 are possible"):
        model.to_bytes()


@pytest.mark.slow
@pytest.mark.minutes
@pytest.mark.parametrize(("network", "code"), [(1, code) for code in CODES])
def test_plain_python_finds_the_same_weights(network, code):
    for data in hostile_files.costliest(code, network).values():
        weights = decode_model(parse_model(data), get_engine("numba"))
        plain = spec_decoder.decode(data)
        assert all(np.array_equal(weights[n].ravel(), np.float32(plain[n])) for n in weights)
