"""Stage bits of our backends: streams, files and layouts, in which no engine has a part."""

from __future__ import annotations

from typing import Any

import numpy as np

from refmiracle.codes.table import CODES, CODES_BY_NUMBER
from refmiracle.conformance.arguments import as_bytes, as_uint8, bits_of, lenet5_layout
from refmiracle.engines.contract import Array
from refmiracle.errors import InputError
from refmiracle.fileformat.bits import pack_indices, unpack_indices
from refmiracle.fileformat.container import CompressedModel, parse_model
from refmiracle.fileformat.integers import read_integers, write_integers
from refmiracle.fileformat.payload import in_blocks, message_count, payload_of
from refmiracle.nn.networks import LENET5, network_by_number
from refmiracle.numerics.philox import stream_permutation, stream_words
from refmiracle.numerics.whole import whole_numbers
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs, find_places

Results = tuple[Any, ...]


class FileBackend:
    """What every backend of ours answers, whatever its engine."""

    def stream_words(
        self, seed: Array, stream: Array, row: Array, first: Array, count: Array
    ) -> Array:
        """Return words of a stream."""
        return stream_words(int(seed), int(stream), [int(row)], int(count), int(first))[0]

    def stream_permutation(self, seed: Array, stream: Array, row: Array, count: Array) -> Array:
        """Return a permutation drawn from a stream."""
        return stream_permutation(int(seed), int(stream), int(row), int(count))

    def pack_indices(self, indices: Array, bits: Array) -> Array:
        """Return indices as bytes."""
        return as_uint8(pack_indices(indices, bits_of(bits)))

    def unpack_indices(self, payload: Array, bits: Array, count: Array) -> Array:
        """Return the indices that bytes hold."""
        return unpack_indices(as_bytes(payload), bits_of(bits), int(count))

    def read_integers(self, payload: Array, count: Array, theta: Array, raw: Array) -> Array:
        """Return the integers of a code word."""
        return read_integers(as_bytes(payload), int(count), int(theta), int(raw))

    def write_integers(self, integers: Array, theta: Array, raw: Array) -> Array:
        """Return the code word of integers."""
        return as_uint8(write_integers(integers, int(theta), int(raw)))

    def read_container(self, data: Array) -> Results:
        """Return the fields of a .rmc file."""
        network, grouping, signs, _, bits, _, *rest = self.describe_file(data)
        return network, grouping, signs, bits, *rest

    def write_container(
        self, network: Array, grouping: Array, signs: Array, bits: Array, *rest: Array
    ) -> Array:
        """Return the bytes of a .rmc file with these fields."""
        zero = np.array(0)
        return self.compose_file(network, grouping, signs, zero, bits, zero, *rest)

    def describe_file(self, data: Array) -> Results:
        """Return the fields of a file of any code; theta is 0 where there is none."""
        model = parse_model(as_bytes(data))
        layout, code = model.layout, CODES[model.code]
        return (
            layout.network.number,
            int(layout.grouping),
            int(layout.signs),
            code.number,
            model.bits_per_block,
            model.theta16,
            layout.block_size,
            layout.seed,
            np.array(layout.factors),
            model.rho.view(np.uint16),
            model.messages.ravel()[: message_count(layout, code)],
        )

    def compose_file(
        self,
        network: Array,
        grouping: Array,
        signs: Array,
        code: Array,
        bits: Array,
        theta: Array,
        block_size: Array,
        seed: Array,
        factors: Array,
        rho: Array,
        messages: Array,
    ) -> Array:
        """Return the bytes of a file of any code: `describe_file` undone."""
        layout = BlockLayout(
            network_by_number(int(network)),
            tuple(int(f) for f in factors),
            Grouping(int(grouping)),
            Signs(int(signs)),
            int(block_size),
            int(seed),
        )
        kind = CODES_BY_NUMBER[int(code)]
        if (int(theta) != 0) != (payload_of(kind).theta_bytes > 0):
            raise InputError(f"theta {int(theta)} of the code {kind.name}")
        if len(messages) != message_count(layout, kind):
            raise InputError(f"{len(messages)} messages; expected {message_count(layout, kind)}")
        messages = in_blocks(layout, kind, messages)
        scales = np.asarray(rho, dtype=np.uint16).view(np.float16)
        model = CompressedModel(layout, bits_of(bits), scales, messages, kind.name, int(theta))
        return as_uint8(model.to_bytes())

    def block_layout(
        self,
        block_size: Array,
        seed: Array,
        factors: Array,
        grouping: Array,
        signs: Array,
        weights: Array,
    ) -> Results:
        """Return place and sign of some weights, numbered through all tensors."""
        places = find_places(lenet5_layout(block_size, seed, factors, grouping, signs))
        weights = whole_numbers("weights", weights, end=LENET5.count())
        return places.place_of_weight[weights], places.signs[weights].astype(np.int64)
