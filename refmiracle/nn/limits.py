"""What a network that a file describes may have at most: docs/SPEC.md, sections 2.6 and 3.1."""

from __future__ import annotations

import math
from collections.abc import Sequence

from refmiracle.errors import InputError
from refmiracle.nn.contract import Layer, Shape
from refmiracle.nn.tree import Residual, place, tensors_of, through, values_of

DESCRIBED = 0  # the number of a network that a file describes
MOST_LAYERS = 256  # all lists together
DEEPEST = 4  # residuals within residuals
MOST_WEIGHTS = 2**22  # so that a file of a few bytes costs little
MOST_ACTIVATIONS = 2**24  # of one image, behind any layer


def check_tree(layers: Sequence[Layer]) -> None:
    """Refuse too many layers, and residuals too deep in each other, before any of them is asked.

    Raises
    ------
    InputError
        If there are.
    """
    level, count = list(layers), 0
    for _ in range(DEEPEST + 1):
        count += len(level)
        if count > MOST_LAYERS:
            raise InputError(f"a network of more than {MOST_LAYERS} layers")
        residuals = [layer for layer in level if isinstance(layer, Residual)]
        level = [inner for r in residuals for inner in (*r.body, *r.shortcut)]
    if residuals:
        raise InputError(f"residuals within residuals, more than {DEEPEST} deep")


def check_shapes(layers: Sequence[Layer], image: Shape, classes: int) -> None:
    """Refuse layers that do not fit each other, or give more than a reader has room for.

    Raises
    ------
    InputError
        If they do; nothing but shapes has been worked out then.
    """
    placed, end = place(layers, image)
    for layer in through(placed):
        after = layer.layer.output(layer.shape)
        if math.prod(after) > MOST_ACTIVATIONS:
            raise InputError(f"{layer.path} gives an image more than 2^24 values: shape {after}")
        if values_of(layer) > MOST_ACTIVATIONS:
            raise InputError(f"{layer.path} reads more than 2^24 values, with its zeros around")
    weights = sum(math.prod(t.shape) for t in tensors_of(placed))
    if not 1 <= weights <= MOST_WEIGHTS:
        raise InputError(f"a network of {weights} weights; expected 1 to 2^22")
    if end != (classes,):
        raise InputError(f"a network that ends with shape {end}; expected ({classes},)")
