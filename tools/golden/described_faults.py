"""Descriptions that a reader must refuse, by the rules of docs/SPEC.md, section 3.1.

Each breaks one rule.  With it come the weights of the tensors that a reader without that rule would
see, where there is such a number, so that nothing else is wrong with the file.
"""

from __future__ import annotations

from typing import NamedTuple

from golden.descriptions import (
    FLATTEN,
    MAXIMUM,
    MEAN_OF_MAP,
    RELU,
    conv,
    dense,
    layers,
    mean,
    network,
    norm,
    numbers,
    residual,
)


class Wrong(NamedTuple):
    """A description that is not valid."""

    name: str
    fault: str
    description: bytes
    weights: tuple[int, ...] = ()
    note: str = ""


HEAD = (FLATTEN, dense(2))
IMAGE = (3, 4, 5)
RIGHT = network(IMAGE, 2, *HEAD)
WEIGHTS = (120, 2)
CUT, LONG, LARGE = "the description is cut off", "a number is not canonical", "a number above 65535"
SHAPES = "layers do not fit"


def with_varint(varint: bytes) -> bytes:
    """Return a right description but for the bytes of its stride."""
    layer = numbers(1, 4, 5) + varint + numbers(0, 1, 2)
    return network(IMAGE, 2, layer, FLATTEN)


def of_numbers() -> tuple[Wrong, ...]:
    """Return what breaks the first rule."""
    kernel = (120, 2)
    wide = conv(*(6 * (65535,)))
    return (
        Wrong("empty", CUT, b""),
        Wrong("cut-off-in-the-image", CUT, RIGHT[:2]),
        Wrong("cut-off-in-a-layer", CUT, RIGHT[:-1]),
        Wrong("cut-off-in-a-varint", CUT, with_varint(b"\x81")[:8]),
        Wrong("cut-off-before-the-shortcut", CUT, numbers(*IMAGE, 2, 1, 8, 1, 7)),
        Wrong("channels-not-canonical", LONG, b"\x83\x00" + RIGHT[1:], WEIGHTS),
        Wrong("stride-not-canonical", LONG, with_varint(b"\x81\x80\x00"), kernel),
        Wrong("stride-65536", LARGE, with_varint(b"\x80\x80\x04"), kernel),
        Wrong("stride-65537", LARGE, with_varint(b"\x81\x80\x04"), kernel, "1 in 16 bits"),
        Wrong("stride-2-to-the-32", LARGE, with_varint(b"\x80\x80\x80\x80\x10"), kernel),
        Wrong("stride-of-six-bytes", LARGE, with_varint(b"\x81\x80\x80\x80\x80\x01"), kernel),
        Wrong("65536-classes", LARGE, network((1, 1, 1), 65536, FLATTEN, dense(65536)),
              (65536, 65536)),
        Wrong("4097-bytes", "more than 4096 bytes",
              network(IMAGE, 2, *(215 * (wide,)), *(6 * (RELU,))),
              note="with as many layers none is valid; a reader must stop there"),
    )  # fmt: skip


def of_layers() -> tuple[Wrong, ...]:
    """Return what breaks the second and the third."""
    many, unknown, deep = "more than 256 layers", "unknown opcode", "residuals too deep"
    half = residual(127 * (RELU,), 127 * (RELU,))
    inner: tuple[bytes, ...] = (RELU,)
    for _ in range(5):
        inner = (residual((), inner),)
    return (
        Wrong("257-layers", many, network(IMAGE, 2, *(255 * (RELU,)), *HEAD), WEIGHTS),
        Wrong("257-layers-in-three-lists", many, network(IMAGE, 2, half, *HEAD), WEIGHTS),
        Wrong("65535-layers-claimed", many, numbers(*IMAGE, 2, 65535)),
        Wrong("opcode-0", unknown, network(IMAGE, 2, numbers(0), *HEAD), WEIGHTS),
        Wrong("opcode-9", unknown, network(IMAGE, 2, numbers(9), *HEAD), WEIGHTS),
        Wrong("opcode-263", unknown, network(IMAGE, 2, numbers(263), *HEAD), WEIGHTS,
              "7 in eight bits"),
        Wrong("nested-5-deep", deep, network(IMAGE, 2, *inner, *HEAD), WEIGHTS),
        Wrong("nested-200-deep", deep, numbers(*IMAGE, 2) + numbers(*(200 * (1, 8)))),
    )  # fmt: skip


def of_sizes() -> tuple[Wrong, ...]:
    """Return what breaks the fourth, the sixth and the last."""
    image, values, weights = "image out of range", "too many values", "too many weights"
    whole = (MEAN_OF_MAP, *HEAD)
    huge = conv(65535, 65535, 65535, 65534, 1, 65535)
    return (
        *(Wrong(f"{side}-0", image, network(sides, 2, MEAN_OF_MAP, *HEAD), (6, 2))
          for side, sides in (("channels", (0, 4, 5)), ("height", (3, 0, 5)),
                              ("width", (3, 4, 0)))),
        Wrong("image-of-2-to-the-24-plus-1", image, network((97, 257, 673), 2, *whole), (194, 2)),
        Wrong("image-of-2-to-the-32", image, network((1024, 2048, 2048), 2, *whole), (2048, 2)),
        Wrong("1-class", "fewer than 2 classes", network(IMAGE, 1, FLATTEN, dense(1)), (60, 1)),
        Wrong("padding-gives-too-many-values", values,
              network((1, 4096, 4096), 2, conv(2, 2, 1, 1, 1, 1), *whole), (4, 1, 2, 2)),
        Wrong("outputs-give-too-many-values", values,
              network((1, 4096, 2048), 2, conv(1, 1, 1, 0, 1, 3), *whole), (3, 3, 6, 2)),
        Wrong("too-many-values-within-a-residual", values,
              network((1, 4096, 2048), 2, residual((conv(1, 1, 1, 0, 1, 3), MEAN_OF_MAP),
                                                   (MEAN_OF_MAP, conv(1, 1, 1, 0, 1, 3))),
                      *HEAD), (3, 3, 3, 3, 6, 2)),
        Wrong("2-to-the-24-plus-1-weights", weights,
              network((32, 5, 1081), 97, FLATTEN, dense(97)), (97 * 172960, 97)),
        Wrong("too-many-weights-together", weights,
              network((1, 4095, 2), 2, FLATTEN, dense(1024), dense(8191), dense(2)),
              (8190 * 1024, 1024, 1024 * 8191, 8191, 16382, 2)),
        Wrong("a-matrix-of-2-to-the-32-weights", weights,
              network((256, 256, 256), 256, FLATTEN, dense(256)), (2**32, 256)),
        Wrong("a-kernel-of-65535-to-the-fourth-weights", weights,
              network((65535, 1, 1), 65535, huge, FLATTEN), (2**32, 65535)),
        Wrong("no-weights", "no weights", network((2, 1, 1), 2, FLATTEN)),
        Wrong("other-number-of-classes", "another end", network(IMAGE, 3, *HEAD), WEIGHTS),
        Wrong("ends-with-maps", "another end",
              network(IMAGE, 3, conv(4, 5, 1, 0, 1, 3)), (180, 3)),
        Wrong("no-layers", "no weights", network(IMAGE, 2)),
    )  # fmt: skip


def convolution(
    name: str, numbers_of_it: tuple[int, ...], weights: int, outputs: int = 2, channels: int = 4
) -> Wrong:
    """Return maps of 5x6 with a wrong convolution, then the mean of the map."""
    description = network((channels, 5, 6), 2, conv(*numbers_of_it), MEAN_OF_MAP, *HEAD)
    tensors = weights, outputs, 2 * outputs, 2
    return Wrong(f"convolution-{name}", SHAPES, description, tensors)


def of_convolutions() -> tuple[Wrong, ...]:
    """Return convolutions that do not take what they are given."""
    return (
        convolution("height-0", (0, 1, 1, 0, 1, 2), 1),
        convolution("width-0", (1, 0, 1, 0, 1, 2), 1),
        convolution("stride-0", (1, 1, 0, 0, 1, 2), 8),
        convolution("outputs-0", (1, 1, 1, 0, 1, 0), 1, 1),
        convolution("padding-of-the-height", (2, 3, 1, 2, 1, 2), 48),
        convolution("padding-of-the-width", (3, 2, 1, 2, 1, 2), 48),
        convolution("groups-0", (1, 1, 1, 0, 0, 2), 8),
        convolution("two-groups-of-four-channels", (1, 1, 1, 0, 2, 2), 4),
        convolution("groups-do-not-divide-outputs", (1, 1, 1, 0, 4, 6), 6, 6),
        convolution("groups-do-not-divide-channels", (1, 1, 1, 0, 3, 3), 3, 3),
        convolution("higher-than-the-map", (6, 6, 1, 0, 1, 2), 288),
        convolution("wider-than-the-map", (5, 7, 1, 0, 1, 2), 280),
        convolution("higher-than-the-map-with-padding", (8, 8, 1, 1, 1, 2), 512),
        convolution("wider-than-the-map-with-padding", (7, 9, 1, 1, 1, 2), 504),
        Wrong("convolution-behind-flatten", SHAPES,
              network((4, 1, 1), 2, FLATTEN, conv(1, 1, 1, 0, 1, 2)), (8, 2)),
    )  # fmt: skip


def of_other_kinds() -> tuple[Wrong, ...]:
    """Return other layers that do not take what they are given."""
    maps, flat, end = (4, 5, 6), (4, 1, 1), (MEAN_OF_MAP, *HEAD)
    rows = (
        ("dense-on-maps", network(flat, 2, dense(2)), (8, 2)),
        ("dense-outputs-0", network(flat, 2, FLATTEN, dense(0), dense(2)), (1, 1, 2, 2)),
        ("maximum-of-one-row", network((4, 1, 2), 2, MAXIMUM, *end), (8, 2)),
        ("maximum-of-one-column", network((4, 2, 1), 2, MAXIMUM, *end), (8, 2)),
        ("maximum-behind-flatten", network(maps, 2, FLATTEN, MAXIMUM, dense(2)), (240, 2)),
        ("mean-higher-than-the-map", network(maps, 2, mean(6, 1), *end), (8, 2)),
        ("mean-wider-than-the-map", network(maps, 2, mean(1, 7), *end), (8, 2)),
        ("mean-height-0", network(maps, 2, mean(0, 1), *end), (8, 2)),
        ("mean-width-0", network(maps, 2, mean(1, 0), *end), (8, 2)),
        ("mean-behind-flatten", network(flat, 2, FLATTEN, MEAN_OF_MAP, dense(2)), (8, 2)),
        ("norm-groups-0", network(maps, 2, norm(0), *end), (4, 4, 8, 2)),
        ("norm-groups-do-not-divide", network(maps, 2, norm(3), *end), (4, 4, 8, 2)),
        ("norm-behind-flatten", network(flat, 2, FLATTEN, norm(1), dense(2)), (4, 4, 8, 2)),
    )
    sides = (
        ("channels-differ", residual((conv(1, 1, 1, 0, 1, 2),), ()), (8, 2, 4, 2)),
        ("heights-differ", residual((conv(2, 1, 1, 0, 1, 4),), ()), (32, 4, 8, 2)),
        ("widths-differ", residual((), (conv(1, 2, 1, 0, 1, 4),)), (32, 4, 8, 2)),
    )
    axes = network(flat, 2, residual((FLATTEN,), ()), dense(2))
    swapped = network((4, 6, 6), 2, residual((mean(2, 3),), (mean(3, 2),)), *end)
    return (
        *(Wrong(name, SHAPES, description, weights) for name, description, weights in rows),
        *(Wrong(f"residual-{name}", SHAPES, network(maps, 2, layer, *end), weights)
          for name, layer, weights in sides),
        Wrong("residual-axes-differ", SHAPES, axes, (8, 2), "4 values on either side"),
        Wrong("residual-sides-swapped", SHAPES, swapped, (8, 2), "24 values on either side"),
        Wrong("byte-behind-the-description", "hash factor out of range", RIGHT + bytes(1), WEIGHTS,
              "it is the block size, and the next numbers are others"),
        Wrong("list-behind-the-description", "hash factor out of range",
              RIGHT + layers(RELU) + bytes(1), WEIGHTS, "the same"),
    )  # fmt: skip


def of_weights() -> tuple[Wrong, ...]:
    """Return networks of more weights than there may be, each with few enough of all else."""
    many = "too many weights"
    return (
        Wrong("2-to-the-22-plus-1-weights", many,
              network((60, 1, 13981), 5, FLATTEN, dense(5)), (5 * 838860, 5)),
        Wrong("2-to-the-22-and-more-weights-together", many,
              network((1, 1, 2047), 2, FLATTEN, dense(1024), dense(2047), dense(2)),
              (2047 * 1024, 1024, 1024 * 2047, 2047, 4094, 2)),
        Wrong("2-to-the-24-weights", many,
              network((1, 1, 4095), 4096, FLATTEN, dense(4096)), (4095 * 4096, 4096)),
        Wrong("a-kernel-of-2-to-the-23-weights", many,
              network((2, 2048, 2048), 2, conv(2048, 2048, 1, 0, 1, 1), FLATTEN, dense(2)),
              (2**23, 1, 2, 2)),
        Wrong("zeros-around-make-too-many-values", "too many values",
              network((1, 1, 100), 2, conv(2047, 2047, 4096, 2046, 1, 1), *HEAD),
              (2047**2, 1, 2, 2), "4093 rows of 4192, of which one place is left"),
    )  # fmt: skip


FAULTS = (
    *of_numbers(),
    *of_layers(),
    *of_sizes(),
    *of_convolutions(),
    *of_other_kinds(),
    *of_weights(),
)
