"""Since 1.3: for each operation a case, and one more for each input that differs in it alone.

Whatever a backend keeps between calls under a part of what it depends on gives a wrong answer to
one of them.  Every answer comes from the functions that the other cases come from.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import mpmath
import numpy as np
from golden import (
    bits,
    codes,
    containers,
    gaussians,
    integers,
    posterior,
    selection,
)
from golden.containers import Fields
from golden.edges import EXACT, SINCE, words_from
from golden.sources import noise, spec_decoder, to_floats
from golden.writer import BOTH, later, make_case
from mpmath import mpf

Case = dict[str, Any]
# Inputs by name to outputs by name and, where an argmax is compared, the gap.
Answer = Callable[..., tuple[dict[str, Any], float | None]]

CLOSE = {"float64": {"scaled": 1e-13}, "float32": {"scaled": 5e-6}}


def family(
    operation: str,
    answer: Answer,
    base: dict[str, Any],
    changes: dict[str, Any],
    bound: Any = EXACT,
    dtypes: tuple[str, ...] = (),
    since: str = SINCE,
) -> list[Case]:
    """Return the base, and each change of one input of it."""
    cases = []
    for changed in ("", *changes):
        inputs = {**base, **({changed: changes[changed]} if changed else {})}
        outputs, gap = answer(**inputs)
        cases.append(
            make_case(
                f"{operation}/kept-{changed.replace('_', '-') or 'nothing'}",
                inputs,
                outputs,
                {name: bound.get(name, bound) for name in outputs},
                dtypes=dtypes,
                gap=gap,
                note=f"all but {changed} as in kept-nothing" if changed else "",
                since=since,
            )
        )
    return cases


def digits(function: Callable[..., list[Case]]) -> Callable[..., list[Case]]:
    """Return a function that works with 60 digits."""

    def with_digits(*arguments: Any) -> list[Case]:
        with mpmath.workdps(codes.DIGITS):
            return function(*arguments)

    return with_digits


# --- bits


@later("stream_words")
def stream_words() -> list[Case]:
    """Words."""

    def answer(**address: int) -> Any:
        return {"words": bits.uint32(words_from(**address))}, None

    base = {"seed": 81, "stream": 3, "row": 1, "first": 0, "count": 6}
    changes = {"seed": 82, "stream": 4, "row": 2, "first": 1, "count": 5}
    return family("bits/stream_words", answer, base, changes)


@later("stream_permutation")
def stream_permutation() -> list[Case]:
    """Permutations."""

    def answer(**address: int) -> Any:
        return {"permutation": np.array(bits.permutation_of(**address))}, None

    base = {"seed": 81, "stream": 5, "row": 0, "count": 10}
    changes = {"seed": 82, "stream": 4, "row": 1, "count": 9}
    return family("bits/stream_permutation", answer, base, changes)


@later("pack_indices")
def pack_indices() -> list[Case]:
    """Pose indices to bytes."""

    def answer(indices: Any, bits: int) -> Any:
        return {"payload": containers.pack(indices.tolist(), bits)}, None

    base = {"indices": np.array([9, 31, 18]), "bits": 6}
    changes = {"indices": np.array([9, 31, 17]), "bits": 7}
    return family("bits/pack_indices", answer, base, changes)


@later("unpack_indices")
def unpack_indices() -> list[Case]:
    """Bytes to indices; all that is read differently ends in zeros."""

    def answer(payload: bytes, bits: int, count: int) -> Any:
        text = "".join(f"{byte:08b}" for byte in payload)
        found = [int(text[i * bits : (i + 1) * bits], 2) for i in range(count)]
        assert set(text[count * bits :]) <= {"0"}
        return {"indices": np.array(found)}, None

    base = {"payload": bytes.fromhex("4fc0"), "bits": 5, "count": 3}
    changes = {"payload": bytes.fromhex("4fe0"), "bits": 4, "count": 2}
    return family("bits/unpack_indices", answer, base, changes)


@later("read_integers")
def read_integers() -> list[Case]:
    """Pose a code word of one byte that is one by other numbers too, found by search."""

    def read(payload: bytes, count: int, theta: int, raw: int) -> list[int] | None:
        try:
            return spec_decoder.read_integers(payload, count, theta, raw)
        except spec_decoder.InvalidFileError:
            return None

    def answer(**inputs: Any) -> Any:
        values = read(**inputs)
        assert (
            values and integers.code_word(values, *list(inputs.values())[2:]) == inputs["payload"]
        )
        return {"integers": np.array(values)}, None

    thetas = range(4096, 61441, 4096)
    for byte, count, theta in itertools.product(range(256), (1, 2), thetas):
        base = {"payload": bytes([byte]), "count": count, "theta": theta, "raw": 0}
        own = read(**base)
        others = {
            "payload": [bytes([b]) for b in range(256)],
            "count": [count + 1],
            "theta": list(thetas),
            "raw": [1, 2],
        }
        changes = {
            name: next((v for v in values if read(**{**base, name: v}) not in (None, own)), None)
            for name, values in others.items()
        }
        if own and None not in changes.values():
            return family("bits/read_integers", answer, base, changes)
    raise ValueError("there is no such code word")


@later("write_integers")
def write_integers() -> list[Case]:
    """Integers to a code word."""

    def answer(integers_: Any, theta: int, raw: int) -> Any:
        return {"payload": integers.code_word(integers_.tolist(), theta, raw)}, None

    base = {"integers": np.array([4, 9, 200]), "theta": 36864, "raw": 0}
    changes = {"integers": np.array([4, 9, 201]), "theta": 30000, "raw": 2}
    return family(
        "bits/write_integers",
        lambda **inputs: answer(*inputs.values()),
        base,
        changes,
    )


@later("write_container")
def write_container() -> list[Case]:
    """Fields to a file."""
    start = replace(containers.SMALL, block_size=5, given=(9, 31))

    def answer(**header: Any) -> Any:
        names = ("grouping", "signs", "block_size", "seed", "bits", "network")
        numbers = {name: int(header[name]) for name in names}
        arrays = {"factors": header["factors"], "rho": header["rho"], "given": header["indices"]}
        fields = Fields(**numbers, **{n: tuple(a.tolist()) for n, a in arrays.items()})
        return {"data": containers.assemble(fields)}, None

    base = bits.header_arrays(start)
    changes = {
        "grouping": 1,
        "signs": 2,
        "bits": 6,
        "block_size": 6,
        "seed": 8,
        "factors": np.array([499, *start.factors[1:]]),
        "rho": np.array([0x3001, *start.rho[1:]], dtype=np.uint16),
        "indices": np.array([9, 30]),
    }
    return family("bits/write_container", answer, base, changes)


@later("block_layout")
def block_layout() -> list[Case]:
    """Places and signs; that of a block's size shows in neither."""

    def answer(block_size: int, seed: int, factors: Any, grouping: int, signs: int, weights: Any):
        fields = Fields(grouping, signs, block_size, seed, tuple(factors.tolist()))
        places, own = bits.place_and_sign(fields, weights.tolist())
        return {"places": np.array(places), "weight_signs": np.array(own)}, None

    weights = np.arange(7, bits.STARTS[-1], 43000)
    base = {
        "block_size": 9,
        "seed": 81,
        "factors": np.array((50, 4, 250, 5, 5000, 50, 50, 2)),
        "grouping": 0,
        "signs": 1,
        "weights": weights,
    }
    changes = {
        "seed": 82,
        "factors": np.array((50, 4, 250, 5, 4000, 50, 50, 2)),
        "grouping": 1,
        "signs": 2,
        "weights": weights + 1000,
    }
    return family("bits/block_layout", answer, base, changes)


# --- numerics and posterior


@later("codebook")
def codebook() -> list[Case]:
    """Rows of the codebook."""

    def answer(seed: int, indices: Any, dimension: int) -> Any:
        rows = [selection.candidate(seed, k, dimension) for k in indices.tolist()]
        return {"rows": np.array(rows, dtype=np.float32)}, None

    base = {"seed": 81, "indices": np.array([0, 5, 6]), "dimension": 4}
    changes = {"seed": 82, "indices": np.array([0, 5, 7]), "dimension": 5}
    return family("numerics/codebook", answer, base, changes)


def matrices(seed: int, *names: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return matrices of two blocks by name, and others whose last element alone differs."""
    base = {name: noise(seed + i, (2, 3), 0.5) for i, name in enumerate(names)}
    for name in {"rho"} & set(names):
        base[name] = np.abs(base[name]) + 0.5
    changes = {}
    for name, values in base.items():
        changes[name] = values.copy()
        changes[name][-1, -1] += 0.25
    return base, changes


def by_mpmath(function: Callable[..., Any], *outputs: str) -> Answer:
    """Return the answer of a function of matrices in mpmath."""

    def answer(**inputs: Any) -> Any:
        given = [
            mpf(float(v)) if np.ndim(v) == 0
            else [mpf(float(x)) for x in v] if np.ndim(v) == 1
            else gaussians.numbers(v)
            for v in inputs.values()
        ]  # fmt: skip
        results = function(*given)
        results = results if isinstance(results, tuple) else (results,)
        return dict(zip(outputs, map(to_floats, results), strict=True)), None

    return answer


@later("gaussian_kl")
@digits
def gaussian_kl() -> list[Case]:
    """KL of pairs."""

    def kl(delta: Any, log_s: Any) -> Any:
        return [[gaussians.kl(*pair) for pair in zip(*rows, strict=True)]
                for rows in zip(delta, log_s, strict=True)]  # fmt: skip

    base, changes = matrices(601, "delta", "log_s")
    answer = by_mpmath(kl, "kl")
    return family("numerics/gaussian_kl", answer, base, changes, CLOSE, BOTH)


BUDGET = {"budget": 2.0}, {"budget": 2.5}


def posterior_family(operation: str, function: Any, outputs: str, seed: int, names: str) -> Any:
    """Return the family of a function of matrices, where there is a budget between them."""
    given = names.split()
    base, changes = matrices(seed, *(n for n in given if n != "budget"))
    if "budget" in given:
        base, changes = {**base, **BUDGET[0]}, {**changes, **BUDGET[1]}
    ordered = {name: base[name] for name in given}
    answer = by_mpmath(function, *outputs.split())
    return family(f"posterior/{operation}", answer, ordered, changes, CLOSE, BOTH)


@later("mean_kl")
@digits
def mean_kl() -> list[Case]:
    """Pose the whitened posterior."""
    names = "tau phi budget"
    return posterior_family("mean_kl", gaussians.mean_kl, "delta log_s", 611, names)


@later("mean_kl_forward")
@digits
def mean_kl_forward() -> list[Case]:
    """Pose samples."""
    names = "tau phi rho budget eps"
    return posterior_family("mean_kl_forward", gaussians.mean_kl_forward, "w", 621, names)


@later("mean_kl_backward")
@digits
def mean_kl_backward() -> list[Case]:
    """Gradients."""
    names, outputs = "tau phi rho budget eps g", "dtau dphi dlog_rho"
    return posterior_family("mean_kl_backward", gaussians.mean_kl_backward, outputs, 631, names)


@later("mean_var_forward")
@digits
def mean_var_forward() -> list[Case]:
    """Pose samples."""
    names = "mu log_sigma eps"
    return posterior_family("mean_var_forward", gaussians.mean_var_forward, "w", 641, names)


@later("mean_var_backward")
@digits
def mean_var_backward() -> list[Case]:
    """Gradients; beta has one number for each block."""

    def gradients(mu: Any, log_sigma: Any, rho: Any, beta: Any, eps: Any, g: Any) -> Any:
        return gaussians.mean_var_backward(mu, log_sigma, rho, beta, eps, g)

    base, changes = matrices(651, "mu", "log_sigma", "rho", "eps", "g")
    order = ("mu", "log_sigma", "rho", "beta", "eps", "g")
    base["beta"], changes["beta"] = np.array([0.5, 0.25]), np.array([0.5, 0.75])
    ordered = {name: base[name] for name in order}
    answer = by_mpmath(gradients, "dmu", "dlog_sigma", "dlog_rho")
    return family("posterior/mean_var_backward", answer, ordered, changes, CLOSE, BOTH)


TABLE = {"places": np.array([3, 0, 0, 5]), "signs": np.array([1, -1, 1, 1])}
OTHER_TABLE = {"places": np.array([3, 0, 0, 4]), "signs": np.array([1, -1, 1, -1])}


@later("expand_hash")
def expand_hash() -> list[Case]:
    """Weights from variables."""

    def answer(variables: Any, places: Any, signs: Any) -> Any:
        return {"w": signs * variables.ravel()[places]}, None

    base, _ = matrices(661, "variables")
    changes = {"variables": -base["variables"], **OTHER_TABLE}
    return family("posterior/expand_hash", answer, {**base, **TABLE}, changes, EXACT, BOTH)


@later("expand_hash_backward")
def expand_hash_backward() -> list[Case]:
    """Gradients of variables."""

    def answer(g: Any, places: Any, signs: Any, count: int) -> Any:
        table = list(zip(signs.tolist(), places.tolist(), strict=True))
        return {"dvariables": posterior.sums(g.tolist(), table, count)}, None

    base = {"g": np.array([1.0, 2.0, 4.0, 8.0]), **TABLE, "count": 6}
    changes = {"g": np.array([1.0, 2.0, 4.0, 9.0]), **OTHER_TABLE, "count": 7}
    return family("posterior/expand_hash_backward", answer, base, changes, EXACT, BOTH)
