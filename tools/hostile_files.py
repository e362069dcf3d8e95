"""What the costliest files of 4 kB cost: ``python tools/hostile_files.py``.

For each random code and network, `costliest` makes the files that take a decoder the most time and
memory (docs/SPEC.md, section 2.6, says why there are no worse ones).  Each file meets each decoder
in a process of its own, which has decoded a small file before, so that Python, the libraries and
the compilation of kernels do not count.  The table stands in docs/RELIABILITY.md.
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

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

import spec_decoder

from refmiracle.codec.container import CompressedModel, message_count, parse_model
from refmiracle.codec.model import decode_model
from refmiracle.engines import get_engine
from refmiracle.nn.networks import network_by_number
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs
from refmiracle.rec.codes import CODES, MRC, SP_PFR, VARIABLE

LARGEST = 4096
NETWORKS = (1, 2)
# As many nodes of depth 61 as fit beside those of the other variables.
DEEP_NODES, DEEPEST = 48, 2**62 - 1
MEGABYTE = 1e6


def make_layout(network: int, block_size: int, hashed: bool = False) -> BlockLayout:
    """Return a layout without hashing, or with one variable for each tensor."""
    found = network_by_number(network)
    factors = tuple(math.prod(t.shape) if hashed else 1 for t in found.tensors())
    return BlockLayout(found, factors, Grouping.INPUTS, Signs.WEIGHT, block_size, 2**32 - 1)


def make_file(layout: BlockLayout, code: str, bits: int) -> bytes:
    """Return a file of the costliest messages that a few bytes can hold, of 4 kB at most."""
    count = message_count(layout, code)
    shape = (layout.blocks(), layout.block_size) if CODES[code].of == VARIABLE else (count,)
    indices = np.full(shape, {MRC: 0, "orc": 0, "pfr": 0, SP_PFR: 1 << bits}.get(code, 1))
    if code == MRC:
        indices[:] = np.arange(count) % 2**bits
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
    whole = make_layout(network, variables - 1)  # two blocks: nearly as many unused places again
    filled = make_layout(network, -(-variables // (8 * LARGEST // 24 - 20)))
    if CODES[code].of == VARIABLE:
        return {"two blocks, 62 bits": make_file(whole, code, 24)}
    files = {"two blocks": make_file(whole, code, 24)}
    if code == MRC:
        files["rows of 24 bits"] = make_file(filled, code, 24)
    elif code == SP_PFR:
        files["bins of 24 bits"] = make_file(filled, code, 24)
        files["one place has 24 bits"] = make_file(make_layout(network, 1, True), code, 24)
    else:
        files["blocks of one"] = make_file(make_layout(network, 1), code, 24)
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
    """Return a file with one variable for each tensor."""
    layout = make_layout(network, 1, True)
    count = message_count(layout, code)
    shape = (layout.blocks(), 1) if CODES[code].of == VARIABLE else (count,)
    indices = np.full(shape, {SP_PFR: 2}.get(code, 1), np.int64)
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
    parser.add_argument("--one", choices=DECODERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(*measure(arguments.one, *map(bytes.fromhex, sys.stdin.read().split())))
        return
    print(f"| code | file | bytes | {' | '.join(DECODERS)} |")
    print("|---|---|---|" + "---|" * len(DECODERS))
    for code in CODES:
        small = make_small(code, arguments.network)
        for name, data in costliest(code, arguments.network).items():
            cells = [apart(decoder, small, data) for decoder in DECODERS]
            texts = " | ".join(f"{s:.2f} s, {m:.0f} MB" for s, m in cells)
            print(f"| `{code}` | {name} | {len(data):,} | {texts} |", flush=True)


if __name__ == "__main__":
    main()
