"""``python -m refmiracle.decode model.rmc --out weights.npz``: a file's float32 weights."""

import sys

from refmiracle.start import start

if __name__ == "__main__":
    sys.exit(start("decode"))
