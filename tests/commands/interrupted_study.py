"""A tiny sweep with Ctrl-C at a known moment: ``interrupted_study.py WHERE FOLDER IMAGES``.

Its processes import it too, so what it changes here is changed there.
"""

from __future__ import annotations

import os
import signal
import sys

from tiny import TINY

from refmiracle.commands import study
from refmiracle.studies import runs
from refmiracle.studies.rate_distortion import SWEEPS, Sweep
from refmiracle.training import run
from refmiracle.training.stopping import answer_interrupts, end_at_once

WHERE = sys.argv[1]
FIRST = 60  # the block size of the run that is finished


def press():
    """Send SIGINT to all processes of the group, as a terminal does."""
    os.killpg(0, signal.SIGINT)


def interrupted(function, due):
    def call(*arguments, **named):
        if due(*arguments):
            press()
        return function(*arguments, **named)

    return call


def is_second(trainer):
    return trainer.settings.block_size != FIRST and trainer.state.step == 3


def second_is_measured(trainer, *rest):
    return trainer.settings.block_size != FIRST


if WHERE in ("training", "second"):
    run.Trainer.train_step = interrupted(run.Trainer.train_step, is_second)
elif WHERE == "measuring":
    runs.finish = interrupted(runs.finish, second_is_measured)
elif WHERE == "starting" and __name__ != "__main__":
    press()  # this process is being imported


if __name__ == "__main__":
    answer_interrupts(end_at_once)  # as a program does
    if WHERE == "second":  # comes while the first one is being answered
        study.Processes.shutdown = interrupted(study.Processes.shutdown, lambda *_: True)
    SWEEPS["smoke"] = Sweep(TINY, bits=(3,), block_sizes=(FIRST, 90))
    flags = ["--preset", "smoke", "--workers", "1", "--out", sys.argv[2], "--data", sys.argv[3]]
    sys.exit(study.main(["rate-distortion", *flags]))
