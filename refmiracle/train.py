"""``python -m refmiracle.train``: train a network and compress it to OUT/model.rmc."""

import sys

from refmiracle.start import start

if __name__ == "__main__":
    sys.exit(start("train"))
