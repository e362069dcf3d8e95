"""Layer 5: the model of a file, wherever it is: `load`."""

from __future__ import annotations

from pathlib import Path

from refmiracle.codec.container import read_model
from refmiracle.errors import InputError
from refmiracle.model import Model
from refmiracle.nn.network import Network
from refmiracle.numerics.whole import described
from refmiracle.training.data import default_folder

SUFFIX = ".rmc"


def load(
    source: str | Path | bytes, *, engine: str = "numba", network: Network | None = None
) -> Model:
    """Return the model that a .rmc file holds.

    Parameters
    ----------
    source : str, Path or bytes
        Where the file is; or its name, where refmiracle carries it (``lenet5-1551``); or what
        stands in it.
    engine : str
        Which engine answers: ``numba``, compiled, in float32, or ``numpy``, the reference, in
        float64.  The weights are the same bits.
    network : Network, optional
        Of a file that gives its network a number of its own, from 200 on.

    Returns
    -------
    Model

    Raises
    ------
    InputError
        If it cannot be read, or is not an intact .rmc file; or there is no engine of that name.

    Examples
    --------
    >>> import refmiracle
    >>> model = refmiracle.load("lenet5-891")
    >>> model.nbytes
    891
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return Model(bytes(source), engine=engine, network=network)
    if not isinstance(source, str | Path):
        raise InputError(f"{described(source)} is no path, and no bytes of a .rmc file")
    path = find_model(source)
    if not path.exists() and str(source) == path.name:
        carried = ", ".join(shipped_models())
        raise InputError(f"{path}: there is no such file here; refmiracle carries {carried}")
    parsed, data = read_model(path, network)
    return Model(data, engine=engine, network=network, _parsed=parsed)


def shipped_models() -> dict[str, Path]:
    """Return the .rmc files that refmiracle carries, by name."""
    folder = default_folder().parent / "models"
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def find_model(given: str | Path) -> Path:
    """Return the path of a .rmc file, or of a shipped one where only the name of it is given."""
    path = Path(given)
    if str(given) != path.name or path.exists():
        return path
    return shipped_models().get(path.name.removesuffix(SUFFIX), path)
