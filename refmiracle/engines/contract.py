"""What an engine is: pure functions on arrays, the same for every engine and backend.

Conventions.  A block array has shape (blocks, block_size); unused places of a short last block
hold phi = -inf, which gives them no budget and no gradient.  Activations are
(channels, height, width, batch) or (features, batch): samples are columns, the batch is the
last axis, as in y = W^T x + b.  Kernels are (height, width, in / groups, out), dense weights
(in, out).
Information is in nats unless a name says bits.  P lies around nu, or around 0 where there is none.

Arrays may be of any kind: `engines.operations` says what each function takes, makes it plain, and
refuses the rest, for both engines.

Any number of threads may call an engine at a time.  What it keeps between calls nobody changes,
what a call works in is its own, and what it returns is the caller's; arrays that a function says
it fills or updates must be one call's at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Moments = tuple[tuple[Array, Array], tuple[Array, Array]]
LayerSpec = tuple[Any, ...]
Item = TypeVar("Item")
Result = TypeVar("Result")


class MeanKLBlocks(NamedTuple):
    """The blocks of a posterior by Mean-KL.

    Attributes
    ----------
    tau, phi : ndarray, shape (blocks, block_size)
        The parameters; a step updates them.
    rho : ndarray, shape (blocks, block_size)
        Scales of P.
    tensor_of_place : ndarray of int64, shape (blocks, block_size)
        Number of the tensor that each place belongs to.
    budget : float
        C, nats in each block.
    nu : ndarray, shape (blocks, block_size), optional
        What P lies around; 0 by default.
    """

    tau: Array
    phi: Array
    rho: Array
    tensor_of_place: NDArray[np.int64]
    budget: float
    nu: Array | None = None


class MeanVarBlocks(NamedTuple):
    """The blocks of a posterior by Mean-Var.

    Attributes
    ----------
    mu, log_sigma : ndarray, shape (blocks, block_size)
        The parameters; a step updates them.
    rho, tensor_of_place, nu
        As in `MeanKLBlocks`.
    beta : ndarray, shape (blocks,)
        The penalty of each block, per nat.
    used : ndarray of bool, shape (blocks, block_size)
        False where a short last block has no variables.
    """

    mu: Array
    log_sigma: Array
    rho: Array
    tensor_of_place: NDArray[np.int64]
    beta: Array
    used: NDArray[np.bool_]
    nu: Array | None = None


class Adam(NamedTuple):
    """One step of Adam on the two parameters of blocks.

    Attributes
    ----------
    moments : pairs of ndarray, shape (blocks, block_size)
        (m, v) of the first and of the second; updated.
    step : int
        1 for the first.
    rates : pair of float
        For the first and for the second.
    """

    moments: Moments
    step: int
    rates: tuple[float, float]


class NetworkPass(Protocol):
    """Whole passes of a network; what they compute is what its layers compose to.

    `units` is flat float32: for each layer with weights its units (kernel or matrix with the
    last axis outputs / copies), then its biases (outputs); for each group normalisation its gains
    and its biases.  Output o of a layer is sign_o * unit_(o // copies) + bias_o, so what outputs
    share is computed once; `signs` has the signs of each layer with units, shape (outputs,).
    """

    def loss_and_grads(
        self,
        units: Array,
        signs: Sequence[Array],
        pixels: NDArray[np.uint8],
        labels: NDArray[np.int64],
        out: Array,
    ) -> float:
        """Return the mean loss in nats; fill `out` with its gradient, laid out as `units`."""

    def logits(self, units: Array, signs: Sequence[Array], pixels: NDArray[np.uint8]) -> Array:
        """Return the logits of each image, shape (classes, images)."""


class Engine(Protocol):
    """The contract; `refmiracle.engines.numpy_engine` is the text that defines each function."""

    name: str
    dtype: np.dtype[Any]

    # bits and numerics
    def philox4x32(self, counter: ArrayLike, key: ArrayLike) -> NDArray[np.uint32]: ...
    def normal_quantile(self, p: ArrayLike) -> NDArray[np.float64]: ...
    def normals(self, seed: int, stream: int, rows: ArrayLike, count: int) -> Array: ...
    def log_s(self, x: ArrayLike) -> Array: ...
    def ds_dx(self, x: ArrayLike) -> Array: ...
    def gaussian_kl(self, delta: Array, log_s: Array) -> NDArray[np.float64]: ...

    # posterior
    def mean_kl(self, tau: Array, phi: Array, budget: float) -> tuple[Array, Array]: ...
    def mean_kl_forward(
        self,
        tau: Array,
        phi: Array,
        rho: Array,
        budget: float,
        eps: Array,
        nu: Array | None = None,
    ) -> Array: ...
    def mean_kl_backward(
        self, tau: Array, phi: Array, rho: Array, budget: float, eps: Array, g: Array
    ) -> tuple[Array, Array, Array]: ...
    def mean_var_forward(self, mu: Array, log_sigma: Array, eps: Array) -> Array: ...
    def mean_var_backward(
        self,
        mu: Array,
        log_sigma: Array,
        rho: Array,
        beta: Array,
        eps: Array,
        g: Array,
        nu: Array | None = None,
    ) -> tuple[Array, Array, Array]: ...
    def expand_hash(self, variables: Array, places: Array, signs: Array) -> Array: ...
    def expand_hash_backward(self, g: Array, places: Array, signs: Array, count: int) -> Array: ...

    # the posterior's part of a training step; `w`, `eps` and `dlog_rho` are filled, `mirrored` is
    # dL/dw at the sample that -eps draws
    def mean_kl_sample(
        self, blocks: MeanKLBlocks, seed: int, row: int, w: Array, eps: Array
    ) -> None: ...
    def mean_kl_step(
        self,
        blocks: MeanKLBlocks,
        eps: Array,
        g: Array,
        adam: Adam,
        dlog_rho: Array,
        mirrored: Array | None = None,
    ) -> None: ...
    def mean_var_sample(
        self, blocks: MeanVarBlocks, seed: int, row: int, w: Array, eps: Array
    ) -> None: ...
    def mean_var_step(
        self,
        blocks: MeanVarBlocks,
        eps: Array,
        g: Array,
        adam: Adam,
        dlog_rho: Array,
        mirrored: Array | None = None,
    ) -> None: ...

    # network
    def images(self, pixels: NDArray[np.uint8]) -> Array: ...
    def conv2d(
        self, x: Array, w: Array, b: Array, stride: int = 1, padding: int = 0, groups: int = 1
    ) -> Array: ...
    def conv2d_backward(
        self,
        x: Array,
        w: Array,
        dy: Array,
        need_dx: bool = True,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
    ) -> tuple[Array | None, Array, Array]: ...
    def maxpool2d(self, x: Array) -> tuple[Array, NDArray[np.uint8]]: ...
    def maxpool2d_backward(
        self, dy: Array, winner: NDArray[np.uint8], shape: tuple[int, ...]
    ) -> Array: ...
    def mean_pool2d(self, x: Array, height: int, width: int) -> Array: ...
    def mean_pool2d_backward(
        self, dy: Array, height: int, width: int, shape: tuple[int, ...]
    ) -> Array: ...
    def group_norm(self, x: Array, gain: Array, bias: Array, groups: int) -> Array: ...
    def group_norm_backward(
        self, x: Array, gain: Array, groups: int, dy: Array
    ) -> tuple[Array, Array, Array]: ...
    def relu(self, x: Array) -> Array: ...
    def relu_backward(self, y: Array, dy: Array) -> Array: ...
    def dense(self, x: Array, w: Array, b: Array) -> Array: ...
    def dense_backward(
        self, x: Array, w: Array, dy: Array, need_dx: bool = True
    ) -> tuple[Array | None, Array, Array]: ...
    def softmax_cross_entropy(
        self, logits: Array, labels: NDArray[np.integer]
    ) -> tuple[Array, Array]: ...
    def adam_step(
        self, theta: Array, g: Array, m: Array, v: Array, step: int, rate: float
    ) -> tuple[Array, Array, Array]: ...

    def network_pass(
        self,
        layers: tuple[LayerSpec, ...],
        copies: tuple[int, ...],
        image: tuple[int, int, int],
    ) -> NetworkPass | None:
        """Return passes of a network that outdo the composition of its layers, if there are.

        `layers` are the specs that those of `nn.layers` tell, `copies` how many outputs share a
        unit in each convolution and dense layer, in order, those of residuals too (body, then
        shortcut), `image` the channels, rows and columns of an image.

        Raises
        ------
        InputError
            If copies do not divide the outputs.
        """

    # relative entropy coding
    def log_weights(self, candidates: Array, delta: Array, log_s: Array) -> Array: ...
    def select_indices(
        self,
        seed: int,
        bits: int,
        blocks: ArrayLike,
        delta: Array,
        log_s: Array,
        best: bool = False,
    ) -> NDArray[np.int64]: ...
    def codebook_rows(
        self, seed: int, indices: ArrayLike, dimension: int
    ) -> NDArray[np.float32]: ...

    # the other codes of docs/CODES.md: of blocks, shape (R, block_size), and of variables, flat
    def ordered_indices(
        self, seed: int, bits: int, blocks: ArrayLike, delta: Array, log_s: Array
    ) -> NDArray[np.int64]: ...
    def poisson_indices(
        self, seed: int, blocks: ArrayLike, delta: Array, log_s: Array
    ) -> NDArray[np.int64]: ...
    def partition_messages(
        self, seed: int, bits: int, blocks: ArrayLike, delta: Array, log_s: Array
    ) -> NDArray[np.int64]: ...
    def partition_rows(
        self, seed: int, bits: int, blocks: ArrayLike, messages: ArrayLike, dimension: int
    ) -> NDArray[np.float32]: ...
    def variable_messages(
        self,
        code: str,
        seed: int,
        rows: ArrayLike,
        delta: Array,
        log_s: Array,
        oversampling: int = 0,
    ) -> NDArray[np.int64]: ...
    def variable_samples(
        self, code: str, seed: int, rows: ArrayLike, messages: ArrayLike
    ) -> NDArray[np.float32]: ...

    # how the engine spreads work; the results never depend on the number of threads
    def shards(self, batch: int) -> list[slice]: ...
    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Sequence[Result]: ...
