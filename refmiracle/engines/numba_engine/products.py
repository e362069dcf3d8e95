"""The two inner products that all layers are made of, compiled.

Rows are runs of `length` floats in flat arrays, given by their offsets: a convolution in the
layout (channels, height, width, batch) is a sum of shifted rows, and needs no im2col.  The
batch is innermost, so LLVM vectorises the loop over it; five output rows by four input rows
keep twenty products in registers for nine loads.

Sums are in a fixed order, whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numba

COMPILE: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    # Reductions may be reordered to vectorise, and a * b + c fused; NaN and inf keep meaning.
    "fastmath": {"reassoc", "contract", "nsz"},
}


@numba.njit(**COMPILE)
def add_5_by_4(y, yo, x, xo, w, k, m, length):
    """y[yo[m+a]] += sum_b w[k+b, m+a] x[xo[k+b]] for a < 5 and b < 4."""
    y0, y1 = y[yo[m] : yo[m] + length], y[yo[m + 1] : yo[m + 1] + length]
    y2, y3 = y[yo[m + 2] : yo[m + 2] + length], y[yo[m + 3] : yo[m + 3] + length]
    y4 = y[yo[m + 4] : yo[m + 4] + length]
    x0, x1 = x[xo[k] : xo[k] + length], x[xo[k + 1] : xo[k + 1] + length]
    x2, x3 = x[xo[k + 2] : xo[k + 2] + length], x[xo[k + 3] : xo[k + 3] + length]
    a0, a1, a2, a3 = w[k, m], w[k + 1, m], w[k + 2, m], w[k + 3, m]
    b0, b1, b2, b3 = w[k, m + 1], w[k + 1, m + 1], w[k + 2, m + 1], w[k + 3, m + 1]
    c0, c1, c2, c3 = w[k, m + 2], w[k + 1, m + 2], w[k + 2, m + 2], w[k + 3, m + 2]
    d0, d1, d2, d3 = w[k, m + 3], w[k + 1, m + 3], w[k + 2, m + 3], w[k + 3, m + 3]
    e0, e1, e2, e3 = w[k, m + 4], w[k + 1, m + 4], w[k + 2, m + 4], w[k + 3, m + 4]
    for j in range(length):
        s, t, u, v = x0[j], x1[j], x2[j], x3[j]
        y0[j] += a0 * s + a1 * t + a2 * u + a3 * v
        y1[j] += b0 * s + b1 * t + b2 * u + b3 * v
        y2[j] += c0 * s + c1 * t + c2 * u + c3 * v
        y3[j] += d0 * s + d1 * t + d2 * u + d3 * v
        y4[j] += e0 * s + e1 * t + e2 * u + e3 * v


@numba.njit(**COMPILE)
def add_5_by_1(y, yo, x, xo, w, k, m, length):
    """y[yo[m+a]] += w[k, m+a] x[xo[k]] for a < 5."""
    y0, y1 = y[yo[m] : yo[m] + length], y[yo[m + 1] : yo[m + 1] + length]
    y2, y3 = y[yo[m + 2] : yo[m + 2] + length], y[yo[m + 3] : yo[m + 3] + length]
    y4 = y[yo[m + 4] : yo[m + 4] + length]
    x0 = x[xo[k] : xo[k] + length]
    a, b, c, d, e = w[k, m], w[k, m + 1], w[k, m + 2], w[k, m + 3], w[k, m + 4]
    for j in range(length):
        s = x0[j]
        y0[j] += a * s
        y1[j] += b * s
        y2[j] += c * s
        y3[j] += d * s
        y4[j] += e * s


@numba.njit(**COMPILE)
def add_products(y, yo, x, xo, w, length):
    """Rows of y at yo (M of them) += w^T (rows of x at xo, K of them); w has shape (K, M).

    The rows of y must not overlap each other or those of x.
    """
    rows, terms = len(yo), len(xo)
    for m in range(0, rows - rows % 5, 5):
        for k in range(0, terms - terms % 4, 4):
            add_5_by_4(y, yo, x, xo, w, k, m, length)
        for k in range(terms - terms % 4, terms):
            add_5_by_1(y, yo, x, xo, w, k, m, length)
    for m in range(rows - rows % 5, rows):
        ym = y[yo[m] : yo[m] + length]
        for k in range(terms):
            xk, a = x[xo[k] : xo[k] + length], w[k, m]
            for j in range(length):
                ym[j] += a * xk[j]


@numba.njit(**COMPILE)
def dot_4_by_5(x, xo, y, yo, w, k, m, length):
    """w[k+b, m+a] += x[xo[k+b]] . y[yo[m+a]] for b < 4 and a < 5."""
    x0, x1 = x[xo[k] : xo[k] + length], x[xo[k + 1] : xo[k + 1] + length]
    x2, x3 = x[xo[k + 2] : xo[k + 2] + length], x[xo[k + 3] : xo[k + 3] + length]
    y0, y1 = y[yo[m] : yo[m] + length], y[yo[m + 1] : yo[m + 1] + length]
    y2, y3 = y[yo[m + 2] : yo[m + 2] + length], y[yo[m + 3] : yo[m + 3] + length]
    y4 = y[yo[m + 4] : yo[m + 4] + length]
    zero = w.dtype.type(0)
    a0, a1, a2, a3 = zero, zero, zero, zero
    b0, b1, b2, b3 = zero, zero, zero, zero
    c0, c1, c2, c3 = zero, zero, zero, zero
    d0, d1, d2, d3 = zero, zero, zero, zero
    e0, e1, e2, e3 = zero, zero, zero, zero
    for j in range(length):
        s, t, u, v = x0[j], x1[j], x2[j], x3[j]
        f = y0[j]
        a0, a1, a2, a3 = a0 + f * s, a1 + f * t, a2 + f * u, a3 + f * v
        f = y1[j]
        b0, b1, b2, b3 = b0 + f * s, b1 + f * t, b2 + f * u, b3 + f * v
        f = y2[j]
        c0, c1, c2, c3 = c0 + f * s, c1 + f * t, c2 + f * u, c3 + f * v
        f = y3[j]
        d0, d1, d2, d3 = d0 + f * s, d1 + f * t, d2 + f * u, d3 + f * v
        f = y4[j]
        e0, e1, e2, e3 = e0 + f * s, e1 + f * t, e2 + f * u, e3 + f * v
    sums = (
        (a0, b0, c0, d0, e0),
        (a1, b1, c1, d1, e1),
        (a2, b2, c2, d2, e2),
        (a3, b3, c3, d3, e3),
    )
    for i in range(4):
        for j in range(5):
            w[k + i, m + j] += sums[i][j]


@numba.njit(**COMPILE)
def add_dots(x, xo, y, yo, w, length):
    """w[k, m] += (row of x at xo[k]) . (row of y at yo[m]); w has shape (K, M)."""
    terms, rows = len(xo), len(yo)
    whole_terms, whole_rows = terms - terms % 4, rows - rows % 5
    for m in range(0, whole_rows, 5):
        for k in range(0, whole_terms, 4):
            dot_4_by_5(x, xo, y, yo, w, k, m, length)
    for k in range(terms):
        for m in range(whole_rows if k < whole_terms else 0, rows):
            xk, ym = x[xo[k] : xo[k] + length], y[yo[m] : yo[m] + length]
            total = w.dtype.type(0)
            for j in range(length):
                total += xk[j] * ym[j]
            w[k, m] += total
