"""Images after a drift, in a form that ``--data`` takes: what an update is trained on.

    python tools/drifted_images.py rotation 25 turned

Writes IDX files under MNIST's names.  The kinds are those of docs/UPDATES.md, each with any
strength in its unit; ``--data`` takes other images of one channel or several.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from itertools import chain
from pathlib import Path

import numpy as np

from refmiracle.errors import InputError
from refmiracle.files import write_atomically
from refmiracle.studies.drift import DRIFTS, drifted
from refmiracle.studies.scenes import TEST_SEED, TRAIN_SEED
from refmiracle.training.data import default_folder, load_split

PARTS = {"train": TRAIN_SEED, "t10k": TEST_SEED}


def idx(array):
    """Return an IDX file of bytes, or of int32 where these do not do; the same bytes each time."""
    kind, dtype = (8, ">u1") if array.dtype == np.uint8 else (12, ">i4")
    head = bytes([0, 0, kind, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(head + array.astype(dtype).tobytes(), mtime=0)


def check_folder(out, data, names):
    """Refuse a folder with other images in it: they would be read, or are what is read here."""
    if out.resolve() == data.resolve():
        raise InputError(f"{out}: the images are read from there; name another folder")
    others = sorted(path.name for path in out.glob("*-idx?-ubyte*") if path.name not in names)
    if others:
        raise InputError(f"{out}: {others[0]} is there, of other images; name another folder")


def main():
    """Read the images, write the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=DRIFTS)
    parser.add_argument("strength", type=float)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=default_folder())
    arguments = parser.parse_args()
    try:
        files = {}  # all of them before the first is written: both parts are of one drift
        for part, seed in PARTS.items():
            split = load_split(arguments.data, part)
            axes = {"images": split.images.ndim, "labels": 1}
            names = {p: [f"{p}-{k}-idx{n}-ubyte.gz" for k, n in axes.items()] for p in PARTS}
            check_folder(arguments.out, arguments.data, [*chain(*names.values())])
            images = drifted(split.images, arguments.kind, arguments.strength, seed)
            files |= dict(zip(names[part], map(idx, (images, split.labels)), strict=True))
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            write_atomically(arguments.out / name, data)
    except (InputError, OSError) as e:
        sys.exit(f"{sys.argv[0]}: {e}")


if __name__ == "__main__":
    main()
