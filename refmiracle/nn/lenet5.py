"""LeNet-5 as Caffe and MIRACLE have it: 431,080 weights, 26,580 coded variables.

MIRACLE's code applies ReLU after each convolution too, before the pool; max and ReLU commute,
so it stands after the pool here, where it is four times cheaper.  The hash factors are
MIRACLE's: conv2 by 2, the first dense layer by 50 (cambridge-mlg/miracle, models/mnist.py).
"""

from __future__ import annotations

from refmiracle.errors import InputError
from refmiracle.nn.layers import Conv2d, Dense, MaxPool2d, Relu
from refmiracle.nn.network import Network

LENET5 = Network(
    name="lenet5",
    number=1,
    layers=(
        Conv2d("conv1", kernel=5, inputs=1, outputs=20),
        MaxPool2d(),
        Relu(),
        Conv2d("conv2", kernel=5, inputs=20, outputs=50),
        MaxPool2d(),
        Relu(),
        Dense("dense1", inputs=800, outputs=500),
        Relu(),
        Dense("dense2", inputs=500, outputs=10),
    ),
    hash_factors=(1, 1, 2, 1, 50, 1, 1, 1),
)

NETWORKS = {LENET5.number: LENET5}


def network_by_number(number: int) -> Network:
    """Return the network that a file names.

    Raises
    ------
    InputError
        If there is no network of that number.
    """
    if number not in NETWORKS:
        known = ", ".join(f"{n.number} ({n.name})" for n in NETWORKS.values())
        raise InputError(f"network number {number} is unknown; expected one of {known}")
    return NETWORKS[number]
