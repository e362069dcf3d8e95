"""The messages of a .rmc file: what stands behind its header, docs/SPEC.md, sections 2.3 and 2.7.

A model and an update hold the same: for each block, or each coded variable, one message.  They
stand there as indices of so many bits, or as integers that the range coder codes; `payload_of` says
how those of a code do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from refmiracle.codes.code import Code
from refmiracle.errors import InputError
from refmiracle.fileformat.bits import pack_indices, packed_size, unpack_indices
from refmiracle.fileformat.envelope import CRC_BYTES, LARGEST_FILE
from refmiracle.fileformat.integers import (
    best_theta16,
    check_count,
    coded_bits,
    read_integers,
    write_integers,
)
from refmiracle.numerics.whole import as_array
from refmiracle.posterior.blocks import BlockLayout

THETA_BYTES = 2
BITS = 8  # of a byte
# What stands at the places behind the last variable, which no file holds.
UNUSED = 1

# Name, bytes, value and meaning of some of a payload.
Part = tuple[str, bytes, str, str]


@dataclass(frozen=True)
class Payload(ABC):
    """How a file holds the messages of a code, and what reports say of it.

    Attributes
    ----------
    code : Code
    theta_bytes : int
        Of the parameter of their law, which stands before them; 0 where there is none.
    own_bits : bool
        Whether each bit belongs to one message.
    contents, legend : str
        What most of the file is, and what its bytes mean.
    bits_are, dashed : str
        What the bits per block are to a block, and what has so many.
    beyond : str
        What becomes of a block whose divergence is above them.
    """

    code: Code

    theta_bytes: ClassVar[int]
    own_bits: ClassVar[bool]
    contents: ClassVar[str]
    legend: ClassVar[str]
    bits_are: ClassVar[str]
    dashed: ClassVar[str]
    beyond: ClassVar[str]

    def write(
        self, layout: BlockLayout, bits: int, messages: NDArray[np.int64], theta16: int = 0
    ) -> bytes:
        """Return the bytes of the messages, those of theta included.

        Parameters
        ----------
        layout : BlockLayout
        bits : int
            Of a block.
        messages : ndarray of int64, shape (blocks, messages of each)
            See `CompressedModel.messages`.
        theta16 : int
            0: the one under which the messages are shortest.

        Raises
        ------
        InputError
            If they have another shape, or one is none of the code's.
        """
        messages, expected = as_array("messages", messages), message_shape(layout, self.code)
        if messages.shape != expected:
            raise InputError(f"messages of shape {messages.shape}; expected {expected}")
        self.code.check_messages(bits, messages)
        return self._write(messages.ravel()[: message_count(layout, self.code)], bits, theta16)

    def read(self, layout: BlockLayout, bits: int, payload: bytes) -> tuple[NDArray[np.int64], int]:
        """Return the messages, as `write` takes them, and theta16; 0 where there is none.

        Raises
        ------
        InputError
            If they are not exactly one valid list.
        """
        messages, theta16 = self._read(payload, message_count(layout, self.code), bits)
        self.code.check_messages(bits, messages)
        return in_blocks(layout, self.code, messages), theta16

    def check_length(self, layout: BlockLayout, bits: int, size: int, start: int) -> None:
        """Refuse a body of `size` bytes that is not as long as its header, `start` bytes, says."""
        least = start + self._least_bytes(message_count(layout, self.code), bits)
        fixed = self.code.fixed_length  # how long others are, only they say
        if size < least or (fixed and size > least):
            raise InputError(
                f"it has {size + CRC_BYTES} bytes; its header calls for"
                f" {least + CRC_BYTES}{'' if fixed else ' or more'}"
            )

    @abstractmethod
    def check_size(self, layout: BlockLayout, bits: int) -> None:
        """Refuse a layout whose file would be beyond the limits of docs/SPEC.md, section 2.6.

        Raises
        ------
        InputError
            If its messages are more, or take more bytes, than a file may hold.
        """

    @abstractmethod
    def sent_bits(self, messages: NDArray[np.int64], bits: int) -> int:
        """Return how many bits of a file these messages would be, by formula."""

    @abstractmethod
    def size_bits(self, layout: BlockLayout, bits: int, payload: bytes) -> int:
        """Return how many bits of a file its messages are, theta among them, but no padding."""

    @abstractmethod
    def parts(self, layout: BlockLayout, bits: int, payload: bytes) -> Iterator[Part]:
        """Yield the payload in parts, in the order of the file."""

    @abstractmethod
    def of_bits(self, bits: int) -> str:
        """Return what the bits of a block, as the file has them, say."""

    @abstractmethod
    def of_divergence(self, bits: int) -> str:
        """Return in a sentence what the divergence of a block has to do with its bits."""

    @abstractmethod
    def _write(self, messages: NDArray[np.int64], bits: int, theta16: int) -> bytes:
        """Return what `write` does of the messages that a file holds, shape (count,)."""

    @abstractmethod
    def _read(self, payload: bytes, count: int, bits: int) -> tuple[NDArray[np.int64], int]:
        """Return `count` messages, whatever they are, and theta16."""

    @abstractmethod
    def _least_bytes(self, count: int, bits: int) -> int:
        """Return how many bytes so many messages have at least."""


class Indices(Payload):
    """Each message as an index of as many bits as a block has, no gap between them."""

    theta_bytes = 0
    own_bits = True
    contents = "indices"
    legend = "indices: one number for each block; below the byte, the blocks that have bits in it"
    bits_are = "size of an index"
    dashed = "an index"
    beyond = "one with more than the index can carry is sent worse"

    def _write(self, messages: NDArray[np.int64], bits: int, theta16: int) -> bytes:
        return pack_indices(messages, bits)

    def _read(self, payload: bytes, count: int, bits: int) -> tuple[NDArray[np.int64], int]:
        return unpack_indices(payload, bits, count), 0

    def _least_bytes(self, count: int, bits: int) -> int:
        return packed_size(bits, count)

    def check_size(self, layout: BlockLayout, bits: int) -> None:
        """Refuse indices that take more bytes than a file may have."""
        count = message_count(layout, self.code)
        if packed_size(bits, count) > LARGEST_FILE:
            raise InputError(
                f"{count} indices of {bits} bits: a file has at most {LARGEST_FILE} bytes"
            )

    def sent_bits(self, messages: NDArray[np.int64], bits: int) -> int:
        """Return the bits of so many indices."""
        return bits * len(messages)

    def size_bits(self, layout: BlockLayout, bits: int, payload: bytes) -> int:
        """Return the bits of all indices; whole bytes would count the padding."""
        return bits * message_count(layout, self.code)

    def parts(self, layout: BlockLayout, bits: int, payload: bytes) -> Iterator[Part]:
        """Yield the indices."""
        count = message_count(layout, self.code)
        padding = BITS * len(payload) - bits * count
        meaning = f"{bits} bits each, highest bit first, no gap between them"
        yield "indices", payload, f"{count:,} numbers", f"{meaning}; {padding} bits of padding"

    def of_bits(self, bits: int) -> str:
        """Return what an index names."""
        return f"an index has {bits} bits, so it names one of 2^{bits} = {2**bits:,} candidates"

    def of_divergence(self, bits: int) -> str:
        """Return that an index has a size."""
        return f"Each block is sent as one index of {bits} bits, so its KL should be about that."


class Integers(Payload):
    """Messages as positive integers, entropy-coded: theta, and the code word of all of them."""

    theta_bytes = THETA_BYTES
    own_bits = False
    contents = "entropy-coded integers"
    legend = "messages: theta, and the integers that an entropy code holds, with no byte to itself"
    bits_are = "what a block may cost"
    dashed = "the budget"
    beyond = "one with more costs more"

    def _write(self, messages: NDArray[np.int64], bits: int, theta16: int) -> bytes:
        raw, integers = self.code.raw_bits(bits), self.code.to_positive(messages)
        theta16 = theta16 or best_theta16(integers, raw)
        coded = write_integers(integers, theta16, raw)
        return theta16.to_bytes(THETA_BYTES, "little") + coded

    def _read(self, payload: bytes, count: int, bits: int) -> tuple[NDArray[np.int64], int]:
        theta16 = int.from_bytes(payload[:THETA_BYTES], "little")
        integers = read_integers(payload[THETA_BYTES:], count, theta16, self.code.raw_bits(bits))
        return self.code.from_positive(integers), theta16

    def _least_bytes(self, count: int, bits: int) -> int:
        return THETA_BYTES + 1

    def check_size(self, layout: BlockLayout, bits: int) -> None:
        """Refuse more integers than a file may hold."""
        check_count(message_count(layout, self.code))

    def sent_bits(self, messages: NDArray[np.int64], bits: int) -> int:
        """Return their length under the theta that is best for them, without it."""
        return round(coded_bits(self.code.to_positive(messages), self.code.raw_bits(bits)))

    def size_bits(self, layout: BlockLayout, bits: int, payload: bytes) -> int:
        """Return the bits of the bytes."""
        return BITS * len(payload)

    def parts(self, layout: BlockLayout, bits: int, payload: bytes) -> Iterator[Part]:
        """Yield theta and the integers."""
        theta, coded = payload[:THETA_BYTES], payload[THETA_BYTES:]
        value = str(int.from_bytes(theta, "little"))
        yield "theta", theta, value, "of 65,536: how likely an integer is to be larger"
        count = message_count(layout, self.code)
        meaning = f"entropy-coded: {BITS * len(coded) / count:.2f} bits each on average"
        yield "integers", coded, f"{count:,} numbers", meaning

    def of_bits(self, bits: int) -> str:
        """Return what they have to do with the messages."""
        return "what training let each block cost"

    def of_divergence(self, bits: int) -> str:
        """Return that messages are as long as they have to be."""
        return (
            f"The code {self.code.name} sends one number for each {self.code.of}, the longer the"
            f" larger its KL; each block was given {bits} bits of KL."
        )


def payload_of(code: Code) -> Payload:
    """Return how a file holds the messages of a code."""
    return Indices(code) if code.fixed_length else Integers(code)


def message_count(layout: BlockLayout, code: Code) -> int:
    """Return how many messages a file holds: one for each block, or for each variable."""
    return code.message_count(layout.blocks(), layout.variables())


def message_shape(layout: BlockLayout, code: Code) -> tuple[int, int]:
    """Return blocks and the messages of each, those of unused places of the last one included."""
    return layout.blocks(), code.messages_per_block(layout.block_size)


def in_blocks(layout: BlockLayout, code: Code, messages: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the messages of a file, shaped as `CompressedModel.messages`."""
    filled = np.full(message_shape(layout, code), UNUSED, dtype=messages.dtype)
    filled.ravel()[: len(messages)] = messages
    return filled
