"""Write docs/interactive/data.js: a shipped model, an update of it, and some test digits.

python tools/make_interactive_data.py       # the same bytes each time
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import numpy as np

from refmiracle.engines import get_engine
from refmiracle.fileformat.chain import decode_chain
from refmiracle.fileformat.envelope import base_checksum, checksum_of, is_update
from refmiracle.files import write_atomically
from refmiracle.training.data import default_folder, load_split

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "data" / "models" / "lenet5-1551.rmc"
OUT = ROOT / "docs" / "interactive" / "data.js"
DIGITS = 20


def encode(data):
    """Return bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def find_update(model):
    """Return the path of the first update of the model beside it, None where there is none."""
    for path in sorted(MODEL.parent.glob("*.rmc")):
        data = path.read_bytes()
        if is_update(data) and base_checksum(data) == checksum_of(model):
            return path
    return None


def describe(path, files):
    """Return what the page has of the last file of a chain."""
    weights = decode_chain(files, get_engine("numpy")).weights()
    flat = np.concatenate([w.ravel() for w in weights.values()]).astype("<f4")
    digest = hashlib.sha256(flat.tobytes()).hexdigest()
    return {"name": path.name, "sha256OfWeights": digest, "base64": encode(files[-1])}


def build():
    """Return the bytes of data.js."""
    model = MODEL.read_bytes()
    update = find_update(model)
    test = load_split(default_folder(), "t10k")
    constants = {
        "MODEL": describe(MODEL, [model]),
        "UPDATE": update and describe(update, [model, update.read_bytes()]),
        "DIGITS": {
            "labels": test.labels[:DIGITS].tolist(),
            "base64": encode(test.images[:DIGITS].tobytes()),
        },
    }
    lines = [
        "// Written by tools/make_interactive_data.py: a model of data/models, the first update of",
        "// it there, if there is one, what refmiracle decodes them to, and the first"
        f" {DIGITS} test digits.",
        '"use strict";',
        "",
        *(f"const {name} = {json.dumps(value)};" for name, value in constants.items()),
    ]
    return ("\n".join(lines) + "\n").encode("ascii")


if __name__ == "__main__":
    write_atomically(OUT, build())
    print(f"{OUT.relative_to(ROOT)}: {OUT.stat().st_size} bytes")
