"""``python -m refmiracle.bench``: what each part costs, beside its peers, in one run."""

import sys

from refmiracle.start import start

if __name__ == "__main__":
    sys.exit(start("bench"))
