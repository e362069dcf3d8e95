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


def advance(trainer):
    """Encode the group that is due, and take the next step if one is left."""
    group = trainer.group_due()
    if group is not None:
        trainer.encode_group(group)
    if not trainer.finished():
        trainer.train_step()


def finish(trainer):
    """Run a trainer to its end as `run_training` does, without files; return what it sends."""
    while not trainer.finished():
        advance(trainer)
    return trainer.compressed().to_bytes()
