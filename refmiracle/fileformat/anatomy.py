"""The bytes of a .rmc file, field by field: the text of docs/SPEC.md, section 2, about one file.

Each field is encoded again by the functions that write files, and stands where the one before it
ends, so no offset is written down here.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from refmiracle.codes.table import find_code
from refmiracle.fileformat.container import CompressedModel
from refmiracle.fileformat.envelope import CRC_BYTES, FIRST_UPDATE, MAGIC, VERSION
from refmiracle.fileformat.payload import BITS, Payload, payload_of
from refmiracle.fileformat.update import CompressedUpdate
from refmiracle.numerics.varints import write_varint
from refmiracle.posterior.blocks import Grouping, Signs
from refmiracle.posterior.scales import SAME, STEPS, UNCODED

BYTES_IN_A_ROW = 16
# A file of a few kB is shown whole; of a longer one only so many bytes from its start.
MOST_BYTES = 6144


@dataclass(frozen=True)
class Field:
    """Some neighbouring bytes of a file that mean one thing.

    Attributes
    ----------
    kind : str
        One letter, by which legend and bytes are tied together.
    name, value, meaning : str
    start : int
        Offset in the file.
    data : bytes
    """

    kind: str
    name: str
    value: str
    meaning: str
    start: int
    data: bytes

    @property
    def stop(self) -> int:
        """Return the offset behind the field."""
        return self.start + len(self.data)


# Kind, legend. The letter stands below each byte: nothing is told by colour alone.
KINDS = {
    "M": "magic and version: what kind of file this is",
    "N": "network, random code, layout flags: how to read the rest",
    "B": "bits per block and block size: how much is sent together",
    "S": "seed: names the table of candidates",
    "F": "hash factors: how many weights share a variable",
    "R": "scales rho: how large the weights of each tensor are",
}

KINDS_OF_UPDATE = {
    "M": "magic and version: an update, and its random code",
    "U": "the file that it is relative to, by its checksum",
    **{kind: KINDS[kind] for kind in "BS"},
    "L": "levels: how far the weights of each tensor may move",
}

GROUPINGS = {
    Grouping.OUTPUTS: "weights that share a variable are neighbours among the outputs",
    Grouping.INPUTS: "weights that share a variable are neighbours among the inputs",
}
SIGNS = {
    Signs.NONE: "all of them have its sign",
    Signs.UNIT: "each output of them has a random sign",
    Signs.WEIGHT: "each of them has a random sign",
}


def kinds(file: CompressedModel | CompressedUpdate) -> dict[str, str]:
    """Return the kinds of a file's fields, in the order of the file."""
    own = KINDS if isinstance(file, CompressedModel) else KINDS_OF_UPDATE
    return {**own, "I": _payload_of(file).legend, "C": "checksum"}


def _payload_of(file: CompressedModel | CompressedUpdate) -> Payload:
    return payload_of(find_code(file.code))


# Kind, name, bytes, value and meaning of a field.
Part = tuple[str, str, bytes, str, str]


def _parts(model: CompressedModel) -> Iterator[Part]:
    """Yield the fields of a model but the checksum, in file order."""
    layout = model.layout
    tensors, sizes = layout.network.tensors(), layout.sizes()
    flags = layout.grouping | layout.signs << 4
    code = find_code(model.code)
    yield _magic()
    yield "M", "version", bytes([VERSION]), str(VERSION), "of the file format"
    yield (
        *("N", "network", bytes([layout.network.number]), str(layout.network.number)),
        f"{layout.network.name}, with {layout.network.count():,} weights",
    )
    yield (
        *("N", "random code", bytes([code.number]), str(code.number)),
        code.in_words,
    )
    yield (
        *("N", "layout flags", bytes([flags]), f"{flags:#04x}"),
        f"low half {layout.grouping:d}, {layout.grouping.name}: {GROUPINGS[layout.grouping]};"
        f" high half {layout.signs:d}, {layout.signs.name}: {SIGNS[layout.signs]}",
    )
    yield _bits(model)
    if description := model.description():
        meaning = "its layers in order, each an opcode and its numbers"
        yield "N", "description", description, f"{len(description)} bytes", meaning
    yield from _cut(model)
    for tensor, factor, size in zip(tensors, layout.factors, sizes, strict=True):
        weights = math.prod(tensor.shape)
        meaning = f"{weights:,} weights, {factor} to a variable: {size:,} variables"
        yield "F", f"hash factor of {tensor.name}", write_varint(factor), str(factor), meaning
    for tensor, rho in zip(tensors, model.rho, strict=True):
        meaning = f"a float16; a variable is a normal times this: most within ±{2 * float(rho):.2g}"
        data = rho.astype("<f2").tobytes()
        yield "R", f"scale of {tensor.name}", data, f"{float(rho):.5g}", meaning
    yield from _messages(model)


def _update_parts(update: CompressedUpdate) -> Iterator[Part]:
    """Yield the fields of an update but the checksum, in file order."""
    layout, code = update.layout, find_code(update.code)
    tensors, sizes = layout.network.tensors(), layout.sizes()
    yield _magic()
    version = FIRST_UPDATE + code.number
    meaning = f"{FIRST_UPDATE} and more: an update; {code.number} is {code.name}"
    yield "M", "version", bytes([version]), str(version), meaning
    checksum = update.base.to_bytes(CRC_BYTES, "little")
    meaning = "the last four bytes of the file that it is relative to"
    yield "U", "base", checksum, f"{update.base:08x}", meaning
    yield _bits(update)
    yield from _cut(update)
    for tensor, size, level in zip(tensors, sizes, update.levels.tolist(), strict=True):
        factor = 2.0 ** ((level - SAME) / STEPS)
        meaning = f"{size:,} variables, moved by a normal times {factor:.3g} of the model's scale"
        if level == UNCODED:
            meaning = f"not coded: its {size:,} variables stay what they are"
        yield "L", f"level of {tensor.name}", bytes([level]), str(level), meaning
    yield from _messages(update)


def _magic() -> Part:
    return "M", "magic", MAGIC, f'"{MAGIC.decode()}"', "every .rmc file begins with it"


def _bits(file: CompressedModel | CompressedUpdate) -> Part:
    bits = file.bits_per_block
    return "B", "bits per block", bytes([bits]), str(bits), _payload_of(file).of_bits(bits)


def _cut(file: CompressedModel | CompressedUpdate) -> Iterator[Part]:
    """Yield block size and seed."""
    layout = file.layout
    yield (
        *("B", "block size", write_varint(layout.block_size), str(layout.block_size)),
        f"variables in a block; {layout.variables():,} variables make {layout.blocks():,} blocks",
    )
    yield (
        *("S", "seed", write_varint(layout.seed), str(layout.seed)),
        "all random numbers of the decoder follow from it"
        if isinstance(file, CompressedModel)
        else "its table of candidates follows from it, and which variables a block has",
    )


def _messages(file: CompressedModel | CompressedUpdate) -> Iterator[Part]:
    """Yield what stands behind the header."""
    for part in _payload_of(file).parts(file.layout, file.bits_per_block, file.payload()):
        yield "I", *part


def find_fields(file: CompressedModel | CompressedUpdate) -> list[Field]:
    """Return the fields of a file; put together they are the file, and nothing is left over."""
    fields: list[Field] = []
    body = b""
    parts = _parts(file) if isinstance(file, CompressedModel) else _update_parts(file)
    for kind, name, data, value, meaning in parts:
        fields.append(Field(kind, name, value, meaning, len(body), data))
        body += data
    crc = zlib.crc32(body)
    meaning = f"CRC-32 of the {len(body):,} bytes before it; finds damage"
    data = crc.to_bytes(CRC_BYTES, "little")
    return [*fields, Field("C", "checksum", f"{crc:08x}", meaning, len(body), data)]


@dataclass(frozen=True)
class Byte:
    """One byte as the page shows it.

    Attributes
    ----------
    hexadecimal : str
    kind : str
        Of its field.
    label : str
        What stands below it: the field's kind, or the blocks whose indices have bits in it.
    title : str
        Where it is and what it belongs to.
    pattern : str
        For each of its eight bits, highest first, whether it is of an even (0) or an odd (1)
        block or padding (x); empty outside the indices.
    begins : bool
        Whether a field, or an index, begins in it.
    """

    hexadecimal: str
    kind: str
    label: str
    title: str
    pattern: str = ""
    begins: bool = False


def describe_bytes(model: CompressedModel | CompressedUpdate, fields: list[Field]) -> list[Byte]:
    """Return each byte of a file with what it belongs to."""
    found, own_bits = [], _payload_of(model).own_bits
    for field in fields:
        for number, value in enumerate(field.data):
            offset = field.start + number
            head = f"byte {offset} ({value:02x}): {field.name}"
            if field.kind == "I" and own_bits:
                found.append(_index_byte(model, number, value, head))
                continue
            part = f", byte {number + 1} of {len(field.data)}" if len(field.data) > 1 else ""
            title = f"{head}{part} = {field.value}"
            found.append(Byte(f"{value:02x}", field.kind, field.kind, title, begins=number == 0))
    return found


def _index_byte(
    model: CompressedModel | CompressedUpdate, number: int, value: int, head: str
) -> Byte:
    """Return byte `number` of the indices."""
    bits, last_block = model.bits_per_block, model.layout.blocks() - 1
    low, high = BITS * number, BITS * (number + 1)
    first, last = low // bits, min((high - 1) // bits, last_block)
    owners = [
        f"block {b}, index {model.messages[b, 0]:,}, bits {max(low - b * bits, 0) + 1}"
        f" to {min(high - b * bits, bits)} of {bits}"
        for b in range(first, last + 1)
    ]
    padding = max(0, high - bits * (last_block + 1))
    if padding:
        owners.append(f"{padding} bits of padding")
    between = {0: "", 1: "|"}.get(last - first, "-")
    return Byte(
        hexadecimal=f"{value:02x}",
        kind="I",
        label=f"{first}{between}{last}" if between else str(first),
        title=f"{head}: {'; '.join(owners)}",
        pattern="".join(str(i // bits % 2) for i in range(low, high - padding)) + "x" * padding,
        begins=low % bits == 0 or last > first,
    )
