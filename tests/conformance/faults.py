"""Faults that people really make, one at a time, planted in an otherwise right backend.

Each is a function that stands in for one operation; `right` is the backend that it spoils.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.special

from refmiracle.codes.table import CODES_BY_NUMBER
from refmiracle.conformance import engine_backend
from refmiracle.conformance.engine_backend import EngineBackend, as_bytes, as_uint8
from refmiracle.fileformat.bits import pack_indices
from refmiracle.fileformat.payload import Integers
from refmiracle.numerics import normal, philox
from refmiracle.numerics.philox import Stream, stream_words, words_to_uniform


@dataclass(frozen=True)
class Fault:
    """A fault, the operation that has it, and what a case that catches it is called."""

    name: str
    operation: str
    caught_by: str
    function: Callable[..., Any]


Register = Callable[..., Callable[[Callable[..., Any]], Any]]


def registers_in(faults: list[Fault]) -> Register:
    """Return a decorator that puts a function into a list of faults, as one of an operation."""

    def fault(operation: str, caught_by: str = "") -> Callable[[Callable[..., Any]], Any]:
        def register(function):
            faults.append(Fault(function.__name__, operation, caught_by, function))
            return function

        return register

    return fault


FAULTS: list[Fault] = []
fault = registers_in(FAULTS)


def spoil(planted: Fault) -> EngineBackend:
    """Return the reference engine with one operation replaced."""
    right, spoiled = engine_backend.numpy_backend(), engine_backend.numpy_backend()
    spoiled.name = f"a backend with the fault {planted.name}"
    setattr(spoiled, planted.operation, lambda *inputs: planted.function(right, *inputs))
    return spoiled


# --- bits


@fault("philox4x32")
def seven_rounds(right, counter, key):
    return philox.philox4x32(counter, key, rounds=7)


@fault("philox4x32")
def halves_of_the_products_swapped(right, counter, key):
    return right.philox4x32(counter, key)[..., [1, 0, 3, 2]]


@fault("philox4x32")
def key_words_swapped(right, counter, key):
    return right.philox4x32(counter, key[::-1])


@fault("stream_words")
def off_by_one_counter(right, seed, stream, row, first, count):
    return right.stream_words(seed, stream, row, first + 4, count)


@fault("stream_words")
def row_and_position_swapped(right, seed, stream, row, first, count):
    blocks = np.arange(int(first) // 4, int(first + count) // 4 + 1)
    counter = np.zeros((len(blocks), 4), dtype=np.uint64)
    counter[:, 0], counter[:, 1] = row, blocks
    words = right.philox4x32(counter, (int(seed), int(stream))).ravel()
    return words[int(first) % 4 :][: int(count)]


@fault("stream_words", "stream-")
def stream_reduced_to_a_word(right, seed, stream, row, first, count):
    return right.stream_words(seed, int(stream) % 2**32, row, first, count)


@fault("stream_permutation", "stream-")
def stream_of_a_permutation_reduced_to_a_word(right, seed, stream, row, count):
    return right.stream_permutation(seed, int(stream) % 2**32, row, count)


@fault("stream_permutation")
def inverse_permutation(right, *inputs):
    return np.argsort(right.stream_permutation(*inputs))


@fault("stream_permutation")
def words_compared_as_signed(right, seed, stream, row, count):
    words = stream_words(int(seed), int(stream), [int(row)], int(count))[0]
    return np.argsort(words.view(np.int32), kind="stable")


@fault("pack_indices")
def lowest_bit_first(right, indices, bits):
    bits = int(bits)
    flat = (indices[:, None] >> np.arange(bits) & 1).astype(np.uint8)
    return np.packbits(flat)


@fault("pack_indices", "index-")
def indices_out_of_range_are_cut(right, indices, bits):
    return as_uint8(pack_indices(indices & ((1 << int(bits)) - 1), int(bits)))


@fault("unpack_indices", "padding")
def padding_bits_not_checked(right, payload, bits, count):
    used = int(bits) * int(count)
    whole = np.unpackbits(payload)
    whole[used:] = 0
    return right.unpack_indices(np.packbits(whole), bits, count)


@fault("read_integers", "behind-the-end")
def bytes_behind_the_integers_ignored(right, payload, count, theta, raw):
    for end in range(len(payload), 0, -1):
        try:
            return right.read_integers(payload[:end], count, theta, raw)
        except ValueError:
            continue
    return right.read_integers(payload, count, theta, raw)


@fault("read_integers", "not-the-lowest-word")
def every_word_of_the_interval_accepted(right, *inputs):
    return decode_integers(*inputs)


@fault("read_integers")
def a_one_takes_the_upper_part(right, *inputs):
    return decode_integers(*inputs, one_below=False)


@fault("read_integers", "raw-")
def raw_bits_behind_the_rest(right, *inputs):
    return decode_integers(*inputs, raw_first=False)


@fault("read_integers", "integer-2-to-the")
def integers_of_any_size_cut_down(right, *inputs):
    return decode_integers(*inputs, largest=200)


@fault("read_integers", "one-integer-above-the-limit")
def lists_of_any_length(right, *inputs):
    name = "refmiracle.fileformat.integers.LARGEST_COUNT"
    return patched(name, 2**62, right.read_integers)(*inputs)


def decode_integers(payload, count, theta, raw, one_below=True, raw_first=True, largest=61):
    """Integers of the range coder; nothing is checked behind the last."""
    data = as_bytes(payload) + bytes(4)
    ahead, width, taken = int.from_bytes(data[:4], "big"), 2**32 - 1, 4

    def decide(p):
        nonlocal ahead, width, taken
        bound = (width >> 16) * p
        if one_below:
            bit = ahead < bound
            passed = 0 if bit else bound
        else:
            bit = ahead >= width - bound
            passed = width - bound if bit else 0
        ahead, width = ahead - passed, bound if bit else width - bound
        while width < 2**24:
            ahead, width, taken = ahead << 8 | data[taken], width << 8, taken + 1
        return bit

    def bits(number, value):
        for _ in range(number):
            value = 2 * value + decide(2**15)
        return value

    out, raw = [], int(raw)
    for _ in range(int(count)):
        j, e = bits(raw, 0) if raw_first else 0, 0
        while decide(int(theta)) and e < largest:
            e += 1
        n = bits(e, 1)
        j = j if raw_first else bits(raw, 0)
        out.append((n << raw | j) & (2**62 - 1))
    return np.array(out, dtype=np.int64)


@fault("write_integers", "carry")
def carry_forgotten(right, *inputs):
    with_fault = patched(
        "refmiracle.fileformat.integers._carry", lambda out: None, right.write_integers
    )
    return with_fault(*inputs)


@fault("write_integers")
def all_bytes_of_the_register_at_the_end(right, *inputs):
    return np.concatenate([right.write_integers(*inputs), np.zeros(2, dtype=np.uint8)])


@fault("write_integers")
def theta_of_the_zero(right, integers, theta, raw):
    return right.write_integers(integers, 65536 - theta, raw)


@fault("write_integers", "integer-")
def integers_out_of_range_cut(right, integers, theta, raw):
    return right.write_integers(np.clip(integers, 1 << int(raw), 2**62 - 1), theta, raw)


def with_right_crc(data):
    body = as_bytes(data)[:-4]
    return as_uint8(body + zlib.crc32(body).to_bytes(4, "little"))


@fault("read_container", "crc")
def checksum_not_checked(right, data):
    return right.read_container(with_right_crc(data) if len(data) > 8 else data)


@fault("read_container", "version")
def version_not_checked(right, data):
    old = data.copy()
    old[3:4] = 1
    return right.read_container(with_right_crc(old) if len(data) > 8 else data)


@fault("read_container", "magic")
def magic_not_checked(right, data):
    named = data.copy()
    named[: len(b"RMC")] = np.frombuffer(b"RMC", np.uint8)[: len(data)]
    return right.read_container(with_right_crc(named) if len(data) > 8 else named)


@fault("read_container", "trailing")
def trailing_bytes_ignored(right, data):
    for end in range(len(data), max(len(data) - 16, 8), -1):
        try:
            return right.read_container(data[:end])
        except ValueError:
            continue
    return right.read_container(data)


@fault("write_container")
def checksum_in_big_endian(right, *inputs):
    data = right.write_container(*inputs)
    return np.concatenate([data[:-4], data[-4:][::-1]])


@fault("block_layout")
def permutation_applied_backwards(right, block_size, seed, factors, grouping, signs, weights):
    layout = engine_backend.lenet5_layout(block_size, seed, factors, grouping, signs)
    permutation = philox.stream_permutation(layout.seed, Stream.PERMUTATION, 0, layout.variables())
    places, own_signs = right.block_layout(block_size, seed, factors, grouping, signs, weights)
    return permutation[permutation[places]], own_signs


@fault("block_layout", "inputs")
def groups_always_along_the_outputs(right, block_size, seed, factors, grouping, signs, weights):
    return right.block_layout(block_size, seed, factors, np.array(0), signs, weights)


@fault("block_layout", "default")
def signs_from_the_lowest_bit(right, block_size, seed, factors, grouping, signs, weights):
    def low_bit(*arguments, **keywords):
        return stream_words(*arguments, **keywords) << np.uint32(31)

    return patched("refmiracle.posterior.blocks.stream_words", low_bit, right.block_layout)(
        block_size, seed, factors, grouping, signs, weights
    )


def patched(name, value, function):
    """Return the function as it is while `name` is replaced."""
    from unittest.mock import patch  # noqa: PLC0415

    def call(*inputs):
        with patch(name, value):
            return function(*inputs)

    return call


def first_of(right, key, value):
    """The value that came first with a key, in the life of a backend."""
    return right.__dict__.setdefault("memory", {}).setdefault(key, value)


def kept(right, key, function, *inputs):
    """The results that a function had when a key came first."""
    memory = right.__dict__.setdefault("memory", {})
    if key not in memory:
        memory[key] = function(*inputs)
    return memory[key]


def key_of(*values):
    return tuple(np.asarray(v).tobytes() for v in values)


def cut(value, bits):
    """Return integers as a type of so many bits holds them."""
    return np.asarray(value) & ((1 << bits) - 1)


@fault("philox4x32", "ends-of-counter-word")
def counters_of_24_bits(right, counter, key):
    return right.philox4x32(cut(counter, 24), key)


@fault("stream_words", "block-2-to-the-16")
def block_counter_of_16_bits(right, seed, stream, row, first, count):
    blocks = np.arange(int(first) // 4, (int(first + count) + 3) // 4) % 2**16
    counter = np.zeros((len(blocks), 4), dtype=np.uint64)
    counter[:, 0], counter[:, 1] = blocks, row
    words = right.philox4x32(counter, (int(seed), int(stream))).ravel()
    return words[int(first) % 4 :][: int(count)]


@fault("stream_words", "block-2-to-the-30")
def first_word_in_32_bits(right, seed, stream, row, first, count):
    return right.stream_words(seed, stream, row, cut(first, 31), count)


@fault("stream_words", "row-2-to-the-16")
def rows_of_16_bits(right, seed, stream, row, first, count):
    return right.stream_words(seed, stream, cut(row, 16), first, count)


@fault("stream_words", "largest-seed")
def seeds_in_float32(right, seed, *rest):
    return right.stream_words(cut(int(np.float32(seed)), 32), *rest)


@fault("stream_words", "beyond-the-end-of-a-row")
def words_behind_the_end_of_a_row(right, seed, stream, row, first, count):
    beyond = first + count > 2**34
    return right.stream_words(seed, stream, row, first - 4 if beyond else first, count)


@fault("stream_words", "kept-")
def words_kept_without_their_place(right, seed, stream, row, first, count):
    return kept(
        right, key_of(seed, stream, row, count), right.stream_words, seed, stream, row, first, count
    )


@fault("stream_permutation", "block-2-to-the-16")
def permutations_of_16_bits(right, *inputs):
    return cut(right.stream_permutation(*inputs), 16)


@fault("stream_permutation", "block-2-to-the-16")
def sort_keys_that_begin_again(right, seed, stream, row, count):
    words = stream_words(int(seed), int(stream), [int(row)], min(int(count), 2**18))[0]
    return np.argsort(np.resize(words, int(count)), kind="stable")


@fault("stream_permutation", "kept-")
def permutations_kept_by_their_size(right, seed, stream, row, count):
    return kept(right, int(count), right.stream_permutation, seed, stream, row, count)


@fault("pack_indices", "bit-2-to-the-16")
def places_of_bits_in_16_bits(right, indices, bits):
    payload = right.pack_indices(indices, bits).copy()
    payload[2**13 :] = 0
    return payload


@fault("unpack_indices", "kept-")
def indices_kept_by_their_bytes(right, payload, bits, count):
    return kept(right, key_of(payload), right.unpack_indices, payload, bits, count)


@fault("unpack_indices", "bits-25")
def widths_that_no_file_has(right, payload, bits, count):
    return right.unpack_indices(payload, bits, count) if int(bits) <= 24 else np.zeros(int(count))


@fault("read_integers", "integer-2-to-the-16")
def integers_counted_in_16_bits(right, payload, count, theta, raw):
    values = right.read_integers(payload, count, theta, raw)
    values[2**16 :] = values[: max(len(values) - 2**16, 0)]
    return values


@fault("read_integers", "kept-")
def integers_kept_without_theta(right, payload, count, theta, raw):
    return kept(right, key_of(payload, count, raw), right.read_integers, payload, count, theta, raw)


@fault("write_integers", "kept-")
def code_words_kept_by_the_sum(right, integers, theta, raw):
    return kept(right, key_of(integers[:2], theta, raw), right.write_integers, integers, theta, raw)


@fault("read_container", "index-of-17-bits")
def indices_of_16_bits(right, data):
    *header, indices = right.read_container(data)
    return (*header, cut(indices, 16))


@fault("read_container", "seed-268435456")
def varints_of_four_bytes(right, data):
    fields = list(right.read_container(data))
    fields[5] = cut(fields[5], 28)
    return tuple(fields)


@fault("write_container", "block-size-65536")
def block_sizes_of_16_bits(right, *fields):
    fields = list(fields)
    data = right.write_container(*fields)
    if fields[4] < 2**16:
        return data
    return with_right_crc(np.concatenate([data[:8], [0], data[11:]]).astype(np.uint8))


@fault("write_container", "kept-")
def files_kept_without_their_scales(right, *fields):
    return kept(right, key_of(*fields[:7], fields[8]), right.write_container, *fields)


def change_field(number, change):
    """A fault of describe_file that changes one field."""

    def function(right, data):
        fields = list(right.describe_file(data))
        fields[number] = change(fields)
        return tuple(fields)

    return function


@fault("describe_file", "dad-star-small")
def codes_of_one_decoder_confused(right, data):
    same = {6: 5, 9: 5, 12: 5, 8: 4, 11: 4, 10: 7}
    return change_field(3, lambda fields: same.get(fields[3], fields[3]))(right, data)


@fault("describe_file", "theta-256")
def theta_read_backwards(right, data):
    def swapped(fields):
        return (fields[5] % 256) * 256 + fields[5] // 256

    return change_field(5, swapped)(right, data)


@fault("describe_file", "grc-d-bits-9")
def bits_forgotten_where_nothing_needs_them(right, data):
    return change_field(4, lambda fields: fields[4] if fields[3] < 4 else 1)(right, data)


@fault("describe_file", "orc-small")
def rows_counted_from_one(right, data):
    return change_field(10, lambda fields: fields[10] + (fields[3] in (1, 2)))(right, data)


@fault("describe_file", "as-star-deep")
def messages_in_float64(right, data):
    return change_field(10, lambda fields: fields[10].astype(np.float64))(right, data)


@fault("describe_file", "coded-lenet-300-100")
def every_network_is_the_first(right, data):
    return change_field(0, lambda fields: 1)(right, data)


@fault("block_layout", "weight-negative")
def weights_counted_from_the_end(right, *inputs):
    return right.block_layout(*inputs[:-1], inputs[-1] % 431080)


@fault("block_layout", "kept-")
def places_kept_by_seed_and_factors(right, block_size, seed, factors, grouping, signs, weights):
    first = first_of(right, key_of(seed, factors), (grouping, signs))
    return right.block_layout(block_size, seed, factors, *first, weights)


@fault("block_layout", "unshared")
def places_of_16_bits(right, *inputs):
    places, signs = right.block_layout(*inputs)
    return cut(places, 16), signs


# --- numerics


def fused_horner(coefficients, x):
    """Horner's rule with a fused multiply-add: one rounding for both."""
    return np.array([_fused(coefficients, Fraction(float(v))) for v in np.ravel(x)]).reshape(
        np.shape(x)
    )


def _fused(coefficients, x):
    value = coefficients[0]
    for c in coefficients[1:]:
        value = float(Fraction(value) * x + Fraction(c))
    return value


@fault("normal_quantile")
def fused_multiply_add_in_the_quantile(right, p):
    valid = np.where((p > 0) & (p < 1), p, 0.5)
    z = patched("refmiracle.numerics.normal.horner", fused_horner, normal.normal_quantile)(valid)
    return np.where((p > 0) & (p < 1), z, np.nan)


@fault("normal_quantile")
def the_quantile_of_a_library(right, p):
    return scipy.special.ndtri(p)


@fault("codebook")
def quantile_in_single_precision(right, seed, indices, dimension):
    words = stream_words(int(seed), Stream.CODEBOOK, indices, int(dimension))
    p = words_to_uniform(words).astype(np.float32).astype(np.float64)
    return normal.normal_quantile(p).astype(np.float32)


@fault("codebook")
def left_end_of_each_cell(right, seed, indices, dimension):
    words = stream_words(int(seed), Stream.CODEBOOK, indices, int(dimension))
    return normal.normal_quantile(words * 2.0**-32).astype(np.float32)


@fault("log_s")
def wrong_branch_of_w(right, x):
    return np.log(-scipy.special.lambertw(-np.exp(-1.0 - x * x), -1).real)


@fault("log_s", "branch")
def cancellation_at_the_branch_point(right, x):
    return np.log(-scipy.special.lambertw(-np.exp(-1.0 - x * x)).real)


@fault("log_s", "underflow")
def logarithm_of_an_underflowed_s(right, x):
    with np.errstate(divide="ignore"):
        return np.log(np.exp(right.log_s(x)))


@fault("ds_dx", "zero")
def slope_zero_at_the_branch_point(right, x):
    return np.where(x == 0.0, 0.0, right.ds_dx(x))


@fault("gaussian_kl")
def kl_with_cancelling_terms(right, delta, log_s):
    return 0.5 * (delta**2 + np.exp(log_s) - 1.0 - log_s)


@fault("gaussian_kl")
def kl_of_p_from_q(right, delta, log_s):
    return right.gaussian_kl(delta * np.exp(-0.5 * log_s), -log_s)


@fault("log_s", "nan")
def exponents_clamped_into_range(right, x):
    return right.log_s(np.fmax(x, 0.0))


@fault("ds_dx", "nan")
def limit_of_the_slope_for_nan(right, x):
    return np.where(x > 0, right.ds_dx(x), -np.sqrt(2.0))


@fault("codebook", "kept-")
def a_codebook_kept_under_the_first_index(right, seed, indices, dimension):
    return kept(
        right,
        key_of(seed, indices[:1], indices.size, dimension),
        right.codebook,
        seed,
        indices,
        dimension,
    )


@fault("codebook", "kept-")
def a_codebook_kept_without_its_seed(right, seed, indices, dimension):
    return kept(right, key_of(indices, dimension), right.codebook, seed, indices, dimension)


@fault("codebook", "ends-of-indices")
def rows_in_signed_words(right, seed, indices, dimension):
    return right.codebook(seed, cut(indices, 31), dimension)


@fault("gaussian_kl", "kept-")
def kl_kept_by_the_means(right, delta, log_s):
    return kept(right, key_of(delta), right.gaussian_kl, delta, log_s)


# --- posterior


@fault("mean_kl")
def bits_for_nats(right, tau, phi, budget):
    return right.mean_kl(tau, phi, budget * np.log(2.0))


@fault("mean_kl")
def budget_split_without_softmax(right, tau, phi, budget):
    share = scipy.special.expit(phi)
    return right.mean_kl(tau, np.log(share), budget)


@fault("mean_kl_forward")
def softmax_without_max(right, tau, phi, rho, budget, eps):
    with np.errstate(all="ignore"):
        e = np.exp(phi)
        share = e / e.sum(axis=1, keepdims=True)
        return right.mean_kl_forward(tau, np.log(share), rho, budget, eps)


@fault("mean_kl_forward")
def noise_scaled_by_the_variance(right, tau, phi, rho, budget, eps):
    _, log_s = right.mean_kl(tau, phi, budget)
    return right.mean_kl_forward(tau, phi, rho, budget, eps * np.exp(0.5 * log_s))


@fault("mean_kl_backward")
def gradient_without_the_softmax_term(right, tau, phi, rho, budget, eps, g):
    dtau, dphi, dlog_rho = right.mean_kl_backward(tau, phi, rho, budget, eps, g)
    share = scipy.special.softmax(phi, axis=1)
    # The row sums of (r/2) G are not at hand: solve for them from sum_j dphi_j = 0.
    with np.errstate(all="ignore"):
        own = np.where(share < 1.0, dphi / (1.0 - share), dphi)
    return dtau, own, dlog_rho


@fault("mean_kl_backward")
def gradient_without_the_noise(right, tau, phi, rho, budget, eps, g):
    return right.mean_kl_backward(tau, phi, rho, budget, np.zeros_like(eps), g)


@fault("mean_kl_backward")
def gradient_by_rho_not_by_its_logarithm(right, tau, phi, rho, budget, eps, g):
    dtau, dphi, dlog_rho = right.mean_kl_backward(tau, phi, rho, budget, eps, g)
    return dtau, dphi, dlog_rho / rho


@fault("mean_var_forward")
def log_variance_for_log_sigma(right, mu, log_sigma, eps):
    return right.mean_var_forward(mu, 0.5 * log_sigma, eps)


@fault("mean_var_backward")
def penalty_without_half_of_its_gradient(right, mu, log_sigma, rho, beta, eps, g):
    dmu, dlog_sigma, dlog_rho = right.mean_var_backward(mu, log_sigma, rho, beta, eps, g)
    return dmu, dlog_sigma, np.zeros_like(dlog_rho)


@fault("mean_kl_forward_around")
def sample_around_0(right, tau, phi, nu, rho, budget, eps):
    return right.mean_kl_forward(tau, phi, rho, budget, eps)


@fault("mean_kl_forward_around")
def nu_scaled_with_the_change(right, tau, phi, nu, rho, budget, eps):
    return right.mean_kl_forward(tau, phi, rho, budget, eps) + rho * nu


@fault("mean_kl_forward_around", "nu-of-each-place")
def one_nu_for_a_block(right, tau, phi, nu, rho, budget, eps):
    return right.mean_kl_forward(tau, phi, rho, budget, eps) + nu[:, :1]


@fault("mean_kl_backward_around")
def nu_scaled_by_rho_in_its_gradient(right, tau, phi, nu, rho, budget, eps, g):
    dtau, dphi, dlog_rho = right.mean_kl_backward(tau, phi, rho, budget, eps, g)
    return dtau, dphi, dlog_rho + g * nu


@fault("mean_var_backward_around", "start-of-an-update")
def penalty_of_the_mean_around_0(right, mu, log_sigma, nu, rho, beta, eps, g):
    return right.mean_var_backward(mu, log_sigma, rho, beta, eps, g)


@fault("mean_var_backward_around")
def penalty_on_the_wrong_side_of_nu(right, mu, log_sigma, nu, rho, beta, eps, g):
    return right.mean_var_backward(nu - mu, log_sigma, rho, beta, eps, g)


@fault("expand_hash")
def missing_sign_of_a_hash(right, variables, places, signs):
    return right.expand_hash(variables, places, np.abs(signs))


@fault("expand_hash_backward")
def missing_sign_in_the_gradient(right, g, places, signs, count):
    return right.expand_hash_backward(g, places, np.abs(signs), count)


@fault("expand_hash_backward")
def shared_gradients_overwritten(right, g, places, signs, count):
    out = np.zeros(int(count))
    out[places] = signs * g
    return out


@fault("mean_kl", "tiny-budget-and-share")
def root_of_a_budget_that_underflowed(right, tau, phi, budget):
    share = scipy.special.softmax(phi, axis=1)
    r = np.sqrt(2.0 * budget * share)
    return r * np.tanh(tau), right.log_s(r / np.cosh(tau))


@fault("mean_kl_backward", "all-but-e-to-minus-60")
def own_term_taken_out_of_the_sum_again(right, *inputs):
    name = "refmiracle.engines.numpy_engine.posterior.others"
    return patched(name, out_of_the_sum, right.mean_kl_backward)(*inputs)


def out_of_the_sum(x):
    return x.sum(axis=1, keepdims=True) - x


@fault("mean_kl", "nan-in-phi")
def share_of_nan_is_nothing(right, tau, phi, budget):
    return right.mean_kl(tau, np.where(np.isnan(phi), -np.inf, phi), budget)


@fault("mean_kl_backward", "nan-in-g")
def sum_over_a_block_that_skips_nan(right, tau, phi, rho, budget, eps, g):
    dtau, _, dlog_rho = right.mean_kl_backward(tau, phi, rho, budget, eps, g)
    _, dphi, _ = right.mean_kl_backward(tau, phi, rho, budget, eps, np.nan_to_num(g))
    return dtau, dphi, dlog_rho


@fault("mean_var_forward", "not-finite")
def deviations_clipped(right, mu, log_sigma, eps):
    return right.mean_var_forward(mu, np.clip(log_sigma, -80.0, 80.0), eps)


@fault("expand_hash_backward", "not-finite")
def sums_that_skip_nan(right, g, places, signs, count):
    return right.expand_hash_backward(np.where(np.isnan(g), 0, g), places, signs, count)


@fault("mean_kl", "kept-")
def the_budget_of_the_first_call(right, tau, phi, budget):
    return right.mean_kl(tau, phi, first_of(right, tau.shape, budget))


@fault("mean_kl_forward", "kept-")
def noise_kept_by_its_shape(right, tau, phi, rho, budget, eps):
    return right.mean_kl_forward(tau, phi, rho, budget, first_of(right, eps.shape, eps))


@fault("mean_kl_backward", "kept-")
def shares_kept_from_the_forward_pass(right, tau, phi, rho, budget, eps, g):
    first = first_of(right, key_of(tau, rho, budget), phi)
    return right.mean_kl_backward(tau, first, rho, budget, eps, g)


@fault("expand_hash", "kept-")
def signs_kept_by_their_places(right, variables, places, signs):
    first = first_of(right, key_of(places), signs)
    return right.expand_hash(variables, places, first)


# --- layers


@fault("images")
def pixels_not_centred(right, pixels):
    return right.images(pixels) + 0.5


@fault("conv2d")
def true_convolution(right, x, w, b):
    return right.conv2d(x, w[::-1, ::-1], b)


@fault("conv2d")
def kernel_axes_swapped(right, x, w, b):
    return right.conv2d(x, w.transpose(1, 0, 2, 3), b)


@fault("conv2d_backward")
def input_gradient_not_flipped(right, x, w, dy):
    _, dw, db = right.conv2d_backward(x, w, dy)
    return right.conv2d_backward(x, w[::-1, ::-1], dy)[0], dw, db


@fault("conv2d_backward")
def bias_gradient_averaged(right, x, w, dy):
    dx, dw, db = right.conv2d_backward(x, w, dy)
    return dx, dw, db / dy[0].size


@fault("maxpool2d_backward", "equal-maxima")
def gradient_to_all_equal_maxima(right, x, dy):
    rows, columns = dy.shape[1:3]
    dx = np.zeros_like(x)
    inside = x[:, : 2 * rows, : 2 * columns]
    top = right.maxpool2d(x).repeat(2, axis=1).repeat(2, axis=2)
    dx[:, : 2 * rows, : 2 * columns] = (inside == top) * dy.repeat(2, axis=1).repeat(2, axis=2)
    return dx


@fault("relu_backward", "zero")
def gradient_one_at_zero(right, x, dy):
    return np.where(x >= 0, dy, 0)


@fault("dense")
def bias_forgotten(right, x, w, b):
    return right.dense(x, w, np.zeros_like(b))


@fault("softmax_cross_entropy")
def losses_in_another_order_of_samples(right, logits, labels):
    losses, dlogits = right.softmax_cross_entropy(logits, labels)
    return losses[::-1], dlogits


@fault("softmax_cross_entropy")
def loss_averaged_over_the_batch(right, logits, labels):
    losses, dlogits = right.softmax_cross_entropy(logits, labels)
    return np.full_like(losses, losses.mean()), dlogits / len(labels)


@fault("softmax_cross_entropy")
def loss_in_bits(right, logits, labels):
    losses, dlogits = right.softmax_cross_entropy(logits, labels)
    return losses / np.log(2.0), dlogits


@fault("softmax_cross_entropy")
def logits_exponentiated_as_they_are(right, logits, labels):
    with np.errstate(all="ignore"):
        e = np.exp(logits)
        p = e / e.sum(axis=0)
        batch = np.arange(len(labels))
        losses = -np.log(p[labels, batch])
    p[labels, batch] -= 1.0
    return losses, p


@fault("softmax_cross_entropy", "sure-and-right")
def one_taken_from_a_probability_near_it(right, logits, labels):
    losses, dlogits = right.softmax_cross_entropy(logits, labels)
    batch = np.arange(len(labels))
    dlogits[labels, batch] = scipy.special.softmax(logits, axis=0)[labels, batch] - 1.0
    return losses, dlogits


@fault("softmax_cross_entropy", "sure-and-right")
def logarithm_of_a_sum_near_one(right, logits, labels):
    z = logits - logits.max(axis=0)
    _, dlogits = right.softmax_cross_entropy(logits, labels)
    return np.log(np.exp(z).sum(axis=0)) - z[labels, np.arange(len(labels))], dlogits


@fault("conv2d", "denormal")
def subnormal_numbers_flushed(right, x, w, b):
    y = right.conv2d(x, w, b)
    return np.where(np.abs(y) < np.finfo(y.dtype).smallest_normal, 0, y)


@fault("conv2d", "nan")
def products_with_zero_left_out(right, x, w, b):
    return right.conv2d(np.where(np.isfinite(x), x, 0), w, b)


@fault("dense", "infinities")
def infinities_clipped(right, x, w, b):
    y = right.dense(x, w, b)
    return np.clip(y, -np.finfo(y.dtype).max, np.finfo(y.dtype).max)


@fault("maxpool2d", "nan")
def maximum_by_ordered_comparison(right, x):
    """A NaN that stands first stays; any other is never larger than what is there."""
    rows, columns = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    top, *others = (x[:, u:rows:2, v:columns:2] for u in (0, 1) for v in (0, 1))
    for other in others:
        top = np.where(other > top, other, top)
    return top


@fault("maxpool2d", "nan")
def maximum_that_skips_nan(right, x):
    return np.fmax.reduce([x[:, u::2, v::2][:, : x.shape[1] // 2] for u in (0, 1) for v in (0, 1)])


@fault("maxpool2d_backward", "nan")
def winner_that_skips_nan(right, x, dy):
    return right.maxpool2d_backward(np.where(np.isnan(x), -np.inf, x), dy)


@fault("maxpool2d_backward", "signed-zeros")
def minus_zero_below_zero(right, x, dy):
    return right.maxpool2d_backward(np.where((x == 0) & np.signbit(x), -1e-30, x), dy)


@fault("relu", "not-finite")
def relu_by_comparison(right, x):
    return np.where(x > 0, x, 0)


@fault("relu", "denormal")
def relu_that_flushes(right, x):
    return np.where(x >= np.finfo(x.dtype).smallest_normal, x, np.where(np.isnan(x), x, 0))


@fault("relu_backward", "not-finite")
def gradient_of_nan_is_zero(right, x, dy):
    return np.where(x > 0, dy, 0)


@fault("relu_backward", "gradient-not-finite")
def gradient_times_a_mask(right, x, dy):
    return dy * (x > 0)


@fault("softmax_cross_entropy", "nan")
def logits_that_are_nan_left_out(right, logits, labels):
    return right.softmax_cross_entropy(np.where(np.isnan(logits), -np.inf, logits), labels)


@fault("softmax_cross_entropy", "minus-infinity")
def logits_clipped(right, logits, labels):
    return right.softmax_cross_entropy(np.clip(logits, -1e4, 1e4), labels)


@fault("conv2d", "kept-")
def kernels_kept_by_their_shape(right, x, w, b):
    return right.conv2d(x, first_of(right, w.shape, w), b)


@fault("dense_backward", "kept-")
def activations_of_the_last_call(right, x, w, dy):
    return right.dense_backward(first_of(right, x.shape, x), w, dy)


@fault("softmax_cross_entropy", "kept-")
def labels_kept_with_their_logits(right, logits, labels):
    return right.softmax_cross_entropy(logits, first_of(right, key_of(logits), labels))


# --- coding


@fault("log_weights")
def density_without_its_scale(right, candidates, delta, log_s):
    return right.log_weights(candidates, delta, log_s) + 0.5 * log_s.sum(axis=1)[:, None]


@fault("log_weights", "q-next-to-p")
def difference_of_like_squares(right, candidates, delta, log_s):
    z, d, v = candidates[None], delta[:, None], log_s[:, None]
    return 0.5 * (z**2 - (z - d) ** 2 * np.exp(-v) - v).sum(axis=2)


@fault("select_indices", "gumbel-")
def biased_gumbel(right, seed, bits, blocks, delta, log_s):
    def exponential(*arguments):
        u = words_to_uniform(stream_words(arguments[0], Stream.SELECTION, *arguments[1:]))
        return -np.log(u)

    name = "refmiracle.engines.numpy_engine.mrc.gumbel"
    return patched(name, exponential, right.select_indices)(seed, bits, blocks, delta, log_s)


@fault("select_indices", "typical")
def the_best_candidate_instead_of_a_sample(right, seed, bits, blocks, delta, log_s):
    rows = right.codebook(seed, np.arange(2 ** int(bits)), np.array(delta.shape[1]))
    return right.log_weights(rows, delta, log_s).argmax(axis=1)


@fault("decode_blocks")
def scales_read_as_bfloat16(right, seed, indices, dimension, rho):
    scales = (np.asarray(rho, np.uint32) << 16).view(np.float32)
    return scales * right.codebook(seed, indices, dimension)


@fault("select_indices", "mean-nan")
def argmax_over_nan(right, seed, bits, blocks, delta, log_s):
    if np.isfinite(delta).all() and np.isfinite(log_s).all():
        return right.select_indices(seed, bits, blocks, delta, log_s)
    return np.full((len(blocks), 2), np.nan).argmax(axis=1)


@fault("log_weights", "nan")
def weights_of_nan_are_nothing(right, candidates, delta, log_s):
    return np.nan_to_num(right.log_weights(candidates, delta, log_s), nan=-np.inf)


@fault("select_indices", "index-2-to-the-16")
def the_chosen_index_in_16_bits(right, *inputs):
    return cut(right.select_indices(*inputs), 16)


@fault("select_indices", "blocks-at-the-ends")
def numbers_of_blocks_in_16_bits(right, seed, bits, blocks, delta, log_s):
    return right.select_indices(seed, bits, cut(blocks, 16), delta, log_s)


@fault("select_indices", "kept-")
def candidates_kept_without_their_bits(right, seed, bits, blocks, delta, log_s):
    first = first_of(right, key_of(seed, delta.shape[1]), bits)
    return right.select_indices(seed, first, blocks, delta, log_s)


@fault("select_indices", "kept-")
def variances_kept_with_their_means(right, seed, bits, blocks, delta, log_s):
    first = first_of(right, key_of(seed, delta), log_s)
    return right.select_indices(seed, bits, blocks, delta, first)


@fault("decode_blocks", "ends-of-indices")
def indices_of_24_bits(right, seed, indices, dimension, rho):
    return right.decode_blocks(seed, cut(indices, 24), dimension, rho)


@fault("decode_blocks", "kept-")
def products_kept_by_seed_and_indices(right, seed, indices, dimension, rho):
    return kept(
        right, key_of(seed, indices, dimension), right.decode_blocks, seed, indices, dimension, rho
    )


# --- the other codes of blocks


@fault("ordered_indices", "bits-too-few")
def arrivals_as_if_there_were_no_last_candidate(right, seed, bits, blocks, delta, log_s):
    return first_arrivals(right, seed, 2 ** int(bits), blocks, delta, log_s)


@fault("ordered_indices", "rows-of-other-blocks")
def variates_by_place_instead_of_by_block(right, seed, bits, blocks, delta, log_s):
    return right.ordered_indices(seed, bits, np.arange(len(blocks)), delta, log_s)


@fault("ordered_indices", "typical")
def gumbel_variates_in_no_order(right, seed, bits, blocks, delta, log_s):
    return right.select_indices(seed, bits, blocks, delta, log_s)


@fault("poisson_indices")
def candidates_counted_from_one(right, *inputs):
    return right.poisson_indices(*inputs) + 1


@fault("poisson_indices")
def search_cut_off_at_sixteen(right, seed, blocks, delta, log_s):
    return first_arrivals(right, seed, 16, blocks, delta, log_s)


def first_arrivals(right, seed, count, blocks, delta, log_s):
    """The Poisson functional representation among the first candidates alone."""
    u = words_to_uniform(stream_words(int(seed), Stream.SELECTION, blocks, count))
    rows = right.codebook(seed, np.arange(count), np.array(delta.shape[1]))
    arrivals = np.cumsum(-np.log(u), axis=1)
    return (np.log(arrivals) - right.log_weights(rows, delta, log_s)).argmin(axis=1)


@fault("partition_messages")
def candidates_of_a_bin_counted_from_zero(right, seed, bits, *inputs):
    return right.partition_messages(seed, bits, *inputs) - 2 ** int(bits)


@fault("partition_messages")
def bin_above_the_number_of_the_candidate(right, seed, bits, *inputs):
    n, j = np.divmod(right.partition_messages(seed, bits, *inputs), 2 ** int(bits))
    return (j << 32) | n


@fault("partition_messages", "several-bits-a-place")
def bits_of_the_last_place_first(right, seed, bits, blocks, delta, log_s):
    messages = right.partition_messages(seed, bits, blocks, delta, log_s)
    n, j = np.divmod(messages, 2 ** int(bits))
    digits, sizes = digits_of_bins(j, bits_of_places(int(bits), delta.shape[1]))
    for digit, size in zip(digits[::-1], sizes[::-1], strict=True):
        n = (n << size) | digit
    return n


@fault("partition_rows", "bits-do-not-divide")
def surplus_bits_to_the_first_places(right, seed, bits, blocks, messages, dimension):
    sizes = sorted(bits_of_places(int(bits), int(dimension)), reverse=True)
    return partition_rows(right, seed, bits, blocks, messages, sizes)


@fault("partition_rows")
def bins_that_share_their_candidates(right, seed, bits, blocks, messages, dimension):
    sizes = bits_of_places(int(bits), int(dimension))
    return partition_rows(right, seed, bits, blocks, messages, sizes, bin_in_counter=False)


@fault("partition_rows", "large-n")
def candidate_and_block_swapped(right, seed, bits, blocks, messages, dimension):
    n, j = np.divmod(messages, 2 ** int(bits))
    sizes = bits_of_places(int(bits), int(dimension))
    swapped = (blocks << int(bits)) | j
    return partition_rows(right, seed, bits, n, swapped, sizes)


@fault("partition_rows", "candidate-0")
def candidate_zero_of_a_bin(right, seed, bits, blocks, messages, dimension):
    sizes = bits_of_places(int(bits), int(dimension))
    return partition_rows(right, seed, bits, blocks, messages, sizes)


def bits_of_places(bits, dimension):
    return np.diff(np.arange(dimension + 1) * bits // dimension).tolist()


def digits_of_bins(bins, sizes):
    """The intervals of bins, place by place, and how many bits each has."""
    digits = []
    for size in sizes[::-1]:
        digits.append(bins & ((1 << size) - 1))
        bins = bins >> size
    return digits[::-1], sizes


def partition_rows(right, seed, bits, blocks, messages, sizes, bin_in_counter=True):
    """The samples of bins, whatever bits the places have."""
    n, j = np.divmod(np.abs(messages), 2 ** int(bits))
    counters = np.zeros((len(n), -(-len(sizes) // 4), 4), dtype=np.int64)
    counters[..., 0], counters[..., 1] = n[:, None], blocks[:, None]
    counters[..., 2] = j[:, None] * bin_in_counter
    counters[..., 3] = np.arange(counters.shape[1])
    words = right.philox4x32(counters.reshape(-1, 4), (int(seed), Stream.PARTITION))
    words = words.reshape(len(n), -1)[:, : len(sizes)]
    digits = np.stack(digits_of_bins(j, sizes)[0], axis=1)
    p = (digits + words_to_uniform(words)) / 2.0 ** np.array(sizes)
    return normal.normal_quantile(p).astype(np.float32)


@fault("ordered_indices", "index-2-to-the-16")
def ordered_indices_in_16_bits(right, *inputs):
    return cut(right.ordered_indices(*inputs), 16)


@fault("ordered_indices", "kept-")
def arrivals_kept_without_the_bits(right, seed, bits, *rest):
    return right.ordered_indices(seed, first_of(right, key_of(seed), bits), *rest)


@fault("poisson_indices", "index-2-to-the-16")
def a_search_that_ends_at_65536(right, *inputs):
    return np.minimum(right.poisson_indices(*inputs), 2**16 - 1)


@fault("partition_messages", "bits-24")
def messages_in_float32(right, *inputs):
    return right.partition_messages(*inputs).astype(np.float32).astype(np.int64)


@fault("partition_messages", "kept-")
def proposals_kept_by_their_block(right, seed, bits, blocks, delta, log_s):
    return kept(
        right,
        key_of(seed, bits, blocks),
        right.partition_messages,
        seed,
        bits,
        blocks,
        delta,
        log_s,
    )


@fault("partition_rows", "bits-24-largest-message")
def candidates_of_31_bits(right, seed, bits, blocks, messages, dimension):
    n, j = np.divmod(messages, 2 ** int(bits))
    return right.partition_rows(seed, bits, blocks, (cut(n, 31) << int(bits)) | j, dimension)


# --- the codes of variables


@fault("variable_messages", "as-star-equal-targets")
def the_same_randomness_for_all_variables(right, code, seed, rows, delta, log_s):
    return right.variable_messages(code, seed, np.zeros_like(rows), delta, log_s)


@fault("variable_messages", "grc-s-typical")
def standard_deviation_for_variance(right, code, seed, rows, delta, log_s):
    return right.variable_messages(code, seed, rows, delta, 0.5 * log_s)


@fault("variable_messages", "grc-d-typical")
def always_split_on_the_sample(right, code, *inputs):
    on_the_sample = {5: 4, 6: 4, 9: 8, 12: 11}
    return right.variable_messages(np.array(on_the_sample.get(int(code), int(code))), *inputs)


@fault("variable_messages", "dad-star-at-its-limit")
def no_limit_on_the_depth(right, code, *inputs):
    return right.variable_messages(np.array(5) if code == 6 else code, *inputs)


@fault("variable_messages", "gprs-typical")
def rejection_without_the_arrival_times(right, code, *inputs):
    return right.variable_messages(code - 3 if code >= 10 else code, *inputs)


@fault("variable_messages", "gprs-s-q-equals-p")
def nodes_counted_from_zero(right, *inputs):
    return right.variable_messages(*inputs) - 1


@fault("variable_messages", "gprs-d-typical")
def left_and_right_swapped_in_the_message(right, *inputs):
    messages = right.variable_messages(*inputs)
    return np.array([m ^ ((1 << int(m).bit_length() - 1) - 1) for m in messages.tolist()])


@fault("variable_messages", "as-star-wider-than-p")
def targets_wider_than_p_cut_down(right, code, seed, rows, delta, log_s):
    return right.variable_messages(code, seed, rows, delta, np.minimum(log_s, 0.0))


@fault("variable_messages", "ad-star-mean-7-out")
def means_far_out_pulled_in(right, code, seed, rows, delta, log_s):
    return right.variable_messages(code, seed, rows, np.clip(delta, -2.0, 2.0), log_s)


@fault("variable_samples", "high-word")
def node_numbers_of_32_bits_in_the_counter(right, *inputs):
    return node_samples(right, *inputs, number=lambda n: n % 2**32)


@fault("variable_samples", "always-right")
def no_limit_on_u(right, *inputs):
    return node_samples(right, *inputs, largest=1.0)


@fault("variable_samples")
def uniforms_of_32_bits(right, *inputs):
    return node_samples(right, *inputs, uniform=lambda w: words_to_uniform(w[0]))


@fault("variable_samples")
def the_senders_uniform_places_the_sample(right, *inputs):
    return node_samples(right, *inputs, uniform=lambda w: uniform_of_words(w[2:]))


@fault("variable_samples", "small-numbers")
def left_and_right_swapped(right, *inputs):
    return node_samples(right, *inputs, turn=lambda bit: 1 - bit)


@fault("variable_samples", "ad-star-rounding")
def u_as_a_weighted_mean_of_the_ends(right, *inputs):
    return node_samples(right, *inputs, place=lambda a, b, u: a * (1.0 - u) + b * u)


@fault("variable_samples", "message-")
def node_numbers_not_checked(right, code, seed, rows, messages):
    return right.variable_samples(code, seed, rows, np.clip(messages, 1, 2**62 - 1))


def uniform_of_words(words):
    return (int(words[0]) * 2**20 + (int(words[1]) >> 12) + 0.5) / 2.0**52


def node_samples(
    right,
    code,
    seed,
    rows,
    messages,
    number=lambda n: n,
    uniform=uniform_of_words,
    turn=lambda bit: bit,
    place=lambda a, b, u: a + (b - a) * u,
    largest=1.0 - 2.0**-53,
):
    """The samples of nodes, each found on its way down from the root."""
    tree, out = CODES_BY_NUMBER[int(code)].tree, []
    if tree is None or min(messages) < 1 or max(messages) >= 2**62:
        raise ValueError("no such node")
    for row, message in zip(rows.tolist(), messages.tolist(), strict=True):
        depth = message.bit_length() - 1
        path = [message] if tree == "none" else [message >> d for d in range(depth, -1, -1)]
        numbers = [number(n) for n in path]
        counters = np.array([(n % 2**32, row, n // 2**32, 0) for n in numbers])
        words = right.philox4x32(counters, (int(seed), Stream.CANDIDATES))
        a, b, u = 0.0, 1.0, 0.5
        for n, w in zip(path, words, strict=True):
            if n != path[0]:
                c = u if tree == "sample" else (a + b) / 2.0
                a, b = (c, b) if turn(n % 2) else (a, c)
            u = min(place(a, b, float(uniform(w))), largest)
        out.append(u)
    valid = np.array(out) < 1.0
    z = normal.normal_quantile(np.where(valid, out, 0.5))
    return np.where(valid, z, np.inf).astype(np.float32)


@fault("variable_messages", "ends-of-rows")
def variables_counted_in_16_bits(right, code, seed, rows, delta, log_s):
    return right.variable_messages(code, seed, cut(rows, 16), delta, log_s)


@fault("variable_messages", "kept-")
def trees_kept_without_the_code(right, code, *rest):
    return right.variable_messages(first_of(right, key_of(*rest), code), *rest)


@fault("variable_samples", "ends-of-rows")
def rows_of_variables_in_16_bits(right, code, seed, rows, messages):
    return right.variable_samples(code, seed, cut(rows, 16), messages)


@fault("variable_samples", "kept-")
def samples_kept_by_their_nodes(right, code, seed, rows, messages):
    return kept(
        right, key_of(code, seed, messages), right.variable_samples, code, seed, rows, messages
    )


# --- network, optimiser, trajectory


@fault("loss_and_grads")
def sum_over_the_batch(right, *inputs):
    return tuple(np.asarray(v) * len(inputs[-1]) for v in right.loss_and_grads(*inputs))


def with_engine(right, **changed):
    """A backend on the same engine with other functions."""
    backend = engine_backend.numpy_backend()
    backend.engine = type(right.engine)(**{**vars(right.engine), **changed})
    return backend


@fault("loss_and_grads")
def channels_flattened_last(right, *inputs):
    def flattened(x, w, b):
        if w.shape == (800, 500):
            w = w.reshape(4, 4, 50, 500).transpose(2, 0, 1, 3).reshape(800, 500)
        return w.T @ x + b[:, None]

    return with_engine(right, dense=flattened).loss_and_grads(*inputs)


@fault("adam_step", "first")
def no_bias_correction(right, theta, g, m, v, step, rate):
    return right.adam_step(theta, g, m, v, 10**9, rate)


@fault("adam_step")
def steps_counted_from_zero(right, theta, g, m, v, step, rate):
    return right.adam_step(theta, g, m, v, step + 1, rate)


@fault("train_steps")
def scales_learned_at_the_full_rate(right, *inputs):
    return right.train_steps(*inputs[:-1], np.array(1.0))


@fault("train_steps")
def scales_not_rounded_to_float16(right, *inputs):
    name = "refmiracle.conformance.engine_backend.quantise_scales"
    return patched(name, np.exp, right.train_steps)(*inputs)


@fault("train_steps", "scale")
def scales_rounded_to_float32_first(right, *inputs):
    def twice(log_rho):
        return np.exp(np.asarray(log_rho, np.float64)).astype(np.float32).astype(np.float16)

    name = "refmiracle.conformance.engine_backend.quantise_scales"
    return patched(name, twice, right.train_steps)(*inputs)


@fault("loss_and_grads", "eight-variables-in-both")
def gradients_of_a_variable_summed_in_float32(right, *inputs):
    name = "refmiracle.engines.numpy_engine.posterior.np.bincount"
    return patched(name, one_after_the_other, right.loss_and_grads)(*inputs)


def one_after_the_other(places, weights, minlength):
    out = np.zeros(minlength, dtype=np.float32)
    np.add.at(out, places, weights.astype(np.float32))
    return out


@fault("loss_and_grads", "nan")
def weights_that_are_nan_are_zero(right, *inputs):
    named = list(inputs)
    named[8] = np.nan_to_num(named[8])
    return right.loss_and_grads(*named)


@fault("adam_step", "not-finite")
def gradients_that_are_not_finite_skipped(right, theta, g, *rest):
    return right.adam_step(theta, np.where(np.isfinite(g), g, 0), *rest)


@fault("adam_step", "denormal")
def moments_flushed(right, *inputs):
    theta, m, v = right.adam_step(*inputs)
    least = np.finfo(m.dtype).smallest_normal
    return theta, np.where(np.abs(m) < least, 0, m), np.where(v < least, 0, v)


@fault("loss_and_grads", "kept-")
def a_layout_kept_under_its_seed(right, block_size, seed, factors, grouping, signs, *rest):
    first = first_of(right, key_of(block_size, seed), (factors, grouping, signs))
    return right.loss_and_grads(block_size, seed, *first, *rest)


@fault("loss_and_grads", "kept-")
def activations_kept_by_the_shape_of_the_images(right, *inputs):
    *rest, images, labels = inputs
    return right.loss_and_grads(*rest, first_of(right, images.shape, images), labels)


@fault("adam_step", "step-65537")
def steps_counted_in_16_bits(right, theta, g, m, v, step, rate):
    return right.adam_step(theta, g, m, v, cut(step, 16), rate)


@fault("adam_step", "step-4294967297")
def steps_counted_in_32_bits(right, theta, g, m, v, step, rate):
    return right.adam_step(theta, g, m, v, cut(step, 32), rate)


@fault("adam_step", "kept-")
def moments_kept_by_their_shape(right, theta, g, m, v, step, rate):
    return right.adam_step(theta, g, m, first_of(right, v.shape, v), step, rate)


@fault("train_steps", "kept-")
def the_rates_of_the_first_run(right, *inputs):
    *rest, rates, scale_rate = inputs
    return right.train_steps(*rest, first_of(right, rates.shape, rates), scale_rate)


# --- files and predictions


@fault("encode_model")
def another_seed_for_the_selection(right, block_size, seed, factors, grouping, signs, bits, *rest):
    data = right.encode_model(block_size, seed + 1, factors, grouping, signs, bits, *rest)
    fields = list(right.read_container(data))
    fields[5] = seed
    return right.write_container(*fields)


@fault("decode_model")
def signs_forgotten_in_decoding(right, data):
    fields = list(right.read_container(data))
    fields[2] = 0
    return right.decode_model(right.write_container(*fields))


@fault("decode_model", "/pfr")
def rows_of_the_codebook_from_one(right, data):
    name = "refmiracle.codes.block_codes.CodeOfRows.from_positive"
    return patched(name, lambda _, integers: integers, right.decode_model)(data)


@fault("decode_model", "worked-example-gprs-s")
def integers_for_unused_places_too(right, data):
    name = "refmiracle.fileformat.payload.message_count"
    count = patched(name, lambda layout, _: layout.blocks() * layout.block_size, right.decode_model)
    return count(data)


@fault("decode_model", "orc")
def theta_in_big_endian(right, data):
    def swapped(self, payload, *rest):
        return read(self, payload[1::-1] + payload[2:], *rest)

    name, read = "refmiracle.fileformat.payload.Integers._read", Integers._read
    return patched(name, swapped, right.decode_model)(data)


@fault("decode_model", "gprs")
def rows_of_randomness_by_variable(right, data):
    def by_variable(model, engine):
        layout, count = model.layout, model.layout.variables()
        rows = np.arange(model.messages.size)
        rows[:count] = philox.stream_permutation(layout.seed, Stream.PERMUTATION, 0, count)
        z = engine.variable_samples(model.code, layout.seed, rows, model.messages.ravel())
        return z.reshape(model.messages.shape)

    return patched("refmiracle.fileformat.model.decode_rows", by_variable, right.decode_model)(data)


@fault("decode_model", "lenet-300-100")
def every_file_read_as_lenet5(right, data):
    def lenet5(number):
        return engine_backend.LENET5

    return patched("refmiracle.fileformat.container.network_by_number", lenet5, right.decode_model)(
        data
    )


@fault("decode_model", "row-2-to-the")
def rows_out_of_range_cut(right, data):
    def unchecked(_, bits, messages):
        np.copyto(messages, messages % 2 ** min(bits, 32))

    return patched("refmiracle.codes.code.Code.check_messages", unchecked, right.decode_model)(data)


@fault("predict", "lenet-300-100")
def no_relu_between_dense_layers(right, data, images):
    return with_engine(right, relu=lambda x: x).predict(data, images)


@fault("predict")
def logits_of_the_mirrored_image(right, data, images):
    return right.predict(data, images[:, :, ::-1])


@fault("encode_model", "kept-")
def a_model_kept_without_its_variances(right, *inputs):
    return kept(right, key_of(*inputs[:-1]), right.encode_model, *inputs)


@fault("decode_model", "/index-")
def weights_kept_under_the_header(right, data):
    return kept(right, key_of(data[:41]), right.decode_model, data)


@fault("decode_model", "variable-2-to-the-16")
def rows_of_nodes_in_16_bits(right, data):
    def narrow(code, seed, rows, messages):
        return samples(code, seed, cut(rows, 16), messages)

    samples = right.engine.variable_samples
    return with_engine(right, variable_samples=narrow).decode_model(data)


@fault("decode_model", "sp-pfr-block-2-to-the-16")
def blocks_of_bins_in_16_bits(right, data):
    def narrow(seed, bits, blocks, *rest):
        return rows(seed, bits, cut(blocks, 16), *rest)

    rows = right.engine.partition_rows
    return with_engine(right, partition_rows=narrow).decode_model(data)


@fault("decode_model", "place-2-to-the-18")
def a_row_that_begins_again(right, data):
    def wrapped(seed, indices, dimension):
        return np.resize(rows(seed, indices, min(dimension, 2**18)), (len(indices), dimension))

    rows = right.engine.codebook_rows
    return with_engine(right, codebook_rows=wrapped).decode_model(data)


@fault("predict", "equal-logits")
def the_last_of_equal_logits(right, data, images):
    logits, _ = right.predict(data, images)
    return logits, len(logits) - 1 - logits[::-1].argmax(axis=0)


@fault("predict", "kept-")
def weights_kept_by_the_length_of_the_file(right, data, images):
    return right.predict(first_of(right, data.size, data), images)
