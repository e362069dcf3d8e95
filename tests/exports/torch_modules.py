"""PyTorch's own modules of a network's layers, made of what the network tells as plain data."""

from __future__ import annotations

from collections import Counter, OrderedDict

import pytest

torch = pytest.importorskip("torch")
nn = torch.nn


class GroupNorm(nn.Module):
    """PyTorch's, with a factor of 1 + gain."""

    def __init__(self, channels, groups):
        super().__init__()
        self.groups = groups
        self.gain = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return nn.functional.group_norm(x, self.groups, 1 + self.gain, self.bias)


class Residual(nn.Module):
    """The sum of two lists; an empty nn.Sequential is the identity."""

    def __init__(self, body, shortcut):
        super().__init__()
        self.body, self.shortcut = sequence(body), sequence(shortcut)

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


def convolution(kernel, inputs, outputs, stride, padding, groups):
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)


KINDS = {
    "conv2d": ("conv", convolution),
    "dense": ("dense", nn.Linear),
    "flatten": ("flatten", nn.Flatten),
    "groupnorm": ("norm", GroupNorm),
    "maxpool2d": ("maxpool", lambda: nn.MaxPool2d(2)),
    "meanpool2d": ("meanpool", lambda *window: nn.AvgPool2d(window)),
    "relu": ("relu", nn.ReLU),
    "residual": ("stage", Residual),
}


def sequence(specs):
    """A list of layers under the names that their paths have."""
    modules, counts = OrderedDict(), Counter()
    for kind, *sizes in specs:
        word, make = KINDS[kind]
        counts[word] += 1
        modules[f"{word}{counts[word]}"] = make(*sizes)
    return nn.Sequential(modules)
