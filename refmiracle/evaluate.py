"""``python -m refmiracle.evaluate model.rmc``: the size of a file and the error of its network."""

import sys

from refmiracle.start import start

if __name__ == "__main__":
    sys.exit(start("evaluate"))
