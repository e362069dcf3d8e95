"""Minimal random coding and its codebook in PyTorch: peers of ``python -m refmiracle.bench``.

The candidates are PyTorch's own normals, and the private randomness PyTorch's own, so indices
differ from those of refmiracle; the work is the same.  float32, as PyTorch users have it.
"""

from __future__ import annotations

import torch
from torch.distributions import Normal

BLOCKS_AT_ONCE = 1 << 20


def codebook(bits: int, dimension: int) -> torch.Tensor:
    """Return the 2^bits candidates that all blocks share."""
    return torch.randn(1 << bits, dimension)


def encode_each(candidates: torch.Tensor, delta: torch.Tensor, log_s: torch.Tensor) -> torch.Tensor:
    """Draw each block's index by itself, straight from the definition.

    Parameters
    ----------
    candidates : Tensor, shape (2^bits, block_size)
    delta, log_s : Tensor, shape (blocks, block_size)
        Whitened posteriors.
    """
    prior = Normal(0.0, 1.0).log_prob(candidates).sum(1)
    indices = []
    for mean, sigma in zip(delta, torch.exp(0.5 * log_s), strict=True):
        log_weights = Normal(mean, sigma).log_prob(candidates).sum(1) - prior
        indices.append(torch.multinomial(torch.softmax(log_weights, 0), 1))
    return torch.cat(indices)


def encode_products(
    candidates: torch.Tensor, delta: torch.Tensor, log_s: torch.Tensor
) -> torch.Tensor:
    """Draw indices with the log-weights of many blocks as two matrix products.

    log w = z^2 . (1 - 1/s) / 2 + z . delta / s + constant; Gumbel-max by exponential variates.
    """
    precision = torch.exp(-log_s)
    square = candidates * candidates
    blocks = max(1, BLOCKS_AT_ONCE // len(candidates))
    indices = []
    for p, d in zip(precision.split(blocks), delta.split(blocks), strict=True):
        scores = torch.addmm((d * p) @ candidates.T, 0.5 * (1.0 - p), square.T)
        noise = torch.empty_like(scores).exponential_().log_()
        indices.append(scores.sub_(noise).argmax(1))
    return torch.cat(indices)
