"""Updates put together by hand, docs/SPEC.md section 13, and the chains that they make."""

from __future__ import annotations

from dataclasses import dataclass

from golden import coded_files
from golden.coded_files import NUMBERS
from golden.containers import pack, seal, varint
from golden.sources import spec_decoder

Chain = tuple[bytes, ...]


@dataclass(frozen=True)
class Update:
    """What an update says; the messages are those of docs/SPEC.md, sections 10 and 10.1.

    Parameters
    ----------
    sizes : tuple of int
        The variables of each tensor, coded or not.
    given : tuple of int
        Indices, or integers as they are sent, in the place of those.
    """

    sizes: tuple[int, ...]
    levels: tuple[int, ...]
    bits: int
    block_size: int
    seed: int
    code: str = "mrc"
    given: tuple[int, ...] = ()
    theta: int = 60000

    @property
    def number(self) -> int:
        """Return the number of the random code."""
        return NUMBERS.get(self.code, 0)

    @property
    def coded(self) -> int:
        """Return the number of coded variables."""
        return sum(n for n, level in zip(self.sizes, self.levels, strict=True) if level)

    @property
    def count(self) -> int:
        """Return how many messages there are."""
        return self.coded if self.number >= 4 else -(-self.coded // self.block_size)

    def head(self, base: bytes) -> bytes:
        """Return all before the messages; the base is a file, or its last four bytes."""
        numbers = varint(self.block_size) + varint(self.seed)
        fixed = bytes([0x20 + self.number]) + base[-4:] + bytes([self.bits])
        return b"RMC" + fixed + numbers + bytes(self.levels)

    def messages(self) -> bytes:
        """Return the indices, or theta and a code word."""
        weyl = [t * 2654435761 % 2**32 for t in range(self.count)]
        if self.code == "mrc":
            return pack(self.given or [x >> (32 - self.bits) for x in weyl], self.bits)
        values = self.given or tuple(self.integer(x) for x in weyl)
        return coded_files.payload_of(self.theta, values, self.bits if self.number == 3 else 0)

    def integer(self, x: int) -> int:
        """Return the integer of a word, of docs/SPEC.md section 10.1."""
        n = 2 ** (x // 2**27) + x % 2 ** (x // 2**27)
        small = n * 2**self.bits + (x >> 16) % 2**self.bits
        return {"orc": (x >> (32 - self.bits)) + 1, "sp-pfr": small}.get(self.code, n)

    def of(self, base: bytes) -> bytes:
        """Return the file."""
        return seal(self.head(base) + self.messages())


def sizes_of(root: bytes) -> tuple[int, ...]:
    """Return the variables of each tensor of a model."""
    file = spec_decoder.parse(root)
    return tuple(spec_decoder.sizes_of(file.tensors, file.factors))


def chain(root: bytes, *updates: Update) -> Chain:
    """Return a model and updates, each of the file before it."""
    files = [root]
    for update in updates:
        files.append(update.of(files[-1]))
    return tuple(files)


EIGHT = (1,) * 8
HASHED = coded_files.of_the_document("gprs-s", 5, 2**32 - 1)

# docs/SPEC.md section 13.4.
SMALL = Update(EIGHT, (128, 0, 121, 0, 0, 0, 0, 131), 6, 2, 300, "mrc", (37, 5))
# Of 359 variables; the first and the last tensor are coded, and three are left out.
OF_HASHED = Update(sizes_of(HASHED), (126, 0, 130, 128, 0, 127, 0, 129), 9, 10, 5)
