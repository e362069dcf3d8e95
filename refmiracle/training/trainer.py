"""The variational training of the open blocks, and the encoding of blocks one group at a time.

Progressive encoding as in MIRACLE (arXiv 1810.00440, algorithm 2): once a block is encoded its
weights are fixed, and the blocks that are left are trained on around them.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.codes.table import find_code
from refmiracle.engines import get_engine
from refmiracle.engines.contract import Array
from refmiracle.errors import InputError, named
from refmiracle.fileformat.chain import Base, decode_chain
from refmiracle.fileformat.container import CompressedModel
from refmiracle.fileformat.payload import UNUSED, payload_of
from refmiracle.fileformat.update import CompressedUpdate
from refmiracle.nn.contract import Weights
from refmiracle.nn.evaluation import classes
from refmiracle.numerics.philox import Stream, stream_permutation
from refmiracle.posterior.blocks import find_places, to_weights
from refmiracle.posterior.parameterization import Parameterization
from refmiracle.posterior.parameterizations import find_parameterization
from refmiracle.posterior.scales import Halves, Levels, Scales
from refmiracle.posterior.sharing import VariablePass
from refmiracle.training.batches import Batches
from refmiracle.training.data import Split, check_split
from refmiracle.training.one_thread import by_one_thread
from refmiracle.training.settings import LONGEST, Settings
from refmiracle.training.state import OPEN, STILL_TRAINING, State, check_state

VALIDATION_ROWS = LONGEST + 1


class Trainer:
    """A run's fixed parts (settings, tables, engine) and its state, which is its own from then on.

    Several may train at a time, each in a thread of its own.

    Parameters
    ----------
    settings : Settings
    train : Split
        The images to train on, without those kept for validation.
    state : State, optional
        Where to go on; a fresh start by default.
    share : bool
        Whether to compute units that share their coded variables once (`posterior.sharing`).
        Either way is the same up to rounding; without is for comparison.

    Raises
    ------
    InputError
        If images or labels are not of the shapes and types of a `Split`; of most methods, if
        another thread is at work within one.
    """

    def __init__(
        self, settings: Settings, train: Split, state: State | None = None, share: bool = True
    ) -> None:
        self.settings = settings
        self.at_work = threading.RLock()
        self.engine, self.code = get_engine(settings.engine), find_code(settings.code)
        self.layout = settings.layout()
        self.places = find_places(self.layout)
        self.base = self._base()
        self.scale_kind = self._scale_kind()
        self.flat = self._kept_variables()
        self.parameterization = self._parameterization()
        order = stream_permutation(settings.seed, Stream.ORDER, 0, self.layout.blocks())
        self.groups = np.array_split(order, settings.groups)
        fresh = self._initial()
        self.state = fresh if state is None else check_state(state, fresh)
        if self.state.step > (most := self._most_steps()):
            raise InputError(f"the checkpoint is of step {self.state.step}; its run has {most}")
        for name, value in self.parameterization.state().items():
            value[:] = self.state.extra[name]
            self.state.extra[name] = value
        self.variable_pass = VariablePass(self.engine, self.layout, self.places, share)
        self.fixed = np.zeros(self.places.tensor_of_place.shape, dtype=np.float32)
        sent = np.flatnonzero(self._sent())
        self.fixed[sent] = self._rows(sent)
        self.w, self.flat_g = self._blocks_of(self.flat), np.empty_like(self.flat)
        self.g, self.eps = self._blocks_of(self.flat_g), np.empty_like(self.w)
        self.mirrored = np.empty_like(self.flat_g) if settings.antithetic else None
        self.dlog_rho = np.empty(len(self.layout.factors))
        self.batches = Batches(settings, check_split(train, self.layout.network))

    def _base(self) -> Base | None:
        settings = self.settings
        return decode_chain(settings.base, self.engine, settings.network) if settings.base else None

    def _scale_kind(self) -> Scales:
        coded = self.layout.coded
        return Halves() if self.base is None or coded is None else Levels(self.base.rho, coded)

    def _kept_variables(self) -> Array:
        """Return the flat array of all variables, each what it is in the base, or 0."""
        flat = np.zeros(self.places.size(), dtype=self.engine.dtype)
        if self.base is not None:
            flat[self.places.place_of_variable] = self.base.variables
        return flat

    def _blocks_of(self, flat: Array) -> Array:
        """Return the part of a flat array that is in the blocks, shape (blocks, block_size)."""
        tensor = self.places.tensor_of_place
        return flat[: tensor.size].reshape(tensor.shape)

    def _parameterization(self) -> Parameterization:
        settings, budget = self.settings, self.settings.bits_per_block * math.log(2)
        nu = None if self.base is None else self._blocks_of(self.flat).copy()
        kind = find_parameterization(settings.parameterization)
        own: dict[str, Any] = {name: settings.own[name] for name in kind.own_settings()}
        return kind(self.engine, self.places, budget, nu, **own)

    def _initial(self) -> State:
        settings, tensors = self.settings, self.layout.network.tensors()
        log_rho = np.log([settings.rho_gain / math.sqrt(t.fan_in) for t in tensors])
        rho = self._rho(log_rho)
        parameters = self.parameterization.initial(settings.seed, settings.spread, rho)
        parameters["log_rho"] = log_rho.astype(self.engine.dtype)
        per_block = self.code.messages_per_block(settings.block_size)
        return State(
            step=0,
            seconds=0.0,
            parameters=parameters,
            moments={n: (np.zeros_like(p), np.zeros_like(p)) for n, p in parameters.items()},
            messages=np.full((self.layout.blocks(), per_block), OPEN, dtype=np.int64),
            extra={n: v.copy() for n, v in self.parameterization.state().items()},
        )

    def _rows(self, blocks: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the whitened samples that the messages of encoded blocks name."""
        c, messages = self.settings, self.state.messages[blocks]
        return self.code.decode_blocks(
            self.engine, c.seed, c.bits_per_block, blocks, messages, c.block_size
        )

    def _sent(self) -> NDArray[np.bool_]:
        """Return which blocks are encoded, shape (blocks,)."""
        return self.state.messages[:, 0] != OPEN

    def _used(self) -> NDArray[np.bool_]:
        """Return which messages of each block stand for something, shaped as those of the state."""
        return self.places.used[:, : self.state.messages.shape[1]]

    def scales(self) -> NDArray[Any]:
        """Return the scales rho as they will be sent: training uses these."""
        return self.scale_kind.quantise(self.state.parameters["log_rho"])

    def rho(self) -> Array:
        """Return the scale of each place, shape (blocks, block_size)."""
        return self._rho(self.state.parameters["log_rho"])

    def _rho(self, log_rho: ArrayLike) -> Array:
        scales = self.scale_kind.quantise(log_rho)
        return self.scale_kind.values(scales).astype(self.engine.dtype)[self.places.tensor_of_place]

    @by_one_thread
    def sample(self, rho: Array, row: int) -> tuple[Array, Array]:
        """Return all variables, encoded blocks as sent, and the noise that drew the others.

        Returns
        -------
        variables : ndarray
            Flat as `Places` says: the blocks, and behind them what an update does not code.
        eps : ndarray, shape (blocks, block_size)
        """
        flat, eps = self.flat.copy(), np.empty_like(self.eps)
        self._draw(rho, row, self._blocks_of(flat), eps)
        return flat, eps

    def _draw(self, rho: Array, row: int, w: Array, eps: Array) -> None:
        q, encoded = self.parameterization, self._sent()
        q.sample(self.state.parameters, rho, self.settings.seed, row, w, eps)
        if encoded.any():
            np.multiply(rho, self.fixed, out=w, where=encoded[:, None])
            if q.nu is not None:
                np.add(w, q.nu, out=w, where=encoded[:, None])

    def weights(self, variables: Array) -> Weights:
        """Return the network's weights from the variables."""
        return to_weights(self.layout.network, self.engine, self.places, variables)

    def training_steps(self) -> int:
        """Return the steps before the first block is encoded, as far as is known."""
        if self.state.trained == STILL_TRAINING:
            return max(self.settings.steps, self.state.step)
        return self.state.trained

    def total_steps(self) -> int:
        """Return all steps, as far as is known."""
        return self.training_steps() + self.settings.encoding_steps()

    def _most_steps(self) -> int:
        most = 2 * self.settings.steps
        if self.state.trained != STILL_TRAINING:
            most = min(most, self.state.trained)
        return most + self.settings.encoding_steps()

    def phase(self) -> str:
        """Return ``train`` or ``encode``."""
        return "train" if self.state.trained == STILL_TRAINING else "encode"

    def rate(self, step: int) -> float:
        """Return Adam's rate at a step: two half cosines, training and encoding."""
        c = self.settings
        if step < c.steps:
            high, low, done = c.rate, c.encoding_rate, step / c.steps
        else:
            high, low = c.encoding_rate, c.final_rate
            done = max(0, step - self.training_steps()) / max(1, c.encoding_steps())
        return low + (high - low) * 0.5 * (1.0 + math.cos(math.pi * done))

    @by_one_thread
    def train_step(self) -> float:
        """Take one step of Adam on the open blocks, and on rho as long as it may change."""
        step, parameters, moments = self.state.step, self.state.parameters, self.state.moments
        rho, rate = self.rho(), self.rate(step)
        rates = rate, rate * self.settings.variance_rate
        self._draw(rho, step, self.w, self.eps)
        loss, *mirrored = self._loss_and_grads(rho, *self.batches.batch(step))
        late = self.phase() == "encode"
        scale_rate = self.settings.late_scale_rate if late else self.settings.scale_rate
        through_sent: Array | float = 0.0
        if late and scale_rate:
            through_sent = np.mean([self._dlog_rho_of_sent(g) for g in (self.g, *mirrored)], axis=0)
        self.parameterization.update(
            parameters, moments, rho, self.eps, self.g, step + 1, rates, self.dlog_rho, *mirrored
        )
        if scale_rate or not late:
            log_rho, m, v = self.engine.adam_step(
                parameters["log_rho"],
                self.dlog_rho + through_sent,
                *moments["log_rho"],
                step + 1,
                rate * scale_rate,
            )
            parameters["log_rho"], moments["log_rho"] = log_rho, (m, v)
        self.state.step += 1
        self.state.losses.append(loss)
        self._settle(rho)
        return loss

    def _loss_and_grads(
        self, rho: Array, images: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> tuple[Any, ...]:
        """Return the mean loss in nats, and fill g = dL/dw at the sample that was drawn.

        With `Settings.antithetic` the second half of the batch sees the mirrored sample, and dL/dw
        there comes behind the loss.
        """
        if self.mirrored is None or len(labels) == 1:
            return (self.variable_pass.loss_and_grads(self.flat, images, labels, self.flat_g),)
        open_blocks, mirrored = ~self._sent(), self.flat.copy()
        w = self.parameterization.mirrored(self.state.parameters, rho, self.eps)
        self._blocks_of(mirrored)[open_blocks] = w[open_blocks]
        half = len(labels) // 2

        def loss_of(part: slice, variables: Array, out: Array) -> float:
            weight = 2 * len(labels[part]) / len(labels)  # 1 unless the batch is odd
            loss = self.variable_pass.loss_and_grads(variables, images[part], labels[part], out)
            np.multiply(out, out.dtype.type(weight), out=out)
            return 0.5 * weight * loss

        plain = slice(half), self.flat, self.flat_g
        other = slice(half, None), mirrored, self.mirrored
        loss = sum(self.engine.map(lambda given: loss_of(*given), (plain, other)))
        return loss, self._blocks_of(self.mirrored)

    def _dlog_rho_of_sent(self, g: Array) -> Array:
        """Return dL/dlog rho of each tensor through what is encoded, whose g becomes 0.

        An encoded variable is w = nu + rho z, so dw/dlog rho = w - nu: equation (22) of
        docs/derivations.md.
        """
        sent, nu = self._sent(), self.parameterization.nu
        moved = self.w[sent] if nu is None else self.w[sent] - nu[sent]
        by_place = (g[sent] * moved).ravel()
        g[sent] = 0
        return np.bincount(self.places.tensor_of_place[sent].ravel(), by_place, len(self.dlog_rho))

    def _settle(self, rho: Array) -> None:
        """Let the posterior steer to its budget; end the training where it has settled.

        After `steps` the training goes on until the last block is within its budget, for at most
        as long again.
        """
        state, steps = self.state, self.settings.steps
        encoding = self.phase() == "encode"
        within = self.parameterization.steer(state.parameters, rho, state.step, steps, encoding)
        if not encoding and state.step >= steps and (within or state.step >= 2 * steps):
            state.trained = state.step

    def group_due(self) -> int | None:
        """Return the number of the group to encode before the next step, if one is due."""
        if self.phase() == "train":
            return None
        past = self.state.step - self.state.trained
        if past % self.settings.group_steps:
            return None
        group = past // self.settings.group_steps
        return None if self._sent()[self.groups[group][0]] else group

    def finished(self) -> bool:
        """Return whether all steps are taken and all blocks encoded."""
        encoding = self.phase() == "encode" and self.state.step == self.total_steps()
        return encoding and self.group_due() is None

    @by_one_thread
    def encode_group(self, group: int) -> None:
        """Encode the blocks of a group and fix their weights.

        Most codes send only what is no wider than P: a variance that has drifted above P's, as
        Mean-Var's may, they send as P's.

        Raises
        ------
        InputError
            If the code cannot send a block; the state is what it was.
        """
        c, blocks = self.settings, self.groups[group]
        delta, log_s = self.parameterization.whitened(self.state.parameters, self.rho())
        if not self.code.takes_wider:
            log_s = np.minimum(log_s, 0)
        try:
            messages = self.code.encode_blocks(
                self.engine,
                c.seed,
                c.bits_per_block,
                blocks,
                delta[blocks],
                log_s[blocks],
                c.selection,
            )
        except InputError as e:
            raise InputError(
                f"{named('code')} {c.code} cannot send group {group + 1} of {c.groups}: {e}"
            ) from e
        self.state.messages[blocks] = np.where(self._used()[blocks], messages, UNUSED)
        self.fixed[blocks] = self._rows(blocks)

    @by_one_thread
    def kl_bits(self) -> float:
        """Return KL[Q || P] of all blocks, in bits."""
        delta, log_s = self.parameterization.whitened(self.state.parameters, self.rho())
        return float(self.engine.gaussian_kl(delta, log_s).sum() / math.log(2))

    @by_one_thread
    def validation_error(self, validation: Split) -> float:
        """Return the error of one sample of the posterior, encoded blocks as sent, in [0, 1].

        Raises
        ------
        InputError
            If a logit is not finite.
        """
        w, _ = self.sample(self.rho(), VALIDATION_ROWS + self.state.step)
        predicted = classes(self.variable_pass.logits(w, validation.images))
        return float(np.mean(predicted != validation.labels))

    def encoded(self) -> int:
        """Return the number of encoded blocks."""
        return int(np.count_nonzero(self._sent()))

    @by_one_thread
    def sent_bits(self) -> int:
        """Return the bits sent so far.

        Entropy-coded messages count as long as they are by formula under the theta that is best
        for those sent so far, rounded: what a file of them would hold but for its header and
        less than a byte or two.
        """
        sent = self._sent()
        messages = self.state.messages[sent][self._used()[sent]]
        return payload_of(self.code).sent_bits(messages, self.settings.bits_per_block)

    @by_one_thread
    def compressed(self) -> CompressedModel | CompressedUpdate:
        """Return the compressed model, or update; all blocks must be encoded."""
        layout, settings, scales = self.layout, self.settings, self.scales()
        messages = self.state.messages.copy()
        bits, code = settings.bits_per_block, settings.code
        if self.base is None:
            return CompressedModel(layout, bits, scales, messages, code)
        return CompressedUpdate(self.base.checksum, layout, bits, scales, messages, code)
