"""Options that several commands take."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from refmiracle.engines import ENGINES
from refmiracle.errors import InputError
from refmiracle.files import check_writable, flag, in_one_line, is_standard_output
from refmiracle.loading import files_of, find_model
from refmiracle.training.data import DataSet, default_folder
from refmiracle.training.formats.table import FORMATS

# How names of images and labels end in the folders of data sets.
IN_FOLDERS = tuple(ending for known in FORMATS for ending in known.endings)


def a_path(text: str) -> Path:
    """Return an argument as a path; an empty one would be the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; expected a path")
    return Path(text)


def model_file(text: str) -> Path:
    """Return the path of a .rmc file, or of a shipped model where only the name of one is given."""
    a_path(text)  # refuses an empty one
    return find_model(text)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the argument of commands that read a compressed model."""
    parser.add_argument(
        "model",
        type=model_file,
        help="a .rmc file, or the name of one that refmiracle carries, such as lenet5-1551.rmc",
    )


def add_base(parser: argparse.ArgumentParser, text: str) -> None:
    """Add --base, which may be given several times."""
    parser.add_argument(
        "--base",
        type=model_file,
        action="append",
        metavar="FILE|FOLDER",
        help=f"{text}; the files that it needs itself are more of --base, or in a folder, where"
        " they are found by their checksums",
    )


def base_files(arguments: argparse.Namespace) -> list[Path]:
    """Return the files that --base names, or its folders hold."""
    return [path for place in arguments.base or () for path in files_of(place)]


def check_out(out: Path, *read: Path, data: Path | None = None, flag: str = "--out") -> None:
    """Refuse, before any work, an output that cannot be written, or that is read itself.

    Parameters
    ----------
    out : Path
    *read : Path
        What is read: a model, and what else there is.
    data : Path, optional
        Where the images are, by default those that refmiracle carries.
    flag : str
        That of `out`.

    Raises
    ------
    InputError
        If it is so.
    """
    for number, found in enumerate(read):
        if os.path.exists(out) and os.path.exists(found) and os.path.samefile(out, found):
            what = found.name if number else "the model"
            raise InputError(f"{out}: it is {what} itself; name another file with {flag}")
    place = Path(os.path.realpath(out))
    if os.path.exists(place) and _is_read(place, Path(os.path.realpath(data or default_folder()))):
        raise InputError(f"{out}: the data are read from it; name another file with {flag}")
    check_writable(out)


def _is_read(file: Path, data: Path) -> bool:
    """Tell whether a data set may be read from a file: both are real paths."""
    if data.is_dir():
        return file.is_relative_to(data) and file.name.lower().endswith(IN_FOLDERS)
    # Some have a name for files that begin with it.
    begins = file.parent == data.parent and file.name.startswith(data.name)
    return begins and (file == data or file.name.lower().endswith(IN_FOLDERS))


def check_outs(outs: Iterable[Path | None]) -> None:
    """Refuse, before any work, outputs that cannot be written, and two in one place.

    Raises
    ------
    InputError
        If it is so.
    """
    places = set()
    for out in filter(None, outs):
        check_writable(out)
        place = os.path.realpath(out)
        if place in places and (os.path.isfile(place) or not os.path.exists(place)):
            raise InputError(f"{out}: it is named for two outputs")
        places.add(place)


def say_written(out: Path, text: str) -> None:
    """Print what was written, where it does not follow the written bytes themselves."""
    print(f"{in_one_line(out)}: {text}", file=sys.stderr if is_standard_output(out) else sys.stdout)


def add_engine(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Add --engine."""
    parser.add_argument(
        "--engine", choices=sorted(ENGINES), default=default, help="which engine computes"
    )


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add --data, and what may be said of the data."""
    parser.add_argument(
        "--data",
        type=a_path,
        metavar="PATH",
        help="a folder of IDX files under MNIST's or EMNIST's names, an .npz file, CIFAR-10 or"
        " CIFAR-100 in binary form, or a folder of PNG or JPEG images for each class"
        " (default: the MNIST that refmiracle carries)",
    )
    parser.add_argument(
        "--transposed",
        choices=["yes", "no"],
        help="whether the images have rows and columns swapped (default: EMNIST's have)",
    )
    parser.add_argument(
        "--labels-from",
        type=int,
        metavar="N",
        help="the label of the first class (default: 1 for EMNIST's letters, 0 otherwise)",
    )
    parser.add_argument(
        "--channels",
        choices=["first", "last"],
        help="which axis of an image has the channels, in .npz and IDX files (default: their number"
        " tells: there are fewer of them than rows and than columns)",
    )


def chosen_data(arguments: argparse.Namespace) -> DataSet:
    """Return the data set that the options of `add_data` name."""
    transposed = None if arguments.transposed is None else arguments.transposed == "yes"
    path, first = arguments.data or default_folder(), arguments.labels_from
    return DataSet(path, transposed, first, arguments.channels)


def data_flags(arguments: argparse.Namespace) -> str:
    """Return the options that name the same data set again, each behind a space."""
    return flags(arguments, "data", "transposed", "labels_from", "channels")


def flags(arguments: argparse.Namespace, *given: str) -> str:
    """Return the options of these names as they were given, each behind a space."""
    return "".join(
        flag(name, value) for name in given if (value := getattr(arguments, name)) is not None
    )
