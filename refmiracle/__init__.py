"""MIRACLE with the Mean-KL parameterization: train, compress and decode Bayesian networks.

The reference implementation of Minimal Random Code Learning (Havasi, Peharz and
Hernandez-Lobato, arXiv 1810.00440) with the Mean-KL parameterization (Lin, Flamich and
Hernandez-Lobato, arXiv 2307.07816).

The names in ``__all__`` are the face of the package, and with `refmiracle.sklearn` all of it that
is public.  Each is loaded where it is first asked for, so importing the package loads nothing
heavy.  None of them has the name of a command's module (``refmiracle.train``,
``refmiracle.evaluate``, ...): importing one binds it here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refmiracle import codes, layers
    from refmiracle.budgets import budget
    from refmiracle.conformance.check import check_backend
    from refmiracle.errors import CheckError, InputError
    from refmiracle.fitting import fit
    from refmiracle.loading import load, load_images
    from refmiracle.meankl import mean_kl
    from refmiracle.model import Model
    from refmiracle.nn.network import Network
    from refmiracle.run import Run

__version__ = "1.0.0"

__all__ = [
    "CheckError",
    "InputError",
    "Model",
    "Network",
    "Run",
    "budget",
    "check_backend",
    "codes",
    "fit",
    "layers",
    "load",
    "load_images",
    "mean_kl",
]

# Where each name lives: MODULE:NAME, or a MODULE that is itself the name.
_HOMES = {
    "CheckError": "errors:CheckError",
    "InputError": "errors:InputError",
    "Model": "model:Model",
    "Network": "nn.network:Network",
    "Run": "run:Run",
    "budget": "budgets:budget",
    "check_backend": "conformance.check:check_backend",
    "codes": "codes",
    "fit": "fitting:fit",
    "layers": "layers",
    "load": "loading:load",
    "load_images": "loading:load_images",
    "mean_kl": "meankl:mean_kl",
}


def __getattr__(name: str) -> Any:
    """Load a name of the face; it is here from then on."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    found = importlib.import_module(f"{__name__}.{module}")
    globals()[name] = getattr(found, attribute) if attribute else found
    return globals()[name]


def __dir__() -> list[str]:
    """Return the face alone: what else is here are modules that something has loaded."""
    return sorted([*__all__, "__doc__", "__version__"])
