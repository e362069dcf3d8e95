"""Faults that were written without a look at the cases: what the suite says of the unforeseen.

Planted as those of `faults.py` are.  What a fault keeps between two calls, it keeps in the backend.
Where a case is named, it is the one that was found to catch the fault, of many that cost time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from conformance.faults import Fault, registers_in
from fileformat.document import seal

from refmiracle.codes import variable_codes
from refmiracle.codes.block_codes import CodeOfRows
from refmiracle.codes.table import CODES_BY_NUMBER
from refmiracle.conformance import engine_backend
from refmiracle.conformance.engine_backend import (
    SAMPLE_STRIDE,
    EngineBackend,
    as_bytes,
    as_uint8,
    lenet5_layout,
)
from refmiracle.engines.numpy_engine import (
    gprs,
    grc,
    layers,
    mrc,
    nodes,
    orc_pfr,
    sigma,
    sp_pfr,
    variables,
)
from refmiracle.engines.numpy_engine import posterior as numpy_posterior
from refmiracle.fileformat import bits as codec_bits
from refmiracle.fileformat import container, integers
from refmiracle.fileformat.model import decode_model
from refmiracle.nn.networks import LENET5, network_by_number
from refmiracle.numerics import normal, variance, varints
from refmiracle.numerics.limits import LAST_U
from refmiracle.numerics.philox import (
    KEY_INCREMENTS,
    LOW_WORD,
    MULTIPLIERS,
    Stream,
    stream_permutation,
    stream_words,
    words_to_uniform,
)
from refmiracle.posterior import blocks as posterior_blocks
from refmiracle.posterior.blocks import Grouping, Signs
from refmiracle.posterior.scales import quantise_scales

UNSEEN: list[Fault] = []
fault = registers_in(UNSEEN)

# What the contract leaves to a port, so that no case may tell these from what is right.
FREE = {
    "infinite_at_zero_and_one": "the quantile is that of 0 < p < 1 (SPEC.md, section 6)",
    "subnormal_scales_flushed": "no file has such a scale (SPEC.md, section 2.5)",
    "negative_zeros_made_positive": "no weight is zero: no scale is, and no normal of a word",
    "no_images_give_no_classes": "where there is no image there is nothing to answer, or refuse",
}

TILE = 8


@contextmanager
def replaced(module: Any, **names: Any) -> Iterator[None]:
    """Put other functions and constants in the place of a module's own for a while."""
    own = {name: getattr(module, name) for name in names}
    vars(module).update(names)
    try:
        yield
    finally:
        vars(module).update(own)


def kept(right: EngineBackend) -> dict[Any, Any]:
    """Return what a fault has kept from earlier calls."""
    return vars(right).setdefault("kept", {})


def has_one_over(size: int) -> bool:
    """Tell whether the last tile of several holds a single element."""
    return size > TILE and size % TILE == 1


# --- bits


@fault("philox4x32")
def high_words_of_products_in_doubles(right, counter, key):
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, dtype=np.uint64), -1, 0)
    k0, k1 = (int(k) for k in key)
    for _ in range(10):
        high0, high1 = (
            (m.astype(np.float64) * c.astype(np.float64) * 2.0**-32).astype(np.uint64) & LOW_WORD
            for m, c in zip(MULTIPLIERS, (c0, c2), strict=True)
        )
        low0, low1 = MULTIPLIERS[0] * c0 & LOW_WORD, MULTIPLIERS[1] * c2 & LOW_WORD
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint64(k0), low1, high0 ^ c3 ^ np.uint64(k1), low0
        k0 = (k0 + KEY_INCREMENTS[0]) & 0xFFFFFFFF
        k1 = (k1 + KEY_INCREMENTS[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


@fault("philox4x32")
def single_counter_of_the_last_tile_repeats_the_one_before(right, counter, key):
    words = right.philox4x32(counter, key).copy()
    if words.ndim > 1 and has_one_over(len(words)):
        words[-1] = words[-2]
    return words


@fault("philox4x32")
def round_keys_kept_by_key_word_zero(right, counter, key):
    return right.philox4x32(counter, kept(right).setdefault(int(key[0]), key.copy()))


@fault("stream_words")
def block_counter_of_sixteen_bits(right, seed, stream, row, first, count):
    i = int(first) + np.arange(int(count))
    counter = np.zeros((len(i), 4), dtype=np.uint32)
    counter[:, 0], counter[:, 1] = i // 4 & 0xFFFF, row
    words = right.philox4x32(counter, np.array([int(seed), int(stream)], dtype=np.uint32))
    return words[np.arange(len(i)), i % 4]


@fault("stream_words")
def last_block_left_out_where_the_first_word_is_within_one(right, seed, stream, row, first, count):
    words = right.stream_words(seed, stream, row, first, count).copy()
    words[-(-int(count) // 4) * 4 - int(first) % 4 :] = 0
    return words


@fault("stream_words")
def words_kept_without_their_stream(right, seed, stream, row, first, count):
    key = int(seed), int(row), int(first), int(count)
    words = right.stream_words(seed, stream, row, first, count)
    return kept(right).setdefault(key, words).copy()


@fault("stream_words")
def row_of_thirty_one_bits(right, seed, stream, row, first, count):
    return right.stream_words(seed, stream, int(row) & 0x7FFFFFFF, first, count)


@fault("stream_words")
def seed_held_in_a_float32(right, seed, stream, row, first, count):
    return right.stream_words(int(np.float32(seed)) % 2**32, stream, row, first, count)


@fault("stream_permutation")
def words_sorted_as_float32(right, seed, stream, row, count):
    words = stream_words(int(seed), int(stream), [int(row)], int(count))[0]
    return np.argsort(words.astype(np.float32), kind="stable")


@fault("stream_permutation")
def equal_words_by_falling_position(right, seed, stream, row, count):
    words = stream_words(int(seed), int(stream), [int(row)], int(count))[0]
    return np.lexsort((-np.arange(len(words)), words))


@fault("stream_permutation")
def permutation_always_of_row_zero(right, seed, stream, row, count):
    return right.stream_permutation(seed, stream, 0, count)


@fault("pack_indices")
def indices_cut_to_sixteen_bits(right, indices, bits):
    return right.pack_indices(indices & 0xFFFF, bits)


@fault("pack_indices")
def a_byte_for_no_indices(right, indices, bits):
    return right.pack_indices(indices, bits) if len(indices) else np.zeros(1, dtype=np.uint8)


@fault("pack_indices")
def too_large_indices_wrap(right, indices, bits):
    return right.pack_indices(indices & ((1 << int(bits)) - 1), bits)


@fault("pack_indices")
def no_bits_give_no_bytes(right, indices, bits):
    return right.pack_indices(indices, bits) if bits else np.zeros(0, dtype=np.uint8)


@fault("pack_indices")
def bit_positions_of_sixteen_bits(right, indices, bits):
    payload = right.pack_indices(indices, bits).copy()
    for start in range(2**13, len(payload), 2**13):
        part = payload[start : start + 2**13]
        payload[: len(part)] |= part
        part[:] = 0
    return payload


@fault("unpack_indices")
def lowest_padding_bit_unseen(right, payload, bits, count):
    payload = payload.copy()
    if int(bits) * int(count) % 8:
        payload[-1] &= 0xFE
    return right.unpack_indices(payload, bits, count)


@fault("unpack_indices")
def indices_read_from_windows_of_three_bytes(right, payload, bits, count):
    indices = right.unpack_indices(payload, bits, count)
    lost = np.maximum(np.arange(int(count)) * int(bits) % 8 + int(bits) - 24, 0)
    return indices >> lost << lost


@fault("unpack_indices")
def bytes_behind_the_indices_accepted(right, payload, bits, count):
    needed = codec_bits.packed_size(int(bits), int(count))
    return right.unpack_indices(payload[:needed], bits, count)


@fault("read_integers")
def code_word_not_compared_with_the_shortest(right, payload, count, theta, raw):
    def finish(decoder):
        if decoder._at - 4 + integers.LAST_BYTES < decoder._size:
            raise ValueError("bytes stand behind the integers")

    with patch.object(integers._Decoder, "finish", finish):
        return right.read_integers(payload, count, theta, raw)


@fault("read_integers")
def raw_bits_left_out_of_the_largest_exponent(right, payload, count, theta, raw):
    with replaced(integers, LARGEST_EXPONENT=integers.LARGEST_EXPONENT + int(raw)):
        return right.read_integers(payload, count, theta, raw)


@fault("read_integers")
def integers_held_in_doubles(right, payload, count, theta, raw):
    values = right.read_integers(payload, count, theta, raw)
    return values.astype(np.float64).astype(np.int64)


@fault("read_integers")
def no_integers_read_from_any_bytes(right, payload, count, theta, raw):
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    return right.read_integers(payload, count, theta, raw)


@fault("write_integers")
def carry_stops_after_two_bytes(right, values, theta, raw):
    def carry(out: bytearray) -> None:
        for place in (len(out) - 1, len(out) - 2):
            out[place] = (out[place] + 1) & 0xFF
            if out[place]:
                return

    with replaced(integers, _carry=carry):
        return right.write_integers(values, theta, raw)


@fault("write_integers")
def shifts_wrap_at_thirty_two(right, values, theta, raw):
    def decisions(values, theta16, raw_bits):
        for value in values:
            n, e = value >> raw_bits, (value >> raw_bits).bit_length() - 1
            own = [(integers.HALF, value >> i & 1) for i in range(raw_bits - 1, -1, -1)]
            own += [(theta16, 1)] * e + [(theta16, 0)]
            yield from own + [(integers.HALF, n >> i % 32 & 1) for i in range(e - 1, -1, -1)]

    with replaced(integers, _decisions=decisions):
        return right.write_integers(values, theta, raw)


@fault("write_integers")
def integer_of_two_to_the_62_accepted(right, values, theta, raw):
    with replaced(integers, LARGEST_EXPONENT=integers.LARGEST_EXPONENT + 1):
        return right.write_integers(values, theta, raw)


@fault("write_integers")
def no_integers_give_no_bytes(right, values, theta, raw):
    if not len(values):
        return np.zeros(0, dtype=np.uint8)
    return right.write_integers(values, theta, raw)


def is_intact(data: bytes) -> bool:
    return seal(data[:-4]) == data


def scales_of(data: bytes) -> slice:
    """Return where the scales of a file stand."""
    offset, tensors = 8, len(network_by_number(data[4]).tensors())
    for _ in range(2 + tensors):
        _, offset = varints.read_varint(data, offset)
    return slice(offset, offset + 2 * tensors)


@fault("read_container")
def seed_read_as_signed(right, data):
    fields = list(right.read_container(data))
    fields[5] -= 2**32 if fields[5] >= 2**31 else 0
    return tuple(fields)


@fault("read_container")
def fifth_byte_of_a_varint_cut_to_four_bits(right, data):
    def read_varint(data, offset):
        cut = bytearray(data)
        if len(cut) > offset + 4 and min(cut[offset : offset + 4]) >= 0x80:
            cut[offset + 4] &= 0x8F
        return varints.read_varint(bytes(cut), offset)

    with replaced(container, read_varint=read_varint):
        return right.read_container(data)


@fault("read_container")
def varints_with_a_surplus_byte_accepted(right, data):
    def read_varint(data, offset):
        end = offset + next(i for i, b in enumerate(data[offset:]) if b < 0x80) + 1
        value = sum((b & 0x7F) << 7 * i for i, b in enumerate(data[offset:end]))
        if value >= 2**32 or end > offset + 5:
            raise ValueError("a varint is too large")
        return value, end

    with replaced(container, read_varint=read_varint):
        return right.read_container(data)


@fault("read_container")
def infinite_scales_accepted(right, data):
    data = as_bytes(data)
    if not (len(data) > 12 and is_intact(data)):
        return right.read_container(as_uint8(data))
    place = scales_of(data)
    rho = np.frombuffer(data[place], dtype="<u2")
    finite = np.where(rho == 0x7C00, 0x7BFF, rho).astype("<u2").tobytes()
    whole = seal(data[: place.start] + finite + data[place.stop : -4])
    fields = list(right.read_container(as_uint8(whole)))
    fields[7] = rho
    return tuple(fields)


@fault("read_container")
def upper_half_of_the_flags_cut_to_two_bits(right, data):
    data = as_bytes(data)
    if len(data) > 12 and is_intact(data):
        data = seal(data[:6] + bytes([data[6] & 0x3F]) + data[7:-4])
    return right.read_container(as_uint8(data))


def variables_of(network: Any, factors: Any) -> int:
    tensors = network_by_number(int(network)).tensors()
    return sum(-(-math.prod(t.shape) // int(f)) for t, f in zip(tensors, factors, strict=True))


@fault("write_container")
def varints_go_on_at_127(right, *fields):
    def write_varint(value):
        out = bytearray()
        while value >= 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes([*out, value])

    right.write_container(*fields)  # which refuses what it should
    unchecked = SimpleNamespace(messages=fields[-1])
    with replaced(container, write_varint=write_varint, parse_model=lambda *_: unchecked):
        return right.write_container(*fields)


@fault("write_container")
def surplus_indices_of_zero_left_out(right, *fields):
    network, block_size, factors, indices = fields[0], fields[4], fields[6], fields[8]
    blocks = -(-variables_of(network, factors) // int(block_size))
    if not np.any(indices[blocks:]):
        indices = indices[:blocks]
    return right.write_container(*fields[:8], indices)


@fault("write_container")
def negative_scales_written(right, *fields):
    rho = np.asarray(fields[7]).astype("<u2")
    data = as_bytes(right.write_container(*fields[:7], rho & 0x7FFF, fields[8]))
    place = scales_of(data)
    return as_uint8(seal(data[: place.start] + rho.tobytes() + data[place.stop : -4]))


@fault("write_container")
def seed_beyond_a_word_wraps(right, *fields):
    return right.write_container(*fields[:5], int(fields[5]) % 2**32, *fields[6:])


@fault("block_layout")
def sign_rows_count_hashed_tensors_alone(right, block_size, seed, factors, *rest):
    hashed = np.flatnonzero(factors > 1).tolist()

    def words(seed, stream, rows, count):
        return stream_words(seed, stream, [hashed.index(row) for row in rows], count)

    with replaced(posterior_blocks, stream_words=words):
        return right.block_layout(block_size, seed, factors, *rest)


@fault("block_layout")
def signs_of_tensors_without_hashing_too(right, *inputs):
    own = posterior_blocks.tensor_signs

    def tensor_signs(layout, number):
        return own(replace(layout, factors=tuple(max(f, 2) for f in layout.factors)), number)

    with replaced(posterior_blocks, tensor_signs=tensor_signs):
        return right.block_layout(*inputs)


@fault("block_layout")
def unit_signs_by_the_input_where_inputs_are_grouped(right, *inputs):
    own = posterior_blocks.tensor_signs

    def tensor_signs(layout, number):
        signs, outputs = own(layout, number), LENET5.tensors()[number].shape[-1]
        by_unit = layout.signs == Signs.UNIT and layout.grouping == Grouping.INPUTS
        if not by_unit or layout.factors[number] == 1:
            return signs
        units = len(signs) // outputs
        words = stream_words(layout.seed, Stream.SIGNS, [number], units)[0]
        return np.repeat(np.where(words >> np.uint32(31), -1, 1), outputs)

    with replaced(posterior_blocks, tensor_signs=tensor_signs):
        return right.block_layout(*inputs)


def places_by(layout, sizes, count):
    """Return the place of each weight, if `count` numbers the weights of a tensor."""
    permutation = stream_permutation(layout.seed, Stream.PERMUTATION, 0, sum(sizes))
    place = np.argsort(permutation)
    found, first = [], 0
    for t, factor, size in zip(LENET5.tensors(), layout.factors, sizes, strict=True):
        variable = count(t.shape, layout.grouping) // factor
        found.append(place[first + np.minimum(variable, size - 1)])
        first += size
    return np.concatenate(found)


@fault("block_layout")
def short_last_group_joins_the_one_before(right, block_size, seed, factors, grouping, signs, which):
    def count(shape, grouping):
        i = np.arange(math.prod(shape)).reshape(-1, shape[-1])
        return (i if grouping == Grouping.OUTPUTS else i.reshape(i.shape[::-1]).T).ravel()

    layout = lenet5_layout(block_size, seed, factors, grouping, signs)
    sizes = [math.prod(t.shape) // int(f) for t, f in zip(LENET5.tensors(), factors, strict=True)]
    weight_signs = right.block_layout(block_size, seed, factors, grouping, signs, which)[1]
    return places_by(layout, sizes, count)[which], weight_signs


@fault("block_layout")
def inputs_counted_by_channel_first(right, block_size, seed, factors, grouping, signs, which):
    def count(shape, grouping):
        i = np.arange(math.prod(shape))
        if grouping == Grouping.OUTPUTS:
            return i
        if len(shape) < 4:
            return i.reshape(shape[-1], -1).T.ravel()
        h, w, c, o = shape
        return i.reshape(o, c, h, w).transpose(2, 3, 1, 0).ravel()

    layout = lenet5_layout(block_size, seed, factors, grouping, signs)
    weight_signs = right.block_layout(block_size, seed, factors, grouping, signs, which)[1]
    return places_by(layout, layout.sizes(), count)[which], weight_signs


# --- numerics


def quantile(p, is_central, is_middle):
    """Return the normal quantile with its branches taken as two functions say."""
    p = np.where((p > 0.0) & (p < 1.0), p, np.nan)
    q = p - 0.5
    r = np.sqrt(-normal.portable_log(np.where(q < 0.0, p, 1.0 - p)))
    middle, far = normal.ratio(normal.MIDDLE, r - 1.6), normal.ratio(normal.FAR, r - 5.0)
    tail = np.where(is_middle(r), middle, far)
    central = q * normal.ratio(normal.CENTRAL, 0.180625 - q * q)
    return np.where(is_central(np.abs(q)), central, np.where(q < 0.0, -tail, tail))


@fault("normal_quantile")
def edge_of_the_centre_taken_for_the_tail(right, p):
    return quantile(p, lambda q: q < 0.425, lambda r: r <= 5.0)


@fault("normal_quantile")
def end_of_the_middle_taken_for_the_far_tail(right, p):
    return quantile(p, lambda q: q <= 0.425, lambda r: r < 5.0)


@fault("normal_quantile")
def subnormal_probabilities_flushed(right, p):
    return right.normal_quantile(np.where(p < np.finfo(np.float64).tiny, 0.0, p))


@fault("normal_quantile")
def infinite_at_zero_and_one(right, p):
    z = right.normal_quantile(p)
    return np.where(p == 0.0, -np.inf, np.where(p == 1.0, np.inf, z))


@fault("normal_quantile")
def series_of_the_logarithm_a_term_short(right, p):
    with replaced(normal, ATANH_SERIES=normal.ATANH_SERIES[1:]):
        return right.normal_quantile(p)


@fault("normal_quantile")
def probabilities_of_at_least_1e_minus_300(right, p):
    return right.normal_quantile(np.where(p > 0.0, np.maximum(p, 1e-300), p))


@fault("codebook")
def single_normal_of_the_last_philox_block_repeats(right, seed, indices, dimension):
    rows = right.codebook(seed, indices, dimension).copy()
    if dimension > 4 and dimension % 4 == 1:
        rows[:, -1] = rows[:, -2]
    return rows


@fault("codebook")
def halfway_normals_rounded_away_from_zero(right, seed, indices, dimension):
    words = stream_words(int(seed), Stream.CODEBOOK, indices, int(dimension))
    z = right.normal_quantile(words_to_uniform(words))
    near = z.astype(np.float32)
    outer = np.nextafter(near, np.copysign(np.float32(np.inf), near))
    halfway = np.abs(z) - np.abs(near) == np.abs(outer.astype(np.float64)) - np.abs(z)
    return np.where(halfway, outer, near)


@fault("codebook")
def rows_kept_by_how_many_they_are(right, seed, indices, dimension):
    key = int(seed), len(indices), int(dimension)
    return kept(right).setdefault(key, right.codebook(seed, indices, dimension)).copy()


@fault("codebook")
def codebook_of_thirty_one_bits(right, seed, indices, dimension):
    return right.codebook(seed, indices & 0x7FFFFFFF, dimension)


@fault("log_s")
def three_steps_of_newton(right, x):
    with replaced(variance, NEWTON_STEPS=3):
        return right.log_s(x)


@fault("log_s")
def log_s_of_at_least_minus_745(right, x):
    return np.maximum(right.log_s(x), -745.0)


@fault("log_s")
def two_terms_below_a_thousandth(right, x):
    return np.where(x < 1e-3, -(variance.SQRT2 * x + x * x / 3.0), right.log_s(x))


@fault("ds_dx")
def one_less_s_by_subtraction(right, x):
    s = np.exp(right.log_s(x))
    return np.where(s < 1.0, -2.0 * x * s / np.where(s < 1.0, 1.0 - s, 1.0), -variance.SQRT2)


@fault("ds_dx")
def slope_flushed_below_the_least_float32(right, x):
    slope = right.ds_dx(x)
    return np.where(np.abs(slope) < np.finfo(np.float32).tiny, 0.0, slope)


@fault("ds_dx")
def slope_of_zero_up_to_1e_minus_6(right, x):
    return np.where(x < 1e-6, -variance.SQRT2, right.ds_dx(x))


@fault("gaussian_kl")
def series_used_up_to_two(right, delta, log_s):
    with replaced(variance, SERIES_LIMIT=2.0):
        return right.gaussian_kl(delta, log_s)


@fault("gaussian_kl")
def wide_targets_taken_for_as_wide_as_p(right, delta, log_s):
    return right.gaussian_kl(delta, np.minimum(log_s, 0.0))


@fault("gaussian_kl")
def kl_below_1e_minus_16_is_none(right, delta, log_s):
    kl = right.gaussian_kl(delta, log_s)
    return np.where(kl < 1e-16, 0.0, kl)


# --- posterior


@fault("mean_kl")
def maximum_of_all_blocks_taken_off(right, tau, phi, budget):
    def softmax(phi):
        e = np.exp(phi - phi.max())
        return e / e.sum(axis=1, keepdims=True)

    with replaced(numpy_posterior, softmax=softmax):
        return right.mean_kl(tau, phi, budget)


@fault("mean_kl")
def sech_from_tanh(right, tau, phi, budget):
    with replaced(numpy_posterior, sech=lambda tau: np.sqrt(1.0 - np.tanh(tau) ** 2)):
        return right.mean_kl(tau, phi, budget)


@fault("mean_kl")
def shares_of_at_least_1e_minus_12(right, tau, phi, budget):
    own = numpy_posterior.softmax
    with replaced(numpy_posterior, softmax=lambda phi: np.maximum(own(phi), 1e-12)):
        return right.mean_kl(tau, phi, budget)


@fault("mean_kl_forward")
def scale_of_the_first_place_for_its_whole_block(right, tau, phi, rho, budget, eps):
    rho = np.broadcast_to(rho, tau.shape)
    return right.mean_kl_forward(tau, phi, np.repeat(rho[:, :1], rho.shape[1], 1), budget, eps)


@fault("mean_kl_forward")
def noise_of_the_first_call_of_its_shape(right, tau, phi, rho, budget, eps):
    eps = kept(right).setdefault(eps.shape, eps.copy())
    return right.mean_kl_forward(tau, phi, rho, budget, eps)


@fault("mean_kl_forward")
def standard_deviations_of_at_least_1e_minus_6(right, tau, phi, rho, budget, eps):
    delta, log_s = right.mean_kl(tau, phi, budget)
    return rho * (delta + np.maximum(np.exp(0.5 * log_s), 1e-6) * eps)


@fault("mean_kl_backward")
def unused_places_get_nan(right, tau, phi, *rest):
    dtau, dphi, dlog_rho = right.mean_kl_backward(tau, phi, *rest)
    return dtau, np.where(np.isneginf(phi), np.nan, dphi), dlog_rho


@fault("mean_kl_backward")
def a_small_number_in_the_denominator(right, *inputs):
    def half_slope_ratio(x, log_s):
        return x / (1e-12 - np.expm1(log_s))

    with replaced(variance, half_slope_ratio=half_slope_ratio):
        return right.mean_kl_backward(*inputs)


@fault("mean_kl_backward")
def share_of_a_single_place_not_normalised(right, tau, phi, rho, budget, eps, g):
    dtau, dphi, dlog_rho = right.mean_kl_backward(tau, phi, rho, budget, eps, g)
    if phi.shape[1] > 1:
        return dtau, dphi, dlog_rho
    r, h = np.sqrt(2.0 * float(budget)), numpy_posterior.sech(tau)
    log_s = right.log_s(r * h)
    q = -eps * np.exp(0.5 * log_s) * variance.half_slope_ratio(r * h, log_s)
    return dtau, 0.5 * r * g * rho * (np.tanh(tau) + q * h), dlog_rho


@fault("mean_var_forward")
def log_sigma_of_at_least_minus_ten(right, mu, log_sigma, eps):
    return right.mean_var_forward(mu, np.maximum(log_sigma, -10.0), eps)


@fault("mean_var_forward")
def single_place_of_the_last_tile_gets_no_noise(right, mu, log_sigma, eps):
    eps = eps.copy()
    if has_one_over(eps.shape[-1]):
        eps[..., -1] = 0.0
    return right.mean_var_forward(mu, log_sigma, eps)


@fault("mean_var_backward")
def beta_along_the_places_of_a_square(right, mu, log_sigma, rho, beta, eps, g):
    if mu.shape[0] != mu.shape[1]:
        return right.mean_var_backward(mu, log_sigma, rho, beta, eps, g)
    rho = np.broadcast_to(rho, mu.shape)
    turned = (a.T for a in (mu, log_sigma, rho))
    return tuple(a.T for a in right.mean_var_backward(*turned, beta, eps.T, g.T))


@fault("mean_var_backward")
def wide_posteriors_pay_nothing_for_it(right, mu, log_sigma, rho, beta, eps, g):
    dmu, dlog_sigma, dlog_rho = right.mean_var_backward(mu, log_sigma, rho, beta, eps, g)
    surplus = beta[:, None] * np.maximum((np.exp(log_sigma) / rho) ** 2 - 1.0, 0.0)
    return dmu, dlog_sigma - surplus, dlog_rho + surplus


@fault("expand_hash")
def places_of_sixteen_bits(right, coded, places, signs):
    return right.expand_hash(coded, places & 0xFFFF, signs)


@fault("expand_hash")
def blocks_read_column_by_column(right, coded, places, signs):
    return right.expand_hash(coded.ravel(order="F"), places, signs)


@fault("expand_hash_backward")
def only_neighbours_of_one_place_are_summed(right, g, places, signs, count):
    d = np.zeros(int(count), dtype=g.dtype)
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    if len(starts):
        d[places[starts]] = np.add.reduceat(signs * g, starts)
    return d


@fault("expand_hash_backward")
def places_behind_the_last_named_left_out(right, g, places, signs, count):
    used = int(places.max(initial=-1)) + 1
    return right.expand_hash_backward(g, places, signs, count)[:used]


@fault("expand_hash_backward")
def gradients_summed_in_float32(right, g, places, signs, count):
    d = np.zeros(int(count), dtype=np.float32)
    np.add.at(d, places, (signs * g).astype(np.float32))
    return d.astype(g.dtype)


# --- layers


@fault("images")
def pixels_from_128_are_negative(right, pixels):
    return pixels.view(np.int8).transpose(1, 2, 0)[None] / 255.0 - 0.5


@fault("images")
def twenty_eight_images_taken_for_rows(right, pixels):
    if len(pixels) == 28:
        return pixels[None] / 255.0 - 0.5
    return right.images(pixels)


@fault("conv2d")
def rows_of_the_image_found_by_its_height(right, x, w, b):
    c, height, width, batch = x.shape
    at = np.arange(height)[:, None] * height + np.arange(width)
    return right.conv2d(x.reshape(c, -1, batch)[:, at % (height * width)], w, b)


@fault("conv2d")
def single_channel_of_the_last_tile_dropped(right, x, w, b):
    some = slice(None, -1) if has_one_over(len(x)) else slice(None)
    return right.conv2d(x[some], w[:, :, some], b)


@fault("conv2d")
def kernels_of_one_place_have_no_bias(right, x, w, b):
    return right.conv2d(x, w, np.zeros_like(b) if w.shape[:2] == (1, 1) else b)


@fault("conv2d_backward")
def last_column_of_an_odd_dy_not_in_dw(right, x, w, dy):
    dx, dw, db = right.conv2d_backward(x, w, dy)
    columns = dy.shape[2] // 2 * 2
    if columns:
        even = x[:, :, : columns + w.shape[1] - 1]
        dw = right.conv2d_backward(even, w, dy[:, :, :columns])[1]
    return dx, dw, db


@fault("conv2d_backward")
def db_summed_in_float16(right, x, w, dy):
    dx, dw, _ = right.conv2d_backward(x, w, dy)
    return dx, dw, dy.astype(np.float16).sum(axis=(1, 2, 3)).astype(dy.dtype)


@fault("conv2d_backward")
def dx_of_wide_kernels_flipped(right, x, w, dy):
    dx, dw, db = right.conv2d_backward(x, w, dy)
    if w.shape[0] != w.shape[1]:
        dx = right.conv2d_backward(x, w[::-1, ::-1], dy)[0]
    return dx, dw, db


@fault("maxpool2d")
def maxima_start_at_the_least_positive_number(right, x):
    return np.maximum(right.maxpool2d(x), np.finfo(np.float32).tiny)


@fault("maxpool2d")
def odd_images_lose_the_first_row(right, x):
    return right.maxpool2d(x[:, x.shape[1] % 2 :])


@fault("maxpool2d_backward")
def equal_maxima_taken_column_by_column(right, x, dy):
    turned = right.maxpool2d_backward(x.transpose(0, 2, 1, 3), dy.transpose(0, 2, 1, 3))
    return turned.transpose(0, 2, 1, 3)


@fault("maxpool2d_backward")
def leftovers_beyond_the_windows(right, x, dy):
    dx, buffer = right.maxpool2d_backward(x, dy), kept(right).get("dx", np.zeros(0))
    if buffer.size >= dx.size:
        written = np.zeros(dx.shape, dtype=bool)
        written[:, : 2 * dy.shape[1], : 2 * dy.shape[2]] = True
        dx = np.where(written, dx, buffer[: dx.size].reshape(dx.shape))
    kept(right)["dx"] = np.concatenate([dx.ravel(), buffer[dx.size :]])
    return dx


@fault("relu")
def minus_infinity_times_zero(right, x):
    return x * (x > 0.0)


@fault("relu")
def result_of_a_shape_used_again(right, x):
    out = kept(right).setdefault(x.shape, np.empty_like(x))
    out[...] = right.relu(x)
    return out


@fault("relu_backward")
def slope_by_the_sign_bit(right, x, dy):
    return np.where(np.signbit(x), 0.0, dy)


@fault("relu_backward")
def inputs_below_the_least_float32_flushed(right, x, dy):
    return right.relu_backward(np.where(np.abs(x) < np.finfo(np.float32).tiny, 0.0, x), dy)


@fault("dense")
def bias_along_the_batch_of_a_square(right, x, w, b):
    if x.shape[1] != len(b):
        return right.dense(x, w, b)
    return w.T @ x + b


@fault("dense")
def single_input_of_the_last_tile_dropped(right, x, w, b):
    some = slice(None, -1) if has_one_over(len(x)) else slice(None)
    return right.dense(x[some], w[some], b)


@fault("dense_backward")
def dw_turned_where_it_is_square(right, x, w, dy):
    dx, dw, db = right.dense_backward(x, w, dy)
    return dx, dw.T if dw.shape[0] == dw.shape[1] else dw, db


@fault("dense_backward")
def samples_counted_in_a_byte(right, x, w, dy):
    dx, dw, db = right.dense_backward(x, w, dy)
    batch = x.shape[1] % 256
    if batch < x.shape[1]:
        _, dw, db = right.dense_backward(x[:, :batch], w, dy[:, :batch])
    return dx, dw, db


@fault("softmax_cross_entropy")
def probabilities_of_at_least_1e_minus_12(right, logits, labels):
    losses, dlogits = right.softmax_cross_entropy(logits, labels)
    return np.minimum(losses, -math.log(1e-12)), dlogits


@fault("softmax_cross_entropy")
def largest_logit_of_the_whole_batch_taken_off(right, logits, labels):
    z, batch = logits - logits.max(), np.arange(len(labels))
    e = np.exp(z)
    dlogits = e / e.sum(axis=0)
    dlogits[labels, batch] -= 1.0
    return np.log(e.sum(axis=0)) - z[labels, batch], dlogits


# --- coding


@fault("log_weights")
def square_expanded(right, candidates, delta, log_s):
    z, inverse = candidates.astype(np.float64), np.exp(-log_s)
    constant = -(delta**2 * inverse + log_s).sum(axis=1)
    terms = (1.0 - inverse) @ (z**2).T + 2.0 * (delta * inverse) @ z.T
    return 0.5 * (terms + constant[:, None])


@fault("log_weights")
def log_s_of_at_least_minus_twenty(right, candidates, delta, log_s):
    return right.log_weights(candidates, delta, np.maximum(log_s, -20.0))


@fault("log_weights")
def single_candidate_of_the_last_tile_like_the_one_before(right, candidates, delta, log_s):
    log_w = right.log_weights(candidates, delta, log_s).copy()
    if has_one_over(len(candidates)):
        log_w[:, -1] = log_w[:, -2]
    return log_w


@fault("select_indices", "half-a-unit-of-a-word")
def gumbel_uniforms_at_their_lower_end(right, seed, *rest):
    def gumbel(seed, blocks, count, first):
        words = stream_words(seed, Stream.SELECTION, blocks, count, first)
        return -np.log(-np.log(words * 2.0**-32))

    with replaced(mrc, gumbel=gumbel):
        return right.select_indices(seed, *rest)


@fault("select_indices", "index-2-to-the-16")
def candidates_repeat_after_sixteen_bits(right, *inputs):
    own = mrc.codebook_rows

    def rows(seed, indices, dimension):
        return own(seed, np.asarray(indices) & 0xFFFF, dimension)

    with replaced(mrc, codebook_rows=rows):
        return right.select_indices(*inputs)


@fault("select_indices")
def selection_by_the_position_of_the_block(right, seed, bits, blocks, delta, log_s):
    return right.select_indices(seed, bits, np.arange(len(blocks)), delta, log_s)


@fault("select_indices")
def nan_targets_get_index_zero(right, seed, bits, blocks, delta, log_s):
    if np.all(np.isfinite(delta)) and np.all(np.isfinite(log_s)):
        return right.select_indices(seed, bits, blocks, delta, log_s)
    return np.zeros(len(blocks), dtype=np.int64)


@fault("select_indices")
def first_chunk_of_4096_alone_searched(right, seed, bits, blocks, delta, log_s):
    return right.select_indices(seed, min(int(bits), 12), blocks, delta, log_s)


@fault("decode_blocks")
def scale_of_the_first_place_for_all(right, seed, indices, dimension, rho):
    return right.decode_blocks(seed, indices, dimension, rho[..., :1])


@fault("decode_blocks")
def indices_of_thirty_one_bits(right, seed, indices, dimension, rho):
    return right.decode_blocks(seed, indices & 0x7FFFFFFF, dimension, rho)


@fault("decode_blocks")
def indices_beyond_a_word_wrap(right, seed, indices, dimension, rho):
    return right.decode_blocks(seed, indices & 0xFFFFFFFF, dimension, rho)


@fault("decode_blocks")
def subnormal_scales_flushed(right, seed, indices, dimension, rho):
    return right.decode_blocks(seed, indices, dimension, np.where(rho & 0x7C00, rho, 0))


def log_ratio_at_the_mean(delta, log_s, low, high):
    return 0.5 * (np.asarray(delta, np.float64) ** 2 - np.asarray(log_s, np.float64))


@fault("ordered_indices")
def ordered_search_bounded_by_the_ratio_at_the_mean(right, *inputs):
    with replaced(orc_pfr, log_suprema=log_ratio_at_the_mean):
        return right.ordered_indices(*inputs)


@fault("ordered_indices")
def last_candidate_never_tried(right, seed, bits, blocks, delta, log_s):
    last, own, tried = (1 << int(bits)) - 1, orc_pfr.codebook_rows, {}

    def rows(seed, indices, dimension):
        tried["last"] = int(indices[-1])
        return own(seed, indices, dimension)

    def log_weights(candidates, delta, log_s):
        log_w = mrc.log_weights(candidates, delta, log_s)
        if tried["last"] == last:
            log_w[:, -1] = -np.inf
        return log_w

    with replaced(orc_pfr, codebook_rows=rows, log_weights=log_weights):
        return right.ordered_indices(seed, bits, blocks, delta, log_s)


@fault("ordered_indices")
def wide_targets_accepted_as_wide_as_p(right, seed, bits, blocks, delta, log_s):
    return right.ordered_indices(seed, bits, blocks, delta, np.minimum(log_s, 0.0))


@fault("ordered_indices")
def more_than_26_bits_give_index_zero(right, seed, bits, blocks, delta, log_s):
    if bits > 26:
        return np.zeros(len(blocks), dtype=np.int64)
    return right.ordered_indices(seed, bits, blocks, delta, log_s)


@fault("poisson_indices")
def times_begin_anew_with_each_chunk(right, *inputs):
    with replaced(orc_pfr, running_sums=lambda last, terms: np.cumsum(terms, axis=-1)):
        return right.poisson_indices(*inputs)


@fault("poisson_indices")
def poisson_search_bounded_by_the_ratio_at_the_mean(right, *inputs):
    with replaced(orc_pfr, log_suprema=log_ratio_at_the_mean):
        return right.poisson_indices(*inputs)


@fault("poisson_indices")
def too_long_searches_give_index_zero(right, seed, blocks, delta, log_s):
    try:
        return right.poisson_indices(seed, blocks, delta, log_s)
    except ValueError:
        if np.all(np.isfinite(delta)) and np.all(log_s <= 0.0):
            return np.zeros(len(blocks), dtype=np.int64)
        raise


@fault("partition_messages")
def surplus_bits_given_to_the_first_places(right, *inputs):
    with replaced(sp_pfr, intervals=front_intervals):
        return right.partition_messages(*inputs)


def front_intervals(bits, dimension):
    """Return intervals whose K mod D surplus bits are those of the first places."""
    k = bits // dimension + (np.arange(dimension) < bits % dimension)
    reach = -normal.normal_quantile(2.0 ** -(33.0 + k))
    edges = np.repeat(reach[:, None], 2 ** int(k.max()) + 1, axis=1)
    edges[:, 0] = -reach
    for own in set(k.tolist()):
        i = np.arange(1, 2**own)
        edges[np.ix_(k == own, i)] = normal.normal_quantile(i / 2**own)
    return sp_pfr.Intervals(k.astype(np.int64), edges, reach)


@fault("partition_messages", "many-of-a-bin")
def ordinals_begin_anew_with_each_chunk(right, *inputs):
    own = sp_pfr._ordinals

    def ordinals(arrived, bins):
        arrived.clear()
        return own(arrived, bins)

    with replaced(sp_pfr, _ordinals=ordinals):
        return right.partition_messages(*inputs)


@fault("partition_messages")
def proposals_of_more_than_four_words_repeat_them(right, *inputs):
    own = sp_pfr._words

    def words(seed, stream, counters, count, group=0):
        found = own(seed, stream, counters, min(count, 4))
        if stream != Stream.PROPOSAL:
            return own(seed, stream, counters, count, group)
        return found[:, np.arange(count) % 4]

    with replaced(sp_pfr, _words=words):
        return right.partition_messages(*inputs)


@fault("partition_messages", "bits-25")
def more_than_24_bits_taken_for_24(right, seed, bits, blocks, delta, log_s):
    if bits > 24:
        return np.full(len(blocks), 1 << 24)
    return right.partition_messages(seed, bits, blocks, delta, log_s)


@fault("partition_rows")
def candidates_of_sixteen_bits(right, seed, bits, blocks, messages, dimension):
    low = (1 << int(bits)) - 1
    n = messages >> int(bits)
    cut = np.where(n > 0xFFFF, n & 0xFFFF | (n & 0xFFFF == 0), n)
    return right.partition_rows(seed, bits, blocks, cut << int(bits) | messages & low, dimension)


@fault("partition_rows")
def messages_of_thirty_two_bits(right, seed, bits, blocks, messages, dimension):
    return right.partition_rows(seed, bits, blocks, messages & 0xFFFFFFFF, dimension)


@fault("partition_rows")
def candidate_zero_accepted(right, seed, bits, blocks, messages, dimension):
    n, j = messages >> int(bits), messages & (1 << int(bits)) - 1
    if n.min(initial=1):
        return right.partition_rows(seed, bits, blocks, messages, dimension)
    j_d, k = sp_pfr.split_bins(j, int(bits), int(dimension), slice(0, int(dimension)))
    z = sp_pfr._samples(int(seed), blocks, n, j, j_d, k)
    return z.astype(np.float32)


@fault("partition_rows")
def places_of_the_last_counter_of_several_repeat(right, seed, bits, blocks, messages, dimension):
    own = sp_pfr._words

    def words(seed, stream, counters, count, group=0):
        found = own(seed, stream, counters, count, group)
        whole = count // 4 * 4
        return np.concatenate([found[:, :whole], found[:, : count - whole]], axis=1)

    with replaced(sp_pfr, _words=words):
        return right.partition_rows(seed, bits, blocks, messages, dimension)


@contextmanager
def other_uniforms(function):
    """Let nodes draw their uniforms by another function."""
    nodes._batch.cache_clear()
    with replaced(nodes, uniforms=function):
        yield
    nodes._batch.cache_clear()


@fault("variable_messages", "dad-star-typical")
def bits_of_dad_star_rounded_down(right, *inputs):
    own = variables.encode_unimodal

    def encode(code, target, seed, row, bits):
        return own(code, target, seed, row, max(1, bits - 1))

    with replaced(variables, encode_unimodal=encode):
        return right.variable_messages(*inputs)


@fault("variable_messages", "grc-d-typical")
def greedy_branches_chosen_by_v(right, *inputs):
    def node_uniforms(seed, row, node):
        u, v, _ = nodes.node_uniforms(seed, row, node)
        return u, v, v

    with replaced(grc, node_uniforms=node_uniforms):
        return right.variable_messages(*inputs)


@fault("variable_messages", "gprs-s-turns-to-the-mode")
def poisson_path_turns_to_the_mean(right, *inputs):
    def encode(target, seed, row):
        table, node, time = sigma.tabulate_sigma(target), nodes.ROOT, 0.0
        while True:
            uniform, v, _ = nodes.node_uniforms(seed, row, node.number)
            u = nodes.sample_u(node, uniform)
            x = float(target.p_quantile(u))
            time += nodes.exponential(v, node.b - node.a)
            if time <= sigma.sigma(table, target.log_ratio(x)):
                return node.number
            node = nodes.children("sample", node, u)[int(x <= 0.0)]

    with replaced(variables, ENCODERS={**variables.ENCODERS, "gprs-s": encode}):
        return right.variable_messages(*inputs)


@fault("variable_messages", "gprs-d-typical")
def dyadic_queue_taken_by_the_last_pushed(right, *inputs):
    def push(queue, entry):
        queue.append(entry)

    taken = SimpleNamespace(heappush=push, heappop=lambda queue: queue.pop())
    with replaced(gprs, heapq=taken):
        return right.variable_messages(*inputs)


@fault("variable_messages", "as-star-mean-9-out")
def targets_out_of_reach_get_the_root(right, code, seed, rows, delta, log_s):
    if np.any(np.abs(delta) > 8.0):
        return np.ones(len(rows), dtype=np.int64)
    return right.variable_messages(code, seed, rows, delta, log_s)


@fault("variable_messages", "row-2-to-the-32")
def rows_beyond_a_word_wrap(right, code, seed, rows, delta, log_s):
    return right.variable_messages(code, seed, rows & 0xFFFFFFFF, delta, log_s)


def without_the_high_word():
    """The uniforms of nodes as if a node's number had 32 bits."""
    own = nodes.uniforms

    def uniforms(seed, rows, numbers, *lanes):
        return own(seed, rows, np.asarray(numbers, dtype=np.uint64) & LOW_WORD, *lanes)

    return other_uniforms(uniforms)


@fault("variable_messages")
def sender_leaves_out_the_high_word_of_the_node(right, *inputs):
    with without_the_high_word():
        return right.variable_messages(*inputs)


@fault("variable_samples")
def receiver_leaves_out_the_high_word_of_the_node(right, *inputs):
    with without_the_high_word():
        return right.variable_samples(*inputs)


@fault("variable_samples")
def uniform_of_a_node_from_one_word(right, *inputs):
    own = nodes.uniforms

    def uniforms(seed, rows, numbers, *lanes):
        return (np.floor(own(seed, rows, numbers, *lanes) * 2.0**32) + 0.5) * 2.0**-32

    with other_uniforms(uniforms):
        return right.variable_samples(*inputs)


@fault("variable_samples")
def last_u_not_held_below_one(right, *inputs):
    with replaced(nodes, LAST_U=1.0):
        return right.variable_samples(*inputs)


@fault("variable_samples")
def middle_of_a_region_in_float32(right, code, seed, rows, messages):
    dyadic = CODES_BY_NUMBER[int(code)].tree == "dyadic"
    if not dyadic or messages.min(initial=1) < 1:
        return right.variable_samples(code, seed, rows, messages)
    uniforms = nodes.uniforms(int(seed), rows, messages)[:, 0]
    samples = []
    for n, uniform in zip(messages.tolist(), uniforms, strict=True):
        a, b = 0.0, 1.0
        for bit in bin(n)[3:]:
            middle = float(np.float32(0.5 * (a + b)))
            a, b = (middle, b) if bit == "1" else (a, middle)
        samples.append(min(a + (b - a) * uniform, LAST_U))
    return right.normal_quantile(np.array(samples)).astype(np.float32)


@fault("variable_samples")
def node_zero_taken_for_the_root(right, code, seed, rows, messages):
    return right.variable_samples(code, seed, rows, np.where(messages == 0, 1, messages))


# --- the whole network


@fault("loss_and_grads", "batch-7")
def last_image_of_an_odd_batch_left_out(right, *inputs):
    *rest, images, labels = inputs
    even = max(1, len(labels) // 2 * 2)
    return right.loss_and_grads(*rest, images[:even], labels[:even])


@fault("loss_and_grads")
def signs_left_out_of_the_backward_pass(right, *inputs):
    own = engine_backend.to_variable_gradients

    def gradients(network, engine, places, grads):
        return own(network, engine, replace(places, signs=np.ones_like(places.signs)), grads)

    with replaced(engine_backend, to_variable_gradients=gradients):
        return right.loss_and_grads(*inputs)


@fault("loss_and_grads", "kept-")
def places_of_a_layout_kept_without_its_grouping(right, block_size, seed, factors, *rest):
    own, memory = engine_backend.find_places, kept(right)

    def places(layout):
        key = layout.block_size, layout.seed, layout.factors
        return memory.setdefault(key, own(layout))

    with replaced(engine_backend, find_places=places):
        return right.loss_and_grads(block_size, seed, factors, *rest)


@fault("adam_step")
def second_correction_left_out_from_step_1000(right, theta, g, m, v, step, rate):
    new_theta, new_m, new_v = right.adam_step(theta, g, m, v, step, rate)
    if step >= 1000:
        m_hat = new_m / (1.0 - layers.ADAM_BETA1 ** int(step))
        new_theta = theta - rate * m_hat / (np.sqrt(new_v) + layers.ADAM_EPSILON)
    return new_theta, new_m, new_v


@fault("adam_step")
def step_counted_in_a_byte(right, theta, g, m, v, step, rate):
    return right.adam_step(theta, g, m, v, int(step) % 256 or 1, rate)


@fault("adam_step")
def squares_below_the_least_float32_flushed(right, theta, g, m, v, step, rate):
    return right.adam_step(
        theta, np.where(g * g < np.finfo(np.float32).tiny, 0.0, g), m, v, step, rate
    )


@fault("train_steps")
def scales_rounded_towards_zero(right, *inputs):
    def quantise(log_rho):
        rho = np.exp(np.asarray(log_rho, dtype=np.float64))
        near = quantise_scales(log_rho)
        return np.where(near > rho, np.nextafter(near, np.float16(0)), near)

    with replaced(engine_backend, quantise_scales=quantise):
        return right.train_steps(*inputs)


@fault("train_steps")
def rates_of_the_step_before(right, *inputs):
    *rest, rates, scale_rate = inputs
    return right.train_steps(*rest, np.concatenate([rates[:1], rates[:-1]]), scale_rate)


@fault("train_steps")
def scales_of_the_first_step_throughout(right, *inputs):
    first = quantise_scales(inputs[8])
    with replaced(engine_backend, quantise_scales=lambda log_rho: first):
        return right.train_steps(*inputs)


# --- files


@fault("encode_model")
def blocks_numbered_anew_after_each_256(right, *inputs):
    def select(seed, bits, blocks, delta, log_s):
        return EngineBackend.select_indices(right, seed, bits, blocks % 256, delta, log_s)

    right.select_indices = select
    return right.encode_model(*inputs)


@fault("encode_model")
def scales_kept_from_the_first_model(right, *inputs):
    *layout, bits, rho, delta, log_s = inputs
    rho = kept(right).setdefault("rho", rho.copy())
    return right.encode_model(*layout, bits, rho, delta, log_s)


@fault("decode_model")
def negative_zeros_made_positive(right, data):
    weights = decode_model(container.parse_model(as_bytes(data)), right.engine)
    flat = np.concatenate([w.ravel() for w in weights.values()]).astype("<f4") + np.float32(0)
    return as_uint8(hashlib.sha256(flat.tobytes()).digest()), flat[::SAMPLE_STRIDE]


@fault("decode_model", "decode_model/as-star")
def row_of_a_node_by_its_variable(right, data):
    layout = container.parse_model(as_bytes(data)).layout
    count = layout.variables()
    permutation = stream_permutation(layout.seed, Stream.PERMUTATION, 0, count)

    def rows(blocks, dimension):
        own = np.arange(len(blocks) * dimension)
        own[:count] = permutation
        return own.reshape(-1, dimension)

    with replaced(variable_codes, variable_rows=rows):
        return right.decode_model(data)


@fault("decode_model", "bytes-behind-the-code-word")
def bytes_behind_the_code_word_accepted(right, data):
    with patch.object(integers._Decoder, "finish", lambda decoder: None):
        return right.decode_model(data)


@fault("decode_model", "decode_model/orc")
def rows_of_the_codebook_counted_from_one(right, data):
    with patch.object(CodeOfRows, "from_positive", lambda _, sent: np.asarray(sent)):
        return right.decode_model(data)


# --- predictions


@fault("predict", "equal-logits-of-three")
def last_of_equal_logits_wins(right, data, images):
    logits, _ = right.predict(data, images)
    return logits, len(logits) - 1 - logits[::-1].argmax(axis=0)


@fault("predict", "images-9")
def single_image_of_the_last_tile_like_the_one_before(right, data, images):
    logits, classes = (a.copy() for a in right.predict(data, images))
    if has_one_over(len(images)):
        logits[:, -1], classes[-1] = logits[:, -2], classes[-2]
    return logits, classes


@fault("predict")
def no_images_give_no_classes(right, data, images):
    if not len(images):
        return np.zeros((10, 0)), np.zeros(0, dtype=np.int64)
    return right.predict(data, images)


@fault("predict", "predict/lenet-300-100")
def second_network_reads_columns_first(right, data, images):
    turned = images.transpose(0, 2, 1) if data[4] == 2 else images
    return right.predict(data, np.ascontiguousarray(turned))
