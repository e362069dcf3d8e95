"""From a compressed model to float32 weights, the same bits everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refmiracle.codes.table import find_code
from refmiracle.engines.contract import Engine
from refmiracle.fileformat.container import CompressedModel
from refmiracle.fileformat.update import CompressedUpdate
from refmiracle.numerics.philox import Stream, stream_permutation
from refmiracle.posterior.blocks import BlockLayout, Places, tensor_signs, to_each_weight
from refmiracle.posterior.scales import scales_of_levels

Float32Weights = dict[str, NDArray[np.float32]]


def decode_blocks(
    places: Places, rho: NDArray[np.float16], rows: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the coded variables rho z, one float32 product each; shape (blocks, block_size)."""
    return rho.astype(np.float32)[places.tensor_of_place] * rows


def decode_rows(model: CompressedModel | CompressedUpdate, engine: Engine) -> NDArray[np.float32]:
    """Return the whitened samples of all blocks, shape (blocks, block_size)."""
    layout = model.layout
    return find_code(model.code).decode_blocks(
        engine,
        layout.seed,
        model.bits_per_block,
        np.arange(layout.blocks()),
        model.messages,
        layout.block_size,
    )


def decode_whitened(
    model: CompressedModel | CompressedUpdate, engine: Engine
) -> NDArray[np.float32]:
    """Return the whitened samples of all coded variables, shape (coded variables,)."""
    layout, count = model.layout, model.layout.variables()
    order = stream_permutation(layout.seed, Stream.PERMUTATION, 0, count)
    whitened = np.empty(count, dtype=np.float32)
    whitened[order] = decode_rows(model, engine).ravel()[:count]
    return whitened


def decode_variables(model: CompressedModel, engine: Engine) -> NDArray[np.float32]:
    """Return the variables rho z, one float32 product each; shape (variables,)."""
    rho = np.repeat(model.rho.astype(np.float32), model.layout.sizes())
    return rho * decode_whitened(model, engine)


def decode_update(
    update: CompressedUpdate,
    root_rho: NDArray[np.float16],
    nu: NDArray[np.float32],
    engine: Engine,
) -> NDArray[np.float32]:
    """Return the variables nu + rho z, a float32 product and a float32 sum each.

    Parameters
    ----------
    update : CompressedUpdate
    root_rho : ndarray of float16, shape (tensors,)
        The scales of the model at the root of the chain.
    nu : ndarray of float32, shape (variables,)
        The variables of the base; those that are not coded stay what they are.
    engine : Engine

    Returns
    -------
    ndarray of float32, shape (variables,)
    """
    layout, coded = update.layout, update.layout.is_coded()
    rho = np.repeat(scales_of_levels(update.levels, root_rho), layout.sizes())
    variables = nu.copy()
    variables[coded] = nu[coded] + rho[coded] * decode_whitened(update, engine)
    return variables


def weights_of(layout: BlockLayout, variables: NDArray[np.float32]) -> Float32Weights:
    """Return the weights by tensor name: each is the variable at its place, times its sign."""
    weights, first = {}, 0
    for number, (t, size) in enumerate(zip(layout.network.tensors(), layout.sizes(), strict=True)):
        w = to_each_weight(layout, number, variables[first : first + size]) * tensor_signs(
            layout, number
        )
        weights[t.name] = w.reshape(t.shape)
        first += size
    return weights


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
    return weights_of(model.layout, decode_variables(model, engine))
