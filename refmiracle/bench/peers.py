"""The peers in ``tools/peers``: other libraries' code for the same work.

Importing this module loads no library; a fresh process imports it to measure what they cost.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import refmiracle
from refmiracle.errors import InputError
from refmiracle.extras import import_extra

FOLDER = Path(refmiracle.__file__).parents[1] / "tools" / "peers"
LIBRARIES = ("torch", "jax")
EXTRA = "bench"


@dataclass(frozen=True)
class StepPeer:
    """A way to take a training step.

    Attributes
    ----------
    label : str
    library : str
    options : dict
        For `Step` of the library's module ``LIBRARY_step``.
    """

    label: str
    library: str
    options: dict[str, Any] = field(default_factory=dict)


STEP_PEERS = (
    StepPeer("PyTorch eager", "torch"),
    StepPeer("torch.compile", "torch", {"compiled": True}),
    StepPeer("JAX jit", "jax"),
)


def check_libraries(libraries: Sequence[str]) -> None:
    """Find the peers before anything is measured.

    Raises
    ------
    InputError
        If the folder of the peers is missing, or a library is or cannot be loaded.
    """
    for library in libraries:
        if not FOLDER.is_dir():
            raise InputError(
                f"--against {library}: the peers' code in tools/peers is not installed with"
                " refmiracle; run from a clone of the repository (pip install -e .)"
            )
        import_extra(library, EXTRA, ("__version__",), f"--against {library}")


def load_peer(name: str) -> Any:
    """Return a module of ``tools/peers`` by its name."""
    full_name = f"refmiracle_peers_{name}"
    if full_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(full_name, FOLDER / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[full_name] = module
        spec.loader.exec_module(module)
    return sys.modules[full_name]
