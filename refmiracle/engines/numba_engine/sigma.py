"""The stretch function sigma of greedy Poisson rejection sampling, compiled.

    sigma(h) = integral from 0 to h of dL / R(L)              (docs/CODES.md section 4)

The variable is x, the end of S(L) on the side where r rises, in y = z - delta, delta >= 0 (a
target with delta < 0 is mirrored): log L is log r(x), the other end is 2 mode - x, and

    dL = L slope(x) dx,   slope(x) = d/dx log r = delta - e x

so no root is sought, nothing is lost next to the mode, and s = 1 (no mode, S(L) one-sided) is no
special case.  Gauss-Legendre panels run from x_0 on towards the mode, each at most half of the
way, one unit, and 6 nats of log L wide.  Their sums are kept.  Most comparisons need none: R is
convex with R' = -P(S(L)), so its chord and its tangents bound sigma (`_bounds`).
"""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines.numba_engine.compiling import EXACT, compiled
from refmiracle.engines.numba_engine.unimodal import (
    NODES_8,
    WEIGHTS_8,
    normal_mass,
    residual_within,
    superlevel,
)

NODES_12 = (
    0.12523340851146891,
    0.3678314989981802,
    0.5873179542866175,
    0.7699026741943047,
    0.9041172563704749,
    0.9815606342467192,
)
WEIGHTS_12 = (
    0.2491470458134028,
    0.23349253653835478,
    0.20316742672306584,
    0.16007832854334642,
    0.10693932599531826,
    0.04717533638651187,
)

END, SUM, LEVEL, REST, MASS = range(5)  # x, sigma(L), L, R(L) and P(S(L)) that are kept
# The last row holds the number of rows kept (as its END), and a level and a time above its sigma:
# lower levels at later times are refused too.
STATE = -1
PANELS = 256  # each halves the way to the mode, once they are narrow: more than float64 can
LOG_LOW_LEVEL = math.log(0.25)  # below, the variable is L^(1/4)
WHOLE = 9.0  # P has no mass beyond: from there on S(L) is all, and R(L) = 1 - L
LARGEST_FALL = 6.0  # nats in a panel
FLAT = 1e-15  # a slope below this part of delta is that of the mode, up to rounding
SLACK = 1e-9  # relative, within which no bound decides: the accuracy of sigma


@compiled(**EXACT)
def mirrored(target):
    """Return the target of -z, if delta < 0; so delta >= 0."""
    return abs(target[0]), target[1], target[2], target[3], abs(target[4]), target[5]


@compiled(**EXACT)
def _log_ratio_at(target, y):
    return target[2] + y * (target[0] - 0.5 * target[1] * y)


@compiled(**EXACT)
def _other_end(target, x):
    return 2.0 * (target[0] / target[1]) - x if target[1] > 0.0 else np.inf


@compiled(**EXACT)
def _rest(target, level, x):
    """Return R(L), x the near end of S(L)."""
    return residual_within(target, x, level, x, _other_end(target, x))


@compiled(**EXACT)
def _mass(target, x):
    """Return P(S(L))."""
    return normal_mass(target[0], x, _other_end(target, x))


@compiled(**EXACT)
def _panel(target, x, end):
    """Return the integral of dL / R(L) from x to end."""
    middle, half, total = 0.5 * (x + end), 0.5 * (end - x), 0.0
    for k in range(4):
        for y in (middle - half * NODES_8[k], middle + half * NODES_8[k]):
            level = math.exp(_log_ratio_at(target, y))
            slope = target[0] - target[1] * y
            total += WEIGHTS_8[k] * (level * slope / _rest(target, level, y))
    return half * total


@compiled(**EXACT)
def _from_zero(target, level):
    """Return sigma(L) for L <= 1/4.

    R depends on L and on log L times L; in v = L^(1/4) both are smooth.
    """
    half, total = 0.5 * level**0.25, 0.0
    for k in range(6):
        for v in (half - half * NODES_12[k], half + half * NODES_12[k]):
            cube = v * v * v
            _, _, x = superlevel(target, 4.0 * math.log(v))
            total += WEIGHTS_12[k] * (4.0 * cube / _rest(target, cube * v, x))
    return half * total


@compiled(**EXACT)
def start(kept):
    """Keep nothing but the first row, level 0: for a new target."""
    kept[0, END], kept[0, SUM], kept[0, LEVEL], kept[0, REST], kept[0, MASS] = -np.inf, 0, 0, 1, 1
    kept[STATE, END], kept[STATE, LEVEL], kept[STATE, SUM] = 1.0, 0.0, np.inf


@compiled(**EXACT)
def _beyond(target, y, row):
    """Return sigma(r(y)) from a row before y, without its neighbours."""
    if row[LEVEL] > 0.0:
        return row[SUM] + _panel(target, row[END], y)
    log_level = _log_ratio_at(target, y)
    if y <= -WHOLE - target[0] and log_level >= LOG_LOW_LEVEL:
        return -math.log(-math.expm1(log_level))
    return _from_zero(target, math.exp(log_level))


@compiled(**EXACT)
def _next_end(target, row):
    """Return where the panel after a row ends.

    The first one ends at x_0, where L is 1/4, or where S(L) begins to leave mass out.
    """
    if row[LEVEL] == 0.0:
        whole = -WHOLE - target[0]
        low = _log_ratio_at(target, whole) < LOG_LOW_LEVEL
        return superlevel(target, LOG_LOW_LEVEL)[2] if low else whole
    slope = target[0] - target[1] * row[END]
    step = min(1.0, LARGEST_FALL / slope)
    return row[END] + (min(step, 0.5 * slope / target[1]) if target[1] > 0.0 else step)


@compiled(**EXACT)
def _extend(target, y, kept):
    """Return sigma(r(y)) if the panel after the last row holds y; else add a row, return -1."""
    count = int(kept[STATE, END])
    last, row = kept[count - 1], kept[count]
    end = _next_end(target, last)
    if end >= y or count == PANELS:
        return _beyond(target, y, last)
    level = math.exp(_log_ratio_at(target, end))
    row[SUM], row[END], row[LEVEL] = _beyond(target, end, last), end, level
    row[REST], row[MASS] = _rest(target, level, end), _mass(target, end)
    kept[STATE, END] = count + 1.0
    return -1.0


@compiled(**EXACT)
def _bounds(row, level, rest, mass):
    """Return bounds of the integral of dL / R(L) from a row's level to this one.

    The chord of R is above it; its tangents, of slope -P(S(L)), are below: each from its own end
    up to where they meet.
    """
    width, fall, rest_0, mass_0 = level - row[LEVEL], row[REST] - rest, row[REST], row[MASS]
    if not (fall > 1e-6 * rest_0 and mass > 0.0 and mass_0 > mass):
        return width / rest_0, width / rest
    least = width * math.log(rest_0 / rest) / fall
    first = min(max((fall - mass * width) / (mass_0 - mass), 0.0), width)
    meet = rest + mass * (width - first)
    steep = min(mass_0 * first, rest_0 * (1.0 - 1e-12))
    most = -math.log1p(-steep / rest_0) / mass_0 + math.log(meet / rest) / mass
    return least, most


@compiled(**EXACT)
def _at_once(time, target, log_level, level, slope, kept):
    """Return 1 or -1 where no mass is needed to tell whether time <= sigma(L), else 0."""
    # sigma of the mode is infinite, and R <= 1.
    if abs(slope) <= FLAT * target[0] or time <= level:
        return 1
    if level < 1.0 and time > -math.log(-math.expm1(log_level)):  # R >= 1 - L
        return -1
    return -1 if level <= kept[STATE, LEVEL] and time >= kept[STATE, SUM] else 0


@compiled(**EXACT)
def sigma(target, y, kept):
    """Return sigma(r(y)); the target is mirrored, y <= mode."""
    k, value = 0, -1.0
    while k + 1 < kept[STATE, END] and kept[k + 1, END] < y:
        k += 1
    if k + 1 < kept[STATE, END]:
        return _beyond(target, y, kept[k])
    while value < 0.0:
        value = _extend(target, y, kept)
    return value


@compiled(**EXACT)
def _by_bounds(time, target, y, level, kept):
    """Return what `arrives` does, from bounds, and from panels where those do not tell."""
    rest, mass, k, value = _rest(target, level, y), _mass(target, y), 0, -1.0
    while value < 0.0:
        while k + 1 < kept[STATE, END] and kept[k + 1, END] < y:
            k += 1
        least, most = _bounds(kept[k], level, rest, mass)
        if time <= kept[k, SUM] + least * (1.0 - SLACK):
            return True
        if time > kept[k, SUM] + most * (1.0 + SLACK):
            return False
        inner = k + 1 < kept[STATE, END]
        value = _beyond(target, y, kept[k]) if inner else _extend(target, y, kept)
    return time <= value


@compiled(**EXACT)
def arrives(time, target, z, kept):
    """Tell whether time <= sigma(r(z)).

    The target is mirrored, and z with it.
    """
    y = z - target[0]
    slope = target[0] - target[1] * y
    log_level = _log_ratio_at(target, y)
    level = math.exp(log_level)
    sure = _at_once(time, target, log_level, level, slope, kept)
    if sure != 0:
        return sure > 0
    if slope < 0.0:  # beyond the mode
        y += 2.0 * slope / target[1]
    arrived = _by_bounds(time, target, y, level, kept)
    if not arrived and level >= kept[STATE, LEVEL]:
        kept[STATE, LEVEL], kept[STATE, SUM] = level, time
    return arrived
