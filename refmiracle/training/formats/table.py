"""The forms of data sets, in the order in which a path is held against them."""

from __future__ import annotations

import os
from pathlib import Path

from refmiracle.errors import InputError
from refmiracle.training.formats.cifar import CifarArchive, CifarFolder
from refmiracle.training.formats.class_folders import ClassFolders
from refmiracle.training.formats.contract import TRAIN, Format, refusals_of
from refmiracle.training.formats.idx import IMAGES
from refmiracle.training.formats.idx_folders import EmnistFolder, MnistFolder, missing
from refmiracle.training.formats.kinds import HEAD, seems
from refmiracle.training.formats.npz import NpzFile

FORMATS: tuple[Format, ...] = (
    MnistFolder(),
    EmnistFolder(),
    CifarFolder(),
    CifarArchive(),
    NpzFile(),
    ClassFolders(),
)


def find_format(path: Path, part: str = TRAIN) -> Format:
    """Return the form of a data set; of several that fit, the first of the table.

    Raises
    ------
    InputError
        If there is nothing at that path, or none fits; the message says what was looked for.
    """
    for known in FORMATS:
        with refusals_of(path):
            if known.recognises(path):
                return known
    with refusals_of(path):
        try:
            os.stat(path)
        except FileNotFoundError:
            raise InputError("there is no such folder or file") from None
        if path.is_file():
            with open(path, "rb") as f:
                what = seems(f.read(HEAD), "data set")
            words = " or ".join(known.words for known in FORMATS if not known.endings)
            raise InputError(f"it is {what}; a file of data is {words}")
    others = "; ".join(known.words for known in FORMATS[1:])
    raise InputError(f"{missing(path, part, IMAGES)}; nor another data set ({others})")
