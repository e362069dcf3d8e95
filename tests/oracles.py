"""Independent oracles and measures of error for the tests.

Nothing here takes a value from refmiracle: Philox is plain Python integers, s(x) is mpmath.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import mpmath
import numpy as np
from mpmath import mpf


def by_engine(engine, double, single):
    """The tolerance for an engine that works in float64, or in float32."""
    return double if engine.dtype == np.float64 else single


def as_stored(engine, *arrays):
    """The values that an engine sees of float64 arrays, as float64 again."""
    return tuple(np.asarray(a, dtype=engine.dtype).astype(np.float64) for a in arrays)


def relative_error(got, want):
    """Largest |got - want| / |want|; where want is 0, so must be got. NaN gives NaN: no pass."""
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    assert got.shape == want.shape
    error = np.abs(got - want)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.max(np.where(error == 0.0, 0.0, error / np.abs(want)), initial=0.0)


def scaled_error(got, want):
    """Largest |got - want| over the largest |want|: for sums, whose terms may cancel."""
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    assert got.shape == want.shape
    return np.max(np.abs(got - want), initial=0.0) / np.max(np.abs(want), initial=1e-300)


def mp_relative_error(got, want):
    """Largest |got - want| / |want| of floats against mpmath numbers, taken in mpmath."""
    pairs = zip(np.ravel(got).tolist(), want, strict=True)
    return np.max([float(abs(mpf(g) / w - 1) if w else abs(mpf(g))) for g, w in pairs])


def same_bits(a, b):
    """Whether two arrays hold the same bytes (so -0.0 is not 0.0, and NaN equals itself)."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def complex_gradient(f, x, step=1e-30):
    """The gradient of a scalar f(x) that takes complex numbers: f(x + i h v) / h, to all digits."""
    gradient = np.empty(x.shape)
    for i in np.ndindex(x.shape):
        z = x.astype(np.complex128)
        z[i] += 1j * step
        gradient[i] = f(z).imag / step
    return gradient


def philox(counter, key, rounds=10):
    """Philox4x32 of one counter in plain Python (Salmon et al. 2011, section 3)."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(rounds):
        high0, low0 = divmod(0xD2511F53 * c0, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c2, 2**32)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def row_words(seed, stream, row, count):
    """The first `count` words of a row of a stream, by the rule of the file format."""
    blocks = [philox((n, row, 0, 0), (seed, int(stream))) for n in range(-(-count // 4))]
    return [word for block in blocks for word in block][:count]


def many_rows(seed, stream, rows, count):
    """The same of many rows at once, by NumPy; shape (rows, count)."""
    rows = np.asarray(rows, np.uint64)[:, None]
    low = np.uint64(0xFFFFFFFF)
    zero = np.zeros((len(rows), -(-count // 4)), np.uint64)
    c0, c1, c2, c3 = zero + np.arange(zero.shape[1], dtype=np.uint64), zero + rows, zero, zero
    k0, k1 = seed, int(stream)
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1 = b >> np.uint64(32) ^ c1 ^ np.uint64(k0), b & low
        c2, c3 = a >> np.uint64(32) ^ c3 ^ np.uint64(k1), a & low
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack([c0, c1, c2, c3], axis=-1).reshape(len(rows), -1)[:, :count]


@functools.lru_cache(maxsize=2**12)
def mp_log_s(x, digits=50):
    """log s(x) to about `digits` digits: Newton's method on exp(-y) - 1 + y = x^2, y = -log s.

    For small x the left side is about y^2 / 2, a difference of numbers near 1: the working
    precision grows with -2 log10 x to keep its digits.  Each step doubles the digits, so the first
    ones are made with few.
    """
    x = mpf(x)
    if x == 0:
        return mpf(0)
    with mpmath.workdps(15):
        more = 10 + 2 * max(0, int(-mpmath.log10(x)) + 1)
    with mpmath.workdps(20 + more):
        y = mpmath.sqrt(2) * x + x * x
    levels = [digits]
    while levels[0] > 40:
        levels.insert(0, -(-levels[0] // 2))
    for level in levels:
        y = _newton(x, y, level, level + more)
    return -y


def _newton(x, y, digits, working):
    """Improve y of `mp_log_s` to so many digits."""
    with mpmath.workdps(working):
        while True:
            e = mpmath.exp(-y)
            step = (e - 1 + y - x * x) / (1 - e)
            y -= step
            if abs(step) < y * mpf(10) ** -(digits // 2 + 5):  # the next would be below 10^-digits
                return y


def run_python(code, **environment):
    """Standard output of a fresh interpreter, with some environment variables set."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_close(got, want, tolerance):
    """Arrays one by one, each relative to its largest value; None only where None is due."""
    for a, b in zip(got, want, strict=True):
        assert (a is None) == (b is None)
        if b is not None:
            assert scaled_error(a, b) <= tolerance
