"""Networks of many shapes that several tests take."""

from __future__ import annotations

from dataclasses import replace

from refmiracle.nn.layers import Conv2d, Dense, Flatten, GroupNorm, MaxPool2d, MeanPool2d, Relu
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

BLOCK = Residual(
    (Conv2d(6, 3, padding=1), GroupNorm(2), Relu(), Conv2d(6, 3, stride=2, padding=1)),
    (Conv2d(6, 1, stride=2), GroupNorm(3)),
)
NORMED = replace(
    TREE,
    name="normed",
    layers=(
        *(Conv2d(4, 3, padding=1), GroupNorm(2), Relu(), BLOCK),
        *(Residual((BLOCK,), (Conv2d(6, 1, stride=2),)), MeanPool2d(), Flatten(), Dense(3)),
    ),
)
DEPTHWISE = replace(
    TREE,
    name="depthwise",
    layers=(
        *(Conv2d(4, (3, 2), stride=2, padding=1), GroupNorm(1), Relu()),
        *(Conv2d(4, 3, padding=1, groups=4), GroupNorm(2), Relu(), Conv2d(6, 1)),
        *(MeanPool2d(2), Flatten(), Dense(3)),
    ),
)
