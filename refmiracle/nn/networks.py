"""The networks, each a short list of layers; one more entry of `NETWORKS` is all that one needs.

LeNet-5 is Caffe's and MIRACLE's: 431,080 weights, 26,580 coded variables.  MIRACLE's code applies
ReLU after each convolution too, before the pool; max and ReLU commute, so it stands after the
pool here, where it is four times cheaper.  The hash factors are MIRACLE's: conv2 by 2, the first
dense layer by 50 (cambridge-mlg/miracle, models/mnist.py).

LeNet-300-100 is the network of two hidden layers of LeCun et al. (1998): 266,610 weights.
"""

from __future__ import annotations

from refmiracle.errors import InputError
from refmiracle.nn.layers import Conv2d, Dense, Flatten, MaxPool2d, Relu
from refmiracle.nn.network import Network

LENET5 = Network(
    name="lenet5",
    number=1,
    input=(1, 28, 28),
    classes=10,
    layers=(
        *(Conv2d(20, kernel=5), MaxPool2d(), Relu()),
        *(Conv2d(50, kernel=5), MaxPool2d(), Relu()),
        *(Flatten(), Dense(500), Relu(), Dense(10)),
    ),
    hash_factors=(1, 1, 2, 1, 50, 1, 1, 1),
)

LENET_300_100 = Network(
    name="lenet-300-100",
    number=2,
    input=(1, 28, 28),
    classes=10,
    layers=(Flatten(), Dense(300), Relu(), Dense(100), Relu(), Dense(10)),
    hash_factors=(10, 1, 10, 1, 1, 1),
)

# By name.  Numbers from 200 on are for networks of one's own: docs/SPEC.md will never define one.
NETWORKS = {network.name: network for network in (LENET5, LENET_300_100)}


def find_network(name: str) -> Network:
    """Return the network of a name.

    Raises
    ------
    InputError
        If there is none, or a file could not tell it from another one.
    """
    if name not in NETWORKS:
        raise InputError(f"network {name!r} is unknown; expected one of {', '.join(NETWORKS)}")
    found = NETWORKS[name]
    for other in NETWORKS.values():
        if other.number == found.number and other is not found:
            raise InputError(f"network {name}: number {found.number} is already {other.name}'s")
    return found


def network_by_number(number: int) -> Network:
    """Return the network that a file names.

    Raises
    ------
    InputError
        If there is no network of that number.
    """
    for network in NETWORKS.values():
        if network.number == number:
            return network
    known = ", ".join(f"{n.number} ({n.name})" for n in NETWORKS.values())
    raise InputError(f"network number {number} is unknown; expected one of {known}")
