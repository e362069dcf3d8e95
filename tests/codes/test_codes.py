"""The one interface to all codes: both engines, both directions, lengths and refusals.

Statistical tests use fixed seeds; each would fail by chance with probability below 1e-6.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from refmiracle import mean_kl
from refmiracle.codes import Gaussian, decode, encode
from refmiracle.codes.code import VARIABLE
from refmiracle.codes.lengths import POISSON_EXCESS, exponents, log_geometric_mean_bits
from refmiracle.codes.table import CODES, find_code
from refmiracle.conformance.vectors import default_golden, load_file
from refmiracle.engines import get_engine
from refmiracle.errors import InputError
from refmiracle.fileformat.container import parse_model
from refmiracle.fileformat.model import decode_model

DOCUMENT = (Path(__file__).parents[2] / "docs" / "CODES.md").read_text(encoding="utf-8")
# Mean and sigma of Q over P = N(0, 1), and its KL in bits: small, middle and large.
TARGETS = {0.09: (0.2, 0.8), 1.18: (1.0, 0.5), 6.14: (2.5, 0.2)}


def same_targets(mean, sigma, shape):
    target = Gaussian(np.full(shape, mean), np.full(shape, sigma))
    return target, Gaussian(np.zeros(shape), np.ones(shape))


def some_targets(rng, targets=5, dimensions=4):
    shape = targets, dimensions
    coding = Gaussian(rng.normal(size=shape), rng.uniform(0.5, 2.0, shape))
    mean = coding.mean + coding.sigma * rng.uniform(-1.0, 1.0, shape)
    return Gaussian(mean, coding.sigma * rng.uniform(0.4, 1.0, shape)), coding


def test_the_table_is_that_of_the_document():
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (\d+) \| (block|variable)s \| (yes|no) \| (\w*) ?\| .*?([\d.]+) \|$",
        DOCUMENT,
        re.M,
    )
    listed = [(n, int(k), e == "yes", of, tree or None) for n, k, of, e, tree, _ in rows]
    assert listed == [(c.name, c.number, c.exact, c.of, c.tree) for c in CODES.values()]
    assert all(row[-1] in code.source for row, code in zip(rows, CODES.values(), strict=True))


@pytest.mark.parametrize("code", CODES)
def test_round_trip_in_both_engines(rng, code):
    target, coding = some_targets(rng)
    message = encode(target, coding, 5, code, oversampling=2)
    assert message.integers.dtype == np.int64
    assert message.integers.shape == (5, 4 if CODES[code].of == VARIABLE else 1)
    samples = [decode(message, coding, 5, engine=name) for name in ("numpy", "numba")]
    assert np.array_equal(*samples)
    assert samples[0].shape == target.mean.shape
    # Within eight standard deviations of P, as every sample is.
    assert np.all(np.abs(samples[0] - coding.mean) < 8.3 * coding.sigma)
    other = encode(target, coding, 6, code, oversampling=2)
    assert not np.array_equal(decode(other, coding, 6), samples[0])


@pytest.mark.parametrize("code", CODES)
def test_one_dimension_may_be_flat(code):
    target, coding = same_targets(0.7, 0.5, (6,))
    flat = encode(target, coding, 1, code)
    deep = encode(*(Gaussian(g.mean[:, None], g.sigma[:, None]) for g in (target, coding)), 1, code)
    assert flat.integers.tolist() == deep.integers.tolist()
    assert decode(flat, coding, 1).shape == (6,)


@pytest.mark.parametrize("code", [c.name for c in CODES.values() if c.exact])
def test_samples_have_the_mean_and_the_variance_of_the_target(code):
    """In the target's own units; five standard errors, so 6e-7 by chance."""
    count, mean, sigma = 600, -3.0, 0.5
    target = Gaussian(np.full(count, mean), np.full(count, sigma))
    coding = Gaussian(np.full(count, -2.0), np.full(count, 1.5))
    one = Gaussian(target.mean[:1], target.sigma[:1]), Gaussian(coding.mean[:1], coding.sigma[:1])
    if CODES[code].shares_codebook:  # so each draws from a codebook of its own
        x = np.array([decode(encode(*one, s, code), one[1], s)[0] for s in range(count)])
    else:
        x = decode(encode(target, coding, 9, code), coding, 9)
    z = (x - mean) / sigma
    assert abs(z.mean()) < 5 / math.sqrt(count)
    assert abs((z**2).mean() - 1) < 5 * math.sqrt(2 / count)


@pytest.mark.parametrize("kl", TARGETS)
@pytest.mark.parametrize("code", [c for c in CODES if not CODES[c].shares_codebook])
def test_lengths_by_the_known_kl(code, kl):
    """The figure in the docstring of `theta_of_kl`; the mean of 1500 lengths."""
    target, coding = same_targets(*TARGETS[kl], (1500, 1))
    message = encode(target, coding, 3, code)
    kind = CODES[code]
    raw = kind.raw_bits(message.block_bits)
    mean = exponents(kind.to_positive(message.integers) >> raw).mean()
    known, best = message.bits(kl).mean(), raw + log_geometric_mean_bits(mean)
    assert best <= known <= best + (0.2 if code not in ("dad-star", "sp-pfr") else 0.35)
    if raw or code not in ("dad-star", "sp-pfr"):
        expected = kind.expected_bits(raw or kl, 1)
        assert expected == pytest.approx(best, abs=0.8)
    bound = kind.mean_bits_bound(kl)
    assert bound is None or known < bound


def test_lengths_of_blocks():
    """One target by 400 seeds; the bound is on the mean, and far above it."""
    target, coding = same_targets(1.0, 0.5, (1, 2))
    kl = 2 * 1.18
    for code in ("pfr", "mrc", "orc"):
        lengths = [encode(target, coding, s, code).bits(kl)[0] for s in range(400)]
        if code == "mrc":
            assert set(lengths) == {3.0}
        else:
            assert (
                kl - 1
                < np.mean(lengths)
                < log_geometric_mean_bits(kl + POISSON_EXCESS)
                < CODES["pfr"].mean_bits_bound(kl)
            )


def test_bits_that_are_chosen():
    target, coding = same_targets(2.5, 0.2, (4, 1))
    for code, bits in {"mrc": 7, "orc": 7, "sp-pfr": 6, "gprs": 0}.items():
        assert encode(target, coding, 0, code).block_bits == bits
    assert encode(target, coding, 0, "mrc", oversampling=3).block_bits == 10
    assert encode(target, coding, 0, "orc", bits=12).block_bits == 12
    assert encode(*same_targets(0.0, 1.0, (4, 1)), 0, "mrc").block_bits == 1


@pytest.mark.parametrize("kl_bits", [1.0, 3.0, 5.0, 8.0])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_target_of_whole_bits_has_these(rng, kl_bits, dtype):
    """By rounding its KL lies above as often as below, which is no bit more."""
    posterior = mean_kl(rng.normal(size=(200, 1)), bits=kl_bits)
    target = Gaussian(posterior.mu.astype(dtype), posterior.sigma.astype(dtype))
    coding = Gaussian(np.zeros(()), np.ones(()))
    for engine in ("numpy", "numba"):
        assert encode(target, coding, 0, "mrc", engine=engine).block_bits == kl_bits
    assert encode(target, coding, 0, "dad-star").integers.max() < 2**kl_bits


def test_a_ratio_that_no_float_holds_is_refused(engine):
    """Each place's is one, but not their sum: an argmax would name candidate 0."""
    log_s = np.full((1, 1000), -705.0)
    with pytest.raises(InputError, match="log q / p would not be"):
        engine.select_indices(1, 6, [0], np.zeros((1, 1000)), log_s)
    assert engine.select_indices(1, 6, [0], np.zeros((1, 1)), log_s[:, :1]).shape == (1,)


def test_oversampling_deepens_the_tree():
    target, coding = same_targets(2.5, 0.2, (300,))
    shallow, deep = (
        encode(target, coding, 0, "dad-star", oversampling=t).integers.max() for t in (0, 4)
    )
    assert shallow < 2**7 < deep < 2**11


def test_rows_of_variables_follow_their_places(engine):
    """Blocks 3 and 8 of four variables are rows 12 to 15 and 32 to 35."""
    delta = np.linspace(-1.0, 1.0, 8).reshape(2, 4)
    log_s = np.full((2, 4), -1.0)
    code = CODES["gprs-s"]
    sent = code.encode_blocks(engine, 7, 0, [3, 8], delta, log_s)
    rows = np.array([12, 13, 14, 15, 32, 33, 34, 35])
    own = engine.variable_messages("gprs-s", 7, rows, delta.ravel(), log_s.ravel())
    assert sent.tolist() == own.reshape(2, 4).tolist()
    z = code.decode_blocks(engine, 7, 0, [3, 8], sent, 4)
    assert z.dtype == np.float32
    assert np.array_equal(z.ravel(), engine.variable_samples("gprs-s", 7, rows, own))
    alone = code.encode_blocks(engine, 7, 0, [8], delta[1:], log_s[1:])
    assert alone.tolist() == sent[1:].tolist()


@pytest.mark.parametrize("code", ["mrc", "orc", "pfr", "sp-pfr"])
def test_blocks_are_coded_by_their_numbers(code):
    engine, kind = get_engine("numba"), CODES[code]
    delta, log_s = np.linspace(-1.0, 1.0, 8).reshape(2, 4), np.full((2, 4), -1.0)
    sent = kind.encode_blocks(engine, 7, 5, [3, 8], delta, log_s)
    assert sent.shape == (2, 1)
    assert kind.encode_blocks(engine, 7, 5, [8], delta[1:], log_s[1:])[0] == sent[1]
    kind.check_messages(5, sent)
    z = kind.decode_blocks(engine, 7, 5, [3, 8], sent, 4)
    assert np.array_equal(kind.decode_blocks(engine, 7, 5, [8], sent[1:], 4), z[1:])


@pytest.mark.parametrize("code", CODES)
def test_positive_integers(code):
    low, _ = CODES[code].message_range(5)
    kind, messages = CODES[code], np.array([low, low + 1, low + 7])
    assert np.all(kind.to_positive(messages) >> kind.raw_bits(5) >= 1)
    assert kind.from_positive(kind.to_positive(messages)).tolist() == messages.tolist()
    kind.check_messages(5, messages)
    with pytest.raises(InputError, match=f"{low - 1} is no message of the code {code}"):
        kind.check_messages(5, messages - 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"code": "huffman"}, "code 'huffman' is unknown; expected one of mrc, orc"),
        ({"code": "gprs", "sigma": 2.0}, "wider"),
        ({"code": "gprs", "mean": math.nan}, "not finite"),
        ({"code": "sp-pfr", "mean": math.nan}, "not finite"),
        ({"code": "gprs-s", "mean": 5.0, "sigma": 1.0}, "within 8"),
        ({"code": "gprs", "sigma": 0.0}, "standard deviation is not positive"),
        ({"code": "mrc", "bits": 27}, r"bits \(code mrc\) 27 is out of range; expected 0 to 26"),
        (
            {"code": "sp-pfr", "bits": 25},
            r"bits \(code sp-pfr\) 25 is out of range; expected 0 to 24",
        ),
        ({"code": "mrc", "mean": 7.0, "sigma": 0.001}, "the code mrc takes at most 26"),
        (
            {"code": "mrc", "mean": 60.0},
            "a target has a KL of .* bits; the code mrc takes at most 26",
        ),
        ({"code": "orc", "bits": 2.0}, "is 2.0, a float; expected a whole number from 0 to 26"),
        ({"code": "gprs", "bits": 2.0}, "bits is 2.0, a float; expected a whole number$"),
    ],
)
def test_what_is_refused(change, message):
    values = {"mean": 1.0, "sigma": 0.5, "code": "gprs", "bits": None, **change}
    target, coding = same_targets(values["mean"], values["sigma"], (2, 2))
    with pytest.raises(InputError, match=message) as caught:
        encode(target, coding, 0, values["code"], bits=values["bits"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"block_bits": -1},
        {"block_bits": 27},
        {"block_bits": "4"},
        {"block_bits": None},
        {"integers": np.array([[-1], [3]])},
        {"integers": np.array([[0.5], [1.0]])},
        {"integers": None},
        {"integers": np.array([1, 2])},
        {"integers": np.zeros((0, 1), np.int64)},
        {"code": "nope"},
        {"shape": (3,)},
        {"shape": (2, -1)},
        {"shape": (2, True)},
        {"shape": (2, 1.0)},
        {"shape": (2, 1, 1)},
        {"shape": ()},
        {"shape": (2, 2**31)},
    ],
)
def test_what_is_no_message_has_no_length(change):
    message = encode(Gaussian(np.zeros(2), np.ones(2)), Gaussian(0.0, 1.0), 1, "mrc", bits=4)
    assert message.bits(4.0).tolist() == [4.0, 4.0]
    with pytest.raises(InputError):
        replace(message, **change).bits(4.0)


def test_shapes_that_are_refused():
    with pytest.raises(InputError, match="3 axes"):
        encode(*same_targets(0.0, 1.0, (1, 1, 1)), 0)


def test_a_code_is_found_by_its_name():
    assert find_code("gprs-s") is CODES["gprs-s"]


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range_are_refused(seed):
    target, coding = same_targets(0.7, 0.5, (2,))
    with pytest.raises(InputError, match=f"the seed {seed} is out of range"):
        encode(target, coding, seed)
    with pytest.raises(InputError, match=f"the seed {seed} is out of range"):
        decode(encode(target, coding, 0), coding, seed)


def test_shapes_that_do_not_go_together_are_refused():
    target, coding = Gaussian(np.zeros(2), np.ones(2)), Gaussian(np.zeros(3), np.ones(3))
    with pytest.raises(InputError, match=r"shapes \(2,\), \(2,\), \(3,\), \(3,\) do not go"):
        encode(target, coding, 0)


@pytest.mark.parametrize("name", CODES)
def test_a_scale_that_is_one_rounding_off_moves_weights_by_that_and_no_more(name):
    """What a message names does not depend on the scale of P."""
    case = "default" if name == "mrc" else name
    cases = load_file(default_golden() / "files" / "decode_model.json").cases
    (data,) = (c.inputs["data"].tobytes() for c in cases if c.id == f"files/decode_model/{case}")
    model = parse_model(data)
    moved = replace(model, rho=np.nextafter(model.rho, np.float16(np.inf)))
    before, after = (decode_model(m, get_engine("numba")) for m in (model, moved))
    ratio = moved.rho.astype(np.float64) / model.rho.astype(np.float64)
    assert model.code == name
    for w, v, r in zip(before.values(), after.values(), ratio, strict=True):
        np.testing.assert_array_max_ulp(v, (w * r).astype(np.float32), 1)
