"""All relative entropy codes, by name and by number (docs/CODES.md defines each).

Each is a `code.Code`.
"""

from __future__ import annotations

from refmiracle.codes.block_codes import (
    GlobalAStar,
    MinimalRandomCoding,
    OrderedRandomCoding,
    SpacePartitioning,
)
from refmiracle.codes.code import Code
from refmiracle.codes.variable_codes import CodeOfVariables, GreedyRejection
from refmiracle.errors import InputError

MRC = "mrc"  # what is sent by unless a setting says otherwise

# The constants are those of Li and El Gamal, arXiv 1701.02827, theorem 1, and of Flamich, arXiv
# 2305.15313: H(X | randomness) <= I + log2(I + 1) + c.
CODES: dict[str, Code] = {
    code.name: code
    for code in (
        MinimalRandomCoding(MRC, 0, False, "minimal random coding, arXiv 1810.00440"),
        OrderedRandomCoding("orc", 1, False, "ordered random coding, arXiv 2110.12805"),
        GlobalAStar("pfr", 2, True, "global A* coding, arXiv 2201.12857", constant=4.0),
        SpacePartitioning("sp-pfr", 3, True, "space partitioning, arXiv 2405.12203"),
        CodeOfVariables("as-star", 4, True, "A* coding, arXiv 2201.12857", "sample"),
        CodeOfVariables("ad-star", 5, True, "A* coding, arXiv 2201.12857", "dyadic"),
        CodeOfVariables("dad-star", 6, False, "A* coding, arXiv 2201.12857", "dyadic"),
        GreedyRejection("grc", 7, True, "greedy rejection, arXiv 2304.10407, 2309.15746", "none"),
        GreedyRejection("grc-s", 8, True, "greedy rejection, arXiv 2309.15746", "sample"),
        GreedyRejection("grc-d", 9, True, "greedy rejection, arXiv 2309.15746", "dyadic"),
        CodeOfVariables("gprs", 10, True, "greedy Poisson, arXiv 2305.15313", "none", 6.0),
        CodeOfVariables("gprs-s", 11, True, "greedy Poisson, arXiv 2305.15313", "sample"),
        CodeOfVariables("gprs-d", 12, True, "greedy Poisson, arXiv 2305.15313", "dyadic"),
    )
}
CODES_BY_NUMBER = {code.number: code for code in CODES.values()}


def find_code(name: str) -> Code:
    """Return a code by its name.

    Raises
    ------
    InputError
        If there is no such code.
    """
    if not isinstance(name, str) or name not in CODES:
        raise InputError(f"code {name!r} is unknown; expected one of {', '.join(CODES)}")
    return CODES[name]
