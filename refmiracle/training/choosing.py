"""The settings of a run as they come from outside: which there are, and whether they are in range.

A message names the argument, or, within a command, the flag (`errors.named`).
"""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Mapping, Sequence, Sized
from dataclasses import replace
from typing import Any

from refmiracle.codes.table import CODES, MRC, find_code
from refmiracle.engines import ENGINES
from refmiracle.errors import InputError, named
from refmiracle.fileformat.payload import payload_of
from refmiracle.fileformat.sizes import least_block_size
from refmiracle.nn.network import Network, check_network
from refmiracle.nn.networks import LENET5
from refmiracle.numerics.whole import BEYOND, SMALLEST, described, whole_number
from refmiracle.posterior.parameterizations import (
    MEAN_KL,
    PARAMETERIZATIONS,
    OwnSettings,
    check_late_scales,
    find_parameterization,
)
from refmiracle.posterior.scales import LARGEST
from refmiracle.training.agreement import check_agreement, check_block_size
from refmiracle.training.settings import (
    LONGEST,
    PRESETS,
    SELECTIONS,
    Settings,
    preset_settings,
    same_images,
    within,
)
from refmiracle.training.sizes import empty_file, with_suited_blocks
from refmiracle.training.state import State


class GivenSettings(OwnSettings, total=False):
    """What may be set of a run beside its preset, its network and its images; see `Settings`."""

    engine: str
    parameterization: str
    seed: int
    bits_per_block: int
    block_size: int
    code: str
    selection: str
    hash_factors: Sequence[int]
    steps: int
    batch_size: int
    rate: float
    variance_rate: float
    scale_rate: float
    late_scale_rate: float
    groups: int
    group_steps: int
    encoding_rate: float
    final_rate: float
    shift: int
    flip: int
    antithetic: int
    spread: float
    rho_gain: float
    tensors: Sequence[str]
    nbytes: int


# Smallest and largest whole numbers; a block has at most as many variables as there are, and an
# image is moved by half of its shorter side at most.
WHOLE = {
    "bits_per_block": (1, 24),
    "seed": (0, 2**32 - 1),
    "steps": (1, LONGEST),
    "batch_size": (1, LONGEST),
    "groups": (1, LONGEST),
    "group_steps": (1, LONGEST),
    "validation": (0, LONGEST),
    "flip": (0, 1),
    "antithetic": (0, 1),
}
# Real numbers that are above 0, and those that may be 0 unless a parameterization says otherwise:
# then nothing moves, or nothing is spread.
ABOVE_0 = ("rate", "encoding_rate", "final_rate", "rho_gain")
FROM_0 = ("variance_rate", "scale_rate", "late_scale_rate", "spread")
UPDATE_BYTES = 140  # of an update of which nobody says how long it may be: an SMS
LARGEST_REAL = 1000.0  # far beyond all that trains
CHOICES: dict[str, Sequence[str]] = {
    "engine": tuple(ENGINES),
    "parameterization": tuple(PARAMETERIZATIONS),
    "selection": SELECTIONS,
}


def check_factors(network: Network, factors: Sequence[int]) -> tuple[int, ...]:
    """Return hash factors that fit the network's tensors.

    Raises
    ------
    InputError
        If there is not one for each tensor, from 1 to its number of weights.
    """
    tensors, name = network.tensors(), named("hash_factors")
    if not isinstance(factors, Sequence) or isinstance(factors, str):
        raise InputError(f"{name} is {described(factors)}; expected a list of whole numbers")
    if len(factors) != len(tensors):
        raise InputError(
            f"{name}: {len(factors)} numbers; expected {len(tensors)}, one for each tensor"
            f" of {network.name}"
        )
    checked = []
    for tensor, given in zip(tensors, factors, strict=True):
        factor = whole_number(f"{name} for {tensor.name}", given, SMALLEST, BEYOND)
        size = math.prod(tensor.shape)
        if not 1 <= factor <= size:
            raise InputError(
                f"{name} {factor} for {tensor.name} is out of range; expected 1 to {size}"
            )
        checked.append(factor)
    return tuple(checked)


def check_code(settings: Settings) -> None:
    """Refuse a code with which a run could not end.

    Raises
    ------
    InputError
        If the code is unknown, or does not go with the other settings.
    """
    code = find_code(settings.code)
    if settings.selection not in code.selections:
        others = [other.name for other in CODES.values() if settings.selection in other.selections]
        raise InputError(
            f"{named('selection')} {settings.selection} goes with {named('code')}"
            f" {', '.join(others)} only; {named('code')} {code.name} needs {named('selection')}"
            f" {', '.join(code.selections)}"
        )
    if settings.bits_per_block > code.largest_kl_bits:
        raise InputError(
            f"{named('code')} {code.name} with {named('bits_per_block')} {settings.bits_per_block}"
            f" would search for ever; expected at most {code.largest_kl_bits}, and smaller blocks,"
            f" such as {named('block_size')} 17"
        )


def real_number(name: str, value: Any, with_0: bool, high: float) -> float:
    """Return a real number from 0, or above it, to `high`.

    Raises
    ------
    InputError
        If it is none.
    """
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    try:
        number = float(value) if is_real else math.nan
    except OverflowError:  # an int beyond all floats
        number = math.inf
    if not (0 <= number <= high and (with_0 or number)):
        low = "from 0" if with_0 else "above 0,"
        raise InputError(f"{name} is {described(value)}; expected a number {low} to {high:g}")
    return number


def check_layout(settings: Settings) -> tuple[Settings, int]:
    """Return the settings if network and hash factors are what they must be, and the variables.

    Raises
    ------
    InputError
        If they are not.
    """
    if not isinstance(settings.network, Network):
        raise InputError(f"{named('network')} is {described(settings.network)}; expected a Network")
    factors = check_factors(check_network(settings.network), settings.hash_factors)
    settings = replace(settings, hash_factors=factors)
    settings = replace(settings, tensors=check_tensors(settings))
    return settings, replace(settings, block_size=1, seed=0).layout().variables()


def with_size(settings: Settings, nbytes: int) -> Settings:
    """Return the settings with the smallest blocks whose file has at most so many bytes.

    Raises
    ------
    InputError
        If there are none, or the code does not tell beforehand how long a file is.
    """
    if not find_code(settings.code).fixed_length:
        fixed = ", ".join(code.name for code in CODES.values() if code.fixed_length)
        raise InputError(
            f"{named('nbytes')} goes with {named('code')} {fixed} only: how long the messages of"
            f" {settings.code} are is known when they are there"
        )
    settings = check_header(settings)
    return replace(settings, block_size=least_block_size(empty_file(settings), nbytes))


def check_header(settings: Settings) -> Settings:
    """Return the settings if what stands in the header of the file, but for block size, may.

    Raises
    ------
    InputError
        If it is out of range.
    """
    for name in ("bits_per_block", "seed"):
        low, high = WHOLE[name]
        whole_number(named(name), getattr(settings, name), low, high + 1)
    return settings


def check_settings(settings: Settings) -> Settings:
    """Return the settings, their numbers as Python's own, if all of them are in range.

    Raises
    ------
    InputError
        If one is not; the message names it.
    """
    settings, variables = check_layout(settings)
    for name, choices in CHOICES.items():
        check_choice(name, getattr(settings, name), choices)
    farthest = min(settings.network.input[1:]) // 2
    ranges = {**WHOLE, "block_size": (1, variables), "shift": (0, farthest)}
    checked: dict[str, Any] = {
        name: whole_number(named(name), getattr(settings, name), low, high + 1)
        for name, (low, high) in ranges.items()
    }
    from_0 = {*FROM_0} - {*find_parameterization(settings.parameterization).above_0}
    for name in (*ABOVE_0, *FROM_0):
        most = LARGEST if name == "rho_gain" else LARGEST_REAL
        checked[name] = real_number(named(name), getattr(settings, name), name in from_0, most)
    for name, value in settings.own.items():
        checked[name] = real_number(named(name), value, with_0=False, high=LARGEST_REAL)
    settings = settings.having(checked)
    check_code(settings)
    check_late_scales(settings.parameterization, settings.late_scale_rate)
    payload_of(find_code(settings.code)).check_size(settings.layout(), settings.bits_per_block)
    settings = replace(settings, groups=min(settings.groups, settings.layout().blocks()))
    if settings.total_steps() > LONGEST:
        raise InputError(f"a run of {settings.total_steps()} steps; at most {LONGEST} are possible")
    return settings


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse what is none of the choices.

    Raises
    ------
    InputError
        If it is so; the message names them.
    """
    if not isinstance(value, str) or value not in choices:
        raise InputError(
            f"{named(name)} {described(value)} is unknown; expected one of {', '.join(choices)}"
        )


def refuse_given(given: Mapping[str, Any], name: str, why: str) -> None:
    """Refuse a setting that is not for its giver to say.

    Raises
    ------
    InputError
        If it is given.
    """
    if name in given:
        raise InputError(f"{named(name)} cannot be given: {why}")


def check_tensors(settings: Settings) -> tuple[str, ...]:
    """Return the tensors that an update may change.

    Raises
    ------
    InputError
        If they are no list of names of the network's tensors or layers.
    """
    names, tensors = settings.tensors, [t.name for t in settings.network.tensors()]
    if not isinstance(names, Sequence) or isinstance(names, str | bytes):
        raise InputError(f"{named('tensors')} is {described(names)}; expected a list of names")
    for name in names:
        if not isinstance(name, str) or not any(within(tensor, name) for tensor in tensors):
            raise InputError(
                f"{named('tensors')}: {described(name)} is no tensor or layer of"
                f" {settings.network.name}; expected some of {', '.join(tensors)}"
            )
    return tuple(names)


def choose_settings(
    given: Mapping[str, Any], data: str, found: tuple[Settings, State] | None
) -> Settings:
    """Return the settings of a run: what was given, or those of the checkpoint it goes on from.

    Parameters
    ----------
    given : mapping of str to object
        Some of `Settings.by_name`, and `nbytes`, of which `block_size` follows; what is not given,
        or None, is the preset's.
    data : str
        `settings.fingerprint` of the training images.
    found : (Settings, State), optional

    Raises
    ------
    InputError
        If something given is no setting, out of range, or does not agree with the checkpoint; or
        the data do not.
    """
    known = [*(name for name in Settings().by_name() if name != "data"), "nbytes"]
    for name in given:
        if name not in known:
            # learning_rate is nearer to rate than to any longer name that ends so
            near = [k for k in known if k in str(name).split("_")]
            near += difflib.get_close_matches(str(name), known, 1)
            meant = f"; did you mean {near[0]}?" if near else f"; expected {', '.join(known)}"
            raise InputError(f"{name} is no setting of a run{meant}")
    given = {name: value for name, value in given.items() if value is not None}
    nbytes = given.pop("nbytes", None)
    if nbytes is not None:
        nbytes = whole_number(named("nbytes"), nbytes, 1)
        if "block_size" in given:
            raise InputError(
                f"{named('nbytes')} and {named('block_size')}: one follows from the other; give one"
            )
    if found is None:
        return _new_settings(given, nbytes, data)
    return _started_settings(given, nbytes, data, found[0])


def _new_settings(given: Mapping[str, Any], nbytes: int | None, data: str) -> Settings:
    preset, code = given.get("preset", "default"), given.get("code", MRC)
    parameterization = given.get("parameterization", MEAN_KL)
    check_choice("preset", preset, list(PRESETS))
    check_choice("parameterization", parameterization, CHOICES["parameterization"])
    base = given.get("base", ())
    if base:
        refuse_given(given, "hash_factors", "an update has those of its base")
    else:
        refuse_given(given, "tensors", "a model has all of them, an update those that change")
    if isinstance(given.get("tensors"), Sized) and not len(given["tensors"]):
        raise InputError(f"{named('tensors')} names none; expected one at least")
    start = preset_settings(preset, parameterization, code, given.get("network", LENET5), base)
    if base and given.get("network", start.network) != start.network:
        raise InputError(f"{named('network')}: the base is of the network {start.network.name}")
    settings = start.having({**given, "network": start.network, "data": data})
    settings, variables = check_layout(settings)
    if nbytes is not None:
        settings = with_size(settings, nbytes)
    elif base and "block_size" not in given:
        settings = _with_usual_size(check_header(settings))
    elif "block_size" not in given:  # a network may have fewer variables, a code smaller blocks
        most = min(variables, find_code(settings.code).largest_block)
        settings = replace(settings, block_size=min(settings.block_size, most))
    settings = check_settings(settings)
    if base and "groups" not in given and "group_steps" not in given:
        # Fewer groups than the preset has are each followed by the more steps.
        steps = start.groups * start.group_steps // settings.groups
        settings = replace(settings, group_steps=steps)
    return settings


def _with_usual_size(settings: Settings) -> Settings:
    """Return the settings of an update, in blocks of the usual size where none is given."""
    try:
        return with_suited_blocks(settings, UPDATE_BYTES)
    except InputError as e:
        told = f"give {named('nbytes')} or {named('block_size')}"
        raise InputError(f"{e}; {UPDATE_BYTES} is the default: {told}") from e


def _started_settings(
    given: Mapping[str, Any], nbytes: int | None, data: str, started: Settings
) -> Settings:
    try:
        started = check_settings(started)
    except InputError as e:
        raise InputError(f"the run to resume has settings that are none: {e}") from e
    if nbytes is not None:
        check_block_size(nbytes, with_size(started, nbytes).block_size, started)
    check_agreement(given, started)
    if not same_images(started.data, data):
        raise InputError("the run to resume was started with other training images")
    return started
