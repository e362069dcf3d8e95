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
    """Return an IDX file of bytes, packed by gzip; the same bytes each time."""
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return gzip.compress(head + array.astype(np.uint8).tobytes(), mtime=0)


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
        for part, seed in PARTS.items():
            split = load_split(arguments.data, part)
            images = drifted(split.images, arguments.kind, arguments.strength, seed)
            arguments.out.mkdir(parents=True, exist_ok=True)
            stem = arguments.out / part
            write_atomically(Path(f"{stem}-images-idx{images.ndim}-ubyte.gz"), idx(images))
            write_atomically(Path(f"{stem}-labels-idx1-ubyte.gz"), idx(split.labels))
    except (InputError, OSError) as e:
        sys.exit(f"{sys.argv[0]}: {e}")


if __name__ == "__main__":
    main()
