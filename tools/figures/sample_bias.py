"""How far a randomly coded sample can be from Q: ``python tools/figures/sample_bias.py``.

Simulates E|1 - W| / 2, the middle term of (39) in docs/derivations.md, for one block of 30 weights
with equal shares of 14 bits and tau of standard deviation 0.3, by the margin in bits of log2 K over
KL / ln 2; and the standard deviation of log2 w under Q.  As E W = 1, E|1 - W| / 2 is the mean of
max(0, 1 - W), which rare huge weights do not disturb.
"""

from __future__ import annotations

import math

import numpy as np

from refmiracle.engines import get_engine

BITS, BLOCK_SIZE, SPREAD, REPEATS = 14, 30, 0.3, 100


def main() -> None:
    """Print the two figures."""
    engine = get_engine("numba")
    rng = np.random.default_rng(0)
    tau = rng.normal(0.0, SPREAD, size=(1, BLOCK_SIZE))
    delta, log_s = engine.mean_kl(tau, np.zeros_like(tau), BITS * math.log(2))
    own = delta + np.exp(0.5 * log_s) * rng.normal(size=(10**5, BLOCK_SIZE))
    log2_w = engine.log_weights(own, delta, log_s) / math.log(2)
    print(f"standard deviation of log2 w under Q: {log2_w.std():.1f} bits")
    for margin in (0, 2, 4, 6):
        means = []
        for _ in range(REPEATS):
            z = rng.standard_normal((2 ** (BITS + margin), BLOCK_SIZE), dtype=np.float32)
            means.append(np.exp(engine.log_weights(z, delta, log_s)).mean())
        bound = np.maximum(0.0, 1.0 - np.array(means)).mean()
        print(f"margin {margin} bits: bound on TV {bound:.2f}")


if __name__ == "__main__":
    main()
