"""Arrays as people have them: the results of plain ones, or one line that names the argument."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from contract_calls import ARRAYS, CALLS, arguments, called, leaves, plain, results
from oracles import same_bits, scaled_error

from refmiracle.engines import get_engine
from refmiracle.engines.arguments import Filled, Floats, Moments, Pixels, Whole
from refmiracle.engines.contract import Engine
from refmiracle.engines.numba_engine.mrc import CHUNK
from refmiracle.engines.numba_engine.steps import PLACES
from refmiracle.engines.numba_engine.vector import LANES
from refmiracle.engines.operations import OPERATIONS, OTHERS
from refmiracle.engines.scalars import Number
from refmiracle.errors import InputError
from refmiracle.nn.networks import LENET5

ENGINES = ("numpy", "numba")


class Subclass(np.ndarray):
    """An array of somebody's own class."""


class Protocol:
    """What NumPy takes as an array, but is none."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype=dtype)


def strided(a):
    """Every second element of every axis of a larger array."""
    large = np.full([2 * n + 1 for n in a.shape], 3, dtype=a.dtype)
    view = large[tuple(slice(1, 2 * n + 1, 2) for n in a.shape)]
    view[...] = a
    return view


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def unaligned(a):
    buffer = np.empty(a.nbytes + 1, np.uint8)[1:]
    view = buffer.view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def nested_tuples(a):
    return tuple(map(nested_tuples, a)) if a.ndim else a.item()


# The same values, held otherwise.
HELD = {
    "Fortran order": np.asfortranarray,
    "strided": strided,
    "backwards": lambda a: np.flip(np.flip(a).copy()),
    "axes exchanged": lambda a: np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0),
    "broadcast": lambda a: np.broadcast_to(a, (1, *a.shape))[0],
    "read-only": read_only,
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "not aligned": unaligned,
    "list": lambda a: a.tolist(),
    "nested tuples": nested_tuples,
    "subclass": lambda a: a.view(Subclass),
    "array protocol": Protocol,
}
FLOATS = ("float16", "float32", "float64", "longdouble", ">f8", ">f2")
INTEGERS = ("uint8", "int16", ">i4", "uint32", "int64", "uint64", ">u8")


def refused(name, engine, values, *words):
    """The one line that refuses a call, which holds these words."""
    with pytest.raises(InputError) as caught:
        called(name, engine, values)
    said = str(caught.value)
    assert said.startswith(f"{name}: ")
    assert "\n" not in said
    assert all(word in said for word in words), said


def changed(values, at, value):
    return [value if n == at else v for n, v in enumerate(values)]


def test_every_function_of_the_contract_has_arguments_and_a_call():
    """What is added to the contract is checked, and its call is scanned."""
    contract = {n: f for n, f in vars(Engine).items() if inspect.isfunction(f) and n[0] != "_"}
    assert set(contract) - set(OTHERS) == set(OPERATIONS) == set(CALLS)
    for name in OPERATIONS:
        expected = list(inspect.signature(contract[name]).parameters.values())[1:]
        for engine in map(get_engine, ENGINES):
            found = inspect.signature(getattr(engine, name)).parameters.values()
            own = inspect.signature(inspect.unwrap(getattr(engine, name))).parameters.values()
            assert [p.name for p in found] == [p.name for p in expected]
            assert [p.name for p in own][: len(found)] == [p.name for p in expected]


@pytest.mark.parametrize(("name", "at"), ARRAYS)
def test_the_same_values_held_otherwise(engine, name, at):
    argument, values = OPERATIONS[name][at], arguments(name, engine.dtype)
    expected = [a.copy() for a in results(name, engine, arguments(name, engine.dtype))]
    for kind, hold in HELD.items():
        values = arguments(name, engine.dtype)
        held = hold(values[at])
        if isinstance(argument, Filled):
            if not (type(held) is np.ndarray and held.flags.carray and held.dtype.isnative):
                refused(name, engine, changed(values, at, held), argument.name, "in place")
            continue
        before = [a.copy() for v in values for a in leaves(v)]
        got = results(name, engine, changed(values, at, held))
        assert all(map(same_bits, got, expected)), kind
        if not any(isinstance(a, Filled | Moments) for a in OPERATIONS[name]):
            after = [a for v in values for a in leaves(v)]
            assert all(map(same_bits, after, before)), "an input is changed"
        assert np.array_equal(np.array(held), before[index_of(values, at)])


def index_of(values, at):
    """The place of an argument among all arrays of a call."""
    return sum(len(leaves(v)) for v in values[:at])


@pytest.mark.parametrize(("name", "at"), ARRAYS)
def test_other_types(engine, name, at):
    """Numbers of any width are the same numbers; what would be rounded or read anew is refused."""
    argument = OPERATIONS[name][at]
    if isinstance(argument, Filled):
        types = {"float16", "float32", "float64", ">f8", ">f4", "int64"}
        own = np.float64 if argument.double else engine.dtype
        for dtype in sorted(types - {str(np.dtype(own))}):
            values = arguments(name, engine.dtype)
            refused(name, engine, changed(values, at, values[at].astype(dtype)), argument.name)
        return
    if isinstance(argument, Floats):
        for dtype in (*FLOATS, *INTEGERS, "bool"):
            value = arguments(name, engine.dtype)[at]
            other = (value if dtype in FLOATS else 0 * value + 1).astype(dtype)
            same = plain(argument, other, engine.dtype)
            calls = [changed(arguments(name, engine.dtype), at, v) for v in (same, other)]
            try:
                want = [a.copy() for a in results(name, engine, calls[0])]
            except InputError:  # 1 is no such number
                with pytest.raises(InputError):
                    results(name, engine, calls[1])
                continue
            assert all(map(same_bits, results(name, engine, calls[1]), want)), dtype
        others = ("complex128", "U4", "S4", "datetime64[s]", "object")
    elif isinstance(argument, Whole):
        want = [a.copy() for a in results(name, engine, arguments(name, engine.dtype))]
        for dtype in INTEGERS:
            values = arguments(name, engine.dtype)
            values[at] = values[at].astype(dtype)
            assert all(map(same_bits, results(name, engine, values), want)), dtype
        others = ("float16", "float64", "complex128", "bool", "U4", "object")
    else:
        others = ("uint8", "int64", "float64", "U4", "object")
    for dtype in others:
        values = arguments(name, engine.dtype)
        values[at] = values[at].astype("int64").astype(dtype)
        refused(name, engine, values, argument.name)


@pytest.mark.parametrize(("name", "at"), ARRAYS)
def test_other_shapes(engine, name, at):
    """One element or axis too many or too few is refused, but where any shape will do."""
    argument = OPERATIONS[name][at]
    value = arguments(name, engine.dtype)[at]
    others = [getattr(a, "shape", "") for a in OPERATIONS[name] if a is not argument]
    first = argument.shape.split()[0]
    free = first != "4" and not any(first in shape.split() for shape in others)
    shapes = [value[None], value[..., None], value[..., 0]]
    shapes += [] if free else [value[:-1], value[:0], np.concatenate([value, value[:1]])]
    for other in map(np.array, shapes):
        values = changed(arguments(name, engine.dtype), at, other)
        any_axes = free and first in ("any", "same", "...")
        with_channels = isinstance(argument, Pixels) and other.ndim == 4
        if with_channels or (any_axes and other.shape[-1:] == value.shape[-1:]):
            results(name, engine, values)
        elif not (free and first in ("any", "same")):
            refused(name, engine, values, "shape")


@pytest.mark.parametrize("name", OPERATIONS)
def test_results_are_the_callers_own(engine, name):
    """No result lies in an input, in a buffer of the engine, or where the next call writes."""
    values = arguments(name, engine.dtype)
    first = results(name, engine, values)
    if not any(isinstance(a, Filled | Moments) for a in OPERATIONS[name]):
        given = [a for v in values for a in leaves(v)]
        assert not any(np.shares_memory(r, a) for r in first for a in given)
    kept = [a.copy() for a in first]
    for n in (4, 5):
        again = results(name, engine, arguments(name, engine.dtype, n))
        assert not any(np.shares_memory(a, b) for a in first for b in again)
    assert all(map(same_bits, first, kept))
    for array in first:
        assert array.flags.writeable


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n != "shards"])
def test_scalars_where_any_shape_will_do(engine, name):
    if all(getattr(a, "shape", "same") == "same" for a in OPERATIONS[name]):
        values = arguments(name, engine.dtype, 1)
        values = [v.ravel()[0] if isinstance(v, np.ndarray) else v for v in values]
        for given in (values, [np.asarray(v) for v in values]):
            assert {np.shape(r) for r in results(name, engine, given)} == {()}


# One less and one more than what is cut: vectors, slices of them, shards of a batch, chunks.
LENGTHS = sorted(
    {
        n + by
        for n in (1, 2, LANES, 2 * LANES, 4 * LANES, 32, 64, 128, PLACES // 3, PLACES)
        for by in (-1, 0, 1)
    }
)
LONG = sorted({n + by for n in (CHUNK, 4096) for by in (-1, 0, 1)})
LONG_OPERATIONS = ("normals", "codebook_rows", "expand_hash", "log_s", "variable_samples")
# Equal in both engines to the last bit, or to rounding of float32.
STAGES = ("philox", "normal_quantile", "select", "codebook", "ordered", "poisson", "partition")
EXACT = {name for name in OPERATIONS if name.startswith((*STAGES, "variable"))}


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n != "shards"])
def test_lengths_around_all_tiles(name):
    """Both engines compute the same; nothing is nothing, in the right shape."""
    numpy, numba = map(get_engine, ENGINES)
    searches = ("poisson_indices", "ordered_indices", "partition_messages", "variable_messages")
    lengths = LENGTHS if name not in searches else [n for n in LENGTHS if n < 2 * LANES]
    for n in (*lengths, *(LONG if name in LONG_OPERATIONS else ())):
        want = results(name, numpy, arguments(name, numpy.dtype, n))
        got = results(name, numba, arguments(name, numba.dtype, n))
        assert [a.shape for a in got] == [a.shape for a in want], n
        for a, b in zip(got, want, strict=True):
            if name in EXACT:
                assert a.dtype == b.dtype
                assert np.array_equal(a, b), n
            else:
                assert scaled_error(a, b) < 1e-5, n


FILLING = [
    (name, at, other)
    for name, taken in OPERATIONS.items()
    for at, argument in enumerate(taken)
    if isinstance(argument, Filled)
    for other, with_one in enumerate(taken)
    if other != at and isinstance(with_one, Floats) and with_one.shape == argument.shape
]


@pytest.mark.parametrize(("name", "at", "other"), FILLING)
def test_what_is_filled_lies_apart(engine, name, at, other):
    for overlap in (lambda a: a, lambda a: a[:], lambda a: a[::-1][::-1]):
        values = arguments(name, engine.dtype)
        values[other] = overlap(values[at])
        refused(name, engine, values, "memory", OPERATIONS[name][at].name)
    # Neighbours in one buffer are no overlap.
    values = arguments(name, engine.dtype)
    want = [a.copy() for a in results(name, engine, arguments(name, engine.dtype))]
    both = np.stack([values[at], values[other]])
    values[at], values[other] = both
    assert all(map(same_bits, results(name, engine, values), want))


def test_moments_are_two_pairs_that_lie_apart(engine):
    for name in ("mean_kl_step", "mean_var_step"):
        at = [a.name for a in OPERATIONS[name]].index("moments")
        values = arguments(name, engine.dtype)
        (m, v), second = values[at]
        for wrong in (None, 3, (m, v), ((m, v), (m,)), ((m, v), (m, v)), ((m, m), second)):
            refused(name, engine, changed(values, at, wrong), "m")
        for wrong in (m.astype(">f4"), m[:-1], m.tolist(), read_only(m)):
            refused(name, engine, changed(values, at, ((wrong, v), second)), "moments")
        results(name, engine, changed(values, at, [[m, v], list(second)]))
        want = results(name, engine, arguments(name, engine.dtype))
        flat = [m, v, *second]
        assert all(map(same_bits, flat, [a for a in want if a.ndim == 2][-4:]))


def test_masks_and_ragged_rows_are_refused(engine):
    masked = np.ma.masked_array(np.ones((2, 3)), mask=np.eye(2, 3, dtype=bool))
    refused("relu", engine, [masked], "x", "mask")
    refused("relu", engine, [[[1.0, 2.0], [3.0]]], "x", "shapes")
    refused("codebook_rows", engine, [1, [[1], [2, 3]], 4], "indices", "shapes")


WORDS = {
    "labels": ("softmax_cross_entropy", 1, [3, -1]),
    "winner": ("maxpool2d_backward", 1, [4, -1, 255]),
    "places": ("expand_hash", 1, [6, -1, 2**63]),
    "backward places": ("expand_hash_backward", 1, [7, -1, 2**63]),
    "pixels": ("images", 0, [256, -1]),
    "tensor_of_place": ("mean_kl_step", 3, [2, -1]),
    "key": ("philox4x32", 1, [2**32, -1, 2**64 - 1]),
    "counter": ("philox4x32", 0, [2**32, -1]),
    "rows": ("normals", 2, [2**32, -1, 2**64 - 1]),
    "indices": ("codebook_rows", 1, [2**32, -1]),
    "blocks": ("select_indices", 2, [2**32, -1]),
}


@pytest.mark.parametrize("what", WORDS)
def test_numbers_that_point_outside(engine, what):
    """Compiled code would read or write what is none of its own, plain NumPy count from the end."""
    name, at, wrong = WORDS[what]
    for number in wrong:
        values = arguments(name, engine.dtype)
        values[at] = values[at].astype("uint64" if number > 2**62 else "int64")
        values[at].reshape(-1)[-1] = number
        refused(name, engine, values, OPERATIONS[name][at].name, str(number), "out of range")


def test_a_shape_that_is_not_pooled_so_is_refused(engine):
    dy, winner, shape = arguments("maxpool2d_backward", engine.dtype)
    for wrong in [(2, 4, 5), (2, 6, 5, 5), (2, 4, 3, 5), (1, 4, 5, 5), (2, 4, 5, 4), "abcd", None]:
        refused("maxpool2d_backward", engine, [dy, winner, wrong], "shape")
    assert engine.maxpool2d_backward(dy, winner, np.array(shape)).shape == shape


def test_a_kernel_larger_than_its_input_is_refused(engine):
    x, _, b = arguments("conv2d", engine.dtype)
    for wrong in (np.ones((5, 2, 2, 3)), np.ones((1, 6, 2, 3)), np.ones((0, 2, 2, 3))):
        refused("conv2d", engine, [x, wrong, b], "w")


@pytest.mark.parametrize("padding", [3, 2**15])
def test_more_zeros_than_the_kernel_is_long_are_refused(engine, padding):
    x, w, b = arguments("conv2d", engine.dtype)
    assert np.shape(w)[:2] == (3, 2)
    with pytest.raises(InputError, match=f"padding {padding} is no less than the sides of w"):
        engine.conv2d(x, w, b, 1, padding)


def pass_arguments(n=5):
    copies = (1, 1, 1, 1)
    whole = get_engine("numba").network_pass(LENET5.specs(), copies, (1, 28, 28))
    signs = [np.ones(t.shape, np.float32) for t in LENET5.tensors()[1::2]]
    units = (np.arange(LENET5.count()) % 13 - 6).astype(np.float32) / 64
    pixels = (np.arange(n * 784) % 251).astype(np.uint8).reshape(n, 28, 28)
    return whole, [units, signs, pixels, np.arange(n) % 10, np.empty_like(units)]


@pytest.mark.parametrize("copies", [(1, 2, 3, 1), (1, 2, 50), (1, 2, 50, 0)])
def test_passes_of_copies_that_do_not_divide_are_refused(copies):
    """Their buffers are planned by them."""
    with pytest.raises(InputError, match="expected numbers that divide these"):
        get_engine("numba").network_pass(LENET5.specs(), copies, (1, 28, 28))


def test_passes_of_too_many_copies_are_refused():
    with pytest.raises(InputError, match="5 numbers of copies; expected 4, one a layer"):
        get_engine("numba").network_pass(LENET5.specs(), (1,) * 5, (1, 28, 28))


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_a_convolution_in_no_group_is_refused(engine):
    layers = (("conv2d", (1, 1), 1, 1, 1, 0, 0), ("flatten",), ("dense", 4, 2))
    with pytest.raises(InputError, match="in 0 groups and 1 copies; expected numbers that divide"):
        get_engine(engine).network_pass(layers, (1, 1), (1, 2, 2))


def test_passes_of_networks_take_arrays_of_any_kind():
    whole, values = pass_arguments()
    loss = whole.loss_and_grads(*values)
    gradients, logits = values[4].copy(), whole.logits(*values[:3])
    for kind, hold in HELD.items():
        for at in (0, 2, 3):
            given = changed(values, at, hold(values[at]))
            assert whole.loss_and_grads(*given) == loss, kind
            assert same_bits(given[4], gradients), kind
            if at < 3:
                assert same_bits(whole.logits(*given[:3]), logits), kind
        assert same_bits(whole.logits(values[0], [hold(s) for s in values[1]], values[2]), logits)


@pytest.mark.parametrize(
    ("at", "wrong"),
    [
        (0, np.zeros(7)),
        (1, [np.ones(20)] * 3),
        (1, [np.ones(20)] * 4),
        (2, np.zeros((5, 28, 27), np.uint8)),
        (2, np.zeros((5, 28, 28))),
        (2, np.zeros((0, 28, 28), np.uint8)),
        (3, [0, 1, 2, 3, 10]),
        (3, [0, 1, 2, 3, -1]),
        (3, [0.0, 1.0, 2.0, 3.0, 4.0]),
        (3, [0, 1, 2, 3]),
        (4, np.zeros(7, np.float32)),
        (4, np.zeros(LENET5.count())),
    ],
)
def test_what_passes_of_networks_refuse(at, wrong):
    whole, values = pass_arguments()
    with pytest.raises(InputError, match="loss_and_grads: ") as caught:
        whole.loss_and_grads(*changed(values, at, wrong))
    assert "\n" not in str(caught.value)


def test_numbers_are_in_the_table():
    """So that what `test_whole_numbers` enumerates is all that there is."""
    numbers = {a.name for taken in OPERATIONS.values() for a in taken if isinstance(a, Number)}
    assert numbers >= {"seed", "stream", "row", "count", "bits", "dimension", "step"}
