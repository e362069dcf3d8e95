"""What a run holds between two steps, and how it stands on disk."""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refmiracle.engines.contract import Array
from refmiracle.errors import InputError
from refmiracle.files import first_line, write_atomically
from refmiracle.training.metrics import UNKNOWN
from refmiracle.training.settings import Settings, settings_from_dict

CHECKPOINT_VERSION = 3
LARGEST_UNPACKED = 1 << 28  # bytes of a compressed file
DIGEST_BYTES = 32
OPEN = -1
STILL_TRAINING = -1


@dataclass
class State:
    """The variables of a run.

    Attributes
    ----------
    step : int
        Training steps done.
    seconds : float
        Wall time spent training, over all sessions of the run.
    parameters : dict of str to ndarray
        The posterior's parameters and "log_rho".
    moments : dict of str to (ndarray, ndarray)
        Adam's m and v of each parameter.
    messages : ndarray of int64, shape (blocks, messages per block)
        The messages of each encoded block (`Code.encode_blocks`), -1 for open ones.
    extra : dict of str to ndarray
        What the parameterization keeps beside its parameters.
    trained : int
        The step at which training ended and encoding began, -1 before that.
    losses : list of float
        Loss of each step since the last line of metrics, nats.
    metrics_bytes : int
        How long metrics.jsonl is with all that this state has written to it.
    """

    step: int
    seconds: float
    parameters: dict[str, Array]
    moments: dict[str, tuple[Array, Array]]
    messages: NDArray[np.int64]
    extra: dict[str, Array]
    trained: int = STILL_TRAINING
    losses: list[float] = field(default_factory=list)
    metrics_bytes: int = UNKNOWN


def save_checkpoint(path: Path, settings: Settings, state: State) -> None:
    """Write a checkpoint whole or not at all."""
    arrays: dict[str, Any] = {
        "version": np.array(CHECKPOINT_VERSION),
        "config": np.array(json.dumps(settings.to_dict())),
        "step": np.array(state.step),
        "seconds": np.array(state.seconds),
        "trained": np.array(state.trained),
        "indices": state.messages,
        "losses": np.array(state.losses, dtype=np.float64),
        "metrics_bytes": np.array(state.metrics_bytes),
    }
    for name, value in state.parameters.items():
        m, v = state.moments[name]
        arrays |= {f"parameter.{name}": value, f"m.{name}": m, f"v.{name}": v}
    arrays |= {f"extra.{name}": value for name, value in state.extra.items()}
    write_arrays(path, arrays)


def write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write an .npz file whole or not at all, with its SHA-256 as the comment of its zip."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    data = buffer.getvalue()[:-2] + DIGEST_BYTES.to_bytes(2, "little")  # the comment's length
    write_atomically(path, data + hashlib.sha256(data).digest())


def read_arrays(path: Path) -> dict[str, Array]:
    """Return the arrays of an .npz file, by name.

    zip's own checksums see neither a changed directory nor, as NumPy stops where the header of an
    array says that it ends, a changed shape.  A file from elsewhere may lack the comment.
    """
    data = path.read_bytes()
    no_comment = data[-22:-18] == b"PK\x05\x06" and data[-2:] == b"\0\0"
    if not no_comment and hashlib.sha256(data[:-DIGEST_BYTES]).digest() != data[-DIGEST_BYTES:]:
        raise zipfile.BadZipFile("its SHA-256 is not the one that stands in it")
    # Ours are not compressed; what somebody else has compressed may be a thousand times as large.
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        size = sum(member.file_size for member in packed.infolist())
    if size > max(len(data), LARGEST_UNPACKED):
        raise zipfile.BadZipFile(f"it unpacks to {size} bytes; at most {LARGEST_UNPACKED} are read")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def load_checkpoint(path: Path) -> tuple[Settings, State]:
    """Read a checkpoint.

    Raises
    ------
    InputError
        If it cannot be read, is damaged, or is of another version.
    """
    try:
        a = read_arrays(path)
        if int(a["version"]) != CHECKPOINT_VERSION:
            raise InputError(
                f"checkpoint version {int(a['version'])}; expected {CHECKPOINT_VERSION}"
            )
        settings = settings_from_dict(json.loads(str(a["config"])))
        names = [n.removeprefix("parameter.") for n in a if n.startswith("parameter.")]
        state = State(
            step=int(a["step"]),
            seconds=float(a["seconds"]),
            parameters={n: a[f"parameter.{n}"] for n in names},
            moments={n: (a[f"m.{n}"], a[f"v.{n}"]) for n in names},
            messages=a["indices"],
            extra={n.removeprefix("extra."): a[n] for n in a if n.startswith("extra.")},
            trained=int(a["trained"]),
            losses=a["losses"].tolist(),
            metrics_bytes=int(a.get("metrics_bytes", UNKNOWN)),  # older ones lack it
        )
    except InputError as e:
        raise InputError(f"{path}: {e}") from e
    except Exception as e:  # zipfile, each of its decompressors and NumPy raise their own
        raise InputError(f"{path}: it is no intact checkpoint ({first_line(e)})") from e
    return settings, state


def check_state(found: State, fresh: State) -> State:
    """Return a state that was found, if its arrays are those of the run that `fresh` begins.

    Raises
    ------
    InputError
        If they are not: the checkpoint has been put together from several, or changed.
    """
    arrays = [_arrays(state) for state in (found, fresh)]
    foreign, missing = (sorted(a.keys() - b.keys()) for a, b in (arrays, arrays[::-1]))
    if foreign or missing:
        held, lacking = (
            ", ".join(n for n in names if " " not in n) for names in (foreign, missing)
        )
        raise InputError(
            f"the checkpoint is not of its own settings: it holds {held or 'nothing more'}, and"
            f" lacks {lacking or 'nothing'}"
        )
    for name, array in arrays[0].items():
        wanted = arrays[1][name]
        if (array.shape, array.dtype.kind) != (wanted.shape, wanted.dtype.kind):
            raise InputError(
                f"the checkpoint is not of its own settings: {name} has the shape {array.shape} and"
                f" {array.dtype}; expected {wanted.shape} and {wanted.dtype}"
            )
    if found.step < 0 or not STILL_TRAINING <= found.trained <= found.step:
        raise InputError(
            f"the checkpoint is of step {found.step}, where training ended at {found.trained}:"
            " expected steps that have been"
        )
    if not 0.0 <= found.seconds < math.inf:
        raise InputError(f"the checkpoint has {found.seconds} seconds; expected a number from 0 on")
    return found


def _arrays(state: State) -> dict[str, Array]:
    """Return all arrays of a state, by name."""
    moments = {
        f"{n} of {p}": a
        for p, pair in state.moments.items()
        for n, a in zip("mv", pair, strict=True)
    }
    return {**state.parameters, **moments, **state.extra, "messages": state.messages}
