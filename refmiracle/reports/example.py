"""One block followed from its bits in the file to the weights of the network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refmiracle.codes.table import find_code
from refmiracle.fileformat.anatomy import BITS, Field
from refmiracle.numerics.philox import Stream, stream_permutation
from refmiracle.reports.opening import OpenedRun
from refmiracle.studies.comparison import FinishedRun, scales_of

Array = NDArray[np.float64]

OTHERS = 4096


@dataclass(frozen=True)
class Variable:
    """A coded variable of the block.

    Attributes
    ----------
    place : int
        In the block.
    tensor : str
    positions : list of tuple of int
        In the tensor, of each weight that it stands for.
    base, rho, normal, weight : float
        What an update's base has, 0 for a model; scale of the tensor; number of the candidate's
        row; and base + rho normal.
    mu, sigma : float
        Mean and standard deviation of the posterior at the end of training.
    """

    place: int
    tensor: str
    positions: list[tuple[int, ...]]
    base: float
    rho: float
    normal: float
    weight: float
    mu: float
    sigma: float


@dataclass(frozen=True)
class Example:
    """A block and its index.

    Attributes
    ----------
    block, index, bits : int
    group, groups : int
        In which group it was encoded, from 0, and how many there are.
    first_byte, first_bit : int
        Where the index begins: byte of the file, and bit of the byte from the highest.
    shown_bits : list of (str, str, str)
        For each byte that holds a part of it: the bits before, of, and after the index.
    variables : list of Variable
    log_weight : float
        log2 q / p of the candidate that was sent.
    others : ndarray of float64, shape (others,)
        log2 q / p of other candidates of the table.
    kl : float
        KL[Q || P] of the block in bits.
    """

    block: int
    index: int
    bits: int
    group: int
    groups: int
    first_byte: int
    first_bit: int
    shown_bits: list[tuple[str, str, str]]
    variables: list[Variable]
    log_weight: float
    others: Array
    kl: float

    @property
    def others_median(self) -> float:
        """Return the median log2 q / p of the other candidates."""
        return float(np.median(self.others))

    @property
    def last_byte(self) -> int:
        """Return the byte of the file that the index ends in."""
        return self.first_byte + len(self.shown_bits) - 1


def choose_block(run: FinishedRun) -> tuple[int, int]:
    """Return a block with a variable of the first coded tensor, and its group of encoding.

    The earlier its group, the nearer the posterior that was kept is to the one it was encoded
    from; in the first group it is the same.  Of a group, the block whose weight, or change, in
    that tensor is largest is the one to see.
    """
    settings, layout = run.settings, run.settings.layout()
    order = stream_permutation(settings.seed, Stream.ORDER, 0, layout.blocks())
    first = next(iter(run.tensors().values()))
    places = run.places.place_of_variable[run.coded[first]]
    largest = np.zeros(layout.blocks())
    change = np.abs(run.change[first])
    # An update may leave all of a tensor as it was: then any of its blocks will do.
    np.maximum.at(largest, places // layout.block_size, change if change.any() else 1.0)
    for number, group in enumerate(np.array_split(order, settings.groups)):
        if largest[group].any():
            return int(group[largest[group].argmax()]), number
    raise AssertionError("the first tensor has at least one variable")


def follow_block(opened: OpenedRun, fields: list[Field], bits: Array) -> Example:
    """Return the example of a run.

    Parameters
    ----------
    opened : OpenedRun
    fields : list of Field
        Of its file.
    bits : ndarray of float64, shape (blocks,)
        KL of each block.
    """
    run, model = opened.run, opened.model
    block, group = choose_block(run)
    index, width = int(model.messages[block, 0]), model.bits_per_block
    byte, bit = divmod(block * width, BITS)
    byte += next(field.start for field in fields if field.kind == "I")
    log_weight, others = _log_weights(run, block, index)
    return Example(
        block=block,
        index=index,
        bits=width,
        group=group,
        groups=run.settings.groups,
        first_byte=byte,
        first_bit=bit,
        shown_bits=_show_bits(opened.data[byte:], bit, width),
        variables=_variables(opened, block, index),
        log_weight=log_weight,
        others=others,
        kl=float(bits[block]),
    )


def _show_bits(data: bytes, bit: int, width: int) -> list[tuple[str, str, str]]:
    shown = []
    for number in range(-(-(bit + width) // BITS)):
        text = f"{data[number]:08b}"
        start = max(0, bit - BITS * number)
        stop = min(BITS, bit + width - BITS * number)
        shown.append((text[:start], text[start:stop], text[stop:]))
    return shown


def _in_block(run: FinishedRun, block: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which coded variables a block has, and their places in it, by place."""
    size, of_coded = run.settings.block_size, run.places.place_of_variable[run.coded]
    variables = np.flatnonzero(of_coded // size == block)
    places = of_coded[variables] % size
    order = np.argsort(places)
    return variables[order], places[order]


def _log_weights(run: FinishedRun, block: int, index: int) -> tuple[float, Array]:
    """Return log2 q / p of the candidate sent and of other candidates."""
    settings, q, engine = run.settings, run.posterior, run.variable_pass.engine
    count = 2**settings.bits_per_block
    others = (index + 1 + np.arange(min(OTHERS, count - 1))) % count
    variables, places = _in_block(run, block)
    rows = find_code(settings.code).decode_blocks(
        *(engine, settings.seed, settings.bits_per_block, np.full(len(others) + 1, block)),
        *(np.append(index, others)[:, None], settings.block_size),
    )
    delta = (q.mu / q.rho)[variables].astype(engine.dtype)
    log_s = (2.0 * np.log(q.sigma / q.rho))[variables].astype(engine.dtype)
    candidates = np.ascontiguousarray(rows[:, places])
    nats = engine.log_weights(candidates, delta[None], log_s[None])[0]
    bits = np.asarray(nats, dtype=np.float64) / math.log(2)
    return float(bits[0]), bits[1:]


def _variables(opened: OpenedRun, block: int, index: int) -> list[Variable]:
    run, layout = opened.run, opened.model.layout
    q, tensors = run.posterior_as_sent, layout.network.tensors()
    rho = scales_of(opened.model, run.base)
    (row,) = find_code(opened.model.code).decode_blocks(
        *(run.variable_pass.engine, layout.seed, opened.model.bits_per_block, np.array([block])),
        *(np.array([[index]]), layout.block_size),
    )
    first_weights = np.cumsum([0] + [math.prod(t.shape) for t in tensors])
    found = []
    for variable, place in zip(*_in_block(run, block), strict=True):
        number = int(run.places.tensor_of_place[block, place])
        own = slice(first_weights[number], first_weights[number + 1])
        weights = np.flatnonzero(
            run.places.place_of_weight[own] == block * layout.block_size + place
        )
        found.append(
            Variable(
                place=int(place),
                tensor=tensors[number].name,
                positions=[_position(int(w), tensors[number].shape) for w in weights],
                base=float(run.known[run.coded[variable]]),
                rho=float(rho[number]),
                normal=float(row[place]),
                weight=float(run.decoded[run.coded[variable]]),
                mu=float(q.mu[variable]),
                sigma=float(q.sigma[variable]),
            )
        )
    return found


def _position(weight: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(weight, shape))
