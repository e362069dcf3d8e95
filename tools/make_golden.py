"""Write data/golden/v1 again, byte for byte: ``python tools/make_golden.py [--out DIR]``.

No value comes from refmiracle.  Needs NumPy, mpmath and torch (requirements in tools/README.md);
``--only PART`` writes the files of one part; of them those of layers and networks need torch.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from pathlib import Path

# What registers the cases that later versions add, by operation, in the order of the files.
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
PARTS_BY_TORCH = {"layers", "general_layers", "network", "described_networks"}
FOLDER = Path(__file__).resolve().parent / "golden"


def modules_of(parts: Sequence[str]) -> tuple[str, ...]:
    """Return the modules that register later cases of some parts.

    Raises
    ------
    SystemExit
        If there are others in the folder: their cases would be missing in silence.
    """
    named = {*LATER, *LATER_BY_TORCH}
    for path in sorted(FOLDER.glob("*.py")):
        if path.stem not in named and "\n@later(" in path.read_text(encoding="utf-8"):
            raise SystemExit(f"{path}: name it in LATER or LATER_BY_TORCH, behind all others")
    return LATER + (LATER_BY_TORCH if PARTS_BY_TORCH & {*parts} else ())


def main() -> None:
    """Run the parts; each writes the files of its stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = FOLDER.parent.parent / "data" / "golden" / "v1"
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--only", choices=PARTS, nargs="*", default=PARTS)
    arguments = parser.parse_args()
    for module in modules_of(arguments.only):
        importlib.import_module(f"golden.{module}")
    for part in arguments.only:
        importlib.import_module(f"golden.{part}").write(arguments.out)
        print(f"{part}: written")


if __name__ == "__main__":
    main()
