"""``python -m refmiracle.conformance``: hold a backend against the golden vectors."""

import sys

from refmiracle.start import start

if __name__ == "__main__":
    sys.exit(start("conformance"))
