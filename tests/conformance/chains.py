"""Chains of files to decode: models of few variables, and updates with messages drawn at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from refmiracle.codes.table import CODES, MRC
from refmiracle.engines import get_engine
from refmiracle.fileformat.chain import decode_chain
from refmiracle.fileformat.container import CompressedModel, parse_model
from refmiracle.fileformat.envelope import base_checksum, checksum_of, is_update, seal
from refmiracle.fileformat.payload import in_blocks, message_count
from refmiracle.fileformat.update import CompressedUpdate, update_layout
from refmiracle.nn.network import Network
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

MODELS = Path(__file__).parents[2] / "data" / "models"


def shipped_models() -> list[Path]:
    """Return the paths of the models in data/models, without the updates of them."""
    return [p for p in sorted(MODELS.glob("*.rmc")) if not is_update(p.read_bytes())]


def shipped_chains() -> dict[str, list[bytes]]:
    """Return the files of each update in data/models, its model first."""
    files = {path.stem: path.read_bytes() for path in sorted(MODELS.glob("*.rmc"))}
    models = {checksum_of(data): data for data in files.values() if not is_update(data)}
    updates = {name: data for name, data in files.items() if is_update(data)}
    return {name: [models[base_checksum(data)], data] for name, data in updates.items()}


def messages(rng: np.random.Generator, layout: BlockLayout, code: str, bits: int) -> np.ndarray:
    """Return messages of all lengths, shaped as `CompressedModel.messages`."""
    kind = CODES[code]
    count, raw = message_count(layout, kind), kind.raw_bits(bits)
    if kind.fixed_length:
        return in_blocks(layout, kind, rng.integers(0, 2**bits, count))
    longest = (kind.message_range(bits)[1] >> raw).bit_length() - 1
    n = [1 << int(rng.integers(longest)) for _ in range(count)]
    sent = [(m | int(rng.integers(m))) << raw | int(rng.integers(1 << raw)) for m in n]
    return in_blocks(layout, kind, kind.from_positive(sent))


def random_model(
    rng: np.random.Generator, network: Network, code: str, signs: Signs, grouping: Grouping
) -> bytes:
    """Return a model with some ten variables in each tensor."""
    counts = [int(np.prod(t.shape)) for t in network.tensors()]
    factors = tuple(int(rng.integers(-(-c // 9), c + 1)) for c in counts)
    seed = int(rng.integers(2**32))
    layout = BlockLayout(network, factors, grouping, signs, int(rng.integers(1, 9)), seed)
    rho = rng.uniform(0.01, 2.0, len(factors)).astype(np.float16)
    return CompressedModel(layout, 6, rho, messages(rng, layout, code, 6), code).to_bytes()


def random_update(
    rng: np.random.Generator,
    root: bytes,
    base: bytes,
    code: str = MRC,
    bits: int = 7,
    block_size: int | None = None,
    seed: int | None = None,
    levels: list[int] | None = None,
) -> bytes:
    """Return an update of `base`; a third of its tensors are not coded unless levels are given."""
    root_layout = parse_model(root).layout
    tensors = len(root_layout.factors)
    chosen = rng.integers(90, 150, tensors)
    chosen[rng.random(tensors) < 1 / 3] = 0
    chosen[rng.integers(tensors)] = rng.integers(1, 256)
    coded = np.array(chosen if levels is None else levels, dtype=np.uint8)
    seed = int(rng.integers(2**32)) if seed is None else seed
    layout = update_layout(root_layout, 1, seed, tuple(bool(c) for c in coded))
    size = block_size or int(rng.integers(1, layout.variables() + 1))
    layout = update_layout(root_layout, size, seed, layout.coded)
    indices = messages(rng, layout, code, bits)
    return CompressedUpdate(checksum_of(base), layout, bits, coded, indices, code).to_bytes()


def random_chain(
    rng: np.random.Generator, network: Network, code: str, length: int = 3
) -> list[bytes]:
    """Return a model and updates of the same code, each of the file before."""
    signs, grouping = rng.choice(list(Signs)), rng.choice(list(Grouping))
    files = [random_model(rng, network, code, Signs(signs), Grouping(grouping))]
    for _ in range(length - 1):
        files.append(random_update(rng, files[0], files[-1], code))
    return files


def packet(rng: np.random.Generator, base: bytes) -> bytes:
    """Return an update of a shipped LeNet-5 of 51 bytes; it moves each tensor, the biases less."""
    levels = [128, 120, 128, 120, 128, 120, 128, 120]
    data = random_update(rng, base, base, MRC, 21, 2658, 7, levels)
    assert len(data) == 51
    return data


def weights_of(files: list[bytes]) -> bytes:
    """Return the weights of a chain as the package decodes them, little-endian float32."""
    weights = decode_chain(files, get_engine("numpy")).weights()
    return b"".join(w.astype("<f4").tobytes() for w in weights.values())


def changed_updates(rng, root, count):
    """Yield updates of a root with any change in their header or payload."""
    for _ in range(count):
        code = list(CODES)[rng.integers(len(CODES))]
        body = bytearray(random_update(rng, root, root, code, 5)[:-4])
        for _ in range(rng.integers(1, 3)):
            place = rng.integers(3 if rng.random() < 0.1 else 8, len(body))
            body[place] = rng.integers(256) if rng.random() < 0.6 else rng.integers(4)
        if rng.random() < 0.2:
            body = body[: rng.integers(8, len(body) + 1)]
        yield seal(bytes(body))
