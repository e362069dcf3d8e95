"""What a run is made of, and the presets."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from refmiracle.codes.table import CODES, MRC, find_code
from refmiracle.errors import InputError
from refmiracle.fileformat.container import parse_model
from refmiracle.fileformat.update import update_layout
from refmiracle.files import first_line
from refmiracle.nn.network import Network
from refmiracle.nn.networks import LENET5, network_of_text, network_text
from refmiracle.numerics.whole import described
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs
from refmiracle.posterior.parameterizations import MEAN_KL, find_parameterization, own_settings
from refmiracle.training.data import VALIDATION_IMAGES, Split

SELECTIONS = tuple(dict.fromkeys(s for code in CODES.values() for s in code.selections))
# Rows of noise below this are for training, those above for validation.
LONGEST = 2**31 - 1
# What the settings of older runs do not name.
LATER_FIELDS = {
    **{"code": MRC, "network": LENET5.name, "flip": 0, "base": [], "tensors": []},
    "late_scale_rate": 0.0,
    "antithetic": 0,
}
# Those of them that came after the digests of settings that docs/study keeps.
AFTER_DIGESTS = ("antithetic",)


@dataclass(frozen=True)
class Settings:
    """Everything that a run's result depends on, but the machine.

    Attributes
    ----------
    preset, engine : str
    parameterization : str
        How the posterior has its parameters, one of `posterior.parameterizations`.
    network : Network
    seed : int
    bits_per_block, block_size : int
    code : str
        Which relative entropy code sends the blocks, one of `codes.table.CODES`.
    selection : str
        Which candidate `mrc` sends: ``sample``, one drawn with probability proportional to q / p as
        in MIRACLE, or ``best``, the one with the largest q / p.
    hash_factors : tuple of int
        One for each tensor of the network.
    steps : int
        Training steps before the first block is encoded.
    batch_size : int
    rate : float
        Adam's rate at the start; it falls by a half cosine to `encoding_rate`.
    variance_rate : float
        Adam's rate for what sets the variances, phi (Mean-KL) or log sigma (Mean-Var), as a part
        of the rate.
    own : mapping of str to float
        The settings that only some parameterization has, such as `MeanVar.initial_beta`; those of
        others than the run's lie idle.
    scale_rate : float
        Adam's rate for log rho, as a part of the rate.
    late_scale_rate : float
        The same once the first block is encoded; 0 leaves rho as it is then.  Scales are sent last,
        so what is encoded may still grow or shrink with them.  For Mean-KL alone: with Mean-Var
        the budgets depend on rho (`Parameterization.late_scales`).
    groups : int
        In how many groups the blocks are encoded; at most one for each block.
    group_steps : int
        Training steps of the blocks that are left, after each group but the last.
    encoding_rate, final_rate : float
        Adam's rate while encoding falls by a half cosine from one to the other.
    validation : int
        How many training images, the last ones, are kept for validation; 0 trains on all.
    shift : int
        Each training image is moved at random by up to so many pixels each way; 0 moves none.
    flip : int
        1: half of the training images, drawn anew at each step, are mirrored left to right.
    antithetic : int
        1: a step draws the weights mu + sigma eps for the first half of its batch and mu - sigma
        eps for the second, so that what the noise does to the gradients cancels to first order
        (antithetic variates).
    spread : float
        Standard deviation of the initial tau (Mean-KL), or of mu / rho (Mean-Var).
    rho_gain : float
        The scales begin at rho_gain / sqrt(fan-in).
    base : tuple of bytes
        The files that an update is relative to: a model, and the updates behind it, in order.
        None: what is trained is a model.
    tensors : tuple of str
        Which tensors an update may change, by their names or those of their layers (``conv1``);
        none: all of them.
    data : str
        The training images and labels, as `fingerprint` gives them.
    """

    preset: str = "default"
    engine: str = "numba"
    parameterization: str = MEAN_KL
    network: Network = LENET5
    seed: int = 0
    bits_per_block: int = 14
    block_size: int = 30
    code: str = MRC
    selection: str = "sample"
    hash_factors: tuple[int, ...] = LENET5.hash_factors
    steps: int = 20_000
    batch_size: int = 128
    rate: float = 4e-2
    variance_rate: float = 1.0
    own: Mapping[str, float] = field(default_factory=own_settings, hash=False)
    scale_rate: float = 0.2
    late_scale_rate: float = 0.0
    groups: int = 100
    group_steps: int = 100
    encoding_rate: float = 6e-3
    final_rate: float = 2e-3
    validation: int = VALIDATION_IMAGES
    shift: int = 0
    flip: int = 0
    antithetic: int = 0
    spread: float = 0.3
    rho_gain: float = 2.0
    base: tuple[bytes, ...] = ()
    tensors: tuple[str, ...] = ()
    data: str = ""

    def layout(self) -> BlockLayout:
        """Return the description of the coded variables."""
        if self.base:
            root = parse_model(self.base[0], self.network).layout
            return update_layout(root, self.block_size, self.seed, self.coded())
        return BlockLayout(
            network=self.network,
            factors=self.hash_factors,
            grouping=Grouping.OUTPUTS,
            signs=Signs.UNIT,
            block_size=self.block_size,
            seed=self.seed,
        )

    def coded(self) -> tuple[bool, ...]:
        """Return which tensors the file codes."""
        names = [t.name for t in self.network.tensors()]
        return tuple(not self.tensors or any(within(n, own) for own in self.tensors) for n in names)

    def encoding_steps(self) -> int:
        """Return the training steps between groups."""
        return (self.groups - 1) * self.group_steps

    def total_steps(self) -> int:
        """Return all training steps, those between groups included.

        Training may take more, where it has to settle until every block is within its budget.
        """
        return self.steps + self.encoding_steps()

    def by_name(self) -> dict[str, Any]:
        """Return all settings by name, as they are given and written: `own` is no group there."""
        values: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            values |= value if f.name == "own" else {f.name: value}
        return values

    def having(self, changes: Mapping[str, Any]) -> Settings:
        """Return the settings with other values of some, by name."""
        own = {name: changes.get(name, value) for name, value in self.own.items()}
        others = {name: value for name, value in changes.items() if name not in own}
        return replace(self, own=own, **others)

    def to_dict(self) -> dict[str, Any]:
        """Return a dict that JSON gives back unchanged."""
        values = self.by_name()
        network = network_text(self.network)
        lists = {"hash_factors": list(self.hash_factors), "tensors": list(self.tensors)}
        return {**values, "network": network, **lists, "base": [b.hex() for b in self.base]}

    def key(self) -> dict[str, Any]:
        """Return what a digest is made of: the same for the same run, however old the digest."""
        as_then = {name for name in AFTER_DIGESTS if getattr(self, name) == LATER_FIELDS[name]}
        return {name: value for name, value in self.to_dict().items() if name not in as_then}


# What docs/FRONTIER.md found to be best, at a thousandth of the network's size.
BEST = Settings(bits_per_block=20, block_size=44, selection="best", encoding_rate=1.2e-2)

PRESETS = {
    "smoke": Settings(
        preset="smoke", steps=600, batch_size=64, groups=20, group_steps=15, encoding_rate=1e-2
    ),
    "default": replace(
        BEST,
        preset="default",
        steps=15_000,
        groups=150,
        group_steps=40,
        batch_size=256,
        variance_rate=2.0,
        antithetic=1,
    ),
    "paper": replace(BEST, preset="paper", steps=60_000, groups=1000, group_steps=60),
}


# Of an update, where a preset has other settings for a model: it begins near its end.
UPDATE = {
    **{"rate": 4e-2, "variance_rate": 4.0, "encoding_rate": 2e-2, "final_rate": 1e-3},
    **{"rho_gain": 0.3, "selection": "best", "late_scale_rate": 0.2},
    "antithetic": 0,
}
_WELL = {"batch_size": 256, "bits_per_block": 18}
UPDATE_SIZES = {
    "smoke": {"steps": 200, "groups": 5, "group_steps": 10, "bits_per_block": 16},
    "default": {"steps": 1500, "groups": 100, "group_steps": 40, **_WELL},
    "paper": {"steps": 4000, "groups": 200, "group_steps": 100, **_WELL},
}


def within(tensor: str, name: str) -> bool:
    """Tell whether a tensor is the one of a name, or belongs to the layer of that name."""
    return tensor == name or tensor.startswith(f"{name}.")


def preset_settings(
    preset: str,
    parameterization: str,
    code: str = MRC,
    network: Network = LENET5,
    base: tuple[bytes, ...] = (),
) -> Settings:
    """Return a preset with the settings that suit a parameterization, a code, a network, a base.

    A code that cannot select as the preset does selects as it does unless told.  An update has
    the network and the hash factors of its base.
    """
    own: dict[str, Any] = {**UPDATE, **UPDATE_SIZES[preset]} if base else {}
    kind = find_parameterization(parameterization)
    own |= {**kind.suited, **({} if kind.late_scales else {"late_scale_rate": 0.0})}
    if base:
        root = parse_model(base[0], network).layout
        own |= {"network": root.network, "hash_factors": root.factors, "base": base}
    elif (network, network.factors()) != (LENET5, LENET5.factors()):
        own |= {"network": network, "hash_factors": network.factors()}
    settings = PRESETS[preset].having({"parameterization": kind.name, "code": code, **own})
    possible = find_code(code).selections
    return settings if settings.selection in possible else replace(settings, selection=possible[0])


def settings_from_dict(values: dict[str, Any]) -> Settings:
    """Return the settings that `Settings.to_dict` wrote, also before it had all of its fields.

    Raises
    ------
    InputError
        If its fields are not those of this version, or its network is not known.
    """
    values = {**LATER_FIELDS, **own_settings(), **values}
    if set(values) != set(Settings().by_name()):
        raise InputError("its settings are not those of this version of refmiracle")
    try:
        lists = {name: tuple(values[name]) for name in ("hash_factors", "tensors")}
        base = tuple(map(bytes.fromhex, values["base"]))
    except (TypeError, ValueError) as e:
        raise InputError(f"its base, tensors or hash factors are damaged ({first_line(e)})") from e
    for name in ("network", "data"):
        if not isinstance(values[name], str):
            raise InputError(f"its {name} is {described(values[name])}; expected a text")
    network = network_of_text(values["network"])
    return Settings().having({**values, "network": network, **lists, "base": base})


def fingerprint(train: Split) -> str:
    """Return types, shapes and SHA-256 of images and labels, to tell training sets apart.

    The same bytes in another shape, or parted elsewhere between images and labels, are others.
    """
    digest, parts = hashlib.sha256(), []
    for array in (train.images, train.labels):
        digest.update(np.ascontiguousarray(array).data)
        parts.append(f"{array.dtype.str}({','.join(map(str, array.shape))})")
    return " ".join([*parts, digest.hexdigest()])


def same_images(one: str, other: str) -> bool:
    """Return whether two fingerprints are of the same images and labels.

    Older ones are the SHA-256 alone, which says as much of runs: all were trained on images of the
    one type and shape that `training.data.load_split` gives.
    """
    bare = " " not in one or " " not in other
    return one.split()[-1:] == other.split()[-1:] if bare else one == other


def same_settings(found: Settings, wanted: Settings) -> bool:
    """Return whether two of them are of the same run."""
    alike = same_images(found.data, wanted.data)
    return alike and replace(found, data=wanted.data) == wanted
