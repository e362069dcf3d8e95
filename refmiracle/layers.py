"""The kinds of layers that networks are made of, in one place.

A network is a list of them: ``refmiracle.fit(images, labels, network=[Flatten(), Dense(10)])``.
docs/guide/networks.md tells how to write a kind of one's own.

Examples
--------
>>> from refmiracle.layers import Dense, Flatten, Relu
>>> [Flatten(), Dense(32), Relu(), Dense(10)]
[Flatten(), Dense(outputs=32), Relu(), Dense(outputs=10)]
"""

from __future__ import annotations

from refmiracle.nn.layers import Conv2d, Dense, Flatten, GroupNorm, MaxPool2d, MeanPool2d, Relu
from refmiracle.nn.tree import Residual

__all__ = [
    "Conv2d",
    "Dense",
    "Flatten",
    "GroupNorm",
    "MaxPool2d",
    "MeanPool2d",
    "Relu",
    "Residual",
]
