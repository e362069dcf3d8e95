"""Whether samples follow a Gaussian: what the tests of all codes hold them against.

The distance D_n of the distribution function of n samples from their law's is within
P(D_n > e) <= 2 exp(-2 n e^2), whatever the law (Dvoretzky, Kiefer and Wolfowitz 1956, Massart
1990).  Seeds are fixed; a right code would fail by chance with a probability of FALSE_ALARM.
"""

from __future__ import annotations

import math

import numpy as np
from oracles import run_python
from scipy import stats

FALSE_ALARM = 1e-6

# delta and log s of Q: KL 0.8 nats; and 0.9 nats over two dimensions.
ONE = np.array([[1.0]]), np.log([[0.25]])
TWO = np.array([[0.8, -0.5]]), np.log([[0.3, 0.6]])
# With a direction in which their samples are looked at.
PLACES = [(ONE, np.ones(1)), (TWO, np.array([0.6, 0.8]))]


def dkw(n):
    """Distance that an empirical CDF exceeds with probability FALSE_ALARM."""
    return math.sqrt(math.log(2.0 / FALSE_ALARM) / (2.0 * n))


def distance(samples, target, direction):
    """Largest distance of the CDFs of samples (n, places) and of Q, along a direction."""
    delta, log_s = target
    q = stats.norm(delta[0] @ direction, np.sqrt(np.exp(log_s[0]) @ direction**2))
    return stats.kstest(samples @ direction, q.cdf).statistic


def total_variation_bound(delta, log_s, bits):
    """sqrt(chi^2 / K) / 2; 1 + chi^2 = prod exp(delta^2 / (2 - s)) / sqrt(s (2 - s)).

    The bias of minimal random coding: see test_minimal_random_coding.py.
    """
    s = np.exp(log_s)
    ratio = np.prod(np.exp(delta**2 / (2.0 - s)) / np.sqrt(s * (2.0 - s)))
    return 0.5 * np.sqrt((ratio - 1.0) / 2.0**bits)


def log_ratio(z, delta, log_s):
    """log q(z) - log p(z) by scipy."""
    return stats.norm.logpdf(z, delta, np.exp(0.5 * log_s)) - stats.norm.logpdf(z)


def kl_bits(delta, log_s):
    """The divergence of each variable in bits."""
    return 0.5 * (delta**2 + np.expm1(log_s) - log_s) / math.log(2.0)


GROWTH = """
import resource
import sys
import numpy as np
from refmiracle.engines import get_engine

encode = get_engine({engine!r}).{operation}
delta, log_s = np.full((1, 30), 0.3), np.full((1, 30), -0.5)
unit = 1 if sys.platform == "darwin" else 1024
encode(1, 8, [0], delta, log_s)  # compiled and loaded before we look
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
encode(1, {bits}, [0], delta, log_s)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * unit)
"""


def growth(engine, operation, bits):
    """Bytes by which a fresh process grows while it chooses one of 2^bits candidates."""
    return int(run_python(GROWTH.format(engine=engine, operation=operation, bits=bits)))
