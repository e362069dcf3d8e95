"""Images after a drift, in a form that ``--data`` takes: what an update is trained on.

    python tools/drifted_images.py rotation 25 turned

Writes IDX files under MNIST's names.  The kinds are those of docs/UPDATES.md, each with any
strength in its unit; ``--data`` takes other images of one channel or several.
"""

from __future__ import annotations

import argparse
import gzip
import sys
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


def write_folder(out, data, files):
    """Write files by name; not to a folder of other images, which would be read, or are read here.

    All are made before the first is written, so that parts do not come from different runs.
    """
    if out.resolve() == data.resolve():
        raise InputError(f"{out}: the images are read from there; name another folder")
    others = sorted(path.name for path in out.glob("*-idx?-ubyte*") if path.name not in files)
    if others:
        raise InputError(f"{out}: {others[0]} is there, of other images; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    for name, written in files.items():
        write_atomically(out / name, written)


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
        files = {}
        for part, seed in PARTS.items():
            split = load_split(arguments.data, part)
            images = drifted(split.images, arguments.kind, arguments.strength, seed)
            for kind, array in {"images": images, "labels": split.labels}.items():
                files[f"{part}-{kind}-idx{array.ndim}-ubyte.gz"] = idx(array)
        write_folder(arguments.out, arguments.data, files)
    except (InputError, OSError) as e:
        sys.exit(f"{sys.argv[0]}: {e}")


if __name__ == "__main__":
    main()
