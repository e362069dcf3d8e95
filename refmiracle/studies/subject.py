"""What a study is about: a network, on images of its kind, and what the study says of it.

The presets are of LeNet-5.  Its runs, tables and figures have no word for it; those of another
network name it, and what a study has for LeNet-5 alone it leaves out with a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from refmiracle.drawing import Draw
from refmiracle.errors import InputError, named, one_line
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET5
from refmiracle.run import divide
from refmiracle.training.choosing import check_layout
from refmiracle.training.data import Split
from refmiracle.training.settings import Settings

LONGEST_PREFIX = 60


def about(base: Settings, network: Network | None, validation: int | None) -> Settings:
    """Return the settings of a study about a network, with its own hash factors.

    Parameters
    ----------
    base : Settings
    network : Network, optional
        That of `base` by default.
    validation : int, optional
        How many training images are kept for validation; as in `base` by default.

    Raises
    ------
    InputError
        If the network is not as it must be, or no image is kept for validation.
    """
    if validation is not None:
        if validation < 1:
            raise InputError(
                f"{named('validation')} {validation} is out of range; expected at least 1: studies"
                " measure on the validation images"
            )
        base = replace(base, validation=validation)
    known = base.network
    if network is None or (network, network.factors()) == (known, known.factors()):
        return base
    base = replace(base, network=network, hash_factors=network.factors())
    base, variables = check_layout(base)
    return replace(base, block_size=min(base.block_size, variables))


def check_images(train: Split, test: Split | None, base: Settings) -> Split:
    """Return the images to train and validate on, if a study's runs can be made of them.

    Raises
    ------
    InputError
        If the network does not take them or the test images, or they are too few.
    """
    divide(train, test, base)
    return train


def prefix_of(network: Network) -> str:
    """Return what names of runs begin with: nothing, or the network's name as a file's can be."""
    if network == LENET5:
        return ""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", network.name)[:LONGEST_PREFIX] + "-"


@dataclass(frozen=True)
class Subject:
    """The network that results are about, and what they lack.

    Attributes
    ----------
    network : Network
    notes : tuple of str
        Why something is left out, a line each.
    """

    network: Network = LENET5
    notes: tuple[str, ...] = ()

    def title(self) -> str:
        """Return what figures and claims stand under, or nothing: the network and its images."""
        if self.network == LENET5:
            return ""
        sides = "x".join(map(str, self.network.input))
        return f"{one_line(self.network.name)}: images of {sides} in {self.network.classes} classes"

    def said(self) -> dict[str, Any]:
        """Return what results.json says of it."""
        named = {"network": one_line(self.network.name)} if self.title() else {}
        return {**named, "notes": list(self.notes)} if self.notes else dict(named)

    def named(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """Return rows of a table, the network's name in front."""
        if not self.title():
            return rows
        return [{"network": one_line(self.network.name), **row} for row in rows]

    def heading(self) -> str:
        """Return a line of Markdown above a table, or nothing."""
        return f"{self.title()}\n\n" if self.title() else ""

    def drawn(self, draw: Draw) -> Draw:
        """Return what draws a figure with the title above it."""
        return partial(self._draw, draw) if self.title() else draw

    def _draw(self, draw: Draw) -> Any:
        figure = draw()
        figure.suptitle(self.title(), fontsize="medium", parse_math=False)  # a name may have a $
        return figure


LENET5S = Subject()
