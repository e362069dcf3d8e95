"""A second source for the golden values of bits, numerics, posterior, coding and files.

Each value was written down from one source by tools/golden; here it meets another: Philox in
other plain Python, SciPy, the W function of mpmath, integrals, the hand-derived gradients, NumPy.
"""

import importlib
import math
import sys
from pathlib import Path

import mpmath
import numpy as np
import oracles
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import spec_decoder
from fileformat.document import bitwise_crc
from mpmath import mpf

from refmiracle.codes.table import CODES_BY_NUMBER
from refmiracle.conformance.operations import OPERATIONS
from refmiracle.conformance.vectors import default_golden, load_file

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))
import make_golden
from golden import (
    arrivals,
    codes,
    containers,
    described_faults,
    edges_of_files,
    gaussians,
    partition,
    searches,
    selection,
    updates,
)
from golden import integers as integers_tool
from golden.sources import to_float
from golden.unimodal import Target

for module in make_golden.LATER:
    importlib.import_module(f"golden.{module}")
# Behind the others: cases stand in the order in which modules are loaded.
described = importlib.import_module("golden.described")
around = importlib.import_module("golden.around")
writers = importlib.import_module("golden.writers")

GOLDEN = default_golden()
EPSILON = 2.0**-52


def cases_of(operation, faulty=False):
    """The positive or the negative cases of an operation as parameters of a test.

    Those with NaN or infinities are in test_golden_nonfinite.py.
    """
    path = GOLDEN / OPERATIONS[operation].stage / f"{operation}.json"
    known = [c for c in load_file(path).cases if "not-finite" not in c.flags or faulty]
    cases = [c for c in known if (c.fault is not None) == faulty]
    return pytest.mark.parametrize("case", cases, ids=lambda c: c.id.rpartition("/")[2])


def values(arrays, *names):
    """Some arrays by name; scalars as Python numbers."""
    return [arrays[n].item() if arrays[n].ndim == 0 else arrays[n] for n in names]


def rows_of(*arrays):
    """The elements of arrays of equal shape as tuples of mpmath numbers, row by row."""
    return [
        [tuple(mpf(float(x)) for x in element) for element in zip(*rows, strict=True)]
        for rows in zip(*arrays, strict=True)
    ]


def assert_close(got, want, relative):
    """Whether floats agree with mpmath numbers, or both are below the least float."""
    for g, w in zip(np.ravel(got).tolist(), want, strict=True):
        assert abs(mpf(g) - w) <= relative * abs(w) + mpf(2) ** -1074, (g, w)


# --- bits


@cases_of("philox4x32")
def test_philox(case):
    counters, key = values(case.inputs, "counter", "key")
    want = [oracles.philox(tuple(map(int, c)), tuple(map(int, key))) for c in counters]
    assert case.outputs["words"].tolist() == [list(w) for w in want]


def test_many_rows_are_the_rows():
    rows = [0, 5, 2**32 - 1]
    many = oracles.many_rows(2**32 - 1, 7, rows, 9)
    assert many.tolist() == [oracles.row_words(2**32 - 1, 7, row, 9) for row in rows]


@cases_of("stream_words")
def test_stream_words(case):
    seed, stream, row, first, count = values(case.inputs, *case.inputs)
    assert case.outputs["words"].tolist() == [
        oracles.philox((i // 4, row, 0, 0), (seed, stream))[i % 4]
        for i in range(first, first + count)
    ]


@cases_of("stream_permutation")
def test_stream_permutation(case):
    words = oracles.row_words(*values(case.inputs, *case.inputs))
    assert case.outputs["permutation"].tolist() == np.argsort(words, kind="stable").tolist()
    assert ("tie" in case.flags) == (len(set(words)) < len(words))


def as_number(indices, bits):
    """Indices as one large number, with the padding."""
    number = 0
    for index in indices.tolist():
        number = number << bits | index
    return number << (-len(indices) * bits % 8)


@pytest.mark.parametrize("operation", ["pack_indices", "unpack_indices"])
def test_indices_are_one_large_number(operation):
    for case in load_file(GOLDEN / "bits" / f"{operation}.json").cases:
        if case.fault is None:
            both = {**case.inputs, **case.outputs}
            payload = both["payload"].tobytes()
            assert int.from_bytes(payload, "big") == as_number(both["indices"], int(both["bits"]))


@cases_of("read_container")
def test_valid_files(case):
    data = case.inputs["data"].tobytes()
    file = spec_decoder.parse(data)
    for name in ("grouping", "signs", "block_size", "seed"):
        assert case.outputs[name] == getattr(file, name)
    assert case.outputs["factors"].tolist() == file.factors
    assert case.outputs["indices"].tolist() == file.indices
    assert tuple(case.outputs["rho"].view(np.float16)) == file.rho
    assert bitwise_crc(data[:-4]) == int.from_bytes(data[-4:], "little")


# What the decoder written from the document says of each class of fault.
MESSAGES = {
    "empty": "wrong magic",
    "truncated": "wrong magic|too short|wrong checksum",
    "wrong magic": "wrong magic",
    "bad CRC": "wrong checksum",
    "trailing bytes": "wrong checksum",
    "unknown version": "unknown version",
    "unknown network": "unknown network",
    "unknown random code": "unknown random code",
    "unknown layout flags": "unknown layout flags",
    "bits out of range": "bits out of range",
    "block size out of range": "block size out of range",
    "hash factor out of range": "hash factor out of range",
    "varint not canonical": "not in its shortest form",
    "varint too large": "does not fit|longer than five",
    "shorter than its header calls for": "cut off|wrong length",
    "longer than its header calls for": "wrong length",
    "scale not positive and normal": "not a positive normal float16",
    "padding bits not zero": "padding bits are set",
}


@cases_of("read_container", faulty=True)
def test_files_have_the_fault_that_they_name(case):
    with pytest.raises(spec_decoder.InvalidFileError, match=MESSAGES[case.fault]):
        spec_decoder.parse(case.inputs["data"].tobytes())


def test_every_class_of_fault_has_a_file():
    assert {fault for _, fault, _, _ in containers.faults()} == set(MESSAGES)


def test_files_by_hand_are_those_of_the_document():
    assert containers.assemble(containers.SMALL) == containers.WORKED_EXAMPLE
    # The checksums of section 10.
    checksums = {"default": "998840da", "inputs": "a4c4fe80", "bits-1": "d1b4d771"}
    checksums["factors-do-not-divide"] = "838052ba"
    for case in load_file(GOLDEN / "files" / "decode_model.json").cases:
        name = case.id.rpartition("/")[2]
        if name in checksums:
            assert case.inputs["data"].tobytes()[-4:][::-1].hex() == checksums[name]


# The same of files of other codes and of network 2.
MESSAGES_OF_CODES = {
    **MESSAGES,
    "theta is zero": "theta is zero",
    "the integers are cut off": "the integers are cut off",
    "bytes behind the end": "not the code word of its integers",
    "not the code word of its integers": "not the code word of its integers",
    "integer out of range": "a message is out of range",
    "integer above 2^62 - 1": "an integer is too large",
    "too many integers": r"more than 2\^20 integers",
}

# What the decoder says of a description, by what a case says of it.
MESSAGES_OF_DESCRIPTIONS = {
    "the description is cut off": "the header is cut off",
    "a number is not canonical": "not in its shortest form",
    "a number above 65535": "a number is too large|does not fit|longer than five",
    "more than 4096 bytes": "more than 4096 bytes",
    "more than 256 layers": "more than 256 layers",
    "unknown opcode": "unknown opcode",
    "residuals too deep": "too deep",
    "image out of range": "images out of range",
    "fewer than 2 classes": "classes out of range",
    "layers do not fit": "convolution|groups|kernel|no maps|dense|window|norm|no sum",
    "too many values": "too many values",
    "too many weights": "weights out of range",
    "no weights": "weights out of range",
    "another end": "another end",
}
MESSAGES_OF_MODELS = MESSAGES_OF_CODES | {
    fault: f"unknown network: .*({said})" for fault, said in MESSAGES_OF_DESCRIPTIONS.items()
}


def test_every_rule_of_a_description_has_a_file():
    faults = [row.fault for row in described_faults.FAULTS]
    assert set(faults) == {*MESSAGES_OF_DESCRIPTIONS, "hash factor out of range"}


def test_described_files_by_hand_are_those_of_the_document():
    """The checksums of section 10.3."""
    files = {name: data[-4:][::-1].hex() for name, data, _ in described.valid()}
    expected = {"example": "ba36ec28", "example-hashed": "c3035b23"}
    expected |= {"example-sp-pfr": "609a849f", "example-gprs-d": "4feadd35"}
    assert expected.items() <= files.items()


@cases_of("decode_model", faulty=True)
def test_models_have_the_fault_that_they_name(case):
    with pytest.raises(spec_decoder.InvalidFileError, match=MESSAGES_OF_MODELS[case.fault]):
        spec_decoder.parse(case.inputs["data"].tobytes())


@cases_of("describe_file", faulty=True)
def test_described_files_have_the_fault_that_they_name(case):
    with pytest.raises(spec_decoder.InvalidFileError, match=MESSAGES_OF_CODES[case.fault]):
        spec_decoder.parse(case.inputs["data"].tobytes())


@cases_of("describe_file")
def test_descriptions_by_the_bytes_themselves(case):
    """The fixed bytes, and theta behind the scales, which stand where the first of them does."""
    data = case.inputs["data"].tobytes()
    fields = {name: value.tolist() for name, value in case.outputs.items()}
    scales = case.outputs["rho"].astype("<u2").tobytes()
    assert [fields[n] for n in ("network", "code", "bits")] == [data[4], data[5], data[7]]
    assert fields["grouping"] | fields["signs"] << 4 == data[6]
    numbers = [fields["block_size"], fields["seed"], *fields["factors"]]
    coded = b"".join(map(containers.varint, numbers))
    assert data[8 : 8 + len(coded) + len(scales)] == coded + scales
    rest = data[8 + len(coded) + len(scales) : -4]
    assert fields["theta"] == (int.from_bytes(rest[:2], "little") if data[5] else 0)
    if data[5]:
        raw = data[7] if data[5] == 3 else 0
        sent = [m + (data[5] in (1, 2)) for m in fields["messages"]]
        assert integers_tool.code_word(sent, fields["theta"], raw) == rest[2:]
    else:
        assert containers.pack(fields["messages"], data[7]) == rest


@cases_of("compose_file")
def test_composed_files_say_what_they_are_made_of(case):
    """Read by the decoder in plain Python, which writes none."""
    file = spec_decoder.parse(case.outputs["data"].tobytes())
    fields = {name: value.tolist() for name, value in case.inputs.items()}
    names = ("network", "grouping", "signs", "code", "bits", "block_size", "seed")
    assert [fields[n] for n in names] == [getattr(file, n) for n in names]
    scales = np.array(case.inputs["rho"], np.uint16).view(np.float16)
    assert scales.tolist() == list(file.rho)
    assert fields["factors"] == list(file.factors)
    assert fields["messages"] == list(file.indices)


@cases_of("best_indices")
def test_the_best_candidates_by_all_log_weights_in_doubles(case):
    seed, bits, delta, log_s = values(case.inputs, *case.inputs)
    rows = np.array([selection.candidate(seed, k, delta.shape[1]) for k in range(2**bits)])
    y = rows - delta[:, None]
    log_w = (rows**2 - y**2 * np.exp(-log_s)[:, None] - log_s[:, None]).sum(axis=2) / 2
    assert case.outputs["indices"].tolist() == log_w.argmax(axis=1).tolist()


def test_every_code_and_both_networks_have_cases():
    headers = [
        (case.inputs["data"][4], case.inputs["data"][5])
        for case in load_file(GOLDEN / "files" / "decode_model.json").cases
        if case.fault is None
    ]
    assert {code for network, code in headers if network == 1} == set(CODES_BY_NUMBER)
    assert {0, 2, 3, 4, 12} <= {code for network, code in headers if network == 2}


@pytest.mark.parametrize("operation", ["read_integers", "write_integers"])
def test_code_words_by_another_reader(operation):
    """Written with integers of any size; read with the difference C - L alone."""
    for case in load_file(GOLDEN / "bits" / f"{operation}.json").cases:
        if case.fault is None:
            both = {**case.inputs, **case.outputs}
            theta, raw, integers = values(both, "theta", "raw", "integers")
            payload = both["payload"].tobytes()
            got = spec_decoder.read_integers(payload, len(integers), theta, raw)
            assert got == integers.tolist()


# What `spec_decoder.read_integers` says of each fault; it leaves theta to its caller.
REFUSALS = {
    "the integers are cut off": "the integers are cut off",
    "bytes behind the end": "not the code word",
    "not the code word of its integers": "not the code word",
    "integer out of range": "an integer is too large",
    "more than 2^20 integers": r"more than 2\^20 integers",
}


@cases_of("read_integers", faulty=True)
def test_code_words_have_the_fault_that_they_name(case):
    payload, count, theta, raw = values(case.inputs, *case.inputs)
    if case.fault not in REFUSALS:
        assert not (1 <= theta <= 65535 and 0 <= raw <= 24 and count >= 0)
        return
    with pytest.raises(spec_decoder.InvalidFileError, match=REFUSALS[case.fault]):
        spec_decoder.read_integers(payload.tobytes(), count, theta, raw)


@cases_of("write_integers", faulty=True)
def test_integers_without_a_code_word(case):
    integers, theta, raw = values(case.inputs, *case.inputs)
    assert (0 <= raw <= 24) == (case.fault != "raw bits out of range")
    if case.fault == "raw bits out of range":
        return
    outside = (integers < 1 << raw) | (integers >= 1 << 62)
    assert outside.any() == (case.fault == "integer out of range")
    assert (1 <= theta <= 65535) == (case.fault != "theta out of range")


def test_carries_and_ends_are_what_the_flags_say():
    for case in load_file(GOLDEN / "bits" / "write_integers.json").cases:
        if case.fault is None and len(case.inputs["integers"]):
            words = case.inputs["integers"].tolist(), int(case.inputs["theta"])
            assert ("long-end" in case.flags) <= integers_tool.has_long_end(*words)
            assert ("carry" in case.flags) <= integers_tool.has_carry(*words)


@cases_of("block_layout")
def test_layout(case):
    """The layout with NumPy: ravelled index arrays instead of a loop over weights."""
    _, seed, factors, grouping, _, weights = values(case.inputs, *case.inputs)
    counts = np.array(containers.COUNTS)
    variable_of, first = [], 0
    for (_, shape), factor in zip(spec_decoder.LENET5, factors.tolist(), strict=True):
        n = np.arange(math.prod(shape))
        if grouping == spec_decoder.INPUTS:
            n = n.reshape(shape[-1], -1).T.ravel()
        variable_of.append(first + n // factor)
        first += -(-math.prod(shape) // factor)
    words = oracles.row_words(seed, spec_decoder.PERMUTATION, 0, first)
    place_of = np.argsort(np.argsort(words, kind="stable"))
    places = place_of[np.concatenate(variable_of)[weights]]
    assert case.outputs["places"].tolist() == places.tolist()

    starts = np.cumsum(counts) - counts
    for weight, sign in zip(weights.tolist(), case.outputs["weight_signs"].tolist(), strict=True):
        assert sign == sign_of(case, weight, int(np.searchsorted(starts, weight, "right")) - 1)


def sign_of(case, weight, tensor):
    """The sign of a weight, from its own word alone."""
    seed, factors, signs = values(case.inputs, "seed", "factors", "signs")
    if factors[tensor] == 1 or signs == spec_decoder.NONE:
        return 1
    i = weight - sum(containers.COUNTS[:tensor])
    if signs == spec_decoder.UNIT:
        i %= spec_decoder.LENET5[tensor][1][-1]
    word = oracles.philox((i // 4, tensor, 0, 0), (seed, spec_decoder.SIGNS))[i % 4]
    return -1 if word >= 2**31 else 1


# --- numerics


@cases_of("normal_quantile")
def test_quantiles_are_within_1e_15(case):
    with mpmath.workdps(60):
        for p, z in zip(case.inputs["p"].tolist(), case.outputs["z"].tolist(), strict=True):
            tail = min(mpf(p), 1 - mpf(p))
            root = -abs(mpf(z))
            for _ in range(4):
                root -= (mpmath.ncdf(root) - tail) / mpmath.npdf(root)
            want = root if p < 0.5 else -root
            assert abs(z - want) <= mpf(10) ** -15 * abs(want) + mpf(10) ** -50


@cases_of("codebook")
def test_codebook_is_normal(case):
    seed, indices, dimension = values(case.inputs, *case.inputs)
    words = [oracles.row_words(seed, spec_decoder.CODEBOOK, k, dimension) for k in indices.tolist()]
    want = scipy.special.ndtri((np.array(words) + 0.5) / 2.0**32).astype(np.float32)
    np.testing.assert_array_max_ulp(case.outputs["rows"], want, 1)


@cases_of("log_s")
def test_log_s_is_that_of_the_w_function(case):
    with mpmath.workdps(2400):  # near the branch point W loses twice the digits of 1/x
        for x, got in zip(case.inputs["x"].tolist(), case.outputs["log_s"].tolist(), strict=True):
            if x > 1e9:  # log s = -1 - x^2 + s, and s is 0 for all purposes
                want = -1 - mpf(x) ** 2
            elif x < 1e-100:
                want = -mpmath.sqrt(2) * x - mpf(x) ** 2 / 3
            else:
                want = log_of_w(mpf(x))
            assert got == to_float(want)


def log_of_w(x):
    """log s by mpmath's Lambert W, in as many digits as it takes."""
    digits = 40 + 3 * max(0, int(-mpmath.log10(x)))
    with mpmath.workdps(digits):
        if x > 20:  # W(z) = z to all digits that count
            return -1 - x * x + mpmath.exp(-1 - x * x)
        return mpmath.log(-mpmath.lambertw(-mpmath.exp(-1 - x * x)))


@cases_of("ds_dx")
def test_slope_is_the_formula(case):
    with mpmath.workdps(60):
        for x, got in zip(case.inputs["x"].tolist(), case.outputs["slope"].tolist(), strict=True):
            log_s = gaussians.log_s(mpf(x))
            want = -2 * x * mpmath.exp(log_s) / -mpmath.expm1(log_s) if x else -mpmath.sqrt(2)
            assert_close(got, [want], EPSILON)


@cases_of("gaussian_kl")
def test_kl_is_an_integral(case):
    """For moderate parameters, by quadrature of q log(q / p); for all by its closed form."""
    tried = 0
    inputs = (case.inputs["delta"], case.inputs["log_s"], case.outputs["kl"])
    for delta, log_s, kl in zip(*(a.ravel().tolist() for a in inputs), strict=True):
        with mpmath.workdps(400):
            closed = (mpf(delta) ** 2 + mpmath.expm1(mpf(log_s)) - mpf(log_s)) / 2
        assert kl == to_float(closed)
        if abs(delta) <= 5.0 and abs(log_s) <= 3.0 and tried < 6:
            sigma = math.exp(log_s / 2)

            def integrand(u, delta=delta, log_s=log_s, sigma=sigma):
                z = delta + sigma * u
                return mpmath.npdf(u) * ((z * z - u * u - log_s) / 2)

            want = mpmath.quad(integrand, [-12, -4, 0, 4, 12])
            assert abs(kl - want) <= 1e-12 * max(1.0, kl)
            tried += 1
    assert tried or case.id.endswith(("underflow", "wider-than-p", "tail"))


# --- posterior


@cases_of("mean_kl")
def test_blocks_spend_their_budget(case):
    budget = case.inputs["budget"].item()
    with mpmath.workdps(400):
        for block in rows_of(case.outputs["delta"], case.outputs["log_s"]):
            spent = mpmath.fsum(gaussians.kl(delta, log_s) for delta, log_s in block)
            assert abs(spent / budget - 1) < 1e-14


@cases_of("mean_kl")
def test_shares_are_the_softmax(case):
    budget = mpf(case.inputs["budget"].item())
    with mpmath.workdps(400):
        for phi, block in zip(
            case.inputs["phi"].tolist(),
            rows_of(case.outputs["delta"], case.outputs["log_s"]),
            strict=True,
        ):
            total = mpmath.fsum(mpmath.exp(mpf(p)) for p in phi)
            for p, (delta, log_s) in zip(phi, block, strict=True):
                share = mpmath.exp(mpf(p)) / total
                kl = gaussians.kl(delta, log_s)
                assert abs(kl - budget * share) <= 1e-14 * budget * share + mpf(10) ** -600


@cases_of("mean_kl_backward")
def test_gradients_are_the_derived_formulas(case):
    """Equations (18), (19), (21) and (22) in mpmath."""
    assert_derived(case)


def assert_derived(case):
    """Compare with the formulas in mpmath; nu is no part of them."""
    tau, phi, rho, eps, g = (case.inputs[n] for n in ("tau", "phi", "rho", "eps", "g"))
    budget = mpf(case.inputs["budget"].item())
    got = [case.outputs[n] for n in ("dtau", "dphi", "dlog_rho")]
    with mpmath.workdps(400):
        for n, block in enumerate(rows_of(tau, phi, rho, eps, g)):
            parts = [formulas(element, block, budget) for element in block]
            common = mpmath.fsum(half for _, half, _, _ in parts)
            assert_close(got[0][n], [p[0] for p in parts], EPSILON)
            assert_close(got[1][n], [half - share * common for _, half, share, _ in parts], EPSILON)
            assert_close(got[2][n], [p[3] for p in parts], EPSILON)


def formulas(element, block, budget):
    """dL/dtau, (r / 2) G, the share and dL/dlog rho of one weight."""
    tau, phi, rho, eps, g = element
    share = mpmath.exp(phi) / mpmath.fsum(mpmath.exp(other[1]) for other in block)
    r = mpmath.sqrt(2 * budget * share)
    t, h = mpmath.tanh(tau), mpmath.sech(tau)
    log_s = gaussians.log_s(r * h)
    root = mpmath.exp(log_s / 2)
    slope = r * h / -mpmath.expm1(log_s) if r * h else 1 / mpmath.sqrt(2)
    q = -eps * root * slope
    dtau = g * rho * (r * h**2 - q * r * h * t)
    return dtau, r / 2 * g * rho * (t + q * h), share, g * rho * (r * t + root * eps)


@cases_of("mean_kl_backward")
def test_gradients_by_phi_sum_to_zero(case):
    for row in case.outputs["dphi"]:
        assert abs(math.fsum(row)) <= 4 * EPSILON * np.max(np.abs(row), initial=0.0)


@cases_of("mean_var_backward")
def test_mean_var_gradients_are_the_derived_formulas(case):
    """Equation (23) in mpmath."""
    names = ("mu", "log_sigma", "rho", "eps", "g")
    blocks = rows_of(*(case.inputs[n] for n in names))
    with mpmath.workdps(60):
        for n, (beta, block) in enumerate(zip(case.inputs["beta"].tolist(), blocks, strict=True)):
            want = [[], [], []]
            for mu, log_sigma, rho, eps, g in block:
                delta, sigma = mu / rho, mpmath.exp(log_sigma)
                s = (sigma / rho) ** 2
                want[0].append(g + beta * delta / rho)
                want[1].append(g * sigma * eps + beta * (s - 1))
                want[2].append(beta * (1 - s - delta**2))
            for name, column in zip(("dmu", "dlog_sigma", "dlog_rho"), want, strict=True):
                assert_close(case.outputs[name][n], column, EPSILON)


@cases_of("mean_kl_forward_around")
def test_nu_is_added_to_the_sample(case):
    """Equations (4) to (8), with s(x) by Lambert's W."""
    names = ("tau", "phi", "nu", "rho", "eps")
    budget = mpf(case.inputs["budget"].item())
    with mpmath.workdps(60):
        for n, block in enumerate(rows_of(*(case.inputs[name] for name in names))):
            total = mpmath.fsum(mpmath.exp(phi) for _, phi, *_ in block)
            for got, (tau, phi, nu, rho, eps) in zip(case.outputs["w"][n], block, strict=True):
                r = mpmath.sqrt(2 * budget * mpmath.exp(phi) / total)
                s = -mpmath.lambertw(-mpmath.exp(-1 - (r * mpmath.sech(tau)) ** 2)).real
                want = nu + rho * (r * mpmath.tanh(tau) + mpmath.sqrt(s) * eps)
                assert abs(got - want) <= EPSILON * (abs(nu) + abs(want))


@cases_of("mean_kl_backward_around")
def test_nu_moves_no_gradient_of_mean_kl(case):
    """Equations (18), (19), (21) and (22), in which there is no nu."""
    assert_derived(case)


@cases_of("mean_var_backward_around")
def test_mean_var_gradients_count_the_mean_from_nu(case):
    """Equation (23), whose delta is (mu - nu) / rho."""
    mu, log_sigma, nu, rho, beta, eps, g = values(case.inputs, *case.inputs)
    delta, sigma, b = (mu - nu) / rho, np.exp(log_sigma), beta[:, None]
    s = (sigma / rho) ** 2
    want = g + b * delta / rho, g * sigma * eps + b * (s - 1), b * (1 - s - delta**2)
    for name, array in zip(("dmu", "dlog_sigma", "dlog_rho"), want, strict=True):
        scale = np.abs(array).max()
        np.testing.assert_allclose(case.outputs[name], array, rtol=1e-13, atol=1e-13 * scale)


@cases_of("expand_hash_backward")
def test_hashing_backward_is_the_adjoint(case):
    g, places, signs, count = values(case.inputs, *case.inputs)
    matrix = np.zeros((len(g), count))
    matrix[np.arange(len(g)), places] = signs
    np.testing.assert_allclose(case.outputs["dvariables"], matrix.T @ g, rtol=1e-13, atol=1e-13)


@cases_of("expand_hash")
def test_hashing_is_a_matrix(case):
    variables, places, signs = values(case.inputs, *case.inputs)
    matrix = np.zeros((len(places), variables.size))
    matrix[np.arange(len(places)), places] = signs
    assert case.outputs["w"].tolist() == (matrix @ variables.ravel()).tolist()


# --- coding


def scipy_log_weights(z, delta, log_s):
    """log q / p by SciPy's densities, summed over the weights of a block."""
    q = scipy.stats.norm.logpdf(z, delta[:, None], np.exp(log_s / 2)[:, None])
    return (q - scipy.stats.norm.logpdf(z)).sum(axis=2)


@cases_of("log_weights")
def test_log_weights_are_ratios_of_densities(case):
    got = case.outputs["log_w"]
    want = scipy_log_weights(*values(case.inputs, "candidates", "delta", "log_s"))
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12 * np.abs(got).max(initial=1.0))
    if "differ" in case.id:
        assert np.ptp(got) > 1e4


@cases_of("select_indices")
def test_choices_by_scipy(case):
    assert case.gap >= selection.TOLERANCE
    seed, bits, blocks, delta, log_s = values(case.inputs, *case.inputs)
    got = choices_by_scipy(seed, bits, blocks.tolist(), delta, log_s)
    assert case.outputs["indices"].tolist() == got
    if "differ" in case.id:
        z = normals_by_scipy(seed, bits, delta.shape[1])
        assert np.ptp(scipy_log_weights(z, delta, log_s)) > 1e4


def normals_by_scipy(seed, bits, dimension):
    rows = oracles.many_rows(seed, spec_decoder.CODEBOOK, range(2**bits), dimension)
    return scipy.special.ndtri((rows + 0.5) / 2.0**32)


def choices_by_scipy(seed, bits, blocks, delta, log_s):
    """Gumbel-max; argmax takes the first of equals."""
    z = normals_by_scipy(seed, bits, delta.shape[1])
    words = oracles.many_rows(seed, selection.SELECTION, blocks, 2**bits)
    gumbel = scipy.stats.gumbel_r.ppf((words + 0.5) / 2.0**32)
    return (scipy_log_weights(z, delta, log_s) + gumbel).argmax(axis=1).tolist()


def test_close_choices_are_rejected():
    codebook = selection.Codebook(1, 13, 1)
    block = 368892  # its largest word stands twice
    assert codebook.choose(block, [0.0], [0.0], tie=True).index == 3339
    with pytest.raises(ValueError, match=r"leads by 0\.0 only"):
        codebook.choose(block, [0.0], [0.0])
    with pytest.raises(ValueError, match="not equal"):
        codebook.choose(block + 1, [0.0], [0.0], tie=True)


@cases_of("decode_blocks")
def test_decoded_blocks_are_one_product(case):
    seed, indices, dimension, rho = values(case.inputs, *case.inputs)
    rows = [selection.candidate(seed, k, dimension) for k in indices.tolist()]
    scales = rho.view(np.float16).astype(np.float32)
    assert oracles.same_bits(case.outputs["w"], scales * np.array(rows, dtype=np.float32))


# --- the other codes


@cases_of("ordered_indices")
def test_ordered_indices_by_scipy(case):
    """Where there are more candidates than 2^18: none of these is better."""
    assert case.gap >= arrivals.TOLERANCE
    seed, bits, blocks, delta, log_s = values(case.inputs, *case.inputs)
    shown = min(int(bits), 18)
    assert max(case.outputs["indices"]) < 2**shown
    remaining = 2**bits - np.arange(2**shown)
    got = least_by_scipy(seed, shown, blocks, delta, log_s, 2**bits / remaining)
    assert case.outputs["indices"].tolist() == got


@cases_of("poisson_indices")
def test_poisson_indices_by_scipy(case):
    """Among many candidates: the answer is there, and none of the first is better."""
    assert case.gap >= arrivals.TOLERANCE
    seed, blocks, delta, log_s = values(case.inputs, *case.inputs)
    bits = 12 if max(case.outputs["indices"]) < 4096 else 17
    assert max(case.outputs["indices"]) < 2**bits
    got = least_by_scipy(seed, bits, blocks, delta, log_s, 1.0)
    assert case.outputs["indices"].tolist() == got


def least_by_scipy(seed, bits, blocks, delta, log_s, weights):
    """argmin log T - log r among 2^bits candidates."""
    z = normals_by_scipy(seed, bits, delta.shape[1])
    words = oracles.many_rows(seed, selection.SELECTION, blocks, 2**bits)
    variates = scipy.stats.expon.isf((words + 0.5) / 2.0**32)
    scores = np.log(np.cumsum(variates * weights, axis=1)) - scipy_log_weights(z, delta, log_s)
    return scores.argmin(axis=1).tolist()


@cases_of("partition_messages")
def test_partition_messages_lie_where_the_target_is(case):
    """A decoded sample is in its bin, and about as likely as one of Q."""
    assert case.gap >= arrivals.TOLERANCE
    seed, bits, blocks, delta, log_s = values(case.inputs, *case.inputs)
    messages = case.outputs["messages"]
    sizes = partition.bits_of_places(bits, delta.shape[1])
    assert sum(sizes) == bits and max(sizes) - min(sizes) <= 1
    rows = np.array(
        [
            partition.candidate(seed, bits, b, m, delta.shape[1])
            for b, m in zip(blocks.tolist(), messages.tolist(), strict=True)
        ]
    )
    intervals = np.floor(scipy.stats.norm.cdf(rows) * 2.0 ** np.array(sizes)).astype(int)
    bins = [partition.bin_of_intervals(row, sizes) for row in intervals.tolist()]
    assert bins == (messages % 2**bits).tolist()
    assert np.all(messages >= 2**bits)
    squares = ((rows - delta) ** 2 / np.exp(log_s)).sum(axis=1)
    assert np.all(squares < scipy.stats.chi2.isf(1e-6, delta.shape[1]))


@cases_of("partition_rows")
def test_partition_rows_by_scipy(case):
    seed, bits, blocks, messages, dimension = values(case.inputs, *case.inputs)
    edges = np.arange(dimension + 1) * bits // dimension
    for block, message, row in zip(
        blocks.tolist(), messages.tolist(), case.outputs["rows"], strict=True
    ):
        n, j = divmod(message, 2**bits)
        text = f"{j:0{bits}b}"
        for d in range(dimension):
            word = oracles.philox((n, block, j, d // 4), (seed, partition.PARTITION))[d % 4]
            digit = int(text[edges[d] : edges[d + 1]] or "0", 2)
            size = 2.0 ** (edges[d + 1] - edges[d])
            want = scipy.special.ndtri((digit + (word + 0.5) / 2.0**32) / size)
            np.testing.assert_array_max_ulp(row[d], np.float32(want), 1)


@cases_of("variable_samples")
def test_variable_samples_by_scipy(case):
    code, seed, rows, messages = values(case.inputs, *case.inputs)
    name = {number: name for name, number in codes.NUMBERS.items()}[code]
    want = [
        scipy.special.ndtri(place_of_node(searches.TREES[name], seed, r, n))
        for r, n in zip(rows.tolist(), messages.tolist(), strict=True)
    ]
    np.testing.assert_array_max_ulp(case.outputs["samples"], np.array(want, np.float32), 1)


def place_of_node(tree, seed, row, number):
    """u of a node, by recursion from its parent's region."""

    def uniform(n):
        w = oracles.philox((n % 2**32, row, n >> 32, 0), (seed, 9))
        return ((w[0] << 20 | w[1] >> 12) + 0.5) / 2.0**52

    def region(n):
        if n == 1 or tree == "none":
            return 0.0, 1.0
        a, b = region(n // 2)
        c = place(n // 2, a, b) if tree == "sample" else 0.5 * (a + b)
        return (c, b) if n % 2 else (a, c)

    def place(n, a, b):
        return min(a + (b - a) * uniform(n), np.nextafter(1.0, 0.0))

    return place(number, *region(number))


@cases_of("variable_messages")
def test_variable_messages_lie_where_the_target_is(case):
    """Decoded samples are as likely as ones of Q; `dad-star` is not exact."""
    assert case.gap >= searches.TOLERANCE
    code, seed, rows, delta, log_s = values(case.inputs, *case.inputs)
    name = {number: name for name, number in codes.NUMBERS.items()}[code]
    u = [
        place_of_node(searches.TREES[name], seed, r, n)
        for r, n in zip(rows.tolist(), case.outputs["messages"].tolist(), strict=True)
    ]
    scores = np.abs(scipy.special.ndtri(u) - delta) / np.exp(log_s / 2)
    if name != "dad-star":
        assert np.all(scores < scipy.stats.norm.isf(1e-6 / 2))


@pytest.mark.parametrize(("delta", "log_s"), [(0.5, -2.0), (-0.75, 0.0)])
def test_masses_and_sigma_by_scipy(delta, log_s):
    """R_B(L) and sigma(h) by SciPy's quadrature of their definitions."""
    target, sigma = Target(delta, log_s), math.exp(log_s / 2)

    def excess(z, level):
        p = scipy.stats.norm.pdf(z)
        return max(scipy.stats.norm.pdf(z, delta, sigma) - level * p, 0.0)

    def remaining(level, low, high):
        with mpmath.workdps(30):
            ends = [float(x) for x in target.level_set(mpf(level))]
        low, high = max(low, ends[0]), min(high, ends[1])
        return scipy.integrate.quad(excess, low, high, args=(level,))[0] if low < high else 0.0

    with mpmath.workdps(codes.DIGITS):
        for level, a, b in [(0.0, 0.0, 1.0), (0.5, 0.0, 1.0), (1.25, 0.25, 0.75), (0.25, 0.5, 1.0)]:
            low, high = scipy.special.ndtri([a, b])
            want = remaining(level, max(low, -9.0), min(high, 9.0))
            assert abs(float(target.remaining(mpf(level), a, b)) - want) < 1e-9
        want = scipy.integrate.quad(
            lambda x: 1.0 / remaining(x, -9.0, 9.0), 0.0, 1.0, epsrel=1e-6, limit=10
        )[0]
        assert abs(float(target.sigma(mpf(1))) - want) < 1e-5 * want


# --- files


@cases_of("encode_model")
def test_encoded_models(case):
    assert case.gap >= selection.TOLERANCE
    file = spec_decoder.parse(case.outputs["data"].tobytes())
    for name in ("grouping", "signs", "block_size", "seed"):
        assert case.inputs[name] == getattr(file, name)
    assert case.inputs["factors"].tolist() == file.factors
    assert tuple(case.inputs["rho"].view(np.float16)) == file.rho
    seed, bits, delta, log_s = values(case.inputs, "seed", "bits", "delta", "log_s")
    assert file.indices == choices_by_scipy(seed, bits, range(len(delta)), delta, log_s)


def test_decoded_weights_follow_from_the_layout():
    """A weight of a decoded file is sign, scale and normal at the place that the layout gives."""
    layouts = {
        c.id.rpartition("/")[2]: c for c in load_file(GOLDEN / "bits/block_layout.json").cases
    }
    case = layouts["factors-do-not-divide-along-inputs"]
    block_size, seed, factors, grouping, signs, weights = values(case.inputs, *case.inputs)
    fields = containers.Fields(
        grouping, signs, block_size, seed, tuple(factors.tolist()), 12, containers.EDGES
    )
    decoded = spec_decoder.decode(containers.assemble(fields))
    flat = [x for tensor in decoded.values() for x in tensor]
    starts = np.cumsum((0, *containers.COUNTS))
    for weight, place, sign in zip(
        weights.tolist(),
        *(case.outputs[n].tolist() for n in ("places", "weight_signs")),
        strict=True,
    ):
        block, position = divmod(place, block_size)
        row = selection.candidate(seed, fields.indices[block], block_size)
        pattern = containers.EDGES[np.searchsorted(starts, weight, "right") - 1]
        scale = np.uint16(pattern).view(np.float16).astype(np.float32)
        assert flat[weight] == sign * float(scale * np.float32(row[position]))


# --- the tools


@pytest.mark.slow
@pytest.mark.parametrize("part", ["bits", "numerics", "posterior", "coding", "files"])
def test_the_tools_write_the_same_bytes_again(part, tmp_path):
    importlib.import_module(f"golden.{part}").write(tmp_path)
    if part == "bits":
        edges_of_files.write(tmp_path)
        writers.write_files(tmp_path)
    if part == "files":
        updates.write(tmp_path)
    if part == "posterior":
        around.write(tmp_path)
    if part == "coding":
        writers.write_choices(tmp_path)
    written = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    kept = sorted(
        p.relative_to(GOLDEN)
        for p in (GOLDEN / part).rglob("*")
        if p.is_file() and p.stem not in codes.OPERATIONS
    )
    assert written == kept
    for path in written:
        assert (tmp_path / path).read_bytes() == (GOLDEN / path).read_bytes(), path


@pytest.mark.slow
def test_the_tools_write_the_codes_again(tmp_path):
    """All files but the longest, and of that a case of each code."""
    with mpmath.workdps(codes.DIGITS):
        codes.write_ordered(tmp_path)
        codes.write_poisson(tmp_path)
        codes.write_partitions(tmp_path)
        codes.write_partition_rows(tmp_path)
        codes.write_samples(tmp_path)
    written = sorted(tmp_path.rglob("*.json"))
    assert {path.stem for path in written} == set(codes.OPERATIONS) - {"variable_messages"}
    for path in written:
        kept = GOLDEN / path.relative_to(tmp_path)
        assert path.read_bytes() == kept.read_bytes(), path


@pytest.mark.parametrize("code", codes.NUMBERS)
def test_the_tools_choose_the_same_nodes_again(code):
    (case,) = (
        c
        for c in load_file(GOLDEN / "coding" / "variable_messages.json").cases
        if c.id.endswith(f"/{code}-equal-targets")
    )
    _, seed, rows, delta, log_s = values(case.inputs, *case.inputs)
    with mpmath.workdps(codes.DIGITS):
        got = [
            searches.choose(code, seed, *t)[0]
            for t in zip(rows.tolist(), delta.tolist(), log_s.tolist(), strict=True)
        ]
    assert case.outputs["messages"].tolist() == got


def test_a_module_of_later_cases_is_named_or_refused(tmp_path, monkeypatch):
    """One that nobody imports would be left out of the files in silence."""
    assert make_golden.modules_of(("numerics",)) == make_golden.LATER
    assert make_golden.modules_of(("files", "layers"))[len(make_golden.LATER) :]
    monkeypatch.setattr(make_golden, "FOLDER", tmp_path)
    (tmp_path / "toy.py").write_text('x = 1\n\n\n@later("log_s")\n', encoding="utf-8")
    with pytest.raises(SystemExit, match=r"toy\.py: name it in LATER"):
        make_golden.modules_of(("numerics",))
