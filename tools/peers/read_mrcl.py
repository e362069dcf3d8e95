"""Decode a public .mrcl file of LeNet-5 and measure its error: the line that we claim to beat.

The files are those of github.com/TudorParas/MIRACLE-Neural-Network-Exchange-Format, under
examples/miracle_graphs/LeNet5/out/compressed_files/miracle (no licence, so no copy here):

    python tools/peers/read_mrcl.py lenet5_30_10_v1.mrcl lenet5_20_10_v1.mrcl

A file is eight big-endian float32, log rho of each tensor in network order, and then one index of
10 bits for each block; nothing tells them where they end, so the number of blocks, and from it
the block size, follow from the file's length.  Their code draws from NumPy's legacy generator,
and its candidates are Sobol points; `pip install sobol_seq==0.2.0` beside refmiracle, whose
engine runs the network.  (That version's skip of 0 is the skip of 1 that their code asks for.)
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from refmiracle.engines import get_engine
from refmiracle.errors import BAD_INPUT, InputError
from refmiracle.nn.evaluation import error_rate
from refmiracle.nn.network import split_tensors
from refmiracle.nn.networks import LENET5
from refmiracle.training.data import default_folder, load_split

SEED = 53
BITS = 10
# Weights that share a variable: neighbours along the outputs, without signs.
FACTORS = (1, 1, 2, 1, 50, 1, 1, 1)
SHAPES = [t.shape for t in LENET5.tensors()]
SIZES = [math.prod(shape) // factor for shape, factor in zip(SHAPES, FACTORS, strict=True)]
SCALE_BYTES = 4 * len(SIZES)
LARGEST_SOBOL_DIMENSION = 40


def read_file(path):
    """Return log rho of each tensor and the index of each block."""
    try:
        data = path.read_bytes()
    except OSError as e:
        raise InputError(f"{path}: cannot be read: {e.strerror or e}") from e
    if len(data) <= SCALE_BYTES:
        raise InputError(f"{path}: {len(data)} bytes; expected eight float32 and the indices")
    bits = np.unpackbits(np.frombuffer(data, np.uint8, offset=SCALE_BYTES))
    # The last byte is filled up with zeros, always fewer than an index has.
    blocks = len(bits) // BITS
    indices = bits[: blocks * BITS].reshape(blocks, BITS) @ (1 << np.arange(BITS)[::-1])
    return np.frombuffer(data, ">f4", len(SIZES)).astype(np.float64), indices


def block_size_of(path, blocks):
    """Return the only block size that makes this many blocks of LeNet-5's variables."""
    block_size = -(-sum(SIZES) // max(1, blocks))
    if -(-sum(SIZES) // block_size) != blocks or block_size > LARGEST_SOBOL_DIMENSION:
        raise InputError(f"{path}: {blocks} indices do not make a LeNet-5 with blocks of 1 to 40")
    return block_size


def permutation_of(count):
    """Return their permutation; the draws that initialised their means come before it."""
    generator = np.random.RandomState(SEED)
    for size in SIZES:
        generator.normal(size=size)
    return generator.permutation(count)


def decode(path):
    """Return the weights of LeNet-5 by tensor name, in float32."""
    log_rho, indices = read_file(path)
    block_size = block_size_of(path, len(indices))
    try:
        from sobol_seq import i4_sobol_generate  # noqa: PLC0415 (an extra)
    except ImportError:
        raise InputError("sobol_seq is not installed; pip install sobol_seq==0.2.0") from None
    table = ndtri(i4_sobol_generate(block_size, 2**BITS, skip=0))
    padding = len(indices) * block_size - sum(SIZES)
    # Their scale of the padding is not in the file, and not needed.
    rho = np.repeat(np.exp([*log_rho, 0.0]), [*SIZES, padding])
    permutation = permutation_of(len(rho))
    variables = np.empty(len(rho))
    variables[permutation] = table[indices].ravel() * rho[permutation]
    parts = np.split(variables, np.cumsum(SIZES))
    flat = [np.repeat(part, factor) for part, factor in zip(parts, FACTORS, strict=False)]
    weights = split_tensors(LENET5, np.concatenate(flat))
    # TensorFlow flattens (height, width, channel); our activations are (channel, height, width).
    dense = weights["dense1.weight"].reshape(4, 4, 50, 500)
    weights["dense1.weight"] = dense.transpose(2, 0, 1, 3).reshape(800, 500)
    # Their pixels are in [0, 1], ours in [-1/2, 1/2]: conv1 makes up for it, exactly.
    weights["conv1.bias"] = weights["conv1.bias"] + weights["conv1.weight"].sum((0, 1, 2)) / 2
    return {name: w.astype(np.float32) for name, w in weights.items()}


def main():
    """Print the size and the test error of each file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.mrcl")
    arguments = parser.parse_args()
    engine, test = get_engine("numba"), load_split(default_folder(), "t10k")
    try:
        for path in arguments.files:
            error = error_rate(LENET5, engine, decode(path), test.images, test.labels)
            print(f"{path.name}: {path.stat().st_size} bytes, test error {error:.2%}")
    except InputError as e:
        print(f"read_mrcl: error: {e}", file=sys.stderr)
        return BAD_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
