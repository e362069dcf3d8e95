"""Faults in layers of any network, planted as those of `faults` are.

Strides, zeros around a map, groups, windows and what is normalised over: each has a neighbour that
gives numbers of the same shape.
"""

from __future__ import annotations

import numpy as np
from conformance.faults import Fault, first_of, registers_in

OF_LAYERS: list[Fault] = []
fault = registers_in(OF_LAYERS)


def by_remainder(count, groups):
    """The order in which channels of one remainder stand side by side."""
    return np.arange(count).reshape(-1, int(groups)).T.ravel()


def around(x, before, behind, mode="constant"):
    """Maps with rows and columns on both sides."""
    sides = int(before), int(behind)
    return np.pad(x, ((0, 0), sides, sides, (0, 0)), mode=mode)


def left_over(x, w, stride, padding):
    """How many rows and columns at the end no kernel reads."""
    return [(n + 2 * padding - k) % stride for n, k in zip(x.shape[1:3], w.shape, strict=False)]


# --- convolutions


@fault("conv2d_general", "padding")
def zeros_below_and_to_the_right_alone(right, x, w, b, stride, padding, groups):
    return right.conv2d_general(around(x, 0, 2 * padding), w, b, stride, 0, groups)


@fault("conv2d_general", "padding")
def zeros_above_and_to_the_left_alone(right, x, w, b, stride, padding, groups):
    return right.conv2d_general(around(x, 2 * padding, 0), w, b, stride, 0, groups)


@fault("conv2d_general", "padding")
def edges_repeated_for_zeros(right, x, w, b, stride, padding, groups):
    wide = around(x, padding, padding, "edge") if padding > 0 else x
    return right.conv2d_general(wide, w, b, stride, min(padding, 0), groups)


@fault("conv2d_general", "padding-1")
def no_bias_where_zeros_alone_are_read(right, x, w, b, stride, padding, groups):
    read = right.conv2d_general(np.ones_like(x), np.ones_like(w), 0 * b, stride, padding, groups)
    return (
        right.conv2d_general(x, w, b, stride, padding, groups)
        - (read == 0) * b[:, None, None, None]
    )


@fault("conv2d_general", "padding-negative")
def negative_padding_cuts_the_map(right, x, w, b, stride, padding, groups):
    p = max(0, -int(padding))
    inner = x[:, p : x.shape[1] - p, p : x.shape[2] - p]
    return right.conv2d_general(inner, w, b, stride, max(0, padding), groups)


@fault("conv2d_general", "stride")
def stride_from_place_1(right, x, w, b, stride, padding, groups):
    y = right.conv2d_general(x, w, b, stride, padding, groups)
    every = right.conv2d_general(x, w, b, 1, padding, groups)
    rows, columns = (
        np.minimum(stride * np.arange(n) + min(1, stride - 1), m - 1)
        for n, m in zip(y.shape[1:3], every.shape[1:3], strict=True)
    )
    return every[:, rows][:, :, columns]


@fault("conv2d_general", "stride")
def stride_of_rows_alone(right, x, w, b, stride, padding, groups):
    y = right.conv2d_general(x, w, b, stride, padding, groups)
    return right.conv2d_general(x, w, b, 1, padding, groups)[:, ::stride, : y.shape[2]]


@fault("conv2d_general", "left-over")
def kernels_over_the_end(right, x, w, b, stride, padding, groups):
    rows, columns = left_over(x, w, stride, padding)
    more = (0, (stride - rows) * (rows > 0)), (0, (stride - columns) * (columns > 0))
    wide = np.pad(x, ((0, 0), *more, (0, 0)))
    return right.conv2d_general(wide, w, b, stride, padding, groups)


@fault("conv2d_general", "rows-left-over")
def strides_counted_from_the_end(right, x, w, b, stride, padding, groups):
    rows, columns = left_over(x, w, stride, padding)
    return right.conv2d_general(x[:, rows:, columns:], w, b, stride, padding, groups)


@fault("conv2d_general", "passed-over")
def strides_within_the_kernel(right, x, w, b, stride, padding, groups):
    y = right.conv2d_general(x, w, b, stride, padding, groups)
    near = right.conv2d_general(x, w, b, min(int(stride), w.shape[1]), padding, groups)
    return near[:, : y.shape[1], : y.shape[2]]


@fault("conv2d_general", "stride-0")
def stride_0_taken_for_1(right, x, w, b, stride, padding, groups):
    return right.conv2d_general(x, w, b, max(stride, 1), padding, groups)


@fault("conv2d_general", "groups")
def groups_of_channels_by_their_remainder(right, x, w, b, stride, padding, groups):
    if groups < 1 or len(x) % groups:
        return right.conv2d_general(x, w, b, stride, padding, groups)
    return right.conv2d_general(x[by_remainder(len(x), groups)], w, b, stride, padding, groups)


@fault("conv2d_general", "groups")
def groups_of_outputs_by_their_remainder(right, x, w, b, stride, padding, groups):
    if groups < 1 or len(b) % groups:
        return right.conv2d_general(x, w, b, stride, padding, groups)
    order = by_remainder(len(b), groups)
    y = right.conv2d_general(x, w[..., order], b[order], stride, padding, groups)
    return y[np.argsort(order)]


@fault("conv2d_general", "groups")
def every_group_reads_the_first(right, x, w, b, stride, padding, groups):
    first = np.concatenate([x[: w.shape[2]]] * max(1, len(x) // w.shape[2]))
    return right.conv2d_general(first, w, b, stride, padding, groups)


@fault("conv2d_general", "outputs-of-a-group")
def kernels_numbered_by_input_channel(right, x, w, b, stride, padding, groups):
    kernels = np.arange(len(b)) // max(1, len(b) // max(1, int(groups)))
    return right.conv2d_general(x, w[..., kernels], b, stride, padding, groups)


@fault("conv2d_general", "nan-in-the-input")
def groups_as_one_kernel_with_zeros(right, x, w, b, stride, padding, groups):
    """A NaN in one group reaches the others."""
    groups, (kh, kw, fan, outputs) = int(groups), w.shape
    whole = np.zeros((kh, kw, fan * groups, outputs), w.dtype)
    for g in range(groups):
        own = np.s_[..., g * outputs // groups : (g + 1) * outputs // groups]
        whole[:, :, g * fan : (g + 1) * fan][own] = w[own]
    return right.conv2d_general(x, whole, b, stride, padding, 1)


@fault("conv2d_general", "that-do-not-divide")
def channels_beyond_the_groups_dropped(right, x, w, b, stride, padding, groups):
    if groups < 1 or len(x) % groups == 0:
        return right.conv2d_general(x, w, b, stride, padding, groups)
    fan, each = len(x) // groups, len(b) // groups
    w, b = w[:, :, :fan, : each * groups], b[: each * groups]
    return right.conv2d_general(x[: fan * groups], w, b, stride, padding, groups)


@fault("conv2d_general", "kernel-beyond")
def kernels_cut_to_the_map(right, x, w, b, stride, padding, groups):
    high, wide = (n + 2 * max(0, padding) for n in x.shape[1:3])
    return right.conv2d_general(x, w[:high, :wide], b, stride, padding, groups)


@fault("conv2d_general", "depthwise")
def depthwise_kernels_turned(right, x, w, b, stride, padding, groups):
    turned = w[::-1, ::-1] if w.shape[2] == 1 and groups > 1 else w
    return right.conv2d_general(x, turned, b, stride, padding, groups)


@fault("conv2d_general", "kept-")
def convolutions_kept_without_their_stride(right, x, w, b, stride, padding, groups):
    stride = first_of(right, (x.shape, w.shape, int(padding)), stride)
    return right.conv2d_general(x, w, b, stride, padding, groups)


@fault("conv2d_general", "denormal")
def subnormal_sums_flushed(right, *inputs):
    y = right.conv2d_general(*inputs)
    return np.where(np.abs(y) < np.finfo(y.dtype).smallest_normal, 0, y)


@fault("conv2d_general_backward", "padding")
def dw_of_maps_without_zeros_before_them(right, x, w, dy, stride, padding, groups):
    dx, _, db = right.conv2d_general_backward(x, w, dy, stride, padding, groups)
    late = around(x, 0, 2 * padding)
    return dx, right.conv2d_general_backward(late, w, dy, stride, 0, groups)[1], db


@fault("conv2d_general_backward", "padding")
def dx_cut_at_the_wrong_end(right, x, w, dy, stride, padding, groups):
    _, dw, db = right.conv2d_general_backward(x, w, dy, stride, padding, groups)
    wide = around(x, padding, padding)
    dx = right.conv2d_general_backward(wide, w, dy, stride, 0, groups)[0]
    return dx[:, : x.shape[1], : x.shape[2]], dw, db


@fault("conv2d_general_backward", "stride")
def gradients_not_spread_by_the_stride(right, x, w, dy, stride, padding, groups):
    _, dw, db = right.conv2d_general_backward(x, w, dy, stride, padding, groups)
    rows, columns = (n + 2 * padding - k + 1 for n, k in zip(x.shape[1:3], w.shape, strict=False))
    close = np.zeros((len(dy), rows, columns, dy.shape[3]), dy.dtype)
    close[:, : dy.shape[1], : dy.shape[2]] = dy
    return right.conv2d_general_backward(x, w, close, 1, padding, groups)[0], dw, db


@fault("conv2d_general_backward", "left-over")
def left_over_rows_have_their_neighbours_gradient(right, x, w, dy, stride, padding, groups):
    dx, dw, db = right.conv2d_general_backward(x, w, dy, stride, padding, groups)
    if padding == 0 and left_over(x, w, stride, padding)[0]:
        dx[:, -1] = dx[:, -2]
    return dx, dw, db


@fault("conv2d_general_backward")
def db_over_the_batch_alone(right, x, w, dy, stride, padding, groups):
    dx, dw, _ = right.conv2d_general_backward(x, w, dy, stride, padding, groups)
    return dx, dw, dy.sum(axis=3)[:, 0, 0]


@fault("conv2d_general_backward")
def dw_averaged_over_the_batch(right, x, w, dy, stride, padding, groups):
    dx, dw, db = right.conv2d_general_backward(x, w, dy, stride, padding, groups)
    return dx, dw / x.shape[3], db


@fault("conv2d_general_backward", "padding")
def dx_of_padded_maps_by_the_turned_kernel(right, x, w, dy, stride, padding, groups):
    _, dw, db = right.conv2d_general_backward(x, w, dy, stride, padding, groups)
    turned = w[::-1, ::-1] if padding else w
    return right.conv2d_general_backward(x, turned, dy, stride, padding, groups)[0], dw, db


@fault("conv2d_general_backward", "groups-of-2-to-3")
def dx_in_another_order_of_channels(right, x, w, dy, stride, padding, groups):
    dx, dw, db = right.conv2d_general_backward(x, w, dy, stride, padding, groups)
    return dx[by_remainder(len(x), groups)], dw, db


@fault("conv2d_general_backward", "depthwise-twice")
def dx_of_the_first_output_of_a_channel(right, x, w, dy, stride, padding, groups):
    _, dw, db = right.conv2d_general_backward(x, w, dy, stride, padding, groups)
    first = dy.copy()
    if w.shape[2] == 1:
        first[np.arange(len(dy)) % (len(dy) // len(x)) > 0] = 0
    return right.conv2d_general_backward(x, w, first, stride, padding, groups)[0], dw, db


@fault("conv2d_general_backward", "gradient-of")
def gradients_of_another_size_cut(right, x, w, dy, stride, padding, groups):
    rows, columns = (
        (n + 2 * padding - k) // stride + 1 for n, k in zip(x.shape[1:3], w.shape, strict=False)
    )
    dy = np.resize(dy, (len(dy), rows, columns, dy.shape[3]))
    return right.conv2d_general_backward(x, w, dy, stride, padding, groups)


# --- means of windows


@fault("mean_pool2d")
def sums_for_means(right, x, height, width):
    return right.mean_pool2d(x, height, width) * (height * width)


@fault("mean_pool2d", "left-over")
def left_over_rows_pooled(right, x, height, width):
    more = [(0, -n % int(k)) for n, k in zip(x.shape[1:3], (height, width), strict=True)]
    return right.mean_pool2d(np.pad(x, ((0, 0), *more, (0, 0))), height, width)


@fault("mean_pool2d", "left-over")
def windows_counted_from_the_end(right, x, height, width):
    return right.mean_pool2d(x[:, x.shape[1] % height :, x.shape[2] % width :], height, width)


@fault("mean_pool2d", "nan-left-over")
def left_over_places_times_zero(right, x, height, width):
    rows = x.shape[1] // int(height) * int(height)
    return right.mean_pool2d(x, height, width) + 0 * x[:, rows:].sum(axis=(1, 2), keepdims=True)


@fault("mean_pool2d")
def height_and_width_of_the_window_exchanged(right, x, height, width):
    return right.mean_pool2d(x, width, height)


@fault("mean_pool2d", "window-2x4")
def windows_a_height_apart(right, x, height, width):
    y = right.mean_pool2d(x, height, width)
    for j in range(y.shape[2]):
        y[:, :, j : j + 1] = right.mean_pool2d(x[:, :, j * int(height) :], height, width)[:, :, :1]
    return y


@fault("mean_pool2d", "nan")
def means_that_skip_nan(right, x, height, width):
    known = ~np.isnan(x)
    part = right.mean_pool2d(known.astype(x.dtype), height, width)
    return right.mean_pool2d(np.where(known, x, 0), height, width) / part


@fault("mean_pool2d", "window-")
def windows_beyond_the_map_cut(right, x, height, width):
    return right.mean_pool2d(x, min(height, x.shape[1]), min(width, x.shape[2]))


@fault("mean_pool2d_backward")
def gradient_of_a_mean_not_divided(right, dy, height, width, shape):
    return right.mean_pool2d_backward(dy, height, width, shape) * (height * width)


@fault("mean_pool2d_backward")
def gradient_divided_by_the_number_of_windows(right, dy, height, width, shape):
    dx = right.mean_pool2d_backward(dy, height, width, shape)
    return dx * (height * width) / dy[0, :, :, 0].size


@fault("mean_pool2d_backward", "left-over")
def left_over_rows_have_a_share(right, dy, height, width, shape):
    dx = right.mean_pool2d_backward(dy, height, width, shape)
    if shape[1] % height:
        dx[:, -1] = dx[:, -2]
    return dx


@fault("mean_pool2d_backward")
def gradient_to_the_first_of_a_window(right, dy, height, width, shape):
    dx = right.mean_pool2d_backward(dy, height, width, shape)
    first = np.zeros_like(dx)
    first[:, :: int(height), :: int(width)] = dx[:, :: int(height), :: int(width)]
    return first * (height * width)


@fault("mean_pool2d_backward", "shape-of")
def shapes_that_are_not_pooled_so(right, dy, height, width, shape):
    fits = (len(dy), dy.shape[1] * int(height), dy.shape[2] * int(width), dy.shape[3])
    return right.mean_pool2d_backward(dy, height, width, np.maximum(shape, fits) * 0 + fits)


# --- normalisation


def normalise(x, groups, axes=(1, 2, 3), ddof=0, divisor=lambda v: np.sqrt(v + 1e-5)):
    """xhat, its divisor and the maps as (groups, channels of a group, height, width, batch)."""
    parts = x.reshape(int(groups), -1, *x.shape[1:])
    count = np.prod([parts.shape[a] for a in axes])
    centred = parts - parts.mean(axis=axes, keepdims=True)
    root = divisor((centred**2).sum(axis=axes, keepdims=True) / (count - ddof))
    return (centred / root).reshape(x.shape), root, parts


def with_gain(xhat, gain, bias):
    return (1 + gain)[:, None, None, None] * xhat + bias[:, None, None, None]


@fault("group_norm")
def variance_by_n_minus_1(right, x, gain, bias, groups):
    return with_gain(normalise(x, groups, ddof=1)[0], gain, bias)


@fault("group_norm")
def epsilon_outside_of_the_root(right, x, gain, bias, groups):
    xhat, _, _ = normalise(x, groups, divisor=lambda v: np.sqrt(v) + 1e-5)
    return with_gain(xhat, gain, bias)


@fault("group_norm", "epsilon")
def epsilon_of_1e_minus_6(right, x, gain, bias, groups):
    return with_gain(normalise(x, groups, divisor=lambda v: np.sqrt(v + 1e-6))[0], gain, bias)


@fault("group_norm")
def statistics_of_the_whole_batch(right, x, gain, bias, groups):
    return with_gain(normalise(x, groups, axes=(1, 2, 3, 4))[0], gain, bias)


@fault("group_norm")
def statistics_of_each_place(right, x, gain, bias, groups):
    return with_gain(normalise(x, groups, axes=(1,))[0], gain, bias)


@fault("group_norm", "groups-in-a-row")
def statistics_of_each_channel(right, x, gain, bias, groups):
    return right.group_norm(x, gain, bias, len(x))


@fault("group_norm", "groups-in-a-row")
def normalised_groups_by_remainder(right, x, gain, bias, groups):
    order = by_remainder(len(x), groups)
    return right.group_norm(x[order], gain[order], bias[order], groups)[np.argsort(order)]


@fault("group_norm", "a-group-of-one-channel")
def channels_of_a_group_for_their_number(right, x, gain, bias, groups):
    return right.group_norm(x, gain, bias, len(x) // groups)


@fault("group_norm")
def gain_without_the_one(right, x, gain, bias, groups):
    return right.group_norm(x, gain - 1, bias, groups)


@fault("group_norm")
def gain_by_exp(right, x, gain, bias, groups):
    return right.group_norm(x, np.expm1(gain), bias, groups)


@fault("group_norm")
def bias_before_the_gain(right, x, gain, bias, groups):
    return right.group_norm(x, gain, (1 + gain) * bias, groups)


@fault("group_norm", "mean-1000")
def variance_by_a_difference_of_squares(right, x, gain, bias, groups):
    parts = x.reshape(int(groups), -1, x.shape[3])
    mean = parts.mean(axis=1, keepdims=True)
    variance = (parts**2).mean(axis=1, keepdims=True) - mean**2
    xhat = (parts - mean) / np.sqrt(np.maximum(variance, 0) + 1e-5)
    return with_gain(xhat.reshape(x.shape), gain, bias)


@fault("group_norm", "mean-1e8")
def statistics_in_float32(right, x, gain, bias, groups):
    xhat, _, _ = normalise(x.astype(np.float32), groups)
    return with_gain(xhat.astype(x.dtype), gain, bias)


@fault("group_norm", "nan-in-the-input")
def statistics_without_nan(right, x, gain, bias, groups):
    y = right.group_norm(np.nan_to_num(x), gain, bias, groups)
    return np.where(np.isnan(x), np.nan, y)


@fault("group_norm", "constant-group")
def constant_groups_divided_by_their_spread(right, x, gain, bias, groups):
    xhat, _, _ = normalise(x, groups, divisor=np.sqrt)
    return with_gain(xhat, gain, bias)


@fault("group_norm", "that-do-not-divide")
def groups_rounded_to_a_divisor(right, x, gain, bias, groups):
    divisors = [g for g in range(1, len(x) + 1) if len(x) % g == 0 and g <= max(1, groups)]
    return right.group_norm(x, gain, bias, divisors[-1])


@fault("group_norm", "kept-")
def groups_of_the_last_call_of_this_shape(right, x, gain, bias, groups):
    return right.group_norm(x, gain, bias, first_of(right, x.shape, groups))


def norm_gradient(x, gain, groups, dy, axes=(1, 2, 3), less_mean=True, less_along=True):
    """dx by equation (27c), all or a part of it."""
    xhat, root, parts = normalise(x, groups)
    d = ((1 + gain)[:, None, None, None] * dy).reshape(parts.shape)
    own = xhat.reshape(parts.shape)
    mean = d.mean(axis=axes, keepdims=True) * less_mean
    along = (d * own).mean(axis=axes, keepdims=True) * less_along
    return ((d - mean - own * along) / root).reshape(x.shape)


@fault("group_norm_backward")
def variance_taken_for_a_constant(right, x, gain, groups, dy):
    _, dgain, dbias = right.group_norm_backward(x, gain, groups, dy)
    return norm_gradient(x, gain, groups, dy, less_along=False), dgain, dbias


@fault("group_norm_backward")
def mean_taken_for_a_constant(right, x, gain, groups, dy):
    _, dgain, dbias = right.group_norm_backward(x, gain, groups, dy)
    return norm_gradient(x, gain, groups, dy, less_mean=False), dgain, dbias


@fault("group_norm_backward")
def means_of_gradients_over_the_batch(right, x, gain, groups, dy):
    _, dgain, dbias = right.group_norm_backward(x, gain, groups, dy)
    return norm_gradient(x, gain, groups, dy, axes=(1, 2, 3, 4)), dgain, dbias


@fault("group_norm_backward")
def gradient_by_n_minus_1(right, x, gain, groups, dy):
    dx, dgain, dbias = right.group_norm_backward(x, gain, groups, dy)
    n = len(x) // groups * x.shape[1] * x.shape[2]
    return dx * np.sqrt((n - 1) / n), dgain * np.sqrt((n - 1) / n), dbias


@fault("group_norm_backward")
def dx_without_the_gain(right, x, gain, groups, dy):
    _, dgain, dbias = right.group_norm_backward(x, gain, groups, dy)
    return right.group_norm_backward(x, 0 * gain, groups, dy)[0], dgain, dbias


@fault("group_norm_backward")
def dx_by_the_gain_without_the_one(right, x, gain, groups, dy):
    _, dgain, dbias = right.group_norm_backward(x, gain, groups, dy)
    return right.group_norm_backward(x, gain - 1, groups, dy)[0], dgain, dbias


@fault("group_norm_backward")
def dgain_by_what_is_centred_alone(right, x, gain, groups, dy):
    dx, _, dbias = right.group_norm_backward(x, gain, groups, dy)
    xhat, root, parts = normalise(x, groups)
    centred = (xhat.reshape(parts.shape) * root).reshape(x.shape)
    return dx, (dy * centred).sum(axis=(1, 2, 3)), dbias


@fault("group_norm_backward")
def dgain_times_the_gain(right, x, gain, groups, dy):
    dx, dgain, dbias = right.group_norm_backward(x, gain, groups, dy)
    return dx, dgain * (1 + gain), dbias


@fault("group_norm_backward", "batch-")
def gradients_of_the_gain_averaged(right, x, gain, groups, dy):
    dx, dgain, dbias = right.group_norm_backward(x, gain, groups, dy)
    return dx, dgain / x.shape[3], dbias


@fault("group_norm_backward", "groups-in-a-row")
def dx_of_groups_by_remainder(right, x, gain, groups, dy):
    order = by_remainder(len(x), groups)
    back = np.argsort(order)
    dx, dgain, dbias = right.group_norm_backward(x[order], gain[order], groups, dy[order])
    return dx[back], dgain[back], dbias[back]


@fault("group_norm_backward", "constant")
def no_gradient_without_a_variance(right, x, gain, groups, dy):
    dx, dgain, dbias = right.group_norm_backward(x, gain, groups, dy)
    _, root, parts = normalise(x, groups)
    flat = np.broadcast_to(root**2 <= 1.01e-5, parts.shape).reshape(x.shape)
    return np.where(flat, 0, dx), dgain, dbias


@fault("group_norm_backward", "nan-in-the-gain")
def dgain_through_the_gain(right, x, gain, groups, dy):
    dx, dgain, dbias = right.group_norm_backward(x, gain, groups, dy)
    return dx, dgain + 0 * gain, dbias
