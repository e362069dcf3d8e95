"""Descriptions of networks, put together from docs/SPEC.md, section 3.1, whatever they mean."""

from __future__ import annotations

from typing import Any

from golden.containers import varint
from golden.sources import spec_decoder


def numbers(*values: int) -> bytes:
    """Return varints side by side."""
    return b"".join(map(varint, values))


def conv(kh: int, kw: int, stride: int, padding: int, groups: int, outputs: int) -> bytes:
    """Return a convolution."""
    return numbers(1, kh, kw, stride, padding, groups, outputs)


def dense(outputs: int) -> bytes:
    """Return a dense layer."""
    return numbers(2, outputs)


def mean(kh: int, kw: int) -> bytes:
    """Return the means of windows."""
    return numbers(5, kh, kw)


def norm(groups: int) -> bytes:
    """Return a group norm."""
    return numbers(6, groups)


FLATTEN, MAXIMUM, RELU = numbers(3), numbers(4), numbers(7)
MEAN_OF_MAP = mean(0, 0)


def layers(*of_list: bytes) -> bytes:
    """Return a list of layers."""
    return varint(len(of_list)) + b"".join(of_list)


def residual(body: tuple[bytes, ...], shortcut: tuple[bytes, ...]) -> bytes:
    """Return a residual."""
    return numbers(8) + layers(*body) + layers(*shortcut)


def network(image: tuple[int, int, int], classes: int, *of_list: bytes) -> bytes:
    """Return a description."""
    return numbers(*image, classes) + layers(*of_list)


def read(description: bytes) -> Any:
    """Return the network of a valid description; see tools/decoder/spec_networks.py."""
    found, end = spec_decoder.read_network(0, bytes(8) + description)
    if end != 8 + len(description):
        raise ValueError("bytes behind a description")
    return found
