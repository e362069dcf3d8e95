"""Since 1.4: files of network 0, whose description is put together by hand, right or wrong."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

from golden import coded_files, files
from golden.containers import Fields, header_of, pack, seal, varint
from golden.described_faults import FAULTS, Wrong
from golden.descriptions import (
    FLATTEN,
    MAXIMUM,
    MEAN_OF_MAP,
    RELU,
    conv,
    dense,
    mean,
    network,
    norm,
    read,
    residual,
)
from golden.sources import spec_decoder
from golden.writer import later, make_case

Case = dict[str, Any]

SINCE, SINCE_MANY = "1.4", "1.7"


def tensors_of(description: bytes) -> tuple[int, ...]:
    """Return the numbers of weights of a valid description's tensors."""
    return tuple(math.prod(shape) for _, shape in read(description).tensors)


@dataclass(frozen=True)
class Described(Fields):
    """The fields of a file of network 0; scales as in docs/SPEC.md, section 10."""

    description: bytes = b""

    @property
    def variables(self) -> int:
        """Return the number of variables."""
        sizes = zip(tensors_of(self.description), self.factors, strict=True)
        return sum(-(-n // f) for n, f in sizes)


def fields_of(
    description: bytes, flags: int, bits: int, size: int, seed: int, factors: tuple[int, ...] = ()
) -> Described:
    """Return fields; no hashing where there are no factors."""
    count = len(tensors_of(description))
    scales = tuple(0x2400 + 0x111 * (t % 12) for t in range(count))
    factors = factors or (1,) * count
    return Described(flags % 16, flags // 16, size, seed, factors, bits, scales, (), 0, description)


def head_of(fields: Described, code: int) -> bytes:
    """Return the file up to its scales, the description behind the fixed bytes."""
    head = header_of(fields, code)
    return head[:8] + fields.description + head[8:]


def of_indices(fields: Described) -> bytes:
    """Return a file of code 0."""
    return seal(head_of(fields, 0) + pack(fields.indices, fields.bits))


def of_integers(fields: Described, code: str, theta: int = 60000) -> bytes:
    """Return a file of another code, with the integers of docs/SPEC.md, section 10.1."""
    number, values = coded_files.NUMBERS[code], []
    for t in range(fields.variables if number >= 4 else fields.blocks):
        x = t * 2654435761 % 2**32
        n = 2 ** (x // 2**27) + x % 2 ** (x // 2**27)
        values.append({"orc": x // 2**18 + 1, "sp-pfr": n * 2**16 + x // 2**16}.get(code, n))
    raw = fields.bits if code == "sp-pfr" else 0
    return seal(head_of(fields, number) + coded_files.payload_of(theta, tuple(values), raw))


# --- valid ones

EXAMPLE = network(
    (2, 7, 5), 3,
    conv(3, 3, 1, 1, 1, 4), norm(2), RELU,
    residual((conv(3, 3, 2, 1, 1, 6),), (conv(1, 1, 2, 0, 1, 6),)),
    conv(2, 1, 1, 0, 6, 6), MAXIMUM, MEAN_OF_MAP, FLATTEN, dense(3),
)  # fmt: skip
# Factors of all tensors, the second of which do not divide.
TWELVE = (5, 1, 2, 1, 7, 3, 2, 1, 4, 6, 2, 3)
PERCEPTRON = network((3, 5, 7), 2, FLATTEN, dense(8), RELU, dense(2))
CLASSES_300 = network((1, 2, 3), 300, FLATTEN, dense(300))
CONVOLUTIONS = network(
    (3, 5, 7), 4,
    conv(2, 3, 2, 1, 3, 6), RELU, conv(1, 2, 3, 0, 1, 5), FLATTEN, dense(4),
)  # fmt: skip
POOLED = network(
    (3, 5, 7), 3, norm(3), mean(2, 3), norm(1), conv(1, 1, 1, 0, 1, 3), MEAN_OF_MAP, FLATTEN
)


def nested(depth: int) -> bytes:
    """Return residuals within residuals, a group norm in the innermost."""
    layer = norm(1)
    for _ in range(depth):
        layer = residual((layer, RELU), ())
    return layer


NESTED = network((2, 3, 3), 2, nested(4), residual((), ()), nested(2), FLATTEN, dense(2))
ON_BOTH_SIDES = network(
    (1, 3, 3), 2,
    residual((residual((conv(3, 3, 1, 1, 1, 4),), (conv(1, 1, 1, 0, 1, 4),)),),
             (conv(1, 1, 1, 0, 1, 2), conv(3, 3, 1, 1, 2, 4))),
    residual((FLATTEN, dense(5)), (MAXIMUM, FLATTEN, dense(5))), dense(2),
)  # fmt: skip
DEPTHWISE = network((5, 4, 4), 10, conv(3, 3, 1, 1, 5, 10), MEAN_OF_MAP, FLATTEN)
LAYERS_256 = network((1, 1, 2), 2, FLATTEN, *(254 * (RELU,)), dense(2))
VALUES = network((256, 256, 256), 2, MEAN_OF_MAP, FLATTEN, dense(2))
CLASSES_65535 = network((1, 1, 1), 65535, FLATTEN, dense(65535))
STRIDE_65535 = network((1, 3, 2), 2, conv(3, 2, 65535, 1, 1, 2), FLATTEN)
# More tensors than networks 1 and 2 have, with convolutions of one place.
MANY_TENSORS = network((1, 1, 1), 2, *(60 * (conv(1, 1, 1, 0, 1, 1),)), FLATTEN, dense(2))


def valid() -> tuple[tuple[str, bytes, str], ...]:
    """Return name, bytes and note; the first four are those of docs/SPEC.md section 10.3."""
    factors = (9, 1, 1, 1, 20, 2, 3, 2, 1, 1, 3, 1)
    document = "docs/SPEC.md section 10.3"
    return (
        ("example", of_indices(fields_of(EXAMPLE, 0x10, 9, 20, 1)), document),
        ("example-hashed", of_indices(fields_of(EXAMPLE, 0x21, 24, 7, 300, TWELVE)), document),
        ("example-sp-pfr", of_integers(fields_of(EXAMPLE, 0x11, 16, 10, 7, factors), "sp-pfr"),
         document),
        ("example-gprs-d",
         of_integers(fields_of(EXAMPLE, 0x21, 5, 30, 2**32 - 1, (*(3,) * 11, 1)), "gprs-d"),
         document),
        ("dense-only", of_indices(fields_of(PERCEPTRON, 0x01, 12, 100, 5)), "2 classes, 3x5x7"),
        ("dense-only-hashed", of_indices(fields_of(PERCEPTRON, 0x11, 12, 9, 5, (13, 3, 5, 2))), ""),
        ("300-classes", of_indices(fields_of(CLASSES_300, 0x10, 10, 30, 6, (17, 4))), ""),
        ("convolutions", of_indices(fields_of(CONVOLUTIONS, 0x11, 11, 15, 7)),
         "sides, strides, padding and groups that differ"),
        ("convolutions-hashed",
         of_indices(fields_of(CONVOLUTIONS, 0x21, 11, 15, 7, (5, 4, 7, 2, 3, 4))), ""),
        ("convolutions-grc-s",
         of_integers(fields_of(CONVOLUTIONS, 0x20, 11, 8, 7, (3, 2, 7, 2, 3, 4)), "grc-s"), ""),
        ("depthwise-two-outputs-each",
         of_indices(fields_of(DEPTHWISE, 0x11, 8, 9, 8, (7, 1))),
         "the kernel has one input: 90 weights"),
        ("norms-and-means", of_indices(fields_of(POOLED, 0x10, 13, 4, 9)), "rows are left over"),
        ("nested-4-deep", of_indices(fields_of(NESTED, 0x20, 7, 5, 10)), ""),
        ("residuals-with-two-sides",
         of_indices(fields_of(ON_BOTH_SIDES, 0x11, 9, 12, 11, (*(2,) * 13, 1))),
         "the tensors of the body come first"),
        ("256-layers", of_indices(fields_of(LAYERS_256, 0x10, 6, 2, 12)), ""),
        ("images-of-2-to-the-24", of_indices(fields_of(VALUES, 0x10, 14, 50, 13, (9, 2))), ""),
        ("65535-classes",
         of_indices(fields_of(CLASSES_65535, 0x10, 15, 40, 14, (300, 4000))), "the most"),
        ("stride-65535", of_indices(fields_of(STRIDE_65535, 0x00, 6, 3, 15)), ""),
        ("122-tensors", of_indices(fields_of(MANY_TENSORS, 0x20, 8, 6, 16, (*(1,) * 120, 2, 2))),
         "row t of the stream SIGNS for each tensor t"),
    )  # fmt: skip


WEIGHTS = network((1, 1, 1023), 4096, FLATTEN, dense(4096))


def largest() -> bytes:
    """Return a file of as many weights as there may be, 2^22, of few variables."""
    return of_indices(fields_of(WEIGHTS, 0x01, 16, 60, 17, (40000, 3000)))


MANY = network((1, 32, 32), 1024, FLATTEN, dense(1024))


def of_many_indices() -> bytes:
    """Return a file of code 0 with 1,049,600 variables in four blocks."""
    return of_indices(fields_of(MANY, 0x11, 16, 300_000, 18))


def of_many_integers() -> bytes:
    """Return a file of as many variables, each of which a node of code 8 would send: the root."""
    fields = fields_of(MANY, 0x11, 5, 300_000, 18)
    number = coded_files.NUMBERS["grc-s"]
    payload = coded_files.payload_of(1, (1,) * fields.variables, 0)
    return seal(head_of(fields, number) + payload)


def flags_of(data: bytes) -> tuple[str, ...]:
    """Tell whether the last block is short."""
    file = spec_decoder.parse(data)
    variables = sum(spec_decoder.sizes_of(file.tensors, file.factors))
    return ("short-block",) if variables % file.block_size else ()


# --- wrong ones


def wrong(row: Wrong) -> bytes:
    """Return a file that is right but for its description: each tensor one variable."""
    factors = [min(n, 2**32 - 1) for n in row.weights]
    scales = struct.pack(f"<{len(factors)}H", *(0x3000 + t for t in range(len(factors))))
    numbers = (len(factors), 7, *factors) if factors else ()
    rest = b"".join(map(varint, numbers)) + scales + (b"\x48" if factors else b"")
    return seal(b"RMC" + bytes([1, 0, 0, 0x10, 5]) + row.description + rest)


@later("decode_model")
def decode_model() -> list[Case]:
    """Pose files of described networks."""
    cases = [
        files.decoded(f"described-{name}", data, flags=flags_of(data), note=note, since=SINCE)
        for name, data, note in valid()
    ]
    cases += [
        make_case(f"files/decode_model/described-{row.name}", {"data": wrong(row)},
                  fault=row.fault, note=row.note, since=SINCE)
        for row in FAULTS
    ]  # fmt: skip
    data = largest()
    name, note = "described-2-to-the-22-weights", "the most"
    cases.append(files.decoded(name, data, flags=flags_of(data), note=note, since=SINCE))
    return [*cases, *of_many_variables()]


def of_many_variables() -> list[Case]:
    """Pose files of more variables than a list may have integers, 2^20: indices can send them."""
    name, data = "described-2-to-the-20-and-more-variables", of_many_indices()
    note = "their order is a permutation of as many numbers"
    taken = files.decoded(name, data, flags=flags_of(data), note=note, since=SINCE_MANY)
    refused = make_case(
        "files/decode_model/described-2-to-the-20-and-more-integers",
        {"data": of_many_integers()},
        fault="too many integers", note="in a payload of a few bytes", since=SINCE_MANY,
    )  # fmt: skip
    return [taken, refused]
