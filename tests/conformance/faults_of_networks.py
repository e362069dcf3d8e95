"""Faults in networks as a whole, planted as those of `faults` are: residuals, and descriptions.

Each changes the layers of the network that a case or a file describes, or what a residual does with
its two lists.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from conformance.faults import Fault, first_of, patched, registers_in

from refmiracle.conformance.engine_backend import as_bytes
from refmiracle.nn import description
from refmiracle.nn.layers import Conv2d, Flatten, GroupNorm, MaxPool2d, MeanPool2d
from refmiracle.nn.tree import Residual, backward_through, forward_through, tensors_of
from refmiracle.numerics.philox import stream_permutation

OF_NETWORKS: list[Fault] = []
fault = registers_in(OF_NETWORKS)


def changed(network, change):
    """The network with each layer changed, those within residuals first."""

    def of(layers):
        parts = (
            replace(layer, body=of(layer.body), shortcut=of(layer.shortcut))
            if isinstance(layer, Residual)
            else layer
            for layer in layers
        )
        return tuple(map(change, parts))

    return replace(network, layers=of(network.layers))


def of_kind(kind, change):
    """A change of the layers of one kind."""
    return lambda layer: change(layer) if isinstance(layer, kind) else layer


def with_residuals(kind):
    """A change that puts another residual in the place of each."""
    return of_kind(Residual, lambda layer: kind(layer.body, layer.shortcut))


def gradients(right, change, data, *arguments):
    """What `loss_and_grads_general` gives of a network that was changed."""
    network = description.from_description(as_bytes(data))
    return right.gradients(changed(network, change), *arguments)


def reading(change, function):
    """A function under which files describe networks that were changed."""

    def read(data, start):
        network, end = description.read_description(data, start)
        return changed(network, change), end

    return patched("refmiracle.fileformat.container.read_description", read, function)


# --- the sum of a residual


class OfParts(Residual):
    """A residual whose backward pass is told apart by its lists."""

    def both(self, engine, weights, kept, dy, need_dx):
        """dx and gradients of the body, then those of the shortcut."""
        shape, of_body, of_shortcut = kept
        body, shortcut = self.placed(shape)
        return (
            *backward_through(body, engine, weights, of_body, dy, need_dx),
            *backward_through(shortcut, engine, weights, of_shortcut, dy, need_dx),
        )


def nothing(grads):
    return {name: np.zeros_like(g) for name, g in grads.items()}


@dataclass(frozen=True)
class WithoutShortcut(OfParts):
    def backward(self, *arguments):
        dx, grads, _, more = self.both(*arguments)
        return dx, grads | nothing(more)


@dataclass(frozen=True)
class WithoutBody(OfParts):
    def backward(self, *arguments):
        _, grads, dx, more = self.both(*arguments)
        return dx, nothing(grads) | more


@dataclass(frozen=True)
class InputOfTheBody(OfParts):
    def backward(self, *arguments):
        dx, grads, _, more = self.both(*arguments)
        return dx, grads | more


@dataclass(frozen=True)
class InputOfTheShortcut(OfParts):
    def backward(self, *arguments):
        _, grads, dx, more = self.both(*arguments)
        return dx, grads | more


@dataclass(frozen=True)
class Halved(Residual):
    def backward(self, engine, weights, kept, dy, need_dx):
        return super().backward(engine, weights, kept, dy / 2, need_dx)


@dataclass(frozen=True)
class Combined(Residual):
    """y = combine(body, shortcut), with the gradients of the sum."""

    combine: ClassVar = None

    def forward(self, engine, weights, x):
        body, shortcut = self.placed(x.shape[:-1])
        y, kept = forward_through(body, engine, weights, x)
        other, more = forward_through(shortcut, engine, weights, x)
        return type(self).combine(y, other), (x.shape[:-1], kept, more)


@dataclass(frozen=True)
class Twice(Combined):
    combine: ClassVar = staticmethod(lambda y, other: y + 2 * other)


@dataclass(frozen=True)
class Difference(Combined):
    combine: ClassVar = staticmethod(lambda y, other: y - other)


@dataclass(frozen=True)
class Rectified(Combined):
    combine: ClassVar = staticmethod(lambda y, other: np.maximum(y + other, 0))


@dataclass(frozen=True)
class BodyAlone(Combined):
    combine: ClassVar = staticmethod(lambda y, other: y)


@dataclass(frozen=True)
class ShortcutFirst(Residual):
    def tensors(self, shape):
        body, shortcut = self.placed(shape)
        return tensors_of((*shortcut, *body))


GRADIENTS = {
    "shortcuts_gradient_lost": (WithoutShortcut, "residual-with-a-shortcut"),
    "bodys_gradient_lost": (WithoutBody, "residual-of-its-input"),
    "input_gradient_of_the_body_alone": (InputOfTheBody, "residuals-of-features"),
    "input_gradient_of_the_shortcut_alone": (InputOfTheShortcut, "nested-4-deep"),
    "gradient_shared_out_between_body_and_shortcut": (Halved, "residual-with-a-shortcut"),
}
SUMS = {
    "shortcut_added_twice": (Twice, "residual"),
    "shortcut_taken_off": (Difference, "residual"),
    "relu_within_the_residual": (Rectified, "residuals-of-features"),
    "shortcut_forgotten": (BodyAlone, "residual"),
    "tensors_of_the_shortcut_first": (ShortcutFirst, "body-before-shortcut"),
}


def plant_residuals():
    """Put a fault into the lists for each kind of residual above."""
    for name, (kind, caught_by) in GRADIENTS.items():

        def wrong(right, *inputs, kind=kind):
            return gradients(right, with_residuals(kind), *inputs)

        wrong.__name__ = name
        fault("loss_and_grads_general", caught_by)(wrong)
    for name, (kind, caught_by) in SUMS.items():

        def predicted(right, data, images, kind=kind):
            return reading(with_residuals(kind), right.predict)(data, images)

        predicted.__name__ = name
        fault("predict", f"described-{caught_by}")(predicted)


plant_residuals()


@fault("loss_and_grads_general", "tensors-on-both-sides")
def parameters_of_the_shortcut_first(right, *inputs):
    return gradients(right, with_residuals(ShortcutFirst), *inputs)


@fault("decode_model", "described-residuals-with-two-sides")
def weights_of_the_shortcut_first(right, data):
    return reading(with_residuals(ShortcutFirst), right.decode_model)(data)


# --- how a description is read


@fault("predict", "described-every-layer")
def maximum_read_as_a_mean(right, data, images):
    change = of_kind(MaxPool2d, lambda layer: MeanPool2d(2))
    return reading(change, right.predict)(data, images)


@fault("predict", "described-every-layer")
def norm_left_without_its_statistics(right, data, images):
    @dataclass(frozen=True)
    class Scaled(GroupNorm):
        def forward(self, engine, weights, x):
            gain, bias = (weights[n][:, None, None, None] for n in ("gain", "bias"))
            return (1 + gain) * x + bias, x

    change = of_kind(GroupNorm, lambda layer: Scaled(layer.groups))
    return reading(change, right.predict)(data, images)


@dataclass(frozen=True)
class OfTheFirstGroup(Conv2d):
    """Every output reads the channels of the first group."""

    def forward(self, engine, weights, x):
        fan = weights["weight"].shape[2]
        first = np.concatenate([x[:fan]] * (len(x) // fan))
        return engine.conv2d(
            first, weights["weight"], weights["bias"], self.stride, self.padding, self.groups
        ), x


def convolution(kind=Conv2d, **numbers):
    """A change of the numbers of convolutions, from functions of the layer."""

    def change(layer):
        given = {name: value(layer) for name, value in numbers.items()}
        return kind(**{**vars(layer), **given})

    return of_kind(Conv2d, change)


@fault("loss_and_grads_general", "depthwise")
def groups_without_a_meaning(right, *inputs):
    return gradients(right, convolution(OfTheFirstGroup), *inputs)


@fault("decode_model", "described-depthwise")
def groups_ignored(right, data):
    return reading(convolution(groups=lambda layer: 1), right.decode_model)(data)


@fault("predict", "described-")
def padding_read_before_the_stride(right, data, images):
    change = convolution(stride=lambda c: c.padding, padding=lambda c: c.stride)
    return reading(change, right.predict)(data, images)


@fault("predict", "described-every-layer")
def stride_of_every_convolution_1(right, data, images):
    return reading(convolution(stride=lambda c: 1), right.predict)(data, images)


@fault("decode_model", "described-convolutions")
def width_of_a_kernel_read_before_its_height(right, data):
    return reading(convolution(kernel=lambda c: c.kernel[::-1]), right.decode_model)(data)


def exchanged(layer):
    return replace(layer, body=layer.shortcut, shortcut=layer.body)


@fault("decode_model", "described-residuals-with-two-sides")
def shortcut_read_before_the_body(right, data):
    return reading(of_kind(Residual, exchanged), right.decode_model)(data)


@fault("predict", "described-shortcut-before-body")
def lists_of_residuals_exchanged(right, data, images):
    return reading(of_kind(Residual, exchanged), right.predict)(data, images)


@fault("loss_and_grads_general", "every-layer")
def lengths_of_both_lists_exchanged(right, data, *arguments):
    """The first list takes as many layers as the second has, and the second what is left."""

    def change(layer):
        every, cut = (*layer.body, *layer.shortcut), len(layer.shortcut)
        return replace(layer, body=every[:cut], shortcut=every[cut:])

    return gradients(right, of_kind(Residual, change), data, *arguments)


@fault("loss_and_grads_general", "behind-the-description")
def bytes_behind_a_description_ignored(right, data, *arguments):
    _, end = description.read_description(as_bytes(data), 0)
    return right.loss_and_grads_general(data[:end], *arguments)


@fault("loss_and_grads_general", "label-of-no-class")
def classes_off_by_one(right, *inputs):
    *others, labels = inputs
    network = description.from_description(as_bytes(inputs[0]))
    return right.loss_and_grads_general(*others, np.minimum(labels, network.classes - 1))


@fault("loss_and_grads_general", "300-classes")
def labels_of_one_byte(right, *inputs):
    *others, labels = inputs
    return right.loss_and_grads_general(*others, labels % 256)


@fault("loss_and_grads_general", "negative-label")
def labels_counted_from_the_end(right, *inputs):
    *others, labels = inputs
    network = description.from_description(as_bytes(inputs[0]))
    return right.loss_and_grads_general(*others, labels % network.classes)


@fault("loss_and_grads_general", "images-of")
def images_read_as_they_lie(right, data, *arguments):
    *others, images, labels = arguments
    network = description.from_description(as_bytes(data))
    count = len(labels) * math.prod(network.input)
    flat = np.resize(images, count).reshape(len(labels), *network.input)
    return right.loss_and_grads_general(data, *others, flat, labels)


@fault("loss_and_grads_general", "every-layer")
def channels_last(right, data, *arguments):
    *others, images, labels = arguments
    flat = images.reshape(len(images), *images.shape[2:], images.shape[1])
    return right.loss_and_grads_general(data, *others, np.moveaxis(flat, -1, 1), labels)


@fault("loss_and_grads_general", "kept-")
def networks_kept_under_their_layout(right, data, *arguments):
    key = tuple(np.asarray(a).tobytes() for a in arguments[:5])
    return right.loss_and_grads_general(first_of(right, key, data), *arguments)


@fault("predict", "described-residual-with-a-shortcut")
def flattened_with_the_channels_last(right, data, images):
    @dataclass(frozen=True)
    class Otherwise(Flatten):
        def forward(self, engine, weights, x):
            return super().forward(engine, weights, np.moveaxis(x, 0, 2))

    return reading(of_kind(Flatten, lambda layer: Otherwise()), right.predict)(data, images)


@fault("decode_model", "described-nested-5-deep")
def residuals_5_deep_accepted(right, data):
    return patched("refmiracle.nn.description.DEEPEST", 5, right.decode_model)(data)


@fault("decode_model", "described-257-layers")
def lists_counted_by_themselves(right, data):
    return patched("refmiracle.nn.description.MOST_LAYERS", 2**16, right.decode_model)(data)


# --- more variables than networks 1 and 2 have


@fault("decode_model", "described-2-to-the-20-and-more-variables")
def numbers_of_a_permutation_in_20_bits(right, data):
    """As of a word and its number in a double of 52 bits."""

    def in_20_bits(*arguments):
        return stream_permutation(*arguments) % 2**20

    name = "refmiracle.fileformat.model.stream_permutation"
    return patched(name, in_20_bits, right.decode_model)(data)


@fault("decode_model", "described-2-to-the-20-and-more-integers")
def as_many_integers_as_a_file_calls_for(right, data):
    name = "refmiracle.fileformat.integers.LARGEST_COUNT"
    return patched(name, 2**62, right.decode_model)(data)
