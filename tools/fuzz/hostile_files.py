"""What the costliest files of 4 kB cost: ``python tools/fuzz/hostile_files.py``.

For each random code and network, `costliest` makes the files that take a decoder the most time and
memory (docs/SPEC.md, section 2.6, says why there are no worse ones); network 0 is one of the most
weights that a file may describe.  Each file meets each decoder in a process of its own, which has
decoded a small file before, so that Python, the libraries and the compilation of kernels do not
count.  The tables stand in docs/RELIABILITY.md.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "decoder"))

import spec_decoder

from refmiracle.codes.code import VARIABLE
from refmiracle.codes.table import CODES, MRC
from refmiracle.engines import get_engine
from refmiracle.fileformat.container import CompressedModel, parse_model
from refmiracle.fileformat.model import decode_model
from refmiracle.fileformat.payload import message_count, message_shape
from refmiracle.nn.layers import Dense, Flatten
from refmiracle.nn.limits import DESCRIBED
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET_300_100, network_by_number
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

LARGEST = 4096
# As many weights as a file may describe, and as many variables as a file may have integers for.
WIDEST = Network("widest", DESCRIBED, (1, 1, 1023), 4096, (Flatten(), Dense(4096)))
MOST_INTEGERS = 2**20
NETWORKS = (DESCRIBED, 1, 2)
# As many nodes of depth 61 as fit beside those of the other variables.
DEEP_NODES, DEEPEST = 46, 2**62 - 1
MEGABYTE = 1e6
ALL = 2**32 - 1  # of its weights each tensor makes one variable


def make_layout(network: int, block_size: int, factor: int = 1) -> BlockLayout:
    """Return a layout whose tensors have this hash factor, or one variable if they are smaller."""
    found = WIDEST if network == DESCRIBED else network_by_number(network)
    factors = tuple(min(factor, math.prod(t.shape)) for t in found.tensors())
    return BlockLayout(found, factors, Grouping.INPUTS, Signs.WEIGHT, block_size, 2**32 - 1)


def make_two_blocks(network: int, factor: int = 1) -> BlockLayout:
    """Return a layout of two blocks: nearly as many unused places as others."""
    return make_layout(network, make_layout(network, 1, factor).variables() - 1, factor)


def make_file(layout: BlockLayout, code: str, bits: int) -> bytes:
    """Return a file of the costliest messages that a few bytes can hold, of 4 kB at most."""
    count = message_count(layout, CODES[code])
    indices = np.full(message_shape(layout, CODES[code]), CODES[code].message_range(bits)[0])
    if code == MRC:
        indices[:, 0] = np.arange(count) % 2**bits
    elif CODES[code].of == VARIABLE:
        indices.ravel()[: count : count // DEEP_NODES] = DEEPEST
    rho = np.ones(len(layout.factors), np.float16)
    data = CompressedModel(layout, bits, rho, indices.astype(np.int64), code).to_bytes()
    if len(data) > LARGEST:
        raise ValueError(f"{len(data)} bytes of code {code}; expected at most {LARGEST}")
    return data


def costliest(code: str, network: int) -> dict[str, bytes]:
    """Return the costliest files of a code, each by what is costly about it."""
    variables = make_layout(network, 1).variables()
    shared = -(-variables // MOST_INTEGERS)  # so that there may be an integer for each variable
    filled = make_layout(network, -(-variables // (8 * LARGEST // 24 - 20)))
    if CODES[code].of == VARIABLE:
        return {"two blocks, 62 bits": make_file(make_two_blocks(network, shared), code, 24)}
    files = {"two blocks": make_file(make_two_blocks(network), code, 24)}
    if code == MRC:
        files["rows of 24 bits"] = make_file(filled, code, 24)
        files["signs of all weights"] = make_file(make_two_blocks(network, 2), code, 24)
    elif code == "sp-pfr":
        files["bins of 24 bits"] = make_file(filled, code, 24)
        files["one place has 24 bits"] = make_file(make_layout(network, 1, ALL), code, 24)
    else:
        files["blocks of one"] = make_file(make_layout(network, 1, shared), code, 24)
        if shared > 1:
            files["blocks of a few"] = make_file(make_layout(network, shared), code, 24)
    return files


def decode_with(engine: str) -> Callable[[bytes], object]:
    """Return a decoder of the package."""
    return lambda data: decode_model(parse_model(data), get_engine(engine))


DECODERS: dict[str, Callable[[bytes], object]] = {
    "numpy": decode_with("numpy"),
    "numba": decode_with("numba"),
    "plain Python": spec_decoder.decode,
}


def make_small(code: str, network: int) -> bytes:
    """Return a file with one variable for each tensor, of a small network where it is described."""
    layout = make_layout(network or LENET_300_100.number, 1, ALL)
    indices = np.full(message_shape(layout, CODES[code]), max(1, CODES[code].message_range(1)[0]))
    rho = np.ones(len(layout.factors), np.float16)
    return CompressedModel(layout, 1, rho, indices, code).to_bytes()


def measure(decoder: str, small: bytes, data: bytes) -> tuple[float, float]:
    """Return processor seconds, and megabytes that this process grew by after a small file."""
    import resource  # noqa: PLC0415 (not on Windows)

    DECODERS[decoder](small)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    DECODERS[decoder](data)
    seconds = time.process_time() - start
    unit = 1 if sys.platform == "darwin" else 1024
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return seconds, grown * unit / MEGABYTE


def apart(decoder: str, small: bytes, data: bytes) -> tuple[float, float]:
    """Return the same, measured in a process of its own."""
    command = [sys.executable, __file__, "--one", decoder]
    files = f"{small.hex()}\n{data.hex()}\n"
    done = subprocess.run(command, input=files, check=True, stdout=subprocess.PIPE, text=True)
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes


def main() -> None:
    """Print one row of the table for each file, the numbers as seconds / megabytes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=int, choices=NETWORKS, default=1)
    parser.add_argument("--decoders", nargs="+", choices=DECODERS, default=[*DECODERS])
    parser.add_argument("--one", choices=DECODERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(*measure(arguments.one, *map(bytes.fromhex, sys.stdin.read().split())))
        return
    print(f"| code | file | bytes | {' | '.join(arguments.decoders)} |")
    print("|---|---|---|" + "---|" * len(arguments.decoders))
    for code in CODES:
        small = make_small(code, arguments.network)
        for name, data in costliest(code, arguments.network).items():
            cells = [apart(decoder, small, data) for decoder in arguments.decoders]
            texts = " | ".join(f"{s:.2f} s, {m:.0f} MB" for s, m in cells)
            print(f"| `{code}` | {name} | {len(data):,} | {texts} |", flush=True)


if __name__ == "__main__":
    main()
