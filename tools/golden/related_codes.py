"""The families of related.py for the stages from coding to predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from golden import codes, coding, containers, files, partition, searches, selection
from golden.containers import Fields
from golden.edges import EXACT
from golden.related import Answer, digits, family, matrices
from golden.sources import spec_decoder, to_float
from golden.trees import Draws, find_node
from golden.writer import BOTH, later

Case = dict[str, Any]

ENOUGH = range(700, 760)


def by_case(function: Callable[..., Case]) -> Answer:
    """Return the answer that a function of the other tools gives in its case."""

    def answer(**inputs: Any) -> Any:
        case = function(**inputs)
        return case["outputs"], case["gap"]

    return answer


def all_differ(cases: list[Case]) -> bool:
    """Tell whether the base has another answer than each of the others."""
    answers = [[np.asarray(v).tolist() if not isinstance(v, bytes) else v
                for v in case["outputs"].values()] for case in cases]  # fmt: skip
    return all(a != answers[0] for a in answers[1:])


def first_that_differs(make: Callable[[int], list[Case]]) -> list[Case]:
    """Return the first family, by the seed of its targets, that is clear and differs in each."""
    for seed in ENOUGH:
        try:
            cases = make(seed)
        except ValueError:  # too close a decision
            continue
        if all_differ(cases):
            return cases
    raise ValueError("no targets give another answer for each input")


# --- coding


def blocks_of(seed: int, spent: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return three targets, and others of which the last differs."""
    one, other = coding.posterior(seed, 3, 3, spent), coding.posterior(seed + 100, 3, 3, spent)
    mixed = [np.concatenate([a[:2], b[2:]]) for a, b in zip(one, other, strict=True)]
    base = {"blocks": codes.int64((0, 1, 2)), "delta": one[0], "log_s": one[1]}
    return base, {"blocks": codes.int64((0, 1, 3)), "delta": mixed[0], "log_s": mixed[1]}


def encoder(operation: str, function: Any, numbers: dict[str, int], spent: float) -> list[Case]:
    """Return the family of an encoder of blocks."""

    def answer(**inputs: Any) -> Case:
        delta, log_s = inputs.pop("delta"), inputs.pop("log_s")
        return function("kept", inputs.pop("seed"), inputs.pop("bits", None), inputs["blocks"],
                        delta, log_s)  # fmt: skip

    def make(seed: int) -> list[Case]:
        base, changes = blocks_of(seed, spent)
        more = {name: n - 3 if name == "bits" else n + 1 for name, n in numbers.items()}
        return family(f"coding/{operation}", by_case(answer), {**numbers, **base},
                      {**more, **changes}, EXACT, BOTH)  # fmt: skip

    return first_that_differs(make)


@later("select_indices")
@digits
def select_indices() -> list[Case]:
    """Minimal random coding."""

    def choose(name: str, seed: int, bits: int, blocks: Any, delta: Any, log_s: Any) -> Case:
        return coding.selection_case(name, seed, bits, blocks.tolist(), delta, log_s)

    return encoder("select_indices", choose, {"seed": 81, "bits": 6}, 6)


def paired(function: Callable[..., Case]) -> Callable[..., Case]:
    """Return a maker of cases that takes delta and log s apart."""

    def make(name: str, seed: int, bits: int, blocks: Any, delta: Any, log_s: Any) -> Case:
        return function(name, seed, bits, blocks.tolist(), (delta, log_s))

    return make


@later("ordered_indices")
@digits
def ordered_indices() -> list[Case]:
    """Ordered random coding."""
    numbers = {"seed": 81, "bits": 6}
    return encoder("ordered_indices", paired(codes.arrival_case), numbers, 5)


@later("poisson_indices")
@digits
def poisson_indices() -> list[Case]:
    """Pose the Poisson functional representation."""
    return encoder("poisson_indices", paired(codes.arrival_case), {"seed": 81}, 4)


@later("partition_messages")
@digits
def partition_messages() -> list[Case]:
    """Space partitioning."""
    numbers = {"seed": 81, "bits": 4}
    return encoder("partition_messages", paired(codes.partition_case), numbers, 5)


@later("partition_rows")
def partition_rows() -> list[Case]:
    """Pose samples of candidates of bins."""

    def answer(seed: int, bits: int, blocks: Any, messages: Any, dimension: int) -> Any:
        rows = [partition.candidate(seed, bits, b, m, dimension)
                for b, m in zip(blocks.tolist(), messages.tolist(), strict=True)]  # fmt: skip
        return {"rows": codes.to_float32(rows)}, None

    base = {"seed": 81, "bits": 4, "blocks": codes.int64((0, 1)),
            "messages": codes.int64((35, 50)), "dimension": 3}  # fmt: skip
    changes = {"seed": 82, "bits": 5, "blocks": codes.int64((0, 2)),
               "messages": codes.int64((35, 51)), "dimension": 4}  # fmt: skip
    return family("coding/partition_rows", answer, base, changes)


@later("decode_blocks")
def decode_blocks() -> list[Case]:
    """Blocks from indices; another dimension would want other scales."""

    def answer(seed: int, indices: Any, dimension: int, rho: Any) -> Any:
        rows = [selection.candidate(seed, k, dimension) for k in indices.tolist()]
        values = [[spec_decoder.to_float32(coding.half(p) * z) for p, z in zip(ps, zs, strict=True)]
                  for ps, zs in zip(rho.tolist(), rows, strict=True)]  # fmt: skip
        return {"w": np.array(values, dtype=np.float32)}, None

    rho = np.array([[0x3555, 0x2E66, 0x3BFF]] * 2, dtype=np.uint16)
    other = rho.copy()
    other[1, 2] += 1
    base = {"seed": 81, "indices": codes.int64((5, 6)), "dimension": 3, "rho": rho}
    changes = {"seed": 82, "indices": codes.int64((5, 7)), "rho": other}
    return family("coding/decode_blocks", answer, base, changes)


@later("log_weights")
@digits
def log_weights() -> list[Case]:
    """Log-weights of two candidates for two blocks."""

    def answer(candidates: Any, delta: Any, log_s: Any) -> Any:
        table = [[to_float(selection.log_weight(z, d, ls)) for z in candidates.tolist()]
                 for d, ls in zip(delta.tolist(), log_s.tolist(), strict=True)]  # fmt: skip
        return {"log_w": np.array(table)}, None

    base, changes = matrices(691, "candidates", "delta", "log_s")
    bound = {"float64": {"scaled": 5e-15}, "float32": {"scaled": 2e-6}}
    return family("coding/log_weights", answer, base, changes, bound, BOTH)


@later("variable_messages")
@digits
def variable_messages() -> list[Case]:
    """Nodes of three variables."""

    def answer(code: int, seed: int, rows: Any, delta: Any, log_s: Any) -> Any:
        name = next(n for n, k in codes.NUMBERS.items() if k == code)
        choices = [
            searches.choose(name, seed, *t)
            for t in zip(rows.tolist(), delta.tolist(), log_s.tolist(), strict=True)
        ]
        messages = {"messages": codes.int64([m for m, _ in choices])}
        return messages, min(gap for _, gap in choices)  # fmt: skip

    def make(seed: int) -> list[Case]:
        base = {"code": 8, "seed": seed, "rows": codes.int64((0, 1, 2)),
                "delta": np.array([0.5, -0.75, 1.0]),
                "log_s": np.array([-4.0, -3.0, -6.0])}  # fmt: skip
        changes = {"code": 9, "seed": seed + 1, "rows": codes.int64((0, 1, 3)),
                   "delta": np.array([0.5, -0.75, -1.5]),
                   "log_s": np.array([-4.0, -3.0, -9.0])}  # fmt: skip
        return family("coding/variable_messages", answer, base, changes, EXACT, ("float64",))

    return first_that_differs(make)


@later("variable_samples")
def variable_samples() -> list[Case]:
    """Pose samples of nodes."""

    def answer(code: int, seed: int, rows: Any, messages: Any) -> Any:
        tree = searches.TREES[next(n for n, k in codes.NUMBERS.items() if k == code)]
        nodes = [find_node(Draws(seed, r), tree, n)
                 for r, n in zip(rows.tolist(), messages.tolist(), strict=True)]  # fmt: skip
        return {"samples": codes.to_float32([node.z() for node in nodes])}, None

    base = {"code": 8, "seed": 81, "rows": codes.int64((0, 1)), "messages": codes.int64((5, 11))}
    changes = {"code": 9, "seed": 82, "rows": codes.int64((0, 2)),
               "messages": codes.int64((5, 10))}  # fmt: skip
    return family("coding/variable_samples", answer, base, changes)


# --- files


@later("encode_model")
@digits
def encode_model() -> list[Case]:
    """Files of eight variables in two blocks."""
    start = Fields(0, 1, 5, 81, containers.COUNTS, bits=5)
    other = (499, *containers.COUNTS[1:])  # 9 variables, in two blocks too

    def answer(**inputs: Any) -> Any:
        delta, log_s = inputs["delta"], inputs["log_s"]
        bits, seed, size = (int(inputs[name]) for name in ("bits", "seed", "block_size"))
        codebook = selection.Codebook(seed, bits, size)
        choices = [
            codebook.choose(b, d, ls)
            for b, (d, ls) in enumerate(zip(delta.tolist(), log_s.tolist(), strict=True))
        ]
        fields = Fields(
            int(inputs["grouping"]), int(inputs["signs"]), size, seed,
            tuple(np.asarray(inputs["factors"]).tolist()), bits, tuple(inputs["rho"].tolist()),
            tuple(c.index for c in choices),
        )  # fmt: skip
        return {"data": containers.assemble(fields)}, min(c.gap for c in choices)

    def make(seed: int) -> list[Case]:
        used = (np.arange(10) < 8).reshape(2, 5)
        one, two = (coding.posterior(seed + k, 2, 5, 5) for k in (0, 100))
        delta, log_s = (np.where(used, a, 0.0) for a in one)
        mixed = [np.where(used, np.stack([a[0], b[1]]), 0.0) for a, b in zip(one, two, strict=True)]
        header = files.header_arrays(start)
        order = ("block_size", "seed", "factors", "grouping", "signs", "bits", "rho")
        base = {**{k: header[k] for k in order}, "delta": delta, "log_s": log_s}
        changes = {
            "seed": 82, "factors": np.array(other), "grouping": 1, "signs": 2, "bits": 6,
            "rho": np.array([*start.rho[:-1], 0x3701], dtype=np.uint16),
            "delta": mixed[0], "log_s": mixed[1],
        }  # fmt: skip
        return family("files/encode_model", answer, base, changes, EXACT, BOTH)

    return first_that_differs(make)
