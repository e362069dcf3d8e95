"""``python -m refmiracle.study NAME``: the experiments, each with its tables and figures."""

import sys

from refmiracle.start import start

if __name__ == "__main__":
    sys.exit(start("study"))
