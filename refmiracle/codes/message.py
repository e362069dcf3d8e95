"""What a sender sends of samples: integers, and what the receiver must know besides the seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refmiracle.codes.code import Code
from refmiracle.codes.given import kl_of, shape_of
from refmiracle.codes.table import find_code
from refmiracle.errors import InputError
from refmiracle.numerics.whole import as_array


@dataclass(frozen=True, eq=False)
class Message:
    """What the sender sends, and what the receiver must know besides the seed.

    Attributes
    ----------
    code : str
    integers : ndarray of int64, shape (targets, 1) or (targets, dimensions)
        The messages: one for each target, or one for each variable of it.
    block_bits : int
        log2 of the candidates (`mrc`, `orc`) or of the bins (`sp-pfr`); 0 for other codes.
    oversampling : int
        How many of the bits (or, for `dad-star`, of the depth) are above the KL.
    shape : tuple of int
        Of the sample.

    Examples
    --------
    What was sent as plain integers is a message again:

    >>> from refmiracle import codes
    >>> sent = codes.encode(([0.5], [0.5]), (0.0, 1.0), seed=3, code="mrc", bits=4).integers
    >>> message = codes.Message("mrc", sent, block_bits=4, oversampling=0, shape=(1,))
    >>> codes.decode(message, (0.0, 1.0), seed=3).shape
    (1,)
    """

    code: str
    integers: NDArray[np.int64]
    block_bits: int
    oversampling: int
    shape: tuple[int, ...]

    def bits(self, kl_bits: float) -> NDArray[np.float64]:
        """Return the length of the message of each target in bits, shape (targets,).

        Minimal random coding sends `block_bits` each.  Other messages are coded by the
        log-geometric law with the theta that suits the mean KL; `Code.mean_bits_bound` says
        what theory expects.

        Parameters
        ----------
        kl_bits : float
            Mean KL of what one message sends, a block or a variable, in bits.

        Raises
        ------
        InputError
            If that is no number from 0 to 1000, or the message is none.
        """
        code, bits, messages = self.checked()
        return code.message_bits(messages, bits, kl_of(kl_bits))

    def checked(self) -> tuple[Code, int, NDArray[np.int64]]:
        """Return the code, the bits of a block and the messages, if they are some.

        Raises
        ------
        InputError
            If there is no such code, a number is out of range, a message names no candidate, or
            shapes do not go together.
        """
        code, shape = find_code(self.code), shape_of(self.shape)
        bits = code.check_bits(self.block_bits)
        targets, dimension = (*shape, 1, 1)[:2]
        messages = as_array("integers", self.integers)
        expected = targets, code.messages_per_block(dimension)
        if not (messages.shape == expected and min(targets, dimension) > 0 and bits >= 0):
            raise InputError(
                f"integers of shape {messages.shape} and {bits} bits for a sample of shape {shape}"
            )
        code.check_messages(bits, messages)
        return code, bits, messages
