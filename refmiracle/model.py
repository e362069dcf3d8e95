"""Layer 5: a compressed file that can be asked: `Model`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.decoded import Decoded
from refmiracle.engines import ENGINES
from refmiracle.errors import InputError
from refmiracle.fileformat.chain import telling
from refmiracle.fileformat.container import CompressedModel, parse_model
from refmiracle.fileformat.envelope import checksum_of
from refmiracle.fileformat.model import Float32Weights, decode_update, decode_variables, weights_of
from refmiracle.fileformat.shown import to_html
from refmiracle.fileformat.update import CompressedUpdate, parse_update
from refmiracle.given import Channels
from refmiracle.nn.network import Network
from refmiracle.numerics.arrays import read_only, read_only_view
from refmiracle.numerics.whole import described
from refmiracle.training.choosing import GivenSettings, check_choice

if TYPE_CHECKING:
    import refmiracle.run

BYTES_PER_WEIGHT = 4


class Model(Decoded):
    """A compressed network: what it answers, what it weighs, and what its bytes are.

    It never changes, and any number of threads may ask it.  It pickles as the bytes of its file.

    Parameters
    ----------
    data : bytes
        A whole .rmc file.
    engine, network
        See `refmiracle.load`.
    base : Model, optional
        What the file is an update of, if it is one; `refmiracle.load` finds it by its checksum.

    Attributes
    ----------
    data : bytes
        The file.
    engine : str
        The name of the engine that answers.
    network : Network
        Its layers, its input and its classes.
    compressed : CompressedModel or CompressedUpdate
        What the file says, before it is decoded.
    base : Model or None
        What the file is an update of, if it is one.

    Raises
    ------
    InputError
        If the bytes are not exactly one intact file, or are of another network, or an update of
        another base; or there is no engine of that name.

    Examples
    --------
    >>> import numpy as np, refmiracle
    >>> model = refmiracle.load("lenet5-1551")
    >>> model
    Model(lenet5, 1551 bytes, 1112 times smaller, 28x28 images in 10 classes)
    >>> images = np.zeros((3, 28, 28))  # black
    >>> model.predict(images).shape
    (3,)
    """

    data: bytes
    engine: str
    network: Network
    compressed: CompressedModel | CompressedUpdate
    base: Model | None
    _own: Network | None

    def __init__(
        self,
        data: bytes,
        *,
        engine: str = "numba",
        network: Network | None = None,
        base: Model | None = None,
        _parsed: CompressedModel | CompressedUpdate | None = None,
    ) -> None:
        check_choice("engine", engine, tuple(ENGINES))
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InputError(f"{described(data)} is no bytes of a file; refmiracle.load reads one")
        if base is not None and not isinstance(base, Model):
            raise InputError(
                f"base is {described(base)}; expected a Model (refmiracle.load takes names too)"
            )
        if not (network is None or isinstance(network, Network)):
            raise InputError(f"network is {described(network)}; expected a Network")
        data = bytes(data)
        compressed = _parsed or read_file(data, network, base)
        found = compressed.layout.network
        if network is not None and found != network:
            raise InputError(f"the file is of the network {found.name}, not of {network.name}")
        vars(self).update(
            _own=network, compressed=compressed, data=data, engine=engine, network=found, base=base
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Flat: a chain may be longer than Python's stack.
        return _from_pickle, tuple((m.data, m.engine, m._own) for m in self._from_the_root())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        return (self.chain, self.network) == (other.chain, other.network)

    def __hash__(self) -> int:
        return hash(self.chain)

    def __repr__(self) -> str:
        channels, height, width = self.network.input
        colours = "" if channels == 1 else f"x{channels}"
        size = f"{self.nbytes} bytes, {self.ratio:.0f} times smaller"
        if self.base is not None:
            size = f"an update of {self.nbytes} bytes to {' + '.join(map(str, self._base_sizes()))}"
        return (
            f"Model({self.network.name}, {size},"
            f" {height}x{width}{colours} images in {self.classes} classes)"
        )

    def _base_sizes(self) -> list[int]:
        return [len(data) for data in self.chain[:-1]]

    def _repr_html_(self) -> str:
        return to_html(self.compressed, repr(self))

    @property
    def nbytes(self) -> int:
        """The size of the whole file, header and checksum included, in bytes.

        Of an update it is its own size: what is sent to those who have its base.
        """
        return len(self.data)

    @property
    def ratio(self) -> float:
        """How many times the file, an update without its base, is smaller than float32 weights."""
        return self.network.count() * BYTES_PER_WEIGHT / len(self.data)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The files that this one needs, itself the last: a model, and the updates behind it."""
        return tuple(model.data for model in self._from_the_root())

    def _from_the_root(self) -> list[Model]:
        """Return the models that this one builds on, itself the last.

        They are walked, not called one by the other: a chain may be longer than Python's stack.
        """
        found = [self]
        while (base := found[-1].base) is not None:
            found.append(base)
        return found[::-1]

    @cached_property
    def _root_rho(self) -> NDArray[np.float16]:
        root = self._from_the_root()[0].compressed
        assert isinstance(root, CompressedModel)
        return read_only_view(root.rho)

    @cached_property
    def _variables(self) -> NDArray[np.float32]:
        # From the last file before it that was asked for: what is between is not kept, so that a
        # chain takes no more memory than two of its files.
        chain = self._from_the_root()
        done = [n for n, model in enumerate(chain) if "_variables" in vars(model)]
        first = done[-1] if done else 0
        variables = vars(chain[first]).get("_variables")
        for model in chain[first + 1 :] if done else chain:
            if isinstance(model.compressed, CompressedModel):
                variables = decode_variables(model.compressed, model._engine)
            else:
                assert variables is not None
                rho = self._root_rho
                variables = decode_update(model.compressed, rho, variables, model._engine)
        assert variables is not None
        return read_only(variables)

    @cached_property
    def _weights(self) -> Float32Weights:
        weights = weights_of(self.compressed.layout, self._variables)
        return {name: read_only(array) for name, array in weights.items()}

    @property
    def weights(self) -> Mapping[str, NDArray[np.float32]]:
        """The weights by tensor name (``conv1.weight``), read-only; the same bits everywhere.

        Kernels are (height, width, in, out), matrices (in, out), biases (out,).

        Raises
        ------
        InputError
            If the engine cannot be loaded.
        """
        return MappingProxyType(self._weights)

    def apply(self, update: str | os.PathLike[str] | bytes | bytearray | memoryview) -> Model:
        """Return what an update makes of this model, which stays what it is.

        Parameters
        ----------
        update : str, path-like or bytes
            Where the file of the update is; or, as a str, its name, where refmiracle carries it
            (``lenet5-1551-turned-51``); or what stands in it.

        Returns
        -------
        Model
            Its `base` is this one, its `data` the update alone.

        Raises
        ------
        InputError
            If it cannot be read, is no intact update, or one of another base; the message says
            which checksum is wanted.

        Examples
        --------
        >>> import numpy as np, refmiracle
        >>> from refmiracle.layers import Dense, Flatten
        >>> images, labels = np.zeros((40, 4, 4)), np.arange(40) % 2
        >>> short = dict(steps=6, groups=2, group_steps=4, batch_size=10, progress=False)
        >>> model = refmiracle.fit(images, labels, network=[Flatten(), Dense(2)], **short).model
        >>> update = model.update(images, labels, nbytes=30, **short).model.data
        >>> model.apply(update).base == model
        True
        """
        from refmiracle import loading  # noqa: PLC0415 (it makes models)

        name, data = loading.read_source(update, "an update")
        with telling(name):
            parsed = read_file(data, self._own, self)
        return Model(data, engine=self.engine, network=self._own, base=self, _parsed=parsed)

    def update(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        *,
        preset: str | None = None,
        validation: int | tuple[ArrayLike, ArrayLike] | None = None,
        out: str | os.PathLike[str] | None = None,
        resume: bool = False,
        channels: Channels = "last",
        progress: bool = True,
        steps_per_point: int | None = None,
        **settings: Unpack[GivenSettings],
    ) -> refmiracle.run.Run:
        """Train on from this model on images that it was not made for, and send what changed.

        Parameters
        ----------
        images, labels, preset, validation, out, resume, channels, progress
            See `refmiracle.fit`.  A preset is far shorter than of a model, and `out` gets
            update.rmc.
        steps_per_point : int, optional
            See `refmiracle.fit`; 500 by default.
        **settings
            ``nbytes``: how many bytes the file has at most, header and checksum included; 140, an
            SMS, where neither it nor ``block_size`` is given.  ``tensors``: those that may change,
            by name or by that of their layer; all by default.  And what `refmiracle.fit` takes but
            hash factors, which are this model's; so is the engine by default.

        Returns
        -------
        Run
            Its `model` is the updated one, whose `base` is this one.

        Raises
        ------
        InputError
            If images, labels or a setting are not as said, no file has so few bytes (the message
            says the least), or `out` holds a run that is not to be resumed, or another one.
        CheckError
            If the training diverges.

        Examples
        --------
        >>> import numpy as np, refmiracle
        >>> from refmiracle.layers import Dense, Flatten
        >>> images, labels = np.zeros((40, 4, 4)), np.arange(40) % 2
        >>> short = dict(steps=6, groups=2, group_steps=4, batch_size=10, progress=False)
        >>> model = refmiracle.fit(images, labels, network=[Flatten(), Dense(2)], **short).model
        >>> run = model.update(images, 1 - labels, nbytes=30, tensors=["dense1.bias"], **short)
        >>> run.model.nbytes <= 30, run.summary["base_validation_error"]
        (True, 0.5)
        """
        from refmiracle import fitting  # noqa: PLC0415 (it makes models: without an update, unused)

        return fitting.fit_update(
            self,
            images,
            labels,
            preset,
            validation,
            out,
            resume,
            channels,
            progress,
            steps_per_point,
            settings,
        )


def read_file(
    data: bytes, network: Network | None, base: Model | None
) -> CompressedModel | CompressedUpdate:
    """Return what the file of a model says, or of an update of a base.

    Raises
    ------
    InputError
        If it is damaged, of another kind, or an update of another base.
    """
    if base is None:
        return parse_model(data, network)
    return parse_update(data, base.compressed.layout, checksum_of(base.data))


def _from_pickle(*chain: tuple[bytes, str, Network | None]) -> Model:
    model = None
    for data, engine, network in chain:
        model = Model(data, engine=engine, network=network, base=model)
    assert model is not None
    return model
