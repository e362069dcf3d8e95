"""``python -m refmiracle.export model.rmc --to FORMAT``: a file's network for other libraries."""

import sys

from refmiracle.start import start

if __name__ == "__main__":
    sys.exit(start("export"))
