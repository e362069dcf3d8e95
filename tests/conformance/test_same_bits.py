"""One file, one set of weights: whoever decodes it, for every code and network.

The plain Python decoder, which was written from docs/SPEC.md, gives the SHA-256 of all weights;
both engines and the backends in PyTorch, JAX and C must come to the same.
"""

import functools
import hashlib
import math
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import spec_decoder
import spec_updates
from conformance.chains import shipped_chains, shipped_models
from nn.trees import DEPTHWISE, NORMED, TREE

from refmiracle.codes.table import CODES
from refmiracle.conformance.backends import load_python_backend
from refmiracle.fileformat.container import CompressedModel
from refmiracle.fileformat.payload import message_shape
from refmiracle.nn.limits import DESCRIBED
from refmiracle.nn.networks import NETWORKS, RESNET8
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

ROOT = Path(__file__).parents[2]
ENGINES = "refmiracle.conformance.engine_backend"
BACKENDS = {
    "numpy": f"{ENGINES}:numpy_backend",
    "numba": f"{ENGINES}:numba_backend",
    "torch": "torch_backend:BACKEND",
    "jax": "jax_backend:BACKEND",
}
BITS, BLOCK_SIZE = 11, 7
# Those with a number, and some that their files describe.
EVERY_NETWORK = (
    *NETWORKS.values(),
    *(replace(network, number=DESCRIBED) for network in (TREE, NORMED, DEPTHWISE)),
)


def random_file(code, network):
    """A file of few variables, the last block short, the integers of all sizes."""
    rng = np.random.default_rng([CODES[code].number, network.number, *network.name.encode()])
    sizes = [int(np.prod(t.shape)) for t in network.tensors()]
    factors = tuple(-(-n // int(rng.integers(1, 12))) for n in sizes)
    grouping, signs = Grouping(rng.integers(2)), Signs(rng.integers(3))
    seed = int(rng.integers(2**32))
    layout = BlockLayout(network, factors, grouping, signs, BLOCK_SIZE, seed)
    kind = CODES[code]
    raw, shape = kind.raw_bits(BITS), message_shape(layout, kind)
    largest = min(61, math.log2(kind.message_range(BITS)[1]) - raw)
    n = (2.0 ** rng.uniform(0, largest, shape)).astype(np.int64)
    messages = kind.from_positive(n << raw | rng.integers(1 << raw, size=shape))
    messages.ravel()[layout.variables() :] = 1
    rho = rng.uniform(0.01, 2.0, len(factors)).astype(np.float16)
    return CompressedModel(layout, BITS, rho, messages, code).to_bytes()


FILES = {
    **{path.stem: path.read_bytes() for path in shipped_models()},
    **{
        f"{network.name}-{code}": random_file(code, network)
        for network in EVERY_NETWORK
        for code in CODES
    },
    "resnet8": random_file("mrc", RESNET8),
}
CHAINS = shipped_chains()


@functools.cache
def digest(name):
    """The SHA-256 of all weights of a file, by the decoder in plain Python."""
    return spec_decoder.sha256(spec_decoder.decode(FILES[name]))


@functools.cache
def digest_of_chain(name):
    """The same of an update."""
    return spec_decoder.sha256(spec_updates.decode_chain(CHAINS[name]))


@pytest.mark.slow
def test_there_is_a_file_of_every_code_and_network():
    headers = {(data[4], data[5]) for data in FILES.values()}
    assert headers == {(n.number, c.number) for n in EVERY_NETWORK for c in CODES.values()}
    assert len({digest(name) for name in FILES}) == len(FILES)


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_decode_the_same_bits(backend, monkeypatch):
    if backend in ("torch", "jax"):
        pytest.importorskip(backend, reason=f"{backend} is not installed")
        monkeypatch.syspath_prepend(ROOT / "tools" / "backends")
    loaded = load_python_backend(BACKENDS[backend])
    for name, data in FILES.items():
        (found, _) = loaded.call("decode_model", {"data": np.frombuffer(data, np.uint8)}, "")
        assert found.tobytes().hex() == digest(name), name
    for name, files in CHAINS.items():
        data, sizes = np.frombuffer(b"".join(files), np.uint8), np.array(list(map(len, files)))
        (found, _) = loaded.call("decode_chain", {"data": data, "sizes": sizes}, "")
        assert found.tobytes().hex() == digest_of_chain(name), name


def test_the_c_program_decodes_the_same_bits(program, tmp_path):
    for name, data in FILES.items():
        file, out = tmp_path / "model.rmc", tmp_path / "weights.f32"
        file.write_bytes(data)
        subprocess.run([program, "decode", file, out], check=True)
        assert hashlib.sha256(out.read_bytes()).hexdigest() == digest(name), name
    for name, files in CHAINS.items():
        paths = [tmp_path / f"{number}.rmc" for number in range(len(files))]
        for path, data in zip(paths, files, strict=True):
            path.write_bytes(data)
        subprocess.run([program, "decode", *paths, out], check=True)
        assert hashlib.sha256(out.read_bytes()).hexdigest() == digest_of_chain(name), name
