"""Layer 5: what stands in files: a model, `load`, and images, `load_images`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from refmiracle.errors import InputError, named
from refmiracle.fileformat.chain import NO_NAME, find_chain, telling
from refmiracle.fileformat.envelope import (
    base_checksum,
    checksum_of,
    is_intact,
    is_update,
    read_bytes,
)
from refmiracle.files import as_path
from refmiracle.model import Model, read_file
from refmiracle.nn.network import Network
from refmiracle.numerics.whole import described, truth, whole_number
from refmiracle.training.choosing import check_choice
from refmiracle.training.data import DataSet, default_folder, load_split

SUFFIX = ".rmc"
# Where a file is, or what stands in it.
Source = str | os.PathLike[str] | bytes | bytearray | memoryview
Base = Source | Model | Sequence[Source | Model]


def load(
    source: Source,
    *,
    engine: str = "numba",
    network: Network | None = None,
    base: Base | None = None,
) -> Model:
    """Return the model that a .rmc file holds.

    Parameters
    ----------
    source : str, path-like or bytes
        Where the file is; or, as a str, its name, where refmiracle carries it (``lenet5-1551``);
        or what stands in it.
    engine : str
        Which engine answers: ``numba``, compiled, in float32, or ``numpy``, the reference, in
        float64.  The weights are the same bits.
    network : Network, optional
        The one that the file must be of; needed where it gives its network a number of its own,
        from 200 on.
    base : Model, str, path-like, bytes or a list of them, optional
        Of an update: the file that it is relative to, and those which that one needs, in any
        order; or a folder, whose .rmc files are looked through for them.  Each is known by its
        checksum.

    Returns
    -------
    Model

    Raises
    ------
    InputError
        If it cannot be read, is not an intact .rmc file, or is of another network; a base is
        missing, or the file is no update; or there is no engine of that name.

    Examples
    --------
    >>> import refmiracle
    >>> model = refmiracle.load("lenet5-891")
    >>> model.nbytes
    891
    """
    if not (network is None or isinstance(network, Network)):
        raise InputError(f"network is {described(network)}; expected a Network")
    name, data = read_source(source, "a .rmc file")
    others = [] if base is None else gathered(base)
    if not others and is_update(data) and is_intact(data):
        raise _without_base(name or NO_NAME, data, base)
    model = None
    for called, file in find_chain(name, data, others):
        with telling(called):
            parsed = read_file(file, network, model)
        model = Model(file, engine=engine, network=network, base=model, _parsed=parsed)
    assert model is not None
    if base is not None and model.base is None:
        raise InputError(f"{name or NO_NAME}: it is a model, no update, so it has no base")
    return model


def _without_base(called: str, data: bytes, base: Base | None) -> InputError:
    """Return what is said of an update where no file is given that its base may be."""
    given = base if isinstance(base, list | tuple) else [base]
    folders = ", ".join(str(one) for one in given if _is_folder(one))
    told = (
        f"there is no {SUFFIX} file in {folders}"
        if folders
        else f"name that one by {named('base')}"
    )
    return InputError(
        f"{called}: it is an update of the file with the checksum {base_checksum(data):08x}; {told}"
    )


def read_source(source: Any, what: str) -> tuple[str, bytes]:
    """Return what a file is called, nothing where its bytes are given, and its bytes.

    Parameters
    ----------
    source : Source
    what : str
        What it is to be, in messages.

    Raises
    ------
    InputError
        If it is neither a path nor bytes, or cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return "", bytes(source)
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"{described(source)} is no path, and no bytes of {what}")
    as_path(f"the path of {what}", source)
    path = find_model(source) if isinstance(source, str) else Path(source)
    if source == path.name and not os.path.exists(path):
        carried = ", ".join(shipped_models())
        raise InputError(f"{path}: there is no such file here; refmiracle carries {carried}")
    return str(path), read_bytes(path)


def gathered(base: Base) -> list[tuple[str, bytes]]:
    """Return names and bytes of the files among which a base is, the intact ones first.

    Raises
    ------
    InputError
        If one cannot be read.
    """
    found = list(_files(base))
    return sorted(found, key=lambda file: not is_intact(file[1]))


def _files(base: Base) -> Iterator[tuple[str, bytes]]:
    if isinstance(base, Model):
        yield from ((f"{checksum_of(data):08x}", data) for data in base.chain)
    elif isinstance(base, list | tuple):
        for one in base:
            yield from _files(one)
    elif _is_folder(base):
        yield from ((str(path), read_bytes(path)) for path in files_of(Path(base)))
    else:
        name, data = read_source(base, "a .rmc file")
        yield name or (f"{checksum_of(data):08x}" if is_intact(data) else ""), data


def _is_folder(given: Any) -> TypeGuard[str | os.PathLike[str]]:
    return isinstance(given, str | os.PathLike) and os.path.isdir(given)


def files_of(place: Path) -> list[Path]:
    """Return the .rmc files of a folder; of a file, itself.

    Raises
    ------
    InputError
        If the folder cannot be read.
    """
    if not place.is_dir():
        return [place]
    try:
        names = os.listdir(place)
    except OSError as e:
        raise InputError(f"{place}: cannot be read: {e.strerror or e}") from e
    found = (place / name for name in sorted(names) if name.endswith(SUFFIX))
    return [p for p in found if not (os.path.isdir(p) or os.path.islink(p) > os.path.exists(p))]


def load_base(places: Sequence[Path], network: Network | None = None) -> Model:
    """Return what a run makes an update of.

    Parameters
    ----------
    places : sequence of Path
        Files, the last of them the one to update, and folders; the others hold what it is itself
        an update of.
    network : Network, optional
        See `load`.

    Raises
    ------
    InputError
        If there is no file among them, a base is missing, or one is not needed: the order is
        wrong.
    """
    files = [place for place in places if not place.is_dir()]
    if not files:
        raise InputError(f"{named('base')} {places[-1]}: it is a folder; name the file to update")
    for place in files:
        if place.exists() and not place.is_file():
            raise InputError(f"{named('base')} {place}: it is no file that can be read again")
    last = files[-1]
    others = [place for place in places if place != last]
    model = load(last, network=network, base=others if is_update(read_bytes(last)) else None)
    for path in files:
        if read_bytes(path) not in model.chain:
            raise InputError(
                f"{path}: {last} does not build on it; the last {named('base')} is the file to"
                " update"
            )
    return model


def shipped_models() -> dict[str, Path]:
    """Return the .rmc files that refmiracle carries, by name."""
    folder = default_folder().parent / "models"
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def find_model(text: str) -> Path:
    """Return the path of a .rmc file, or of a shipped one where only the name of it is given."""
    path = Path(text)
    if text != path.name or os.path.exists(path):
        return path
    return shipped_models().get(path.name.removesuffix(SUFFIX), path)


def load_images(
    path: str | os.PathLike[str] | None = None,
    *,
    part: Literal["train", "test"] = "test",
    transposed: bool | None = None,
    labels_from: int | None = None,
    channels: Literal["last", "first"] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.unsignedinteger]]:
    """Return the images of a data set, and their labels.

    Parameters
    ----------
    path : str or path-like, optional
        Of a data set in one of the forms of the guide to data: IDX files, an .npz file, CIFAR, a
        folder of pictures for each class.  By default the MNIST that refmiracle carries.
    part : str
        ``train`` or ``test``.
    transposed : bool, optional
        Whether the files have rows and columns swapped; only EMNIST's have by default.
    labels_from : int, optional
        The files' label of the first class: 1 for EMNIST's letters, 0 otherwise.
    channels : str, optional
        ``first`` or ``last``: which axis of an image has the channels, in a file of arrays or in
        IDX files with an axis for them.  By default their number tells: there are fewer of them
        than rows and than columns.

    Returns
    -------
    images : ndarray of uint8, shape (images, height, width) or (images, height, width, channels)
        Read-only; the channels are last, wherever they are in the file.
    labels : ndarray of uint8 or uint16, shape (images,)
        From 0 on; read-only.

    Raises
    ------
    InputError
        If it is no such data set, a file is missing or damaged, or an argument is not as said.

    Examples
    --------
    >>> import refmiracle
    >>> images, labels = refmiracle.load_images()
    >>> images.shape, labels[:3]
    ((10000, 28, 28), array([7, 2, 1], dtype=uint8))
    """
    check_choice("part", part, ("train", "test"))
    turned = None if transposed is None else truth("transposed", transposed)
    first = None if labels_from is None else whole_number("labels_from", labels_from)
    if channels is not None:
        check_choice("channels", channels, ("first", "last"))
    found = default_folder() if path is None else as_path("the path of a data set", path)
    place = DataSet(found, turned, first, channels)
    split = load_split(place, "train" if part == "train" else "t10k")
    images = split.images
    return (np.moveaxis(images, 1, -1) if images.ndim == 4 else images), split.labels
