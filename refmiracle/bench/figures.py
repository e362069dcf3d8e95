"""What is measured: each figure with its peers, in alternation."""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from refmiracle.bench.peers import STEP_PEERS, StepPeer, load_peer
from refmiracle.bench.problem import (
    Problem,
    blocks_of,
    make_problem,
    step_flops,
    whitened_posterior,
)
from refmiracle.bench.timing import Call, Pace, Samples, alternate
from refmiracle.codes import minimal_random_coding
from refmiracle.engines import get_engine
from refmiracle.fileformat.container import read_model
from refmiracle.fileformat.model import decode_model
from refmiracle.nn.evaluation import predict
from refmiracle.training.data import Split, default_folder
from refmiracle.training.settings import Settings
from refmiracle.training.trainer import Trainer

MODEL = default_folder().parent / "models" / "lenet5-1551.rmc"
OURS = "refmiracle"
BOOK = "codebook"
PEAK = "sgemm"
EACH, PRODUCTS = "PyTorch, block by block", "PyTorch, matrix products"
CODEBOOK_BITS = 16
# Above this a peer encodes a few blocks only, and the figure for all of them is reckoned.
LARGEST_WHOLE_BITS = 16


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes
    ----------
    pace : Pace
    batches, bits, block_sizes : tuple of int
        Of training steps; of the encoding of a whole model, and, beside the default, of its
        blocks.
    images : int
        Classified in one call.
    matrix : int
        Rows and columns of the product that tells the peak.
    fresh : int
        Fresh processes for each figure of a start; 0 for none.
    """

    pace: Pace = field(default_factory=Pace)
    batches: tuple[int, ...] = (64, 128, 256, 512)
    bits: tuple[int, ...] = (14, 16, 20)
    block_sizes: tuple[int, ...] = ()
    images: int = 10_000
    matrix: int = 2048
    fresh: int = 5

    def growing(self) -> Sizes:
        """Return the same with more batches, bits and block sizes, for the plot."""
        return replace(
            self,
            batches=tuple(sorted({16, 32, 1024, *self.batches})),
            bits=tuple(sorted({8, 10, 12, 18, *self.bits})),
            block_sizes=(5, 10, 20, 30, 60, 120, 240),
        )


@dataclass(frozen=True)
class Figure:
    """One row of results.

    Attributes
    ----------
    name, unit : str
    ours : ndarray of float64, shape (rounds,)
    peers : dict of str to ndarray of float64, shape (rounds,)
    group : str
        Figures of a group differ in `at` alone.
    at : int or None
        What the group grows with.
    note : str
    estimated : str
        From what the peers' samples were reckoned, if they were not measured whole.
    others : float or None
        Other processes' share of the processors while it was measured, in [0, 1].
    """

    name: str
    unit: str
    ours: Samples
    peers: dict[str, Samples] = field(default_factory=dict)
    group: str = ""
    at: int | None = None
    note: str = ""
    estimated: str = ""
    others: float | None = None


@dataclass
class Bench:
    """What all figures share.

    Attributes
    ----------
    settings : Settings
    train, test : Split
    sizes : Sizes
    libraries : tuple of str
        To measure against.
    threads : int
        Of refmiracle, and of those peers that can be told.
    model : Path
        A .rmc file of the network of the settings.
    left_out : set of str
        Labels of peers that do not work on this machine.
    peak : float
        The most floating-point operations a second that a matrix product has reached so far.
    """

    settings: Settings
    train: Split
    test: Split
    sizes: Sizes
    libraries: tuple[str, ...]
    threads: int
    model: Path = MODEL
    problem: Problem = field(init=False)
    left_out: set[str] = field(init=False, default_factory=set)
    peak: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.problem = make_problem(self.settings, self.train)
        self.engine = get_engine(self.settings.engine)
        for library in self.libraries:
            load_peer(f"{library}_step").prepare(self.threads)

    def step_peers(self) -> list[StepPeer]:
        """Return the ways to take a step that are measured and work on this machine."""
        chosen = [p for p in STEP_PEERS if p.library in self.libraries]
        return [p for p in chosen if p.label not in self.left_out]


def our_step(bench: Bench, batch: int, shared: bool = True) -> Call:
    """Return our training step; `shared` computes units that share their weights once.

    The one place that knows how refmiracle is told so.
    """
    settings = replace(bench.settings, batch_size=batch)
    return Trainer(settings, bench.train, share=shared).train_step


def peer_steps(bench: Bench, batch: int, shared: bool) -> dict[str, Call]:
    """Return the peers' training steps by label; one that does not work here is left out."""
    calls: dict[str, Call] = {}
    for peer in bench.step_peers():
        module = load_peer(f"{peer.library}_step")
        step: Call = module.Step(bench.problem, batch, shared=shared, **peer.options).step
        try:
            step()
        except Exception as e:  # whatever a compiler may raise
            if not peer.options.get("compiled"):
                raise
            bench.left_out.add(peer.label)
            reason = (str(e) or type(e).__name__).splitlines()[0]
            print(f"refmiracle: {peer.label} is left out: {reason}", file=sys.stderr)
            continue
        calls[peer.label] = step
    return calls


def split_ours(samples: dict[str, Samples], scale: float) -> tuple[Samples, dict[str, Samples]]:
    """Return our samples and those of the peers, all times `scale`."""
    scaled = {name: scale * s for name, s in samples.items()}
    return scaled.pop(OURS), scaled


def measure_step(bench: Bench, batch: int, shared: bool) -> Figure:
    """Measure a training step: noise, forward, backward, Adam."""
    calls = {OURS: our_step(bench, batch, shared), **peer_steps(bench, batch, shared)}
    ours, peers = split_ours(alternate(calls, bench.sizes.pace), 1e3)
    group = "step" if shared else "step, weights expanded"
    return Figure(f"{group}, batch {batch}", "ms", ours, peers, group, batch)


def measure_peak_share(bench: Bench, batch: int, shared: bool) -> Figure:
    """Measure what share of the speed of a large matrix product the whole step reaches."""
    size = bench.sizes.matrix
    a, b = np.random.default_rng(0).standard_normal((2, size, size)).astype(np.float32)
    out = np.empty_like(a)
    calls: dict[str, Call] = {
        OURS: our_step(bench, batch, shared),
        PEAK: lambda: np.matmul(a, b, out=out),
    }
    samples = alternate(calls, bench.sizes.pace)
    layout = bench.settings.layout()
    flops = step_flops(layout.network, layout.factors if shared else None)
    bench.peak = max(bench.peak, 2.0 * size**3 / samples[PEAK].min())
    return Figure(
        f"share of sgemm, batch {batch}" + ("" if shared else ", weights expanded"),
        "%",
        100.0 * flops * batch / samples[OURS] / bench.peak,
        note=f"{flops / 1e6:.2f} MFLOP for each image;"
        f" sgemm reaches {bench.peak / 1e9:.0f} GFLOP/s",
    )


def measure_predict(bench: Bench) -> Figure:
    """Measure the classification of images by a model of a file."""
    model, _ = read_model(bench.model)
    weights, network = decode_model(model, bench.engine), model.layout.network
    images = bench.test.images[: bench.sizes.images]
    calls: dict[str, Call] = {OURS: lambda: predict(network, bench.engine, weights, images)}
    for library, label in (("torch", "PyTorch eager"), ("jax", "JAX jit")):
        if library in bench.libraries:
            module = load_peer(f"{library}_step")
            calls[label] = module.make_predictor(weights, images)
    ours, peers = split_ours(alternate(calls, bench.sizes.pace), 1e3)
    return Figure(f"predict {len(images)} images", "ms", ours, peers)


def encode_peers(bits: int, size: int, delta: Any, log_s: Any) -> dict[str, Call]:
    """Return PyTorch's ways to encode, and to draw its candidates."""
    torch, coding = load_peer("torch_step").torch, load_peer("torch_coding")
    candidates = coding.codebook(bits, size)
    arguments = candidates, torch.tensor(delta), torch.tensor(log_s)
    return {
        EACH: lambda: coding.encode_each(*arguments),
        PRODUCTS: lambda: coding.encode_products(*arguments),
        BOOK: lambda: coding.codebook(bits, size),
    }


def measure_encode(bench: Bench, bits: int, size: int, group: str, at: int) -> Figure:
    """Measure the encoding of all blocks of a model, the drawing of candidates included.

    The peers' candidates are timed apart, so that a few blocks can stand for all.
    """
    blocks = blocks_of(bench.settings.layout(), size)
    delta, log_s = whitened_posterior(blocks, size, bits)
    # Another seed for each call: an engine may keep the candidates of the last.
    numbers, seeds = np.arange(blocks), itertools.count(bench.settings.seed)
    calls: dict[str, Call] = {
        OURS: lambda: minimal_random_coding.encode(
            bench.engine, next(seeds), bits, numbers, delta, log_s
        )
    }
    few = blocks if bits <= LARGEST_WHOLE_BITS else max(1, (1 << 24) >> bits)
    if "torch" in bench.libraries:
        calls |= encode_peers(bits, size, delta[:few], log_s[:few])
    ours, peers = split_ours(alternate(calls, bench.sizes.pace), 1e3)
    book = peers.pop(BOOK, np.zeros(1))
    peers = {name: book + blocks / few * s for name, s in peers.items()}
    return Figure(
        f"encode {blocks} blocks of {size}, {bits} bits",
        "ms",
        ours,
        peers,
        group,
        at,
        estimated=f"{few} of {blocks} blocks" if few < blocks and peers else "",
    )


def measure_group(bench: Bench) -> Figure:
    """Measure what progressive encoding adds to a training step now and then.

    All groups of a run have one set of candidates: an engine that keeps it draws it once.
    """
    settings = bench.settings
    blocks = -(-settings.layout().blocks() // settings.groups)
    bits, size = settings.bits_per_block, settings.block_size
    delta, log_s = whitened_posterior(blocks, size, bits)
    step = f"one training step, batch {settings.batch_size}"
    calls: dict[str, Call] = {
        OURS: lambda: minimal_random_coding.encode(
            bench.engine, settings.seed, bits, np.arange(blocks), delta, log_s
        ),
        step: our_step(bench, settings.batch_size),
    }
    ours, peers = split_ours(alternate(calls, bench.sizes.pace), 1e3)
    return Figure(f"encode a group of {blocks} blocks, {bits} bits", "ms", ours, peers)


def measure_decode(bench: Bench) -> Figure:
    """Measure reading and decoding a file to float32 weights."""
    path = bench.model
    calls: dict[str, Call] = {OURS: lambda: decode_model(read_model(path)[0], bench.engine)}
    ours, _ = split_ours(alternate(calls, bench.sizes.pace), 1e3)
    return Figure(f"read and decode {path.name}", "ms", ours)


def measure_codebook(bench: Bench) -> Figure:
    """Measure the drawing of normals: ours are the same bits everywhere, theirs are not."""
    bits, size = CODEBOOK_BITS, bench.settings.block_size
    rows = np.arange(1 << bits)
    calls: dict[str, Call] = {OURS: lambda: bench.engine.codebook_rows(0, rows, size)}
    if "torch" in bench.libraries:
        calls["torch.randn"] = lambda: load_peer("torch_coding").codebook(bits, size)
    if "jax" in bench.libraries:
        calls["jax.random.normal"] = load_peer("jax_step").make_normals(1 << bits, size)
    normals = size << bits
    ours, peers = split_ours(alternate(calls, bench.sizes.pace), 1e9 / normals)
    return Figure("codebook, each normal", "ns", ours, peers, note=f"{normals} at once")
