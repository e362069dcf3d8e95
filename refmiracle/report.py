"""``python -m refmiracle.report RUN_DIR``: one self-contained HTML page about a finished run."""

import sys

from refmiracle.start import start

if __name__ == "__main__":
    sys.exit(start("report"))
