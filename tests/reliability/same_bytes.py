"""Prints digests of all that a file depends on, to be compared between processes.

``same_bytes.py FOLDER``: FOLDER has the images of drive.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import drive

from refmiracle.codes.code import VARIABLE
from refmiracle.codes.table import CODES
from refmiracle.engines import get_engine
from refmiracle.fileformat.container import CompressedModel, parse_model
from refmiracle.fileformat.model import decode_model
from refmiracle.nn.networks import LENET5
from refmiracle.posterior.blocks import BlockLayout, Grouping, Signs

# Enough variables for work to be split among threads.
FACTORS = (1, 1, 10, 1, 100, 1, 10, 1)
BITS = 4


def digest(*arrays):
    """Return the SHA-256 of arrays, or bytes, one after the other."""
    return hashlib.sha256(b"".join(a if isinstance(a, bytes) else a.tobytes() for a in arrays))


def coded(code):
    """Return the digest of a file of a code, and of its weights by both engines."""
    layout = BlockLayout(LENET5, FACTORS, Grouping.OUTPUTS, Signs.UNIT, 8, 5)
    shape = layout.blocks(), layout.block_size
    rng = np.random.default_rng(3)
    delta, log_s = rng.normal(0.0, 0.4, shape), -rng.uniform(0.0, 0.8, shape)
    # The codes that search among all candidates of a block see fewer and easier ones.
    few = slice(None) if CODES[code].of == VARIABLE or code == "mrc" else slice(0, 60)
    own = 0.4 if math.isfinite(CODES[code].largest_kl_bits) else 1.0
    engine, numbers = get_engine("numba"), np.arange(layout.blocks())
    sent = CODES[code].encode_blocks(
        engine, 5, BITS, numbers[few], own * delta[few], own * log_s[few]
    )
    whole = np.resize(sent, (shape[0], sent.shape[1]))
    whole.ravel()[layout.variables() :] = 1
    rho = np.linspace(0.1, 0.5, 8).astype(np.float16)
    data = CompressedModel(layout, BITS, rho, whole, code).to_bytes()
    model = parse_model(data)
    both = [digest(*decode_model(model, get_engine(n)).values()) for n in ("numba", "numpy")]
    assert both[0].hexdigest() == both[1].hexdigest()
    return digest(data).hexdigest(), both[0].hexdigest()


def trained(folder, **settings):
    """Return the digest of the file of a tiny run."""
    drive.make_tiny(replace(drive.SMALL, **settings))
    with tempfile.TemporaryDirectory() as out, contextlib.redirect_stdout(io.StringIO()):
        assert drive.train_in(folder, Path(out) / "run") == 0
        return digest((Path(out) / "run" / "model.rmc").read_bytes()).hexdigest()


def main(folder):
    """Print the digests."""
    found = {code: coded(code) for code in CODES}
    # Batches of 200 are several shards, whose gradients are summed.
    more = {"batch_size": 200, "hash_factors": LENET5.hash_factors}
    found["mean-kl"] = trained(folder, **more)
    found["mean-var"] = trained(folder, parameterization="mean-var", **more)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
    sys.stdout.flush()
    os._exit(0)
