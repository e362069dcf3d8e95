"""What is sent instead of an update: ordinary fine-tuning, and ways to write down what it changed.

The base's variables are trained on by Adam, all of them or some, and the change is written as a
file: a layer's new values, the largest changes with their places, or the difference of two exported
files.  A file is counted whole, in an envelope like an update's; bsdiff's has one of its own.
Rates, and which variables to send, are chosen by the error on validation images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines import get_engine
from refmiracle.engines.contract import Array
from refmiracle.exports.tensors import npz_bytes
from refmiracle.extras import import_extra
from refmiracle.fileformat.chain import Base, decode_chain
from refmiracle.fileformat.envelope import CRC_BYTES, MAGIC
from refmiracle.fileformat.model import weights_of
from refmiracle.nn.contract import WEIGHT
from refmiracle.nn.evaluation import classes
from refmiracle.numerics.varints import write_varint
from refmiracle.posterior.blocks import find_places
from refmiracle.posterior.sharing import VariablePass
from refmiracle.studies.runs import Files
from refmiracle.studies.scenes import Scene, Views, views
from refmiracle.training.batches import Batches
from refmiracle.training.data import Data, Split, split_validation
from refmiracle.training.settings import Settings

# Magic, kind, the base's checksum and its own: what an update has.
ENVELOPE = len(MAGIC) + 1 + 2 * CRC_BYTES
GRADIENT_BATCHES = 20
LARGEST_INT8 = 127
# What the largest changes are called in tables, by the form that their values are sent in.
LARGEST_CHANGES = {form: f"largest changes, {form}" for form in ("int8", "float16")}
Variables = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Tuning:
    """How variables are trained on.

    Attributes
    ----------
    steps, sparse_steps : int
        Of Adam; of the largest changes alone, once they are chosen.
    rates, part_rates : tuple of float
        Of Adam at the start, of which the best is taken; for all variables, and for some.
    batch_size : int
    """

    steps: int = 1500
    sparse_steps: int = 500
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    part_rates: tuple[float, ...] = (3e-3, 1e-2)
    batch_size: int = 128


def load_bsdiff() -> Any:
    """Return bsdiff4.

    Raises
    ------
    InputError
        If it is not installed or cannot be loaded.
    """
    return import_extra("bsdiff4", "studies", ("diff",))


@dataclass(frozen=True)
class RivalsJob:
    """All that is sent instead of an update of a scene, but new files.

    Attributes
    ----------
    scene : Scene
    base : tuple of bytes
        Its files.
    engine : str
    seed : int
        Of the batches.
    kept : int
        See `scenes.views`.
    sizes : tuple of int
        Bytes that the largest changes have to fit in.
    tuning : Tuning
    """

    scene: Scene
    base: tuple[bytes, ...]
    engine: str
    seed: int
    kept: int
    sizes: tuple[int, ...]
    tuning: Tuning

    def key(self) -> dict[str, Any]:
        """Return what tells it from others."""
        return {**asdict(self), "base": [data.hex() for data in self.base]}

    def work(self, data: Data, folder: Path) -> tuple[list[dict[str, Any]], Files]:
        """Train, write and measure each."""
        engine, seen = get_engine(self.engine), views(self.scene, data, self.kept)
        base = decode_chain(self.base, engine)
        tuner = FineTuner(base, self.engine, seen, self.seed, self.tuning)
        return list(rivals(tuner, self.sizes)), {}


class FineTuner:
    """Ordinary fine-tuning of a base's variables, and the errors of what comes of it."""

    def __init__(self, base: Base, engine: str, seen: Views, seed: int, tuning: Tuning) -> None:
        self.base, self.seen, self.tuning = base, seen, tuning
        self.engine = get_engine(engine)
        self.layout = replace(base.layout, block_size=base.layout.variables())
        self.places = find_places(self.layout)
        self.variable_pass = VariablePass(self.engine, self.layout, self.places)
        train, self.validation = split_validation(seen.everything, seen.validation)
        self.batches = Batches(Settings(seed=seed, batch_size=tuning.batch_size), train)

    def tensors(self) -> Iterator[tuple[str, str, slice]]:
        """Yield name, role and variables of each tensor."""
        first = 0
        for tensor, size in zip(self.layout.network.tensors(), self.layout.sizes(), strict=True):
            yield tensor.name, tensor.role, slice(first, first + size)
            first += size

    def _flat(self, variables: Array) -> Array:
        flat = np.zeros(self.places.size(), self.engine.dtype)
        flat[self.places.place_of_variable] = variables
        return flat

    def tuned(self, free: Mask, steps: int, rate: float) -> Variables:
        """Return the variables after training those that are free; the rate falls to 0."""
        theta, held = self._flat(self.base.variables), ~(self._flat(free) > 0)
        m, v, g = np.zeros_like(theta), np.zeros_like(theta), np.zeros_like(theta)
        for step in range(steps):
            self.variable_pass.loss_and_grads(theta, *self.batches.batch(step), g)
            g[held] = 0
            now = rate * 0.5 * (1.0 + math.cos(math.pi * step / steps))
            theta, m, v = self.engine.adam_step(theta, g, m, v, step + 1, now)
        return theta[self.places.place_of_variable].astype(np.float32)

    def gradient(self) -> Array:
        """Return the mean gradient at the base over some batches."""
        theta = self._flat(self.base.variables)
        g, total = np.zeros_like(theta), np.zeros(theta.shape)
        for step in range(GRADIENT_BATCHES):
            self.variable_pass.loss_and_grads(theta, *self.batches.batch(step), g)
            total += g
        return total[self.places.place_of_variable] / GRADIENT_BATCHES

    def error(self, variables: Variables, split: Split) -> float:
        """Return the error on some images, in [0, 1]."""
        found = classes(self.variable_pass.logits(self._flat(variables), split.images))
        return float(np.mean(found != split.labels))

    def best(self, candidates: Sequence[Variables]) -> Variables:
        """Return the one with the least validation error."""
        return min(candidates, key=lambda variables: self.error(variables, self.validation))

    def row(
        self, method: str, limit: int | None, size: int, variables: Variables
    ) -> dict[str, Any]:
        """Return what there is to say of a file."""
        splits = {"validation": self.validation, "test": self.seen.new, "old_test": self.seen.old}
        errors = {f"{name}_error": self.error(variables, s) for name, s in splits.items()}
        return {"method": method, "limit": limit, "bytes": size, **errors}


def rivals(tuner: FineTuner, sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield a row for each file that is sent instead of an update."""
    steps, rates, part_rates = tuner.tuning.steps, tuner.tuning.rates, tuner.tuning.part_rates
    old = tuner.base.variables
    last = layer_mask(tuner)
    biases = bias_mask(tuner)
    for what, free in (("last layer", last), ("biases", biases)):
        found = [tuner.tuned(free, steps, rate) for rate in part_rates]
        for form, write in (("float16", as_halves), ("int8", as_bytes)):
            if (what, form) == ("biases", "int8"):
                continue
            written = [write(tuner, free, new) for new in found]
            variables = tuner.best([v for _, v in written])
            yield tuner.row(f"{what}, {form}", None, ENVELOPE + written[0][0], variables)
        if what == "last layer":
            yield from differences(tuner, what, tuner.best(found))
    tuned = tuner.best([tuner.tuned(np.ones(len(old), bool), steps, rate) for rate in rates])
    yield from differences(tuner, "all weights", tuned)
    orders = [np.argsort(-np.abs(by), kind="stable") for by in (tuned - old, tuner.gradient())]
    for size in sizes:
        for form, write in (("float16", as_halves), ("int8", as_bytes)):
            yield largest_changes(tuner, orders, size, form, write)


def layer_mask(tuner: FineTuner) -> Mask:
    """Return which variables are of the last layer: its weights, and its biases."""
    names = [name for name, role, _ in tuner.tensors() if role == WEIGHT]
    layer = names[-1].rpartition(".")[0]
    return _mask(tuner, lambda name, role: name.startswith(f"{layer}."))


def bias_mask(tuner: FineTuner) -> Mask:
    """Return which variables are of biases."""
    return _mask(tuner, lambda name, role: role != WEIGHT)


def _mask(tuner: FineTuner, wanted: Callable[[str, str], bool]) -> Mask:
    mask = np.zeros(tuner.layout.variables(), bool)
    for name, role, part in tuner.tensors():
        mask[part] = wanted(name, role)
    return mask


def as_halves(tuner: FineTuner, free: Mask, new: Variables) -> tuple[int, Variables]:
    """Return bytes and variables of new values as float16."""
    out = tuner.base.variables.copy()
    out[free] = new[free].astype(np.float16).astype(np.float32)
    return 2 * int(free.sum()), out


def as_bytes(tuner: FineTuner, free: Mask, new: Variables) -> tuple[int, Variables]:
    """Return bytes and variables of changes as int8, with a float16 scale for all of them."""
    old = tuner.base.variables
    change = (new - old)[free].astype(np.float64)
    scale = float(np.float16(np.abs(change).max() / LARGEST_INT8)) or 1.0
    steps = np.clip(np.rint(change / scale), -LARGEST_INT8, LARGEST_INT8)
    out = old.copy()
    out[free] = old[free] + (scale * steps).astype(np.float32)
    return int(free.sum()) + 2, out


def index_bytes(indices: NDArray[np.int64]) -> int:
    """Return the bytes of how many indices there are, and of their gaps, as varints."""
    gaps = np.diff(np.sort(indices), prepend=-1) - 1
    return len(write_varint(len(indices))) + sum(len(write_varint(int(gap))) for gap in gaps)


def most_that_fit(order: NDArray[np.int64], room: int, each: int, fixed: int) -> int:
    """Return how many of the first indices of an order fit in some bytes, with their values.

    Parameters
    ----------
    order : ndarray of int64
    room : int
        Bytes.
    each, fixed : int
        Bytes of a value, and of what all of them share.
    """
    count = min(len(order), max(0, room // (each + 1)))
    while count and fixed + each * count + index_bytes(order[:count]) > room:
        count -= 1
    return count


def largest_changes(
    tuner: FineTuner,
    orders: Sequence[NDArray[np.int64]],
    limit: int,
    form: str,
    write: Callable[[FineTuner, Mask, Variables], tuple[int, Variables]],
) -> dict[str, Any]:
    """Return the row of the largest changes that fit in some bytes.

    Which are the largest is told by the change that training all variables makes, or by the
    gradient at the base; those that are chosen are trained anew, alone.
    """
    each, fixed = (2, 0) if form == "float16" else (1, 2)
    found: list[tuple[int, Variables]] = []
    for order in orders:
        count = most_that_fit(order, limit - ENVELOPE, each, fixed)
        if not count:
            continue
        free = np.zeros(len(order), bool)
        free[order[:count]] = True
        for rate in tuner.tuning.part_rates:
            new = tuner.tuned(free, tuner.tuning.sparse_steps, rate)
            size, variables = write(tuner, free, new)
            found.append((ENVELOPE + size + index_bytes(order[:count]), variables))
    method = LARGEST_CHANGES[form]
    if not found:
        return {"method": method, "limit": limit, "status": f"none: {limit} bytes hold no change"}
    size, variables = min(found, key=lambda f: tuner.error(f[1], tuner.validation))
    return tuner.row(method, limit, size, variables)


def differences(tuner: FineTuner, what: str, new: Variables) -> Iterator[dict[str, Any]]:
    """Yield the rows of bsdiff's difference of exported float32 weights."""
    weights = [weights_of(tuner.base.layout, v) for v in (tuner.base.variables, new)]
    forms: dict[str, Callable[[dict[str, Variables]], bytes]] = {
        "npz": npz_bytes,
        "raw": lambda tensors: b"".join(w.tobytes() for w in tensors.values()),
    }
    for form, exported in forms.items():
        size = len(load_bsdiff().diff(*map(exported, weights)))
        yield tuner.row(f"{what}, bsdiff of {form}", None, size, new)
