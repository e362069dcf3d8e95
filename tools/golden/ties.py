"""Since 1.3: equal logits, where the class is the first of the largest.

A bias of -65504 times a normal ends every unit of the last hidden layer at 0, so that the logits
are the biases of the last layer, the same for all images and exact in any precision; biases that
share a variable are equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from golden import network
from golden.containers import COUNTS, COUNTS_2, Fields, assemble
from golden.edges import EXACT, SINCE
from golden.sources import spec_decoder
from golden.writer import BOTH, later, make_case

Case = dict[str, Any]

LARGEST, SMALL, ONE = 0x7BFF, 0x1000, 0x3C00
OUTPUTS = 10


def fields_of(number: int, factor: int, seed: int) -> Fields:
    """Return a file without signs whose last biases share variables by `factor`."""
    counts = COUNTS if number == 1 else COUNTS_2
    scales = [SMALL] * len(counts)
    scales[-3], scales[-1] = LARGEST, ONE
    return Fields(0, 0, 4, seed, (*counts[:-1], factor), 9, tuple(scales), network=number)


def biases(fields: Fields) -> tuple[float, list[float]]:
    """Return the bias of the last hidden layer, one variable, and those of the last layer."""
    row = spec_decoder.words(fields.seed, spec_decoder.PERMUTATION, 0, fields.variables)
    order = sorted(range(len(row)), key=row.__getitem__)
    rows = (spec_decoder.words(fields.seed, spec_decoder.CODEBOOK, k, 4) for k in fields.indices)
    z_at = [spec_decoder.normal(w) for words in rows for w in words]
    z = [z_at[order.index(v)] for v in range(len(order))]
    first = len(fields.factors) - 1
    last = [z[first + k // fields.factors[-1]] for k in range(OUTPUTS)]
    return 65504.0 * z[first - 2], last


def find(number: int, factor: int, best: tuple[int, ...]) -> tuple[Fields, list[float]]:
    """Return the first file whose largest logits are those of some classes, and its logits."""
    for seed in range(1, 5000):
        fields = fields_of(number, factor, seed)
        before, z = biases(fields)
        clear = max(z) - max(x for x in z if x < max(z))
        found = tuple(k for k in range(OUTPUTS) if z[k] == max(z))
        # No sum of an image's pixels, weights of 1e-3 and earlier biases comes near.
        if before < -10000.0 and found == best and clear > 0.05:
            return fields, z
    raise ValueError(f"no seed ties the classes {best}")


# Name, network, factor, the classes that are equal.
TIES = (
    ("equal-logits-of-three", 1, 3, (3, 4, 5)),
    ("equal-logits-of-five", 1, 5, (5, 6, 7, 8, 9)),
    ("equal-logits-of-nine", 1, 9, tuple(range(9))),
    ("lenet-300-100-equal-logits", 2, 4, (4, 5, 6, 7)),
)


@later("predict")
def predictions() -> list[Case]:
    """Files whose largest logits are equal."""
    images = network.mnist_test()[0][:3]
    cases = []
    for name, number, factor, best in TIES:
        fields, exact = find(number, factor, best)
        data = assemble(fields)
        z = network.predict(data, images)
        assert (z == np.array(exact)[:, None]).all()
        rest = sorted(set(z[:, 0].tolist()))
        cases.append(
            make_case(
                f"predictions/predict/{name}",
                {"data": data, "images": images},
                {"logits": z, "classes": z.argmax(axis=0)},
                {"logits": network.LOGITS, "classes": EXACT},
                dtypes=BOTH,
                gap=rest[-1] - rest[-2],
                note=f"the largest are those of classes {', '.join(map(str, best))}; the gap is"
                " that to the next",
                since=SINCE,
            )
        )
    return cases
