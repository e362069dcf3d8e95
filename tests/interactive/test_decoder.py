"""The decoder of docs/interactive agrees with the suite, with refmiracle, and with SPEC.md."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import spec_decoder
from conformance.chains import shipped_models
from conformance.descriptions import described_files, descriptions_changed
from fileformat.document import FIELDS, models, scales, seal
from interactive.browser_backend import OPERATIONS, BrowserBackend, ask_files, ask_many

from refmiracle.codes.table import CODES
from refmiracle.conformance.backends import PythonBackend
from refmiracle.conformance.runner import PASSED, run_suite
from refmiracle.conformance.vectors import default_golden, load_golden
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.fileformat.container import CompressedModel, parse_model
from refmiracle.fileformat.model import decode_model
from refmiracle.fileformat.payload import message_shape
from refmiracle.nn.evaluation import forward
from refmiracle.nn.networks import LENET5, NETWORKS
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

ROOT = Path(__file__).parents[2]
# What the page says where the plain Python decoder says so: the same fault, the first of 2.5.
FAULTS = {
    "wrong magic": "letters RMC",
    "too short": "cannot hold a header",
    "unknown version": "format version",
    "wrong checksum": "its checksum is wrong",
    "unknown network": "network number",
    "unknown random code": "random code",
    "unknown layout flags": "layout flags",
    "bits out of range": "bits per block are out of range",
    "the header is cut off": "ends within its header",
    "an integer is not in its shortest form": "shortest form",
    "an integer does not fit in 32 bits": "does not fit in 32 bits",
    "an integer is longer than five bytes": "longer than five bytes",
    "hash factor out of range": "hash factor",
    "block size out of range": "block size",
    "wrong length": "its header calls for",
    "a scale is not a positive normal float16": "float16",
    "padding bits are set": "padding bits",
    "theta is zero": "theta is zero",
    "the integers are cut off": "integers are cut off",
    "an integer is too large": "integers is too large",
    "not the code word of its integers": "not the code word",
    "a message is out of range": "integers is out of range",
}


def digest_of(data):
    """Return the SHA-256 of the weights as refmiracle decodes them."""
    weights = decode_model(parse_model(data), get_engine("numpy"))
    flat = np.concatenate([w.ravel() for w in weights.values()]).astype("<f4")
    return hashlib.sha256(flat.tobytes()).hexdigest()


def digests_in(page, files):
    answers = ask_files(page, "decode_model", files)
    return [a if isinstance(a, str) else a[0].tobytes().hex() for a in answers]


def test_conformance(bridged):
    report = run_suite(PythonBackend(BrowserBackend(bridged)), load_golden(default_golden()))
    declared = [r for r in report.results if r.operation in OPERATIONS and r.dtype != "float32"]
    assert {r.operation for r in declared} == set(OPERATIONS)
    assert [f"{r.id}: {r.message}" for r in declared if r.status != PASSED] == []
    assert report.ok()


@pytest.mark.parametrize("path", shipped_models(), ids=lambda path: path.stem)
def test_shipped_models(bridged, path):
    data = path.read_bytes()
    assert digests_in(bridged, [data]) == [digest_of(data)]


@pytest.mark.parametrize("number", ["10", "10.1"])
def test_files_of_the_document(bridged, number):
    posed, said = zip(*models(number), strict=True)
    files = [model.to_bytes() for model in posed]
    assert [f[-4:][::-1].hex() for f in files] == [file_crc for _, file_crc, _ in said]
    assert digests_in(bridged, files) == [digest_of(f) for f in files]
    if number == "10.1":
        assert {f[5] for f in files} == set(range(1, 13))


def test_another_network(bridged, rng):
    network = NETWORKS["lenet-300-100"]
    for code in ("mrc", "gprs-d"):
        layout = BlockLayout(network, network.hash_factors, Grouping.INPUTS, Signs.UNIT, 40, 5)
        messages = rng.integers(1, 200, message_shape(layout, CODES[code]))
        messages.ravel()[layout.variables() :] = 1
        data = CompressedModel(layout, 9, scales(6), messages, code).to_bytes()
        assert digests_in(bridged, [data]) == [digest_of(data)]
        pixels = rng.integers(0, 256, (20, 28, 28), dtype=np.uint8)
        check_predictions(bridged, data, pixels)


def check_predictions(page, data, pixels):
    """Classes are those of the numpy engine, and logits nearly."""
    engine = get_engine("numpy")
    model = parse_model(data)
    weights = decode_model(model, engine)
    want = forward(model.layout.network, engine, weights, engine.images(pixels))
    ((logits, classes),) = ask_many(
        page, "predict", [(np.frombuffer(data, dtype=np.uint8), pixels)]
    )
    np.testing.assert_allclose(logits, want, rtol=0, atol=1e-12 * np.abs(want).max())
    np.testing.assert_array_equal(classes, want.argmax(axis=0))


def test_networks_that_files_describe(bridged):
    files = described_files()
    assert len(files) > 10
    assert digests_in(bridged, files) == [digest_of(data) for data in files]


def test_two_hundred_test_digits(bridged, few_images):
    data = (ROOT / "data" / "models" / "lenet5-1551.rmc").read_bytes()
    check_predictions(bridged, data, few_images.images[:200])


# --- invalid files


def fault_of(data):
    """Return what the plain Python decoder says of a file, None if it is valid."""
    try:
        spec_decoder.parse(data)
    except spec_decoder.InvalidFileError as e:
        return str(e)
    return None


def check_answers(page, files):
    """Each file is accepted or refused as by refmiracle, for the fault that comes first.

    Returns the faults that were met.
    """
    met = set()
    for data, answer in zip(files, ask_files(page, "read_container", files), strict=True):
        fault = fault_of(data)
        fault = fault and fault.partition(": ")[0]  # all faults of a description are one
        met.add(fault)
        if fault is None:
            parse_model(data)
            assert not isinstance(answer, str), answer
        else:
            with pytest.raises(InputError):
                parse_model(data)
            assert isinstance(answer, str), fault
            assert FAULTS[fault] in answer, fault
            assert "\n" not in answer
    return met


def test_damaged_files(bridged, rng):
    """Shipped bytes, cut off, lengthened, or with one bit flipped: never valid."""
    whole = (ROOT / "data" / "models" / "lenet5-891.rmc").read_bytes()
    files = [whole[:n] for n in (*range(60), len(whole) - 1)]
    files += [whole + bytes(n) for n in (1, 4, 1000)]
    for at in rng.integers(0, 8 * len(whole), 200):
        changed = bytearray(whole)
        changed[at // 8] ^= 1 << at % 8
        files.append(bytes(changed))
    assert None not in check_answers(bridged, files)


# A fault of each field of the file of SPEC.md, section 9.2.
ONE_FAULT = {
    "magic": "524d44",
    "version": "02",
    "network": "03",
    "code": "0d",
    "flags": "12",
    "bits": "19",
    "block_size": "09",
    "seed": "8000",
    "factor3": "00",
    "rho0": "0000",
    "indices": "4fe5",
}


def test_the_first_of_two_faults_is_reported(bridged):
    files = []
    for pair in itertools.combinations(ONE_FAULT, 2):
        body = bytes.fromhex("".join({**FIELDS, **{f: ONE_FAULT[f] for f in pair}}.values()))
        files += [seal(body), body + bytes(4), seal(body + bytes(1))]
    # The padding bits are checked last; the checksum and the length have no field.
    assert len(check_answers(bridged, files)) == len(ONE_FAULT) - 1 + 2


def test_changed_headers_with_a_right_checksum(bridged, rng):
    layout = BlockLayout(
        LENET5, (500, 20, 25000, 50, 400000, 500, 5000, 10), Grouping.OUTPUTS, Signs.UNIT, 3, 300
    )
    model = CompressedModel(layout, 5, scales(8), np.array([[9], [31], [18]]))
    whole = model.to_bytes()[:-4]
    files = []
    for _ in range(600):
        body = bytearray(whole)
        for _ in range(rng.integers(1, 3)):
            body[rng.integers(0, len(body))] ^= 1 << rng.integers(0, 8)
        files.append(seal(body[: len(body) - rng.integers(0, 2)]))
    met = check_answers(bridged, files)
    assert None in met
    assert len(met) >= 11


def test_changed_descriptions(bridged, rng):
    met = check_answers(bridged, list(descriptions_changed(rng, 600)))
    assert {None, "unknown network", "wrong length"} <= met


@pytest.mark.parametrize("code", ["orc", "pfr", "sp-pfr", "gprs"])
def test_changed_messages_with_a_right_checksum(bridged, rng, code):
    layout = BlockLayout(
        LENET5, (500, 20, 25000, 50, 400000, 500, 5000, 10), Grouping.OUTPUTS, Signs.UNIT, 3, 300
    )
    least = np.full(message_shape(layout, CODES[code]), CODES[code].message_range(5)[0])
    whole = CompressedModel(layout, 5, scales(8), least, code).to_bytes()
    files = [
        seal(whole[:42] + rng.bytes(rng.integers(0, 5 if code == "gprs" else 9)))
        for _ in range(600)
    ]
    met = check_answers(bridged, files)
    assert None in met
    assert {"the integers are cut off", "not the code word of its integers"} <= met
