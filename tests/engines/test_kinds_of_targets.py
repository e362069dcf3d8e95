"""All codes on all kinds of targets: both engines send the same, or refuse in the same words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refmiracle.codes.table import CODES
from refmiracle.engines import get_engine
from refmiracle.engines.numba_engine import gprs, grc
from refmiracle.engines.numpy_engine import variables
from refmiracle.engines.numpy_engine.orc_pfr import log_suprema
from refmiracle.engines.numpy_engine.sigma import tabulate_sigma
from refmiracle.engines.numpy_engine.unimodal import gaussian_target
from refmiracle.errors import InputError
from refmiracle.numerics.limits import CODEBOOK_REACH, LARGEST_GLOBAL_BITS, VARIABLE_REACH

NUMPY, NUMBA = get_engine("numpy"), get_engine("numba")
BITS = 6
# Where plain NumPy takes seconds: log2 of the candidates that a target is to need at most here.
QUICK = 13.0
SPREAD = np.linspace(0.0, 1.0, 120).reshape(30, 4)

# Means and standard deviations of Q in those of P, blocks by places.
TARGETS = {
    "usual": ([[0.7, -0.2]], [[0.4, 0.9]]),
    "one variable": ([[0.7]], [[0.4]]),
    "many": (2.0 * SPREAD - 1.0, 0.3 + 0.6 * SPREAD),
    "none": (np.zeros((0, 2)), np.zeros((0, 2))),
    "P itself": ([[0.0, 0.0]], [[1.0, 1.0]]),
    "next to P": ([[0.0, 1e-300]], [[1.0 - 1e-12, 1.0 - 1e-16]]),
    "-0": ([[-0.0, 0.0]], [[0.5, 0.5]]),
    "moved": ([[1.0, -0.5]], [[1.0, 1.0]]),
    "wider": ([[0.0, 0.1]], [[1.5, 0.5]]),
    "hardly wider": ([[0.0, 0.1]], [[1.0 + 1e-12, 0.5]]),
    "sigma 1e-2": ([[0.3, 0.1]], [[1e-2, 0.8]]),
    "sigma 1e-4": ([[0.0, 0.1]], [[1e-4, 0.8]]),
    "sigma 1e-4, off": ([[3.0, 0.1]], [[1e-5, 0.8]]),
    "sigma 1e-6": ([[0.5, 0.1]], [[1e-6, 0.8]]),
    "sigma 1e-9": ([[0.2, 0.1]], [[1e-9, 0.8]]),
    "sigma 1e-12": ([[0.2, 0.1]], [[1e-12, 0.8]]),
    "sigma 1e-300": ([[0.2, 0.1]], [[1e-300, 0.8]]),
    "sigma denormal": ([[0.2, 0.1]], [[5e-324, 0.8]]),
    "far": ([[3.5, 0.1]], [[0.6, 0.8]]),
    "far and narrow": ([[6.9, 0.1]], [[0.1, 0.8]]),
    "too far": ([[9.0, 0.1]], [[0.1, 0.8]]),
    "endless": ([[1e300, 0.1]], [[0.5, 0.8]]),
    "infinite": ([[math.inf, 0.1]], [[0.5, 0.8]]),
    "not a number": ([[math.nan, 0.1]], [[0.5, 0.8]]),
    "mixed, the last one too narrow": ([[0.1, 0.2], [3.0, 0.5]], [[0.5, 1e-3], [1e-5, 0.9]]),
    "mixed": ([[0.1, -0.2], [-1.5, 0.0]], [[0.5, 1e-3], [0.3, 1.0]]),
}  # fmt: skip


def whitened(kind):
    delta, sigma = (np.array(a, dtype=np.float64) for a in TARGETS[kind])
    return delta, 2.0 * np.log(sigma)


def sent(engine, code, kind):
    delta, log_s = whitened(kind)
    try:
        return CODES[code].encode_blocks(engine, 5, BITS, np.arange(len(delta)) + 3, delta, log_s)
    except InputError as e:
        return str(e)


def takes_long(code, kind):
    """Whether a search goes through, and takes more than 2^QUICK candidates."""
    delta, log_s = whitened(kind)
    if not np.isfinite(delta).all() or not len(delta):
        return False
    with np.errstate(all="ignore"):
        of_blocks = CODES[code].of == "block"
        reach = CODEBOOK_REACH if of_blocks else VARIABLE_REACH
        bits = log_suprema(delta, log_s, -reach, reach) / math.log(2.0)
    if math.isfinite(CODES[code].largest_kl_bits):
        return QUICK < bits.sum(axis=1).max() < 40.0 and np.all(log_s <= 0.0)
    return CODES[code].tree == "none" and QUICK < bits.max() <= LARGEST_GLOBAL_BITS


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("code", CODES)
def test_both_engines_send_the_same_or_refuse_in_the_same_words(code, kind):
    got = sent(NUMBA, code, kind)
    if isinstance(got, str):
        assert "\n" not in got
        assert got == sent(NUMPY, code, kind)
        return
    assert len(got) == len(TARGETS[kind][0])
    if not takes_long(code, kind):
        assert np.array_equal(got, sent(NUMPY, code, kind))


def nothing_is_searched(*_):
    raise AssertionError("a search has begun")


@pytest.mark.parametrize("code", ["grc", "gprs"])
def test_what_is_too_narrow_is_refused_before_any_search(engine, code, monkeypatch):
    """However many come first that could be sent, and would take a while."""
    monkeypatch.setattr(variables, "encode_unimodal", nothing_is_searched)
    for module in (grc, gprs):
        monkeypatch.setattr(module, "encode", nothing_is_searched)
    delta, log_s = np.full(2000, 3.0), np.full(2000, 2.0 * math.log(1e-3))
    log_s[-1] = 2.0 * math.log(1e-5)
    said = rf"{code} needs more than 2\^22 candidates for the target of variable 2006"
    with pytest.raises(InputError, match=said):
        engine.variable_messages(code, 1, np.arange(2000) + 7, delta, log_s)


@pytest.mark.parametrize("code", ["grc", "gprs"])
def test_the_limit_is_the_same_on_both_sides_of_it(code, monkeypatch):
    """The supremum of r is what decides, whatever each engine reckons for itself."""
    monkeypatch.setattr(variables, "encode_unimodal", lambda *_: 1)
    monkeypatch.setattr(grc, "encode", lambda *a: a[-2].fill(1))
    monkeypatch.setattr(gprs, "encode", lambda *a: a[-2].fill(1))
    edge = -2.0 * LARGEST_GLOBAL_BITS * math.log(2.0)
    for by, goes in ((1e-9, True), (-1e-9, False)):
        for engine in (NUMPY, NUMBA):
            if goes:
                assert engine.variable_messages(code, 1, [0], [0.0], [edge + by]) == [1]
            else:
                with pytest.raises(InputError, match="candidates"):
                    engine.variable_messages(code, 1, [0], [0.0], [edge + by])


def test_messages_do_not_depend_on_the_sign_of_zero_or_on_what_came_before(engine):
    """The reference keeps what it has found of a target, and 0.0 == -0.0."""
    rows, log_s = np.arange(40), np.full(40, -3.0)
    for code in (c for c in CODES if CODES[c].of == "variable"):
        found = []
        for zero in (0.0, -0.0):
            gaussian_target.cache_clear()
            tabulate_sigma.cache_clear()
            found.append(engine.variable_messages(code, 1, rows, np.full(40, zero), log_s))
        assert np.array_equal(*found)
        again = engine.variable_messages(code, 1, rows, np.zeros(40), log_s)
        assert np.array_equal(again, found[0])


def test_the_reference_looks_for_a_target_without_a_sign_of_zero(monkeypatch):
    seen = []

    def look(delta, log_s):
        seen.append(math.copysign(1.0, delta))
        return gaussian_target(delta, log_s)

    monkeypatch.setattr(variables, "gaussian_target", look)
    NUMPY.variable_messages("as-star", 1, [0], [-0.0], [-3.0])
    assert seen == [1.0]


def test_blocks_and_targets_that_do_not_go_together_are_refused(engine):
    square = np.zeros((2, 3))
    wrong = [([1], square, square), ([1, 2], square, square.T), ([1, 2], square[0], square[0])]
    for code in CODES:
        for blocks, delta, log_s in wrong:
            with pytest.raises(InputError, match="do not go together"):
                CODES[code].encode_blocks(engine, 1, BITS, blocks, delta, log_s)
