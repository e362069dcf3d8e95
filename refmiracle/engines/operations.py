"""What each function of the contract takes, and an engine whose functions look at it first."""

from __future__ import annotations

import functools
import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from refmiracle.engines.arguments import (
    BYTE,
    Argument,
    Filled,
    Flags,
    Floats,
    Grouped,
    Kernel,
    Listed,
    Maybe,
    Moments,
    Pixels,
    Pooled,
    Record,
    Tiled,
    Whole,
)
from refmiracle.engines.contract import Adam, Engine, MeanKLBlocks, MeanVarBlocks
from refmiracle.engines.scalars import Number, Real, Reals, Text, Truth
from refmiracle.errors import InputError
from refmiracle.numerics.limits import LARGEST_PARTITION_BITS, LARGEST_SEARCH_BITS
from refmiracle.numerics.whole import BEYOND, ROW_WORDS, SMALLEST

SINGLE = np.dtype(np.float32)
BLOCKS = "Blocks size"
SEED, STREAM, ROW = Number("seed"), Number("stream"), Number("row")
BUDGET, STEP = Real("budget"), Number("step", low=1, end=BEYOND)
# All candidates of minimal and ordered random coding, and all bins of space partitioning.
BITS = Number("bits", end=LARGEST_SEARCH_BITS + 1)
BIN_BITS = Number("bits", end=LARGEST_PARTITION_BITS + 1)
ROWS = Whole("rows", shape="Rows")
MESSAGES = Whole("messages", shape="Rows", low=SMALLEST, end=BEYOND)
OF_BLOCKS = (
    Whole("blocks", shape="Blocks"),
    Floats("delta", shape=BLOCKS, double=True),
    Floats("log_s", shape=BLOCKS, double=True),
)
DIMENSION = Number("dimension", low=1)
X = Floats("x", shape="channels height width N")
# Of a convolution or a normalisation: its channels are cut into groups, a kernel sees one of them.
MAPS = Grouped("x", shape="channels height width N")
KERNEL = Kernel("w", shape="kh kw fan units")
# So that a stride times a place, and a map with its zeros around, stay far from where int64 ends.
LARGEST_STEP = 2**16
SLIDING = (
    Number("stride", low=1, end=LARGEST_STEP, default=1),
    Number("padding", end=LARGEST_STEP, default=0),
    Number("groups", low=1, default=1),
)
WINDOW = Number("height", low=1), Number("width", low=1)
COLUMNS, MATRIX = Floats("x", shape="inputs N"), Floats("w", shape="inputs units")
BIAS = Floats("b", shape="units")

# Layers with tensors of their own, and those without; residuals are lists of both.
KINDS = {"conv2d", "dense", "groupnorm", "flatten", "maxpool2d", "meanpool2d", "relu"}


def _floats(names: str, shape: str) -> tuple[Floats, ...]:
    return tuple(Floats(name, shape=shape) for name in names.split())


def _filled(names: str, shape: str = BLOCKS) -> tuple[Filled, ...]:
    return tuple(Filled(name, shape=shape) for name in names.split())


def _record(name: str, kind: Any, *fields: Argument) -> tuple[Argument, ...]:
    return tuple(replace(field, of=Record(name, kind)) for field in fields)


TENSOR = Whole("tensor_of_place", shape=BLOCKS, end="tensors")
NU = Maybe("nu", shape=BLOCKS, default=None)
BETA, USED = Floats("beta", shape="Blocks"), Flags("used", shape=BLOCKS)
RHO = Floats("rho", shape=BLOCKS)
NO_TENSOR = Argument("tensor_of_place")  # which a sample does not ask for
# What a step takes behind the blocks.
STEP_BY_ADAM = (
    *_floats("eps g", BLOCKS),
    *_record("adam", Adam, Moments("moments", shape=BLOCKS), STEP, Reals("rates", count=2)),
    Filled("dlog_rho", shape="tensors", double=True),
    Maybe("mirrored", shape=BLOCKS, default=None),
)

# Of each function its arguments; of a record its fields, one by one.
OPERATIONS: dict[str, tuple[Argument, ...]] = {
    "philox4x32": (Whole("counter", shape="... 4"), Whole("key", shape="2")),
    "normal_quantile": (Floats("p", shape="same", double=True),),
    "normals": (SEED, STREAM, ROWS, Number("count", end=ROW_WORDS + 1)),
    "log_s": _floats("x", "same"),
    "ds_dx": _floats("x", "same"),
    "gaussian_kl": _floats("delta log_s", "same"),
    "mean_kl": (*_floats("tau phi", BLOCKS), BUDGET),
    "mean_kl_forward": (*_floats("tau phi rho", BLOCKS), BUDGET, *_floats("eps", BLOCKS), NU),
    "mean_kl_backward": (*_floats("tau phi rho", BLOCKS), BUDGET, *_floats("eps g", BLOCKS)),
    "mean_var_forward": _floats("mu log_sigma eps", BLOCKS),
    "mean_var_backward": (
        *_floats("mu log_sigma rho", BLOCKS),
        *_floats("beta", "Blocks"),
        *_floats("eps g", BLOCKS),
        NU,
    ),
    "expand_hash": (
        Floats("variables", shape="any"),
        Whole("places", shape="Weights", end="any"),
        Floats("signs", shape="Weights"),
    ),
    "expand_hash_backward": (
        Floats("g", shape="Weights"),
        Whole("places", shape="Weights", end="count"),
        Floats("signs", shape="Weights"),
        Number("count", end=BEYOND),
    ),
    "mean_kl_sample": (
        *_record("blocks", MeanKLBlocks, *_floats("tau phi rho", BLOCKS), NO_TENSOR, BUDGET, NU),
        SEED,
        ROW,
        *_filled("w eps"),
    ),
    "mean_kl_step": (
        *_record("blocks", MeanKLBlocks, *_filled("tau phi"), RHO, TENSOR, BUDGET, NU),
        *STEP_BY_ADAM,
    ),
    "mean_var_sample": (
        *_record(
            *("blocks", MeanVarBlocks),
            *(*_floats("mu log_sigma rho", BLOCKS), NO_TENSOR, BETA, USED, NU),
        ),
        SEED,
        ROW,
        *_filled("w eps"),
    ),
    "mean_var_step": (
        *_record("blocks", MeanVarBlocks, *_filled("mu log_sigma"), RHO, TENSOR, BETA, USED, NU),
        *STEP_BY_ADAM,
    ),
    "images": (Pixels("pixels", shape="N height width", end=256, dtype=BYTE),),
    "conv2d": (MAPS, KERNEL, BIAS, *SLIDING),
    "conv2d_backward": (
        MAPS,
        KERNEL,
        Floats("dy", shape="units rows columns N"),
        Truth("need_dx", default=True),
        *SLIDING,
    ),
    "maxpool2d": (X,),
    "maxpool2d_backward": (
        Floats("dy", shape="channels Rows Columns N"),
        Whole("winner", shape="channels Rows Columns N", end=4, dtype=BYTE),
        Pooled("shape"),
    ),
    "mean_pool2d": (Tiled("x", shape="channels map_height map_width N"), *WINDOW),
    "mean_pool2d_backward": (
        Floats("dy", shape="channels rows columns N"),
        *WINDOW,
        Pooled("shape", shape="channels rows columns N"),
    ),
    "group_norm": (MAPS, *_floats("gain bias", "channels"), Number("groups", low=1)),
    "group_norm_backward": (
        MAPS,
        *_floats("gain", "channels"),
        Number("groups", low=1),
        *_floats("dy", "channels height width N"),
    ),
    "relu": _floats("x", "same"),
    "relu_backward": _floats("y dy", "same"),
    "dense": (COLUMNS, MATRIX, BIAS),
    "dense_backward": (
        COLUMNS,
        MATRIX,
        Floats("dy", shape="units N"),
        Truth("need_dx", default=True),
    ),
    "softmax_cross_entropy": (
        Floats("logits", shape="classes N"),
        Whole("labels", shape="N", end="classes"),
    ),
    "adam_step": (*_floats("theta g m v", "same"), STEP, Real("rate")),
    "log_weights": (
        Floats("candidates", shape="Candidates size"),
        *OF_BLOCKS[1:],
    ),
    "select_indices": (SEED, BITS, *OF_BLOCKS, Truth("best", default=False)),
    "codebook_rows": (SEED, Whole("indices", shape="Rows"), DIMENSION),
    "ordered_indices": (SEED, BITS, *OF_BLOCKS),
    "poisson_indices": (SEED, *OF_BLOCKS),
    "partition_messages": (SEED, BIN_BITS, *OF_BLOCKS),
    "partition_rows": (SEED, BIN_BITS, Whole("blocks", shape="Rows"), MESSAGES, DIMENSION),
    "variable_messages": (
        Text("code"),
        SEED,
        ROWS,
        Floats("delta", shape="Rows", double=True),
        Floats("log_s", shape="Rows", double=True),
        Number("oversampling", end=64, default=0),
    ),
    "variable_samples": (Text("code"), SEED, ROWS, MESSAGES),
    "shards": (Number("batch", end=BEYOND),),
}
# What these take is no array: a network's description, and work for the engine's threads.
OTHERS = ("name", "dtype", "network_pass", "map")
OWNERS = (type(None), np.ndarray)


def checked(engine: Engine) -> Engine:
    """Return an engine whose functions look at their arguments first.

    Parameters
    ----------
    engine : Engine
        Such as a module that has the functions of `contract.Engine` by their names.
    """
    whole = {n: getattr(engine, n) for n in OTHERS}
    for n, arguments in OPERATIONS.items():
        whole[n] = _checked(n, getattr(engine, n), arguments, engine.dtype)
    whole["network_pass"] = functools.partial(_network_pass, engine)
    # Wrapped by their signatures, which no type can say; the one that came in is checked.
    return cast(Engine, SimpleNamespace(**whole))


Parts = list[tuple[Record | Argument, int]]


def parts_of(arguments: Sequence[Argument]) -> Parts:
    """Return what a call has: records, each with how many fields it has, and other arguments."""
    parts = itertools.groupby(arguments, key=lambda argument: argument.of or argument)
    return [(part, len(list(fields))) for part, fields in parts]


def in_records(parts: Parts, values: Sequence[Any]) -> Iterator[Any]:
    """Yield the values of a call from those of all arguments, fields of records among them."""
    left = iter(values)
    for part, count in parts:
        own = itertools.islice(left, count)
        yield from [part.kind(*own)] if isinstance(part, Record) else own


def _one_by_one(parts: Parts, values: Sequence[Any]) -> Iterator[Any]:
    """Yield the values of all arguments: undoes `in_records`."""
    for (part, _), value in zip(parts, values, strict=True):
        yield from part.fields(value) if isinstance(part, Record) else (value,)


def _parameter(part: Record | Argument) -> inspect.Parameter:
    default = inspect.Parameter.empty if isinstance(part, Record) else part.default
    return inspect.Parameter(part.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)


def _checked(
    name: str, function: Callable[..., Any], arguments: Sequence[Argument], own: np.dtype[Any]
) -> Callable[..., Any]:
    """Return a function of these arguments that makes them plain first."""
    order = sorted(enumerate(arguments), key=lambda pair: (not pair[1].early(), pair[1].late()))
    filled = [n for n, a in enumerate(arguments) if isinstance(a, Filled | Moments)]
    parts = parts_of(arguments)
    signature = inspect.Signature([_parameter(part) for part, _ in parts])

    @functools.wraps(function)
    def call(*values: Any, **named: Any) -> Any:
        if named or len(values) != len(parts):
            bound = signature.bind(*values, **named)
            bound.apply_defaults()
            values = bound.args
        sizes: dict[str, Any] = {}
        try:
            taken = list(_one_by_one(parts, values))
            for n, argument in order:
                taken[n] = argument.take(taken[n], sizes, own)
            if filled:
                _apart(arguments, taken, filled)
        except InputError as e:
            raise InputError(f"{name}: {e}") from None
        result = function(*in_records(parts, taken))
        return _without_axes(result) if sizes.get("same") == () else result

    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def _without_axes(result: Any) -> Any:
    """Return results of shape (1,), of arguments that had no axes, without them too."""
    if isinstance(result, tuple):
        return tuple(map(_without_axes, result))
    return result.reshape(())


def _apart(arguments: Sequence[Argument], taken: Sequence[Any], filled: Sequence[int]) -> None:
    """Refuse an array that is filled where another one lies."""
    arrays, owners = [], set()
    for n, value in enumerate(taken):
        if isinstance(value, np.ndarray):
            arrays.append((value, n))
        elif isinstance(arguments[n], Moments):
            arrays += [(array, n) for pair in value for array in pair]
    for array, _ in arrays:
        owners.add(id(array) if array.base is None else id(array.base))
    # Arrays of different owners lie apart; an owner that is no array may own what another does.
    if len(owners) < len(arrays) or any(type(a.base) not in OWNERS for a, _ in arrays):
        _apart_in_memory(arguments, arrays, filled)


def _apart_in_memory(
    arguments: Sequence[Argument], arrays: Sequence[tuple[Any, int]], filled: Sequence[int]
) -> None:
    for (one, n), (other, m) in itertools.combinations(arrays, 2):
        if (n in filled or m in filled) and np.may_share_memory(one, other):
            name, with_name = arguments[n].name, arguments[m].name
            if n not in filled:
                name, with_name = with_name, name
            raise InputError(f"{name} is filled in place, but shares its memory with {with_name}")


def _network_pass(
    engine: Engine,
    layers: Sequence[Sequence[Any]],
    copies: Sequence[int],
    image: Sequence[int],
) -> CheckedPass | None:
    """Return the engine's pass of a network, checked too; see `contract.Engine.network_pass`."""
    channels, height, width = image
    layers, copies, image = _plain(layers), tuple(copies), (channels, height, width)
    if not _are_known(layers):
        return None
    left, outputs = iter(copies), list[int]()
    units = _units(layers, left, outputs)
    if next(left, None) is not None:
        raise InputError(f"{len(copies)} numbers of copies; expected {len(outputs)}, one a layer")
    inner = engine.network_pass(layers, copies, image)
    if inner is None:
        return None
    return CheckedPass(inner, outputs, units, (channels, height, width))


def _plain(layers: Sequence[Any]) -> tuple[Any, ...]:
    """Return specs as tuples, those within residuals too."""
    return tuple(_plain(part) if isinstance(part, list | tuple) else part for part in layers)


def _are_known(layers: Sequence[Any]) -> bool:
    """Tell whether all layers are of the contract: others have weights that it does not know."""
    return all(
        all(map(_are_known, sizes)) if kind == "residual" else kind in KINDS
        for kind, *sizes in layers
    )


def _units(layers: Sequence[Any], copies: Iterator[int], outputs: list[int]) -> int:
    """Return the length of a pass's `units`; note the outputs of each layer that has any."""
    units = 0
    for kind, *sizes in layers:
        if kind == "residual":
            units += sum(_units(part, copies, outputs) for part in sizes)
        elif kind == "groupnorm":
            units += 2 * sizes[0]
        elif kind in ("conv2d", "dense"):
            # Each unit has a weight for each input, at each place of its kernel if it has one.
            kernel, inputs, own, *sliding = sizes if kind == "conv2d" else ((1, 1), *sizes)
            groups, count = sliding[-1] if sliding else 1, next(copies, 0)
            if count < 1 or groups < 1 or own % count or own % groups or inputs % groups:
                raise InputError(
                    f"{kind} of {inputs} inputs and {own} outputs in {groups} groups and {count}"
                    " copies; expected numbers that divide these, for each layer"
                )
            units += math.prod(kernel) * (inputs // groups) * (own // count) + own
            outputs.append(own)
    return units


class CheckedPass:
    """An engine's pass of a network whose functions look at their arguments first."""

    def __init__(
        self, inner: Any, outputs: Sequence[int], units: int, image: tuple[int, int, int]
    ) -> None:
        self.inner = inner
        flat, signs = Floats("units", shape=str(units)), Listed("signs", lengths=tuple(outputs))
        labels = Whole("labels", shape="images", end=inner.classes)
        out = Filled("out", shape=str(units))
        # One channel has no axis.
        axes = " ".join(map(str, image[1:] if image[0] == 1 else image))

        def pixels(count: str) -> Whole:
            return Whole("pixels", shape=f"{count} {axes}", end=256, dtype=BYTE)

        training = flat, signs, pixels("images"), labels, out
        self.loss_and_grads = _checked("loss_and_grads", inner.loss_and_grads, training, SINGLE)
        self.logits = _checked("logits", inner.logits, (flat, signs, pixels("Images")), SINGLE)
