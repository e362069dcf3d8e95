"""Layer 5: a compressed file that can be asked: `Model`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.codec.container import CompressedModel, parse_model
from refmiracle.codec.envelope import checksum_of
from refmiracle.codec.model import Float32Weights, decode_update, decode_variables, weights_of
from refmiracle.codec.shown import to_html
from refmiracle.codec.update import CompressedUpdate, parse_update
from refmiracle.engines import ENGINES, get_engine
from refmiracle.engines.contract import Array, Engine
from refmiracle.errors import InputError
from refmiracle.exports.formats import exported
from refmiracle.files import as_path, write_atomically
from refmiracle.given import Channels, as_labels, as_pixels
from refmiracle.nn import evaluation
from refmiracle.nn.network import Network
from refmiracle.numerics.arrays import read_only
from refmiracle.numerics.frozen import Frozen
from refmiracle.numerics.whole import described
from refmiracle.training.settings import check_choice

BYTES_PER_WEIGHT = 4


class Model(Frozen):
    """A compressed network: what it answers, what it weighs, and what its bytes are.

    It never changes, and any number of threads may ask it.  It pickles as the bytes of its file.

    Parameters
    ----------
    data : bytes
        A whole .rmc file.
    engine, network
        See `refmiracle.load`.

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
        If the bytes are not exactly one intact file, or are of another network; or there is no
        engine of that name.

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
        _parsed: CompressedModel | None = None,
    ) -> None:
        check_choice("engine", engine, tuple(ENGINES))
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InputError(f"{described(data)} is no bytes of a file; refmiracle.load reads one")
        data = bytes(data)
        if base is None:
            compressed: CompressedModel | CompressedUpdate = _parsed or parse_model(data, network)
        else:
            compressed = parse_update(data, base.compressed.layout, checksum_of(base.data))
        found = compressed.layout.network
        if network is not None and found != network:
            raise InputError(f"the file is of the network {found.name}, not of {network.name}")
        vars(self).update(
            _own=network, compressed=compressed, data=data, engine=engine, network=found, base=base
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_pickle, (self.data, self.engine, self._own, self.base)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        return (self.chain, self.network) == (other.chain, other.network)

    def __hash__(self) -> int:
        return hash(self.chain)

    def __repr__(self) -> str:
        channels, height, width = self.network.input
        colours = "" if channels == 1 else f"x{channels}"
        return (
            f"Model({self.network.name}, {self.nbytes} bytes, {self.ratio:.0f} times smaller,"
            f" {height}x{width}{colours} images in {self.classes} classes)"
        )

    def _repr_html_(self) -> str | None:
        # An update has no table of fields: notebooks show its repr.
        if isinstance(self.compressed, CompressedUpdate):
            return None
        return to_html(self.compressed, repr(self))

    @property
    def nbytes(self) -> int:
        """The size of the whole file, header and checksum included, in bytes."""
        return len(self.data)

    @property
    def ratio(self) -> float:
        """How many times the file is smaller than its weights as float32."""
        return self.network.count() * BYTES_PER_WEIGHT / len(self.data)

    @property
    def classes(self) -> int:
        """How many classes the network tells apart; labels are 0 to one less."""
        return self.network.classes

    @cached_property
    def _engine(self) -> Engine:
        return get_engine(self.engine)

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The files that this one needs, itself the last: a model, and the updates behind it."""
        return (self.data,) if self.base is None else (*self.base.chain, self.data)

    @cached_property
    def _root_rho(self) -> NDArray[np.float16]:
        if isinstance(self.compressed, CompressedModel):
            return self.compressed.rho
        assert self.base is not None
        return self.base._root_rho

    @cached_property
    def _variables(self) -> NDArray[np.float32]:
        if isinstance(self.compressed, CompressedModel):
            return decode_variables(self.compressed, self._engine)
        assert self.base is not None
        return decode_update(self.compressed, self._root_rho, self.base._variables, self._engine)

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

    def logits(self, images: ArrayLike, *, channels: Channels = "last") -> Array:
        """Return the network's last layer: one number for each class.

        Parameters
        ----------
        images : array_like
            Bytes, or floats in [0, 1], of which each is rounded to the nearest of 256 grey levels.
            Of shape (images, height, width), (images, height, width, channels), or flat, (images,
            values); one image alone needs no axis of images.
        channels : str
            ``last``, as Keras and Pillow have them, or ``first``, as PyTorch has them.

        Returns
        -------
        ndarray, shape (images, classes)
            In the engine's precision; of one image alone (classes,).

        Raises
        ------
        InputError
            If the images are anything else; the message names the shape that is wanted.

        Examples
        --------
        >>> import numpy as np, refmiracle
        >>> model = refmiracle.load("lenet5-1551")
        >>> model.logits(np.zeros((3, 784), np.uint8)).shape
        (3, 10)
        """
        pixels, alone = as_pixels(images, self.network.input, channels)
        scores = evaluation.logits(self.network, self._engine, self._weights, pixels)
        return scores[:, 0] if alone else np.ascontiguousarray(scores.T)

    def predict(self, images: ArrayLike, *, channels: Channels = "last") -> NDArray[np.int64]:
        """Return the class of each image: that of the largest logit.

        Parameters
        ----------
        images, channels
            See `logits`.

        Returns
        -------
        ndarray of int64, shape (images,)
            Of one image alone an array without axes, which serves as a number.

        Raises
        ------
        InputError
            If the images are not what the network takes, or a logit is not finite.

        Examples
        --------
        >>> import numpy as np, refmiracle
        >>> model = refmiracle.load("lenet5-1551")
        >>> int(model.predict(np.zeros((28, 28)))) in range(10)
        True
        """
        return np.asarray(self._finite(images, channels).argmax(axis=-1))

    def predict_proba(
        self, images: ArrayLike, *, channels: Channels = "last"
    ) -> NDArray[np.float64]:
        """Return how probable the network holds each class to be: the softmax of its logits.

        Parameters
        ----------
        images, channels
            See `logits`.

        Returns
        -------
        ndarray of float64, shape (images, classes)
            In [0, 1]; each row sums to 1.  Of one image alone (classes,).

        Raises
        ------
        InputError
            If the images are not what the network takes, or a logit is not finite.

        Examples
        --------
        >>> import numpy as np, refmiracle
        >>> model = refmiracle.load("lenet5-1551")
        >>> float(model.predict_proba(np.zeros((28, 28))).sum().round(6))
        1.0
        """
        scores = self._finite(images, channels).astype(np.float64)
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))

    def _finite(self, images: ArrayLike, channels: Channels) -> Array:
        scores = self.logits(images, channels=channels)
        evaluation.classes(scores.T)  # an argmax of NaN would name a class all the same
        return scores

    def error(self, images: ArrayLike, labels: ArrayLike, *, channels: Channels = "last") -> float:
        """Return the share of images that the network takes for another class, in [0, 1].

        Parameters
        ----------
        images, channels
            See `logits`.
        labels : array_like of int, shape (images,)
            0 to classes - 1.

        Raises
        ------
        InputError
            If the images are not what the network takes, there is none, there is not one label for
            each, a label is none, or a logit is not finite.

        Examples
        --------
        >>> import numpy as np, refmiracle
        >>> model = refmiracle.load("lenet5-1551")
        >>> images = np.zeros((2, 28, 28), np.uint8)
        >>> model.error(images, model.predict(images))
        0.0
        """
        pixels, _ = as_pixels(images, self.network.input, channels)
        checked = as_labels(labels, len(pixels), self.classes)
        return evaluation.error_rate(self.network, self._engine, self._weights, pixels, checked)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        InputError
            If it cannot be written; a file that stood there is still there.

        Examples
        --------
        >>> import refmiracle
        >>> model = refmiracle.load("lenet5-891")
        >>> model.save("mine.rmc")
        >>> refmiracle.load("mine.rmc") == model
        True
        """
        write_atomically(as_path("path", path), self.data)

    def exported(self, form: str) -> bytes:
        """Return the network as a file of another format, one of `exports.formats.FORMATS`."""
        return exported(form, self.network, self._weights, self.data)

    def to_npz(self, path: str | os.PathLike[str]) -> None:
        """Write the weights as an .npz file, one array for each tensor.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        InputError
            If it cannot be written.

        Examples
        --------
        >>> import numpy as np, refmiracle
        >>> refmiracle.load("lenet5-891").to_npz("weights.npz")
        >>> np.load("weights.npz")["dense2.weight"].shape
        (500, 10)
        """
        write_atomically(as_path("path", path), self.exported("npz"))

    def to_safetensors(self, path: str | os.PathLike[str]) -> None:
        """Write the weights as a .safetensors file; needs the extra ``safetensors``.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        InputError
            If safetensors cannot be loaded, or the file cannot be written.

        Examples
        --------
        >>> import refmiracle
        >>> from safetensors.numpy import load_file
        >>> refmiracle.load("lenet5-891").to_safetensors("weights.safetensors")
        >>> load_file("weights.safetensors")["dense2.weight"].shape
        (500, 10)
        """
        write_atomically(as_path("path", path), self.exported("safetensors"))

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the network as an ONNX file; needs the extra ``onnx``.

        It takes floats in [0, 1], of shape (images, channels, height, width), and gives logits.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        InputError
            If onnx cannot be loaded, a layer has no export, or the file cannot be written.

        Examples
        --------
        >>> import onnx, refmiracle
        >>> refmiracle.load("lenet5-891").to_onnx("network.onnx")
        >>> [given.name for given in onnx.load("network.onnx").graph.input]
        ['images']
        """
        write_atomically(as_path("path", path), self.exported("onnx"))

    def to_torch(self, path: str | os.PathLike[str]) -> None:
        """Write the weights as a PyTorch state dict; needs the extra ``torch``.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        InputError
            If torch cannot be loaded, a layer has no export, or the file cannot be written.

        Examples
        --------
        >>> import refmiracle, torch
        >>> refmiracle.load("lenet5-891").to_torch("weights.pt")
        >>> tuple(torch.load("weights.pt", weights_only=True)["dense2.weight"].shape)
        (10, 500)
        """
        write_atomically(as_path("path", path), self.exported("torch"))


def _from_pickle(data: bytes, engine: str, network: Network | None, base: Model | None) -> Model:
    return Model(data, engine=engine, network=network, base=base)
