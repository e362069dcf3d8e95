"""All parameterizations of the posterior, by name."""

from __future__ import annotations

from refmiracle.errors import InputError, named
from refmiracle.posterior.mean_kl import MeanKL
from refmiracle.posterior.mean_var import MeanVar, MeanVarSettings
from refmiracle.posterior.parameterization import Parameterization

PARAMETERIZATIONS: dict[str, type[Parameterization]] = {
    kind.name: kind for kind in (MeanKL, MeanVar)
}
MEAN_KL = MeanKL.name  # what a run trains unless a setting says otherwise
# What the studies compare: the parameterization of arXiv 2307.07816, and its baseline.
COMPARED = (MeanKL.name, MeanVar.name)


class OwnSettings(MeanVarSettings, total=False):
    """All settings that only some parameterization has, as a type checker knows them."""


def find_parameterization(name: str) -> type[Parameterization]:
    """Return a parameterization by its name.

    Raises
    ------
    InputError
        If there is no such one.
    """
    if not isinstance(name, str) or name not in PARAMETERIZATIONS:
        raise InputError(
            f"parameterization {name!r} is unknown; expected one of {', '.join(PARAMETERIZATIONS)}"
        )
    return PARAMETERIZATIONS[name]


def check_late_scales(name: str, rate: float) -> None:
    """Refuse a rate of scales that learn while blocks are encoded, where a KL depends on them.

    Raises
    ------
    InputError
        If the parameterization is such a one.
    """
    if rate and not find_parameterization(name).late_scales:
        possible = ", ".join(kind.name for kind in PARAMETERIZATIONS.values() if kind.late_scales)
        raise InputError(
            f"{named('late_scale_rate')} {rate:g} goes with {named('parameterization')} {possible}"
            " only; expected 0"
        )


def own_settings() -> dict[str, float]:
    """Return the settings that only some parameterization has, by name, as they are unless told."""
    return {
        name: value
        for kind in PARAMETERIZATIONS.values()
        for name, value in kind.own_settings().items()
    }
