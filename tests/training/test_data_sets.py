"""What all forms of data have in common: how they are found, and who takes them."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from data_refusal import idx, refusal

from refmiracle.training.data import DataSet, Split, load_split
from refmiracle.training.formats.table import FORMATS, find_format

LABELS = np.array([0, 1, 2, 1], np.uint8)


def write_mnist(folder, images=None):
    folder.mkdir(exist_ok=True)
    images = np.zeros((4, 5, 6), np.uint8) if images is None else images
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(LABELS))
    return folder


def test_nothing_is_there(tmp_path):
    assert refusal(tmp_path / "nowhere") == "there is no such folder or file"
    told = refusal(tmp_path)
    assert told.startswith("there is no train-images-idx3-ubyte or train-images-idx3-ubyte.gz, nor")
    assert all(known.words in told for known in FORMATS[1:])


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "empty"),
        (b"hello", "no data set (it begins with 68 65 6c 6c 6f)"),
        (b"\x80\x04\x95", "a pickle"),
        (b"\x93NUMPY\x01\0", "a NumPy file"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"PAR1", "a Parquet file"),
    ],
)
def test_a_file_that_is_no_data(tmp_path, data, what):
    (tmp_path / "data").write_bytes(data)
    told = refusal(tmp_path / "data")
    assert told.startswith(f"it is {what}; a file of data is ")


@pytest.mark.skipif(os.name == "nt", reason="Windows has links for administrators only")
def test_a_link_to_itself_and_a_pipe(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    assert refusal(tmp_path / "loop") == "cannot be read: Too many levels of symbolic links"
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").startswith("there is no train-images")


def test_a_folder_that_may_not_be_read(tmp_path):
    """As another user: root may read all."""
    folder = write_mnist(tmp_path / "data")
    code = (
        "import os, sys\n"
        "from refmiracle.training.data import load_split\n"
        "from pathlib import Path\n"
        "os.chmod(sys.argv[1], 0)\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "try: load_split(Path(sys.argv[1]), 'train')\n"
        "except Exception as e: print(type(e).__name__, e)\n"
    )
    if not hasattr(os, "getuid"):
        pytest.skip("Windows has no such permissions")
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False
    )
    folder.chmod(0o755)
    assert done.stdout.startswith("InputError ")
    assert "ermission denied" in done.stdout
    assert done.stdout.count("\n") == 1


def test_of_several_forms_in_a_folder_the_first_of_the_table_counts(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "0.png").write_bytes(b"a preview")
    assert find_format(tmp_path) is FORMATS[0]
    assert load_split(tmp_path, "train").images.shape == (4, 5, 6)


def test_options_leave_what_they_do_not_name(tmp_path):
    images = np.arange(4 * 30, dtype=np.uint8).reshape(4, 5, 6)
    folder = write_mnist(tmp_path, images)
    turned = load_split(DataSet(folder, transposed=True), "t10k")
    assert np.array_equal(turned.images, images.swapaxes(1, 2))
    assert turned.images.flags.c_contiguous
    assert np.array_equal(turned.labels, LABELS)
    assert str(DataSet(folder)) == str(folder)


def test_names_of_classes_travel_with_a_part():
    split = Split(np.zeros((4, 2, 2), np.uint8), LABELS, ("a", "b", "c"))
    part = split.part(slice(1, 3))
    assert part.labels.tolist() == [1, 2]
    assert part.classes == split.classes
    assert [part.name(i) for i in (0, 2, 7)] == ["a", "c", "7"]
    assert part.input_shape() == (1, 2, 2)
