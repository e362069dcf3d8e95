"""MNIST's digits in pairs, in the form of EMNIST's balanced set: 47 classes, each image transposed.

    python tools/paired_digits.py pairs
    python -m refmiracle.train --data pairs --network lenet5:47

Class 10 a + b has digit a at the left and b at the right, each squeezed to half its width; 112,800
images to train on and 18,800 to test, as many of each class, from MNIST's own.  For who cannot
reach EMNIST, and wants to see more classes than ten, and that form, at work.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from drifted_images import idx, write_folder

from refmiracle.errors import InputError
from refmiracle.training.data import default_folder, load_split

CLASSES = 47
# Images of a class, by what MNIST and EMNIST call the parts.
PARTS = {("train", "train"): 2400, ("t10k", "test"): 400}
# Which images of two digits meet, and where those of a class begin: no two classes alike.
STRIDE, LEFT, RIGHT = 3, 241, 577


def squeezed(images):
    """Return images (n, 28, 28) at half their width: the mean of two columns, rounded down."""
    wide = images.astype(np.uint16)
    return ((wide[..., ::2] + wide[..., 1::2]) // 2).astype(np.uint8)


def pairs(split, count):
    """Return so many images of each class, (classes * count, 28, 28), and their labels."""
    of_digit = [squeezed(split.images[split.labels == digit]) for digit in range(10)]
    numbers = np.arange(count)
    images = np.empty((count, CLASSES, 28, 28), np.uint8)
    for label in range(CLASSES):
        a, b = divmod(label, 10)
        left, right = of_digit[a], of_digit[b]
        images[:, label, :, :14] = left[(numbers + LEFT * b) % len(left)]
        images[:, label, :, 14:] = right[(STRIDE * numbers + RIGHT * a) % len(right)]
    labels = np.tile(np.arange(CLASSES, dtype=np.uint8), count)
    return images.reshape(-1, 28, 28), labels


def main():
    """Read MNIST, write the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    out, data = parser.parse_args().out, default_folder()
    try:
        files = {}
        for (of_mnist, part), count in PARTS.items():
            images, labels = pairs(load_split(data, of_mnist), count)
            files[f"emnist-balanced-{part}-images-idx3-ubyte.gz"] = idx(images.swapaxes(1, 2))
            files[f"emnist-balanced-{part}-labels-idx1-ubyte.gz"] = idx(labels)
        write_folder(out, data, files)
    except (InputError, OSError) as e:
        sys.exit(f"{sys.argv[0]}: {e}")


if __name__ == "__main__":
    main()
