"""The public door to the relative entropy codes: every kind of array, every code, one line each."""

from __future__ import annotations

import math

import numpy as np
import pytest

import refmiracle
from refmiracle import codes
from refmiracle.codes.table import CODES

MEAN = np.array([[0.5, -0.3, 0.1], [0.0, 0.9, -0.7]])
SIGMA = np.array([[0.3, 0.9, 1.0], [0.5, 0.25, 0.8]])


def test_names_are_all_codes():
    assert codes.names() == tuple(CODES)
    assert [codes.describe(name).number for name in codes.names()] == list(range(13))


@pytest.mark.parametrize("code", codes.names())
def test_every_code_goes_there_and_back(code):
    """A pair is the Gaussian of its numbers; the sample is decoded from the message alone."""
    message = codes.encode((MEAN, SIGMA), (0.0, 1.0), 5, code, engine="numpy")
    want = codes.encode(
        codes.Gaussian(MEAN, SIGMA),
        codes.Gaussian(np.zeros((2, 3)), np.ones((2, 3))),
        5,
        code,
        engine="numpy",
    )
    assert np.array_equal(message.integers, want.integers)
    sample = codes.decode(message, (0.0, 1.0), 5, engine="numpy")
    assert sample.shape == (2, 3)
    assert np.all(np.abs(sample) < 6.0)
    assert np.array_equal(sample, codes.decode(message, (0.0, 1.0), 5, engine="numpy"))


@pytest.mark.parametrize("code", [name for name in codes.names() if name != "dad-star"])
def test_each_sample_stands_where_its_target_does(code):
    """Of narrow targets far from each other only their own samples are near."""
    mean = np.array([[1.5, -1.5, 0.0], [-1.5, 0.0, 1.5]])
    more = {"oversampling": 4} if code in ("mrc", "orc") else {}
    message = codes.encode((mean, 0.2), (0.0, 1.0), 5, code, engine="numpy", **more)
    sample = codes.decode(message, (0.0, 1.0), 5, engine="numpy")
    assert np.all(np.abs(sample - mean) < 0.75)


def kinds(array):
    """The same numbers as people have them."""
    wide = np.zeros((4, 6), array.dtype)
    wide[::2, ::2] = array
    return (
        array.tolist(),
        array.astype(np.float32),
        np.asfortranarray(array),
        wide[::2, ::2],
        array.astype(">f8"),
        array[::-1][::-1],
    )


def test_every_kind_of_array():
    mean, sigma = np.round(MEAN * 8) / 8, np.round(SIGMA * 8) / 8  # float32 holds them
    want = codes.encode((mean, sigma), (0, 1), 1, "pfr", engine="numpy").integers
    for m, s in zip(kinds(mean), kinds(sigma), strict=True):
        for target in ((m, s), [m, s], codes.Gaussian(m, s)):
            message = codes.encode(target, ([0.0], [1.0]), 1, "pfr", engine="numpy")
            assert np.array_equal(message.integers, want)
            sample = codes.decode(message, [[0, 0, 0], [1, 1, 1]], 1, engine="numpy")
            given = codes.Gaussian(np.zeros((2, 3)), np.ones((2, 3)))
            assert np.array_equal(sample, codes.decode(message, given, 1, engine="numpy"))


def test_what_mean_kl_makes():
    q = refmiracle.mean_kl(np.zeros((4, 5)), bits=2.0, rho=0.1, nu=3.0)
    p = codes.Gaussian(np.float32(3.0), np.float32(0.1))
    message = codes.encode(q, p, seed=2, code="mrc", bits=10, engine="numpy")
    sample = codes.decode(message, p, seed=2, engine="numpy")
    assert message.integers.shape == (4, 1)
    assert message.bits(10.0).tolist() == [10.0] * 4
    assert np.all(np.abs(sample - 3.0) < 0.1 * 3)
    assert np.mean(np.abs(sample - 3.0)) < 0.05  # Q is a tenth as wide as P: 2 bits, no mean


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: codes.describe("zip"), "code 'zip' is unknown; expected one of mrc, orc"),
        (lambda: codes.encode((0.0, 1.0), (0.0, 1.0), 0), "targets of 0 axes"),
        (lambda: codes.encode("q", (0.0, 1.0), 0), "the target is a str; expected"),
        (lambda: codes.encode((["a"], [1.0]), (0.0, 1.0), 0), "the target's mean of <U1"),
        (lambda: codes.encode(([1j], [1.0]), (0.0, 1.0), 0), "the target's mean of complex128"),
        (lambda: codes.encode(([0.0], [1.0]), (0.0, None), 0), "distribution's sigma of object"),
        (lambda: codes.encode(([0.0], [2.0]), (0.0, 1.0), 0), "expected at most 0"),
        (lambda: codes.encode(([0.0], [0.0]), (0.0, 1.0), 0), "deviation is not positive"),
        (lambda: codes.encode(([0.0, 1.0], [1.0]), ([0.0] * 3, 1.0), 0), "do not go together"),
        (
            lambda: codes.encode(([0.0], [1.0]), (0.0, 1.0), 0.5),
            "the seed is 0.5; expected a whole",
        ),
        (lambda: codes.encode(([0.0], [1.0]), (0.0, 1.0), 0, engine="gpu"), "gpu"),
        (lambda: codes.decode([1, 2], (0.0, 1.0), 0), "a list is no message; expected"),
        (
            lambda: codes.encode((np.ma.masked_array([0.0], [True]), [1.0]), (0.0, 1.0), 0),
            "the target's mean has a mask",
        ),
    ],
)
def test_refused_in_one_line(call, said):
    with pytest.raises(refmiracle.InputError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)


GIANT = 2**31  # dimensions that nobody has the memory for


@pytest.mark.parametrize("code", ["mrc", "orc", "pfr", "sp-pfr"])
def test_a_giant_sample_is_refused_before_memory_is_taken(code):
    bits = 0 if code == "pfr" else 4
    least = max(1, CODES[code].message_range(bits)[0])
    message = codes.Message(code, np.full((2, 1), least), bits, 0, (2, GIANT))
    with pytest.raises(refmiracle.InputError, match="are 4294967296 numbers; at most 268435456"):
        codes.decode(message, (0.0, 1.0), 1, engine="numpy")


def test_giant_targets_are_refused_before_memory_is_taken():
    """Of arrays that hold little themselves."""
    for target, coding in (
        ((np.broadcast_to(0.5, GIANT), 0.5), (0.0, 1.0)),
        ((np.zeros((1, 2**20)), 0.5), (np.zeros((2**20, 1)), 1.0)),
    ):
        with pytest.raises(refmiracle.InputError, match="numbers; at most 268435456"):
            codes.encode(target, coding, 1, engine="numpy")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("code", codes.names())
@pytest.mark.parametrize(
    ("target", "coding"),
    [
        ((1e308, 1.0), (-1e308, 1.0)),
        ((1e308, 1e308), (-1e308, 1e308)),
        ((1e300, 1.0), (0.0, 1e-10)),
        ((0.0, 1e-320), (0.0, 1e308)),
        ((0.0, 1e308), (0.0, 1e-308)),
        ((1e308, 1.0), (0.0, 1.0)),
    ],
)
def test_numbers_at_the_end_of_float64(code, target, coding):
    mean, sigma = ([x] for x in target)
    with pytest.raises(refmiracle.InputError):
        codes.encode((mean, sigma), coding, 1, code, engine="numpy")


@pytest.mark.filterwarnings("error")
def test_a_sample_beyond_float64_is_refused():
    message = codes.encode(([0.9], [0.5]), (0.0, 1.0), 3, "mrc", bits=4, engine="numpy")
    z = codes.decode(message, (0.0, 1.0), 3, engine="numpy")
    sign = float(np.sign(z[0]))
    with pytest.raises(
        refmiracle.InputError, match=r"the sample: a number would be beyond 1\.798e"
    ):
        codes.decode(message, (sign * 1.7e308, 1e308), 3, engine="numpy")
    tiny = codes.decode(message, (0.0, 1e-320), 3, engine="numpy")
    assert tiny.tolist() == (1e-320 * z).tolist()


@pytest.mark.parametrize("kl", ["1", -5.0, math.inf, math.nan])
def test_a_bound_of_no_divergence(kl):
    with pytest.raises(refmiracle.InputError, match="kl_bits"):
        codes.describe("pfr").mean_bits_bound(kl)


def test_a_message_for_another_shape_is_refused():
    message = codes.encode(([0.5], [0.5]), (0.0, 1.0), 0, engine="numpy")
    with pytest.raises(refmiracle.InputError, match=r"the coding distribution is not one of shape"):
        codes.decode(message, (np.zeros(3), 1.0), 0, engine="numpy")
    assert math.isfinite(message.bits(1.0)[0])


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int32, np.uint64])
@pytest.mark.parametrize("code", [name for name in CODES if CODES[name].largest_bits is not None])
def test_bits_are_a_number_of_any_width(code, kind):
    asked = (MEAN[0], SIGMA[0]), (0.0, 1.0), 3, code
    message, want = (codes.encode(*asked, bits=b, engine="numpy") for b in (kind(8), 8))
    assert np.array_equal(message.integers, want.integers)
    assert np.array_equal(message.bits(4.0), want.bits(4.0))
    own = codes.Message(code, want.integers, kind(8), 0, want.shape)
    found = [codes.decode(m, (0.0, 1.0), 3, engine="numpy") for m in (message, own, want)]
    assert np.array_equal(found[0], found[2])
    assert np.array_equal(found[1], found[2])
