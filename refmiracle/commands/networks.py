"""Networks that a command is given: by name, as an object of one's own, or described."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from refmiracle.errors import InputError
from refmiracle.files import first_line
from refmiracle.given import known_network
from refmiracle.nn.network import Network, check_network
from refmiracle.nn.networks import DESCRIPTION, SHIPPED, network_of_text

FORMS = f"a name, NAME:CLASSES, FILE.py:OBJECT, MODULE:OBJECT or {DESCRIPTION}HEX"


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add --network."""
    parser.add_argument(
        "--network",
        metavar="NETWORK",
        help=f"{FORMS}; names are {', '.join(n.name for n in SHIPPED)} (default: lenet5)",
    )


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
    comes_along = source in {network.name for network in SHIPPED} or name.isdecimal()
    if not colon or comes_along or text.startswith(DESCRIPTION):
        try:
            return network_of_text(text)
        except InputError as e:
            raise InputError(f"{e}; --network takes {FORMS}") from e
    network = _load(source, text, name)
    if not isinstance(network, Network):
        raise InputError(f"--network {text}: {name} is no Network there; expected {FORMS}")
    check_network(network)
    try:
        return known_network(network)
    except InputError as e:
        raise InputError(f"--network {text}: {e}") from e


def _load(source: str, text: str, name: str) -> object:
    """Return an object of a file or a module, or None; both find what stands beside them."""
    is_file = source.endswith(".py")
    here = [str(Path.cwd()), *([str(Path(source).resolve().parent)] if is_file else [])]
    sys.path[:0] = here
    try:
        module = _run(Path(source)) if is_file else importlib.import_module(source)
        return getattr(module, name, None)
    except (Exception, SystemExit) as e:  # whatever somebody's own code raises
        said = f"{type(e).__name__}: {first_line(e)}"
        raise InputError(f"--network {text}: {source} cannot be loaded: {said}") from e
    finally:
        for place in here:
            sys.path.remove(place)


def _run(path: Path) -> ModuleType:
    """Return a file as a module that no other has the name of."""
    spec = importlib.util.spec_from_file_location(f"network_of_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks for its module
    spec.loader.exec_module(module)
    return module
