"""``refmiracle NAME ...``: the same commands as ``python -m refmiracle.NAME ...``."""

import sys

from refmiracle.start import start

if __name__ == "__main__":
    sys.exit(start())
