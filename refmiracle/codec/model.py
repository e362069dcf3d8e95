"""From a compressed model to float32 weights, the same bits everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refmiracle.codec.container import CompressedModel
from refmiracle.engines.contract import Engine
from refmiracle.posterior.blocks import Places, find_places, to_weights
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


def decode_model(model: CompressedModel, engine: Engine) -> Float32Weights:
    """Return the weights of a compressed model by tensor name.

    Each block is the sample that its messages name (minimal random coding: a row of the
    codebook), times the scales of its places; each weight is the variable at its place, times
    its sign.  Only what is named is computed.

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
    places = find_places(layout)
    variables = decode_blocks(places, model.rho, decode_rows(model, engine))
    weights = to_weights(layout.network, engine, places, variables)
    # An engine gives floats of its own; a sign changes no digit of them.
    return {name: w.astype(np.float32, copy=False) for name, w in weights.items()}
