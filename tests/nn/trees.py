"""Networks of many shapes that several tests take."""

from __future__ import annotations

from refmiracle.nn.layers import Conv2d, Dense, Flatten, MaxPool2d, Relu
from refmiracle.nn.network import Network
from refmiracle.nn.tree import Residual

# A residual whose shortcut is the input, one with a shortcut of its own, and one of features.
TREE = Network(
    name="tree",
    number=200,
    input=(2, 7, 5),
    classes=3,
    layers=(
        *(Conv2d(4, kernel=2), Relu(), Residual((Relu(),))),
        Residual((Conv2d(4, kernel=(2, 1)), Relu()), (Conv2d(4, kernel=(2, 1)),)),
        *(MaxPool2d(), Flatten(), Residual((Dense(16), Relu(), Dense(16))), Dense(3)),
    ),
)
