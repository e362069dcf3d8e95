"""The forms of a tile for many registers and for few add the same terms in the same order."""

from __future__ import annotations

import numpy as np

from refmiracle.engines.numba_engine import tiles
from refmiracle.engines.numba_engine.vector import LANES

COUNTS = (3, 4, 5)
STEPS = (40 * LANES, 7 * LANES, LANES)


def flat_array(vectors, seed):
    """Return so many vectors of normals, flat."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal(vectors * LANES).astype(np.float32)


def test_multiply_4_gives_the_same_bits_in_turns():
    x, w = flat_array(160, 0), flat_array(tiles.TILE * np.prod(COUNTS), 1)
    bases = [n * LANES for n in (0, 3, 17, 30)]
    w_steps = COUNTS[1] * COUNTS[2] * tiles.TILE, COUNTS[2] * tiles.TILE
    once, turns = (np.zeros(tiles.TILE_FLOATS, np.float32) for _ in range(2))
    tiles._multiply_4_at_once(x, *bases, COUNTS, STEPS, w, 0, w_steps, once)
    tiles._multiply_4_in_turns(x, *bases, COUNTS, STEPS, w, 0, w_steps, turns)
    assert once.tobytes() == turns.tobytes()
    place = [p * STEPS[0] + q * STEPS[1] + r * STEPS[2] for p, q, r in np.ndindex(COUNTS)]
    for c, base in enumerate(bases):
        here = np.stack([x[base + k : base + k + LANES] for k in place])
        expected = w[: len(place) * tiles.TILE].reshape(-1, tiles.TILE).T @ here
        np.testing.assert_allclose(
            once.reshape(tiles.TILE, 4, LANES)[:, c], expected, rtol=1e-4, atol=1e-4
        )


def test_dots_of_two_and_of_five_places_give_the_same_bits():
    x, y = flat_array(160, 2), flat_array(160, 3)
    x_bases, y_bases = (tuple(n * LANES for n in places) for places in ((0, 1, 5, 9, 33), range(5)))
    five, two = np.zeros(25, np.float32), np.zeros(10, np.float32)
    tiles._dots_5(x, x_bases, STEPS, y, y_bases, STEPS, COUNTS, five)
    for b in range(4):
        tiles._dots_2(x, x_bases, STEPS, y, y_bases[b : b + 2], STEPS, COUNTS, two)
        assert two.reshape(5, 2).tobytes() == five.reshape(5, 5)[:, b : b + 2].tobytes()
    place = [p * STEPS[0] + q * STEPS[1] + r * STEPS[2] for p, q, r in np.ndindex(COUNTS)]
    rows = [
        np.concatenate([a[base + k : base + k + LANES] for k in place])
        for a, bases in ((x, x_bases), (y, y_bases))
        for base in bases
    ]
    expected = np.stack(rows[:5]) @ np.stack(rows[5:]).T
    np.testing.assert_allclose(five.reshape(5, 5), expected, rtol=1e-4, atol=1e-4)
