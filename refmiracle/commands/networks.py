"""Networks that a command is given: by name, as an object of one's own, or described."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from refmiracle.errors import InputError
from refmiracle.files import first_line
from refmiracle.given import known_network
from refmiracle.nn.network import Network, check_network
from refmiracle.nn.networks import DESCRIPTION, network_of_text

FORMS = f"a name, FILE.py:OBJECT, MODULE:OBJECT or {DESCRIPTION}HEX"


def given_network(text: str) -> Network:
    """Return the network of an argument.

    One with a number of its own is put into `nn.networks.NETWORKS`, so that this process can read
    its files.

    Parameters
    ----------
    text : str
        `FORMS`.

    Raises
    ------
    InputError
        If there is none, or its layers do not fit each other.
    """
    source, colon, name = text.rpartition(":")
    if not colon or text.startswith(DESCRIPTION):
        return network_of_text(text)
    network = getattr(_load(source, text), name, None)
    if not isinstance(network, Network):
        raise InputError(f"--network {text}: {name} is no Network there; expected {FORMS}")
    check_network(network)
    try:
        return known_network(network)
    except InputError as e:
        raise InputError(f"--network {text}: {e}") from e


def _load(source: str, text: str) -> ModuleType:
    """Run a file, or import a module, which may stand in the current folder."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return _run(Path(source)) if source.endswith(".py") else importlib.import_module(source)
    except Exception as e:  # whatever somebody's own code raises
        said = f"{type(e).__name__}: {first_line(e)}"
        raise InputError(f"--network {text}: {source} cannot be loaded: {said}") from e
    finally:
        sys.path.remove(here)


def _run(path: Path) -> ModuleType:
    """Return a file as a module that no other has the name of."""
    spec = importlib.util.spec_from_file_location(f"network_of_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks for its module
    spec.loader.exec_module(module)
    return module
