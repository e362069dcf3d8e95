"""Layer 6: how long it takes, and how long others take: ``python -m refmiracle.bench``."""
