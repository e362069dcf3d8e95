"""From a compressed model to float32 weights, the same bits everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refmiracle.codec.container import CompressedModel
from refmiracle.engines.contract import Engine
from refmiracle.numerics.philox import Stream, stream_permutation
from refmiracle.posterior.blocks import Places, spread, tensor_signs
from refmiracle.rec import codes

Float32Weights = dict[str, NDArray[np.float32]]


def decode_blocks(
    places: Places, rho: NDArray[np.float16], rows: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the coded variables rho z, one float32 product each; shape (blocks, block_size)."""
    return rho.astype(np.float32)[places.tensor] * rows


def decode_rows(model: CompressedModel, engine: Engine) -> NDArray[np.float32]:
    """Return the whitened samples of all blocks, shape (blocks, block_size)."""
    layout, blocks = model.layout, model.layout.blocks()
    return codes.decode_blocks(
        engine,
        model.code,
        layout.seed,
        model.bits_per_block,
        np.arange(blocks),
        model.indices.reshape(blocks, -1),
        layout.block_size,
    )


def decode_variables(model: CompressedModel, engine: Engine) -> NDArray[np.float32]:
    """Return the whitened samples of all variables, shape (variables,)."""
    layout, count = model.layout, model.layout.variables()
    order = stream_permutation(layout.seed, Stream.PERMUTATION, 0, count)
    variables = np.empty(count, dtype=np.float32)
    variables[order] = decode_rows(model, engine).ravel()[:count]
    return variables


def decode_model(model: CompressedModel, engine: Engine) -> Float32Weights:
    """Return the weights of a compressed model by tensor name.

    Each block is the sample that its messages name (minimal random coding: a row of the
    codebook), times the scales of its places; each weight is the variable at its place, times
    its sign.  Only what is named is computed, and tables as training has them (`find_places`) are
    not needed: what it takes is a few times what the weights do.

    Parameters
    ----------
    model : CompressedModel
    engine : Engine
        Any: the bits do not depend on it.

    Returns
    -------
    dict of str to ndarray of float32
    """
    layout = model.layout
    whitened = decode_variables(model, engine)
    weights, first = {}, 0
    for number, (t, size) in enumerate(zip(layout.network.tensors(), layout.sizes(), strict=True)):
        variables = np.float32(model.rho[number]) * whitened[first : first + size]
        w = spread(layout, number, variables) * tensor_signs(layout, number)
        weights[t.name] = w.reshape(t.shape)
        first += size
    return weights
