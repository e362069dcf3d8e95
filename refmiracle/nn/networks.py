"""The networks that come along, each a short list of layers.

LeNet-5 is Caffe's and MIRACLE's: 431,080 weights, 26,580 coded variables.  MIRACLE's code applies
ReLU after each convolution too, before the pool; max and ReLU commute, so it stands after the
pool here, where it is four times cheaper.  The hash factors are MIRACLE's: conv2 by 2, the first
dense layer by 50 (cambridge-mlg/miracle, models/mnist.py).

LeNet-300-100 is the network of two hidden layers of LeCun et al. (1998): 266,610 weights.

ResNet-8 is that of MLPerf Tiny (Banbury et al. 2021): three residuals of 3x3 convolutions, each
half as high and wide as the one before and twice as deep; DS-CNN is its network of depthwise
separable convolutions (Zhang et al. 2017).  Both have group norm for batch norm, whose statistics
no file would hold.
"""

from __future__ import annotations

from collections.abc import Sequence

from refmiracle.errors import InputError
from refmiracle.nn.contract import FIRST_OWN, Layer
from refmiracle.nn.description import LARGEST_VALUE, from_description, to_description
from refmiracle.nn.layers import Conv2d, Dense, Flatten, GroupNorm, MaxPool2d, MeanPool2d, Relu
from refmiracle.nn.limits import DESCRIBED
from refmiracle.nn.network import Network
from refmiracle.nn.tree import Residual
from refmiracle.numerics.whole import described

DESCRIPTION = "description:"

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


def _conv_norm(outputs: int, groups: int, stride: int = 1) -> tuple[Layer, ...]:
    norm = (GroupNorm(groups),) if groups else ()
    return Conv2d(outputs, kernel=3, stride=stride, padding=1), *norm


def resnet8(
    name: str, widths: Sequence[int] = (16, 32, 64), groups: Sequence[int] = (2, 4, 8)
) -> Network:
    """Return a ResNet-8 for colour images of 32x32 in 10 classes.

    Parameters
    ----------
    name : str
    widths : sequence of int
        Channels of each of the three residuals.
    groups : sequence of int
        Of channels that are normalised together, in each; 0: there is no norm.
    """
    layers: list[Layer] = [*_conv_norm(widths[0], groups[0]), Relu()]
    before = widths[0]
    for width, parts in zip(widths, groups, strict=True):
        stride = 1 if width == before else 2
        body = *_conv_norm(width, parts, stride), Relu(), *_conv_norm(width, parts)
        shortcut = () if width == before else (Conv2d(width, kernel=1, stride=stride),)
        layers += [Residual(body, shortcut), Relu()]
        before = width
    return Network(name, DESCRIBED, (3, 32, 32), 10, (*layers, MeanPool2d(), Flatten(), Dense(10)))


def _separable(outputs: int) -> tuple[Layer, ...]:
    depthwise = Conv2d(outputs, kernel=3, padding=1, groups=outputs)
    norm = GroupNorm(outputs // 8)
    return depthwise, norm, Relu(), Conv2d(outputs, kernel=1), norm, Relu()


def _twice(outputs: int) -> tuple[Layer, ...]:
    conv = Conv2d(outputs, kernel=3, padding=1)
    return conv, Relu(), Conv2d(outputs, kernel=3, padding=1), MaxPool2d(), Relu()


RESNET8 = resnet8("resnet8")
RESNET8_24 = resnet8("resnet8-24", widths=(24, 48, 96), groups=(3, 6, 12))
RESNET8_WIDE = resnet8("resnet8-wide", widths=(26, 52, 104))
DS_CNN = Network(
    name="ds-cnn",
    number=DESCRIBED,
    input=(1, 49, 10),
    classes=12,
    layers=(
        *(Conv2d(64, kernel=(10, 4), stride=2, padding=1), GroupNorm(8), Relu()),
        *(_separable(64) * 4),
        *(MeanPool2d(), Flatten(), Dense(12)),
    ),
)
VGG8 = Network(
    name="vgg8",
    number=DESCRIBED,
    input=(3, 32, 32),
    classes=10,
    layers=(
        *(*_twice(32), *_twice(64), *_twice(128)),
        *(Flatten(), Dense(128), Relu(), Dense(10)),
    ),
)

SHIPPED = (LENET5, LENET_300_100, RESNET8, RESNET8_24, RESNET8_WIDE, DS_CNN, VGG8)
# By name, those that have a number of their own: whoever has more, with numbers from 200 to 255,
# puts them here in each process that is to read their files.  docs/SPEC.md will never define one.
NETWORKS = {network.name: network for network in (LENET5, LENET_300_100)}


def shipped(network: Network) -> Network:
    """Return the network as it comes along, with its name and its factors, or itself."""
    return next((other for other in SHIPPED if other == network), network)


def find_network(name: str) -> Network:
    """Return the network of a name; ``lenet5:47`` is LeNet-5 with 47 outputs.

    Raises
    ------
    InputError
        If there is none, or a file could not tell it from another one.
    """
    known = known_networks()
    name, colon, classes = (name, "", "") if name in known else name.partition(":")
    if name not in known:
        raise InputError(f"network {name!r} is unknown; expected one of {', '.join(known)}")
    found = known[name]
    for other in (*SHIPPED, *list(NETWORKS.values())):
        if other.name == found.name and other != found:
            raise InputError(f"there is another network named {found.name}")
    for other in list(NETWORKS.values()):
        if other.number == found.number and other is not found:
            raise InputError(f"network {name}: number {found.number} is already {other.name}'s")
    return with_classes(found, classes) if colon else found


def known_networks() -> dict[str, Network]:
    """Return all networks that a name is enough for."""
    return {network.name: network for network in SHIPPED} | NETWORKS


def with_classes(network: Network, classes: str) -> Network:
    """Return a network with so many outputs, which a file describes.

    Raises
    ------
    InputError
        If they are no number from 2 to 65,535, or the network does not end with a dense layer.
    """
    *layers, last = network.layers
    if not isinstance(last, Dense):
        raise InputError(f"network {network.name} does not end with a dense layer")
    outputs = int(classes) if classes.isdecimal() and len(classes) <= 5 else 0
    if not 2 <= outputs <= LARGEST_VALUE:
        raise InputError(
            f"network {network.name} with {described(classes)} classes;"
            f" expected 2 to {LARGEST_VALUE}"
        )
    if outputs == network.classes:
        return network
    layers = [*layers, Dense(outputs)]
    name, factors = f"{network.name}:{outputs}", network.hash_factors
    return Network(name, DESCRIBED, network.input, outputs, tuple(layers), factors)


def network_by_number(number: int) -> Network:
    """Return the network that a file names.

    Raises
    ------
    InputError
        If there is no network of that number, or there are several.
    """
    known = [n for n in list(NETWORKS.values()) if n in SHIPPED or n.number >= FIRST_OWN]
    found = [network for network in known if network.number == number]
    if any(other != found[0] for other in found):
        names = " and ".join(network.name for network in found)
        raise InputError(f"network number {number} is that of several: {names}")
    if found:
        return found[0]
    told = ", ".join(f"{n.number} ({n.name})" for n in known)
    raise InputError(f"network number {number} is unknown; expected one of {told}")


def network_text(network: Network) -> str:
    """Return what stands for a network in settings: a name, or the whole network.

    A network that did not come along and has a number of its own is known by its name alone.
    """
    known = shipped(network)
    if known.number != DESCRIBED or known in SHIPPED:
        return known.name
    return f"{DESCRIPTION}{to_description(network).hex()}"


def network_of_text(text: str) -> Network:
    """Return the network that `network_text` stands for.

    Raises
    ------
    InputError
        If it is no name of a network, and no description of one.
    """
    if not text.startswith(DESCRIPTION):
        return find_network(text)
    try:
        data = bytes.fromhex(text.removeprefix(DESCRIPTION))
    except ValueError as e:
        raise InputError(f"network {described(text)}: expected hexadecimal digits") from e
    try:
        return shipped(from_description(data))
    except InputError as e:
        raise InputError(f"network {described(text)}: {e}") from e
