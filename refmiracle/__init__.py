"""MIRACLE with the Mean-KL parameterization: train, compress and decode a Bayesian LeNet-5.

The reference implementation of Minimal Random Code Learning (Havasi, Peharz and
Hernandez-Lobato, arXiv 1810.00440) with the Mean-KL parameterization (Lin, Flamich and
Hernandez-Lobato, arXiv 2307.07816).  Importing the package loads nothing heavy; an engine is
compiled or loaded only when it is asked for with `refmiracle.engines.get_engine`.
"""

__version__ = "0.1.0"
