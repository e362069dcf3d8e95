"""A run so small that a test can make it whole."""

from refmiracle.training.settings import Settings

TINY = Settings(
    preset="tiny",
    bits_per_block=4,
    steps=5,
    batch_size=32,
    groups=4,
    group_steps=2,
    validation=500,
)
