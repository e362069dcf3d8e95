"""What is said of data that is refused: one line that begins with a path."""

import struct

import pytest

from refmiracle.errors import InputError
from refmiracle.training.data import DataSet, load_split


def refusal(data, name="train"):
    """The message without the path that was given, or of the file within that it names."""
    with pytest.raises(InputError) as e:
        load_split(data, name)
    path = str(data)
    message = str(e.value)
    assert message.startswith(path)
    assert message.count(path) == 1
    assert "\n" not in message
    return message.removeprefix(path).removeprefix(": ")


def both(data, **options):
    """The training and the test images of a data set."""
    place = DataSet(data, **options)
    return load_split(place, "train"), load_split(place, "t10k")


def idx(array, magic=None):
    """An IDX file, written from LeCun's description of the format."""
    magic = magic or bytes([0, 0, 8, array.ndim])
    return magic + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
