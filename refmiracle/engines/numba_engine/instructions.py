"""The instructions of a program for a whole network: rows of whole numbers (see `machine`).

A row is an opcode and where in the program's arrays its operands are: places in the table `t` of
whole numbers, in the weights `w` as they are packed, in a shard's gradients `g`; and some sizes.
A map is given by the place of its record in `t` (`maps`).
"""

from __future__ import annotations

(
    PRODUCT,
    NORM,
    MAXIMUM,
    MEAN,
    COPY,
    SUM,
    ANSWER,
    LOSS,
    SETTLE,
    GRADIENT,
    NORM_BACK,
    MAXIMUM_BACK,
    MEAN_BACK,
    MASK,
) = range(14)
WIDTH = 20  # numbers in a row

# What becomes of what lies in the map that is filled.
SET, ADD = 0, 1
# The record of a map: where its first value lies in `f`, the floats from one slice, channel and
# row to the next, and its sizes.
BASE, SLICE, PLANE, ROW, CHANNELS, HEIGHT, ACROSS = range(7)
NOWHERE = -1  # no bias, no signs
