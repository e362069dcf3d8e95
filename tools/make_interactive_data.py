"""Write docs/interactive/data.js: a shipped model and some test digits, for the page.

python tools/make_interactive_data.py       # the same bytes each time
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import numpy as np

from refmiracle.codec.container import parse_model
from refmiracle.codec.model import decode_model
from refmiracle.engines import get_engine
from refmiracle.files import write_atomically
from refmiracle.training.data import default_folder, load_split

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "data" / "models" / "lenet5-1551.rmc"
OUT = ROOT / "docs" / "interactive" / "data.js"
DIGITS = 20


def encode(data):
    """Return bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def build():
    """Return the bytes of data.js."""
    model = MODEL.read_bytes()
    weights = decode_model(parse_model(model), get_engine("numpy"))
    flat = np.concatenate([w.ravel() for w in weights.values()]).astype("<f4")
    test = load_split(default_folder(), "t10k")
    constants = {
        "MODEL": {
            "name": MODEL.name,
            "sha256OfWeights": hashlib.sha256(flat.tobytes()).hexdigest(),
            "base64": encode(model),
        },
        "DIGITS": {
            "labels": test.labels[:DIGITS].tolist(),
            "base64": encode(test.images[:DIGITS].tobytes()),
        },
    }
    lines = [
        "// Written by tools/make_interactive_data.py: a model of data/models, what refmiracle",
        f"// decodes it to, and the first {DIGITS} test digits of MNIST.",
        '"use strict";',
        "",
        *(f"const {name} = {json.dumps(value)};" for name, value in constants.items()),
    ]
    return ("\n".join(lines) + "\n").encode("ascii")


if __name__ == "__main__":
    write_atomically(OUT, build())
    print(f"{OUT.relative_to(ROOT)}: {OUT.stat().st_size} bytes")
