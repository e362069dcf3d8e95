"""Unbounded integers as bytes: the log-geometric law in integers, and a binary range coder.

An integer n >= 1 is sent as its decisions: e times "larger" and once "no larger", with
e = floor(log2 n) and P(larger) = theta, then the e bits of n below its leading one, at one half
each.  The coder is the carry-propagating one of LZMA with probabilities of 16 bits (Martin,
"Range encoding", 1979); it ends on the fewest bytes of which every continuation means the same,
so no code word begins with another, and each list of integers has exactly one.
docs/SPEC.md states it for every language.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.codes.lengths import LARGEST_EXPONENT, exponents, log_geometric_bits
from refmiracle.errors import InputError
from refmiracle.fileformat.bits import LARGEST_BITS, as_integers

ONE = 1 << 16  # probability 1
HALF = ONE >> 1
WHOLE = (1 << 32) - 1
LEAST = 1 << 24
# Behind the last decision the coder sends the fewest of these that still say where it stands.
LAST_BYTES = 2
# One byte can stand for a third of a million integers, so a list needs a limit of its own.
LARGEST_COUNT = 1 << 20


def best_theta16(values: ArrayLike, raw_bits: int = 0) -> int:
    """Return the theta, in units of 2^-16, under which integers are shortest by formula.

    Parameters
    ----------
    values : array_like of int, shape (count,)
        At least 2**raw_bits each.
    raw_bits : int
        Low bits of each that the law does not see.

    Returns
    -------
    int
        1 to 65535; of equals the lowest.
    """
    n = np.asarray(values, dtype=np.int64) >> raw_bits
    mean = float(exponents(n).mean()) if n.size else 0.0
    exact = ONE * mean / (1.0 + mean)  # the length is convex in theta, with its minimum here
    around = (min(max(int(exact) + i, 1), ONE - 1) for i in (0, 1))
    return min(around, key=lambda t: float(log_geometric_bits(n, t / ONE).sum()))


def coded_bits(values: ArrayLike, raw_bits: int = 0) -> float:
    """Return the length of integers under their best theta by formula, in bits, without theta."""
    values = np.asarray(values, dtype=np.int64)
    theta = best_theta16(values, raw_bits) / ONE
    return float(log_geometric_bits(values >> raw_bits, theta).sum()) + raw_bits * values.size


def write_integers(values: ArrayLike, theta16: int, raw_bits: int = 0) -> bytes:
    """Return integers as a code word of the range coder.

    Parameters
    ----------
    values : array_like of int, shape (count,)
        2**raw_bits <= value < 2**62.
    theta16 : int
        theta in units of 2**-16, 1 to 65535.
    raw_bits : int
        Low bits of each value that are sent plainly, before the rest of it.

    Raises
    ------
    InputError
        If a value, theta or the number of raw bits is out of range, or there are more than 2^20
        values.
    """
    values = as_integers(values)
    check_count(values.size)
    _check_law(theta16, raw_bits)
    if np.any(values >> raw_bits < 1) or np.any(values >> LARGEST_EXPONENT + 1):
        raise InputError(
            f"an integer is out of range; expected {2**raw_bits} to 2^{LARGEST_EXPONENT + 1} - 1"
        )
    return _encode(_decisions(values.tolist(), theta16, raw_bits))


def read_integers(data: bytes, count: int, theta16: int, raw_bits: int = 0) -> NDArray[np.int64]:
    """Return the `count` integers that `write_integers` wrote.

    The time that it takes grows with `count` and `data`, not with what the data claim.

    Raises
    ------
    InputError
        If more than 2^20 integers are wanted, or the data are anything but the one code word of
        these integers: cut off, with bytes behind their end, or written by another coder.
    """
    _check_law(theta16, raw_bits)
    check_count(count)
    decoder = _Decoder(data)
    values = np.empty(count, dtype=np.int64)
    i = 0
    while i < count:
        raw = decoder.bits(raw_bits)
        # Integers of exponent 0 without raw bits are all alike: a run of them at a time.
        run = decoder.zeros(theta16, 1 if raw_bits else count - i)
        if not run:
            n, run = decoder.integer(theta16, LARGEST_EXPONENT - raw_bits), 1
            values[i] = n << raw_bits | raw
        else:
            values[i : i + run] = 1 << raw_bits | raw
        i += run
    decoder.finish()
    return values


def check_count(count: int) -> None:
    """Refuse more integers than a file may hold.

    Raises
    ------
    InputError
        If there are more than 2^20.
    """
    if not 0 <= count <= LARGEST_COUNT:
        raise InputError(f"{count} integers; expected 0 to {LARGEST_COUNT}")


def _check_law(theta16: int, raw_bits: int) -> None:
    if not 1 <= theta16 < ONE:
        raise InputError(f"theta {theta16} is out of range; expected 1 to {ONE - 1}")
    if not 0 <= raw_bits <= LARGEST_BITS:
        raise InputError(f"{raw_bits} raw bits are out of range; expected 0 to {LARGEST_BITS}")


def _decisions(values: list[int], theta16: int, raw_bits: int) -> Iterator[tuple[int, int]]:
    """Yield the probability of a one, in units of 2^-16, and the bit, of each decision."""
    for value in values:
        for place in range(raw_bits - 1, -1, -1):
            yield HALF, value >> place & 1
        n = value >> raw_bits
        e = n.bit_length() - 1
        for _ in range(e):
            yield theta16, 1
        yield theta16, 0
        for place in range(e - 1, -1, -1):
            yield HALF, n >> place & 1


def _encode(decisions: Iterable[tuple[int, int]]) -> bytes:
    """Narrow [low, low + width) to the part of each decision; return bytes that lie in it."""
    out = bytearray()
    low, width = 0, WHOLE
    for probability, bit in decisions:
        bound = (width >> 16) * probability
        if bit:
            width = bound
        else:
            low += bound
            width -= bound
        while width < LEAST:
            if low > WHOLE:
                _carry(out)
            out.append(low >> 24 & 0xFF)
            low = low << 8 & WHOLE
            width <<= 8
    # The fewest bytes of which all continuations lie in the interval.
    for last in range(1, LAST_BYTES + 1):
        unit = 1 << 8 * (4 - last)
        value = -(-low // unit)
        if (value + 1) * unit <= low + width:
            break
    if value >> 8 * last:
        _carry(out)
    return bytes(out) + (value & (1 << 8 * last) - 1).to_bytes(last, "big")


def _carry(out: bytearray) -> None:
    """Add one to the last place of what is written; it never overflows."""
    place = len(out) - 1
    while out[place] == 0xFF:
        out[place] = 0
        place -= 1
    out[place] += 1


class _Decoder:
    """Follow the encoder's interval [L, L + R) by C - L and R (docs/SPEC.md, section 2.7)."""

    def __init__(self, data: bytes) -> None:
        self._size = len(data)
        # Zeros follow the data; a code word is longer than what was shifted out.
        self._padded = data + bytes(LAST_BYTES + 1)
        self._at = 4
        self._ahead = int.from_bytes(self._padded[: self._at], "big")  # C - L
        self._width = WHOLE
        if self._ahead >= self._width:
            raise self._other()

    def _shift(self) -> None:
        while self._width < LEAST:
            if self._at >= len(self._padded):
                raise InputError(f"{self._size} bytes end within the integers")
            self._ahead = self._ahead << 8 | self._padded[self._at]
            self._width <<= 8
            self._at += 1

    def _decide(self, probability: int) -> bool:
        bound = (self._width >> 16) * probability
        one = self._ahead < bound
        if one:
            self._width = bound
        else:
            self._ahead -= bound
            self._width -= bound
        if self._width < LEAST:
            self._shift()
        return one

    def bits(self, count: int) -> int:
        """Return `count` decisions of one half as a number, highest bit first."""
        value = 0
        for _ in range(count):
            value = value << 1 | self._decide(HALF)
        return value

    def integer(self, theta16: int, largest: int) -> int:
        """Return an integer n >= 1, whose exponent is at most `largest`."""
        e = 0
        while self._decide(theta16):
            e += 1
            if e > largest:
                raise InputError(f"an integer is 2^{LARGEST_EXPONENT + 1} or more")
        return 1 << e | self.bits(e)

    def zeros(self, probability: int, most: int) -> int:
        """Pass over decisions that are 0, at most so many; return how many there were.

        A 0 takes as much from R as from C - L.  Their difference stays until a byte is shifted
        in, and a decision is 1 once R would fall below it.
        """
        passed = 0
        while passed < most:
            gap, width = self._width - self._ahead, self._width
            least = max(gap, LEAST)
            while passed < most:
                left = width - (width >> 16) * probability
                if left < least:
                    break
                width = left
                passed += 1
            self._width, self._ahead = width, width - gap
            if passed == most or left < gap:
                break
            self._decide(probability)  # a 0 that shifts a byte in
            passed += 1
        return passed

    def finish(self) -> None:
        """Refuse data that are not the code word of what was read.

        Raises
        ------
        InputError
            If they go on behind it, or are not the shortest and lowest bytes of which all
            continuations lie in the interval.
        """
        last = self._size - (self._at - 4)
        if last > LAST_BYTES:
            raise InputError(f"{last - LAST_BYTES} bytes stand behind the last integer")
        end = int.from_bytes(self._padded[: self._at][-4:], "big")  # C, modulo 2^32
        for shortest in range(1, LAST_BYTES + 1):
            unit = 1 << 8 * (4 - shortest)
            up = (self._ahead - end) % unit  # from L to the next multiple
            if up + unit <= self._width:
                break
        if last != shortest or self._ahead != up:
            raise self._other()

    def _other(self) -> InputError:
        return InputError(f"{self._size} bytes are not the code word of their integers")
