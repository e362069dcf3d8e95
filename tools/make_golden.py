"""Write data/golden/v1 again, byte for byte: ``python tools/make_golden.py [--out DIR]``.

No value comes from refmiracle.  Needs NumPy, mpmath and torch (requirements in tools/README.md).
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

# What registers the cases that later versions add, by operation: versions 1.3 and 1.4.
LATER = (
    *("edges", "edges_of_files", "edges_of_codes", "related", "related_codes"),
    *("tiles", "tiles_of_codes", "unforeseen", "described"),
)
LATER_BY_TORCH = ("ties", "related_torch", "tiles_of_layers", "described_networks")
PARTS = (
    "bits",
    "edges_of_files",
    "writers",
    "numerics",
    "posterior",
    "around",
    "layers",
    "general_layers",
    "coding",
    "codes",
    "network",
    "described_networks",
    "files",
    "updates",
)


def main() -> None:
    """Run the parts; each writes the files of its stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).resolve().parent.parent / "data" / "golden" / "v1"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--only", choices=PARTS, nargs="*", default=PARTS)
    arguments = parser.parse_args()
    for module in LATER + LATER_BY_TORCH:
        importlib.import_module(f"golden.{module}")
    for part in arguments.only:
        importlib.import_module(f"golden.{part}").write(arguments.out)
        print(f"{part}: written")


if __name__ == "__main__":
    main()
