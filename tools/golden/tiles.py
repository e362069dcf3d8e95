"""Since 1.3: 9 and 65 along each axis, one more than what a machine takes at once.

A port whose loops take 4, 8, 16, 32 or 64 at a time has one left over here, and none at the other
axes.  Bits, numerics and posterior; layers and codes have theirs in the modules beside this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
from golden import bits, codes, containers, gaussians, integers, partition, posterior, selection
from golden.containers import Fields
from golden.edges import SINCE, new_case, words_from
from golden.related import CLOSE, digits
from golden.sources import noise, spec_decoder, to_floats
from golden.writer import BOTH, later, make_case
from mpmath import mpf

Case = dict[str, Any]

SIZES = (9, 65)
SLOW = (9, 17)  # where 65 would keep the tool busy for long
NOTE = "one more than a power of two"


def sizes(axis: str, case: Callable[[str, int], Case], own: tuple[int, ...] = SIZES) -> list[Case]:
    """Return a case for each size along an axis, by its name."""
    return [case(f"{axis}-{size}", size) for size in own]


# --- bits


@later("philox4x32")
def philox() -> list[Case]:
    """Counters."""

    def case(name: str, size: int) -> Case:
        counters = [(k, 2 * k, 5, 7 * k) for k in range(size)]
        words = [spec_decoder.philox4x32(c, (3, 4)) for c in counters]
        inputs = {"counter": bits.uint32(counters), "key": bits.uint32((3, 4))}
        return new_case("bits/philox4x32", name, inputs, {"words": bits.uint32(words)}, note=NOTE)

    return sizes("counters", case)


@later("stream_words")
def stream_words() -> list[Case]:
    """Words from the middle of a block of four."""

    def case(name: str, size: int) -> Case:
        inputs = {"seed": 91, "stream": 3, "row": 2, "first": 2, "count": size}
        words = bits.uint32(words_from(**inputs))
        return new_case("bits/stream_words", name, inputs, {"words": words}, note=NOTE)

    return sizes("words", case)


@later("stream_permutation")
def stream_permutation() -> list[Case]:
    """Numbers."""

    def case(name: str, size: int) -> Case:
        inputs = {"seed": 91, "stream": 5, "row": 2, "count": size}
        outputs = {"permutation": np.array(bits.permutation_of(**inputs))}
        return new_case("bits/stream_permutation", name, inputs, outputs, note=NOTE)

    return sizes("numbers", case)


def packed(size: int, width: int) -> tuple[Any, bytes]:
    """Return indices and their bytes."""
    indices = bits.spread_indices(width, size)
    return np.array(indices), containers.pack(indices, width)


@later("pack_indices")
def pack_indices() -> list[Case]:
    """Pose indices of five bits."""

    def case(name: str, size: int) -> Case:
        indices, payload = packed(size, 5)
        inputs = {"indices": indices, "bits": 5}
        return new_case("bits/pack_indices", name, inputs, {"payload": payload}, note=NOTE)

    return sizes("indices", case)


@later("unpack_indices")
def unpack_indices() -> list[Case]:
    """Pose the same, the other way round."""

    def case(name: str, size: int) -> Case:
        indices, payload = packed(size, 5)
        inputs = {"payload": payload, "bits": 5, "count": size}
        return new_case("bits/unpack_indices", name, inputs, {"indices": indices}, note=NOTE)

    return sizes("indices", case)


@later("read_integers")
def read_integers() -> list[Case]:
    """Integers."""

    def case(name: str, size: int) -> Case:
        values = integers.spread(size, 12)
        inputs = integers.reader_inputs(integers.code_word(values, 50000), size, 50000)
        outputs = {"integers": np.array(values)}
        return new_case("bits/read_integers", name, inputs, outputs, note=NOTE)

    return sizes("integers", case)


@later("write_integers")
def write_integers() -> list[Case]:
    """Pose the same, the other way round."""

    def case(name: str, size: int) -> Case:
        values = integers.spread(size, 12)
        inputs = {"integers": np.array(values), "theta": 50000, "raw": 0}
        outputs = {"payload": integers.code_word(values, 50000)}
        return new_case("bits/write_integers", name, inputs, outputs, note=NOTE)

    return sizes("integers", case)


@later("block_layout")
def block_layout() -> list[Case]:
    """Weights."""
    fields = Fields(1, 2, 20, 91, (50, 4, 250, 5, 5000, 50, 50, 2))

    def case(name: str, size: int) -> Case:
        weights = [k * 6007 for k in range(size)]
        places, signs = bits.place_and_sign(fields, weights)
        header = bits.header_arrays(fields)
        inputs = {**{k: header[k] for k in bits.LAYOUT}, "weights": np.array(weights)}
        outputs = {"places": np.array(places), "weight_signs": np.array(signs)}
        return new_case("bits/block_layout", name, inputs, outputs, note=NOTE)

    return sizes("weights", case, SLOW)


# --- numerics


@later("normal_quantile")
def normal_quantile() -> list[Case]:
    """Probabilities from end to end."""

    def case(name: str, size: int) -> Case:
        p = [(k + 0.5) / size for k in range(size)]
        outputs = {"z": np.array([spec_decoder.quantile(x) for x in p])}
        inputs = {"p": np.array(p)}
        return new_case("numerics/normal_quantile", name, inputs, outputs, note=NOTE)

    return sizes("probabilities", case)


@later("codebook")
def codebook() -> list[Case]:
    """Rows, and places."""

    def case(name: str, rows: int, dimension: int) -> Case:
        indices = [3 * k for k in range(rows)]
        inputs = {"seed": 91, "indices": np.array(indices), "dimension": dimension}
        drawn = [selection.candidate(91, k, dimension) for k in indices]
        outputs = {"rows": np.array(drawn, dtype=np.float32)}
        return new_case("numerics/codebook", name, inputs, outputs, note=NOTE)

    return sizes("rows", lambda name, size: case(name, size, 3)) + sizes(
        "places", lambda name, size: case(name, 2, size)
    )


def along_a_line(operation: str, output: str, function: Any, first: float, step: float) -> Any:
    """Return cases of a function of one number."""

    def case(name: str, size: int) -> Case:
        x = first + step * np.arange(size)
        found = to_floats([function(mpf(float(v))) for v in x])
        bounds = {output: {"float64": {"relative": 5e-15}, "float32": {"relative": 5e-6}}}
        return make_case(f"numerics/{operation}/{name}", {"x": x}, {output: found}, bounds,
                         dtypes=BOTH, note=NOTE, since=SINCE)  # fmt: skip

    return sizes("numbers", case)


later("log_s")(digits(lambda: along_a_line("log_s", "log_s", gaussians.log_s, 0.125, 0.0625)))
later("ds_dx")(digits(lambda: along_a_line("ds_dx", "slope", gaussians.slope, 0.125, 0.03125)))


# --- matrices of blocks and places


def matrices_of(
    operation: str, function: Any, outputs: str, inputs: str, places: tuple[int, ...] = SIZES
) -> list[Case]:
    """Return cases of 9 and 65 blocks of two places, and of two blocks of many places.

    Besides the matrices an operation may take a budget, and `beta`, one number a block.
    """

    def case(name: str, shape: tuple[int, int]) -> Case:
        given = {k: matrix(900 + 10 * i, k, shape) for i, k in enumerate(inputs.split())}
        results = function(*(exact(v) for v in given.values()))
        results = results if isinstance(results, tuple) else (results,)
        found = dict(zip(outputs.split(), map(to_floats, results), strict=True))
        return make_case(operation + "/" + name, given, found, dict.fromkeys(found, CLOSE),
                         dtypes=BOTH, note=NOTE, since=SINCE)  # fmt: skip

    blocks = sizes("blocks", lambda name, size: case(name, (size, 2)))
    return blocks + sizes("places", lambda name, size: case(name, (2, size)), places)


def matrix(seed: int, name: str, shape: tuple[int, int]) -> Any:
    """Return the argument of a name."""
    if name == "budget":
        return np.array(2.0)
    if name == "beta":
        return 0.25 + 0.125 * np.arange(shape[0])
    values = noise(seed, shape, 0.25)
    return np.abs(values) + 0.5 if name == "rho" else values


def exact(values: Any) -> Any:
    """Return a number, a vector or a matrix in mpmath."""
    if np.ndim(values) == 2:
        return gaussians.numbers(values)
    return mpf(float(values)) if np.ndim(values) == 0 else [mpf(float(v)) for v in values]


@later("gaussian_kl")
@digits
def gaussian_kl() -> list[Case]:
    """KL of pairs."""

    def kl(delta: Any, log_s: Any) -> Any:
        return [
            [gaussians.kl(*pair) for pair in zip(*rows, strict=True)]
            for rows in zip(delta, log_s, strict=True)
        ]

    return matrices_of("numerics/gaussian_kl", kl, "kl", "delta log_s")


POSTERIOR = {
    "mean_kl": (gaussians.mean_kl, "delta log_s", "tau phi budget"),
    "mean_kl_forward": (gaussians.mean_kl_forward, "w", "tau phi rho budget eps"),
    "mean_kl_backward": (
        gaussians.mean_kl_backward, "dtau dphi dlog_rho", "tau phi rho budget eps g",
    ),
    "mean_var_forward": (gaussians.mean_var_forward, "w", "mu log_sigma eps"),
    "mean_var_backward": (
        gaussians.mean_var_backward, "dmu dlog_sigma dlog_rho", "mu log_sigma rho beta eps g",
    ),
}  # fmt: skip


def of_posterior(operation: str) -> list[Case]:
    """Return the cases of an operation."""
    function, outputs, inputs = POSTERIOR[operation]
    places = SLOW if operation == "mean_kl_backward" else SIZES
    with mpmath.workdps(30):
        return matrices_of(f"posterior/{operation}", function, outputs, inputs, places)


for name in POSTERIOR:
    later(name)(lambda operation=name: of_posterior(operation))


EXACT_IN_BOTH = {"float64": {"exact": 0}, "float32": {"exact": 0}}


def hashed(operation: str, name: str, inputs: Any, output: str, values: Any) -> Case:
    """Return an exact case of variables and weights."""
    return make_case(f"posterior/{operation}/{name}", inputs, {output: values},
                     {output: EXACT_IN_BOTH}, dtypes=BOTH, note=NOTE, since=SINCE)  # fmt: skip


@later("expand_hash")
def expand_hash() -> list[Case]:
    """Weights, blocks and places."""

    def case(name: str, weights: int, shape: tuple[int, int]) -> Case:
        variables = noise(961, shape)
        places, signs = posterior.hash_tables(962, weights, variables.size)
        inputs = {"variables": variables, "places": places, "signs": signs}
        return hashed("expand_hash", name, inputs, "w", signs * variables.ravel()[places])

    return (
        sizes("weights", lambda name, size: case(name, size, (2, 3)))
        + sizes("blocks", lambda name, size: case(name, 12, (size, 2)))
        + sizes("places", lambda name, size: case(name, 12, (2, size)))
    )


@later("expand_hash_backward")
def expand_hash_backward() -> list[Case]:
    """Weights, and variables."""

    def case(name: str, weights: int, count: int) -> Case:
        g = noise(971, (weights,))
        places, signs = posterior.hash_tables(972, weights, count)
        table = list(zip(signs.tolist(), places.tolist(), strict=True))
        inputs = {"g": g, "places": places, "signs": signs, "count": count}
        sums = posterior.sums(g.tolist(), table, count)
        return hashed("expand_hash_backward", name, inputs, "dvariables", sums)

    return sizes("weights", lambda name, size: case(name, size, 6)) + sizes(
        "variables", lambda name, size: case(name, 12, size)
    )


# --- rows of the codes that decode


@later("partition_rows")
def partition_rows() -> list[Case]:
    """Rows, and places."""

    def case(name: str, rows: int, dimension: int) -> Case:
        blocks, messages = range(rows), [16 + 7 * k for k in range(rows)]
        inputs = {"seed": 91, "bits": 4, "blocks": codes.int64(blocks),
                  "messages": codes.int64(messages), "dimension": dimension}  # fmt: skip
        drawn = [partition.candidate(91, 4, b, m, dimension)
                 for b, m in zip(blocks, messages, strict=True)]  # fmt: skip
        return new_case("coding/partition_rows", name, inputs, {"rows": codes.to_float32(drawn)},
                        note=NOTE)  # fmt: skip

    return sizes("rows", lambda name, size: case(name, size, 3)) + sizes(
        "places", lambda name, size: case(name, 2, size)
    )
